// What a simulated disk keeps and loses: the faults themselves, without a product on top.

#include "tests/sim/sim_disk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>

namespace keelson::sim {
namespace {

constexpr std::uint64_t kBlock = io::kIoAlignment;
constexpr std::uint64_t kBlocks = 64;

class SimDiskTest : public ::testing::Test {
 protected:
  void Start(std::uint64_t seed) {
    static_cast<void>(file_.release());  // of a world that is gone
    world_ = std::make_unique<World>(seed);
    disk_ = world_->AddDisk("/disk", kBlocks * kBlock);
    Reopen();
  }
  void SetUp() override { Start(1); }
  void TearDown() override { static_cast<void>(file_.release()); }

  void Reopen() {
    process_ = world_->StartProcess();
    auto opened = process_->OpenFile("/disk", {});
    ASSERT_TRUE(opened.ok()) << opened.status();
    file_ = *std::move(opened);
  }
  void Kill() {
    static_cast<void>(file_.release());
    world_->Kill(process_);
  }
  void PowerCut() {
    static_cast<void>(file_.release());
    world_->PowerCut();
  }

  static io::Task<absl::Status> WriteTask(SimReactor* process, io::File* file, std::uint64_t block,
                                          std::byte value) {
    io::Buffer buffer = co_await process->buffers().Take(kBlock);
    std::fill(buffer.span().begin(), buffer.span().end(), value);
    absl::Status status = co_await file->Write(block * kBlock, buffer.span());
    co_return status;
  }
  static io::Task<absl::Status> ReadTask(SimReactor* process, io::File* file, std::uint64_t block) {
    io::Buffer buffer = co_await process->buffers().Take(kBlock);
    absl::Status status = co_await file->Read(block * kBlock, buffer.span());
    co_return status;
  }
  static io::Task<absl::Status> FlushTask(io::File* file) { co_return co_await file->Flush(); }
  static io::Task<absl::Status> DiscardTask(io::File* file, std::uint64_t first,
                                            std::uint64_t count) {
    co_return co_await file->Discard(first * kBlock, count * kBlock);
  }
  static io::Task<absl::Status> AllocateTask(io::File* file, std::uint64_t first,
                                             std::uint64_t count) {
    co_return co_await file->Allocate(first * kBlock, count * kBlock);
  }
  static io::internal::Detached Spawn(io::Task<absl::Status> task) {
    static_cast<void>(co_await std::move(task));
  }
  absl::Status Write(std::uint64_t block, int value) {
    return *world_->RunTask(WriteTask(process_, file_.get(), block, std::byte(value)));
  }
  absl::Status Read(std::uint64_t block) {
    return *world_->RunTask(ReadTask(process_, file_.get(), block));
  }
  absl::Status Flush() { return *world_->RunTask(FlushTask(file_.get())); }

  // The value that fills the block, or -1 when it is a mix.
  int Value(std::uint64_t block) const {
    const auto bytes = disk_->Current(block);
    const bool uniform = std::all_of(bytes.begin(), bytes.end(),
                                     [&](std::byte byte) { return byte == bytes.front(); });
    return uniform ? static_cast<int>(bytes.front()) : -1;
  }

  std::unique_ptr<World> world_;
  SimDisk* disk_ = nullptr;
  SimReactor* process_ = nullptr;
  std::unique_ptr<io::File> file_;
};

TEST_F(SimDiskTest, KeepsCompletedWritesWhenTheProcessDies) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Start(seed);
    ASSERT_TRUE(Write(3, 7).ok());
    Kill();
    EXPECT_EQ(Value(3), 7);
  }
}

TEST_F(SimDiskTest, KeepsFlushedWritesThroughAPowerCut) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Start(seed);
    ASSERT_TRUE(Write(3, 7).ok());
    ASSERT_TRUE(Flush().ok());
    PowerCut();
    EXPECT_EQ(Value(3), 7);
  }
}

TEST_F(SimDiskTest, KeepsLosesAndTearsUnflushedWritesAtAPowerCut) {
  std::set<int> seen;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Start(seed);
    ASSERT_TRUE(Write(3, 7).ok());
    PowerCut();
    seen.insert(Value(3));
  }
  EXPECT_EQ(seen, (std::set<int>{-1, 0, 7}));
}

TEST_F(SimDiskTest, TearsAtSectorsOnly) {
  disk_->faults().torn = 1;
  ASSERT_TRUE(Write(3, 7).ok());
  PowerCut();
  const auto bytes = disk_->Current(3);
  for (std::size_t sector = 0; sector < 8; ++sector) {
    const auto part = bytes.subspan(sector * 512, 512);
    EXPECT_TRUE(std::all_of(part.begin(), part.end(),
                            [&](std::byte byte) { return byte == part.front(); }));
  }
}

TEST_F(SimDiskTest, LosesAnEarlierWriteAndKeepsALaterOne) {
  bool reordered = false;
  for (std::uint64_t seed = 1; seed <= 100 && !reordered; ++seed) {
    Start(seed);
    ASSERT_TRUE(Write(3, 7).ok());
    ASSERT_TRUE(Write(4, 8).ok());
    PowerCut();
    reordered = Value(3) == 0 && Value(4) == 8;
  }
  EXPECT_TRUE(reordered);
}

TEST_F(SimDiskTest, FlushesOnlyWhatCompletedBeforeTheFlush) {
  bool lost = false;
  for (std::uint64_t seed = 1; seed <= 200 && !lost; ++seed) {
    Start(seed);
    Spawn(FlushTask(file_.get()));
    Spawn(WriteTask(process_, file_.get(), 3, std::byte{7}));
    while (world_->Step()) {
    }
    EXPECT_EQ(Value(3), 7);
    PowerCut();
    lost = Value(3) == 0;
  }
  EXPECT_TRUE(lost);
}

TEST_F(SimDiskTest, DoesOrDoesNotDoWhatWasInFlightWhenTheProcessDies) {
  std::set<int> seen;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Start(seed);
    disk_->faults().torn = 0.5;
    Spawn(WriteTask(process_, file_.get(), 3, std::byte{7}));
    EXPECT_EQ(disk_->in_flight_count(), 1u);
    Kill();
    EXPECT_EQ(disk_->in_flight_count(), 0u);
    seen.insert(Value(3));
  }
  EXPECT_EQ(seen, (std::set<int>{-1, 0, 7}));
}

TEST_F(SimDiskTest, NeverMakesDurableWhatAFailedFlushCovered) {
  disk_->faults().lose_after_failed_flush = true;
  ASSERT_TRUE(Write(3, 7).ok());
  disk_->faults().flush_error = 1;
  EXPECT_EQ(Flush().code(), absl::StatusCode::kInternal);
  disk_->faults().flush_error = 0;
  EXPECT_TRUE(Flush().ok());
  EXPECT_EQ(Value(3), 7) << "reads still see it";
  EXPECT_EQ(static_cast<int>(disk_->Durable(3).front()), 0);
}

TEST_F(SimDiskTest, ForgetsWhatAFailedFlushCoveredWhenItIsOpenedAgain) {
  std::set<int> seen;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Start(seed);
    disk_->faults().lose_after_failed_flush = true;
    disk_->faults().flush_error = 1;
    ASSERT_TRUE(Write(3, 7).ok());
    EXPECT_FALSE(Flush().ok());
    Kill();
    Reopen();
    seen.insert(Value(3));
  }
  EXPECT_EQ(seen, (std::set<int>{0, 7}));
}

TEST_F(SimDiskTest, SaysOkToAFlushThatDoesNothingWhenItLies) {
  disk_->faults().lying_flush = true;
  disk_->faults().survives_cut = 0;
  disk_->faults().torn = 0;
  ASSERT_TRUE(Write(3, 7).ok());
  EXPECT_TRUE(Flush().ok());
  PowerCut();
  EXPECT_EQ(Value(3), 0);
}

TEST_F(SimDiskTest, FailsOnceOrUntilReopened) {
  disk_->faults().read_error = 1;
  EXPECT_EQ(Read(3).code(), absl::StatusCode::kInternal);
  disk_->faults().read_error = 0;
  EXPECT_TRUE(Read(3).ok());
  disk_->faults().sticky_errors = true;
  disk_->faults().read_error = 1;
  EXPECT_FALSE(Read(3).ok());
  disk_->faults().read_error = 0;
  EXPECT_FALSE(Read(3).ok());
  Kill();
  Reopen();
  EXPECT_TRUE(Read(3).ok());
}

TEST_F(SimDiskTest, FailsAWriteThatMayHaveHappened) {
  std::set<int> seen;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    Start(seed);
    disk_->faults().write_error = 1;
    EXPECT_EQ(Write(3, 7).code(), absl::StatusCode::kInternal);
    seen.insert(Value(3));
  }
  EXPECT_EQ(seen, (std::set<int>{-1, 0, 7}));
}

TEST_F(SimDiskTest, HasNoRoomBeyondItsBacking) {
  disk_->faults().backing_blocks_max = 2;
  EXPECT_TRUE(Write(0, 1).ok());
  EXPECT_TRUE(Write(1, 1).ok());
  EXPECT_EQ(Write(2, 1).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Value(2), 0);
  EXPECT_TRUE(Write(1, 2).ok()) << "an overwrite needs none";
}

TEST_F(SimDiskTest, KeepsRoomForWhatWasAllocated) {
  disk_->faults().backing_blocks_max = 2;
  EXPECT_TRUE(Write(0, 1).ok());
  EXPECT_TRUE(world_->RunTask(AllocateTask(file_.get(), 0, 2))->ok());
  EXPECT_EQ(Value(0), 1) << "contents do not change";
  EXPECT_EQ(world_->RunTask(AllocateTask(file_.get(), 1, 2))->code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Write(2, 1).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Write(1, 1).ok());
}

TEST_F(SimDiskTest, ReadsZeroesOrOldBytesAfterADiscard) {
  std::set<int> seen;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    Start(seed);
    ASSERT_TRUE(Write(3, 7).ok());
    ASSERT_TRUE(world_->RunTask(DiscardTask(file_.get(), 2, 4))->ok());
    seen.insert(Value(3));
  }
  EXPECT_EQ(seen, (std::set<int>{0, 7}));
}

TEST_F(SimDiskTest, FlipsOneBitForGood) {
  ASSERT_TRUE(Write(3, 0).ok());
  disk_->FlipBit(3, 8 * 100 + 2);
  EXPECT_EQ(disk_->Current(3)[100], std::byte{4});
  ASSERT_TRUE(Flush().ok());
  PowerCut();
  EXPECT_EQ(disk_->Current(3)[100], std::byte{4});
}

TEST_F(SimDiskTest, RefusesASecondOpenerUntilTheFirstIsGone) {
  SimReactor* const other = world_->StartProcess();
  EXPECT_EQ(other->OpenFile("/disk", {}).status().code(), absl::StatusCode::kFailedPrecondition);
  Kill();
  EXPECT_TRUE(other->OpenFile("/disk", {}).ok());
}

TEST_F(SimDiskTest, TakesLongWhenItStalls) {
  disk_->faults().stall = 1;
  const std::int64_t start_ns = world_->now_ns();
  EXPECT_TRUE(Read(3).ok());
  EXPECT_GE(world_->now_ns() - start_ns, disk_->faults().stall_ns);
}

}  // namespace
}  // namespace keelson::sim
