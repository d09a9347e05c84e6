#include "tests/unit/io/reactor_suite.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "blockstore/io/gate.h"
#include "blockstore/io/sync.h"

namespace keelson::io {

// The simulated world instantiates this suite in a binary of its own.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ReactorSuite);

namespace {

constexpr std::size_t kBlock = kIoAlignment;
constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::int64_t kMilli = 1'000'000;

internal::Detached RunThenStop(Reactor* reactor, Task<void> body) {
  {
    Task<void> owned = std::move(body);
    co_await std::move(owned);
  }
  reactor->Stop();
}

void Fill(std::span<std::byte> bytes, unsigned seed) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>((i * 31 + i / 256 + seed) & 0xff);
  }
}

bool Holds(std::span<const std::byte> bytes, unsigned seed) {
  std::vector<std::byte> expected(bytes.size());
  Fill(expected, seed);
  return std::equal(bytes.begin(), bytes.end(), expected.begin());
}

// --- Files ---

Task<void> RoundTrip(Reactor* reactor, File* file) {
  Buffer out = co_await reactor->buffers().Take(64 * 1024);
  Fill(out.span(), 1);
  const absl::Status wrote = co_await file->Write(3 * kBlock, out.span());
  EXPECT_TRUE(wrote.ok()) << wrote;
  std::memset(out.data(), 0, out.size());
  const absl::Status read = co_await file->Read(3 * kBlock, out.span());
  EXPECT_TRUE(read.ok()) << read;
  EXPECT_TRUE(Holds(out.span(), 1));
}

Task<void> RoundTripOutsideTheArena(File* file) {
  std::vector<std::byte> memory(5 * kBlock);
  void* place = memory.data();
  std::size_t space = memory.size();
  auto* data = static_cast<std::byte*>(std::align(kBlock, 4 * kBlock, place, space));
  const std::span<std::byte> bytes(data, 4 * kBlock);
  Fill(bytes, 2);
  const absl::Status wrote = co_await file->Write(kBlock, bytes);
  EXPECT_TRUE(wrote.ok()) << wrote;
  std::memset(data, 0, bytes.size());
  const absl::Status read = co_await file->Read(kBlock, bytes);
  EXPECT_TRUE(read.ok()) << read;
  EXPECT_TRUE(Holds(bytes, 2));
}

// One block of its own, written and read back; the buffers of many such bound each other.
Task<void> WriteAndReadBlock(Reactor* reactor, File* file, unsigned index, unsigned* done) {
  Buffer buffer = co_await reactor->buffers().Take(kBlock);
  Fill(buffer.span(), index);
  const absl::Status wrote = co_await file->Write(index * kBlock, buffer.span());
  EXPECT_TRUE(wrote.ok()) << wrote;
  std::memset(buffer.data(), 0, buffer.size());
  const absl::Status read = co_await file->Read(index * kBlock, buffer.span());
  EXPECT_TRUE(read.ok()) << read;
  EXPECT_TRUE(Holds(buffer.span(), index)) << "block " << index;
  ++*done;
}

Task<void> ManyBlocks(Reactor* reactor, File* file, unsigned count, unsigned* done) {
  Gate gate;
  for (unsigned i = 0; i < count; ++i) {
    gate.Spawn(WriteAndReadBlock(reactor, file, i, done));
  }
  EXPECT_EQ(*done, 0u) << "a completion is never delivered from inside Submit";
  co_await gate.Close();
}

Task<void> WriteAt(File* file, std::uint64_t offset, std::span<const std::byte> bytes) {
  const absl::Status wrote = co_await file->Write(offset, bytes);
  EXPECT_TRUE(wrote.ok()) << wrote;
}

// Large and small operations together complete in whatever order suits the disk.
Task<void> MixedSizes(Reactor* reactor, File* file) {
  constexpr std::array<std::size_t, 4> kSizes = {kMiB, kBlock, 256 * 1024, 2 * kBlock};
  std::array<Buffer, kSizes.size()> buffers;
  Gate gate;
  std::uint64_t offset = 0;
  for (std::size_t i = 0; i < kSizes.size(); ++i) {
    buffers[i] = reactor->buffers().TryTake(kSizes[i]);
    Fill(buffers[i].span(), static_cast<unsigned>(i));
    gate.Spawn(WriteAt(file, offset, buffers[i].span()));
    offset += kSizes[i];
  }
  co_await gate.Close();
  offset = 0;
  for (std::size_t i = 0; i < kSizes.size(); ++i) {
    std::memset(buffers[i].data(), 0, kSizes[i]);
    const absl::Status read = co_await file->Read(offset, buffers[i].span());
    EXPECT_TRUE(read.ok()) << read;
    EXPECT_TRUE(Holds(buffers[i].span(), static_cast<unsigned>(i))) << "operation " << i;
    offset += kSizes[i];
  }
}

Task<void> WriteThenFlush(Reactor* reactor, File* file) {
  Buffer buffer = co_await reactor->buffers().Take(kBlock);
  Fill(buffer.span(), 3);
  const absl::Status wrote = co_await file->Write(0, buffer.span());
  EXPECT_TRUE(wrote.ok()) << wrote;
  const absl::Status flushed = co_await file->Flush();
  EXPECT_TRUE(flushed.ok()) << flushed;
}

Task<void> DiscardThenRead(Reactor* reactor, File* file) {
  Buffer buffer = co_await reactor->buffers().Take(4 * kBlock);
  Fill(buffer.span(), 4);
  const absl::Status wrote = co_await file->Write(0, buffer.span());
  EXPECT_TRUE(wrote.ok()) << wrote;
  const absl::Status discarded = co_await file->Discard(kBlock, 2 * kBlock);
  EXPECT_TRUE(discarded.ok()) << discarded;
  std::vector<std::byte> before(buffer.span().begin(), buffer.span().end());
  std::memset(buffer.data(), 0xee, buffer.size());
  const absl::Status read = co_await file->Read(0, buffer.span());
  EXPECT_TRUE(read.ok()) << read;
  // Zeroes or the old bytes, and nothing outside the range is touched.
  for (std::size_t block = 0; block < 4; ++block) {
    const auto now = buffer.span().subspan(block * kBlock, kBlock);
    const bool same = std::equal(now.begin(), now.end(), before.begin() + block * kBlock);
    const bool zero =
        std::all_of(now.begin(), now.end(), [](std::byte b) { return b == std::byte{}; });
    EXPECT_TRUE(same || ((block == 1 || block == 2) && zero)) << "block " << block;
  }
}

Task<void> ReadPastTheEnd(Reactor* reactor, File* file) {
  Buffer buffer = co_await reactor->buffers().Take(2 * kBlock);
  const absl::Status half = co_await file->Read(file->size_bytes() - kBlock, buffer.span());
  EXPECT_EQ(half.code(), absl::StatusCode::kInternal) << half;
  const absl::Status beyond = co_await file->Read(file->size_bytes() + kBlock, buffer.span());
  EXPECT_EQ(beyond.code(), absl::StatusCode::kInternal) << beyond;
  EXPECT_NE(std::string(beyond.message()).find(std::string(file->path())), std::string::npos);
}

// --- Time ---

Task<void> SleepAndNote(Reactor* reactor, std::int64_t when_ns, int id, std::vector<int>* order) {
  auto sleep = reactor->SleepUntil(when_ns);
  co_await sleep;
  EXPECT_GE(reactor->NowNanos(), when_ns);
  order->push_back(id);
}

Task<void> SleepInDisorder(Reactor* reactor, std::vector<int>* order) {
  Gate gate;
  const std::int64_t now_ns = reactor->NowNanos();
  gate.Spawn(SleepAndNote(reactor, now_ns + 3 * kMilli, 4, order));
  gate.Spawn(SleepAndNote(reactor, now_ns + 1 * kMilli, 1, order));
  gate.Spawn(SleepAndNote(reactor, now_ns + 2 * kMilli, 2, order));
  gate.Spawn(SleepAndNote(reactor, now_ns + 2 * kMilli, 3, order));  // a tie: as they were started
  co_await gate.Close();
}

struct CountingTimer {
  TimerNode node;
  int fired = 0;
};

Task<void> StartAndCancel(Reactor* reactor, CountingTimer* cancelled, CountingTimer* kept) {
  for (CountingTimer* timer : {cancelled, kept}) {
    timer->node.owner = timer;
    timer->node.fire = [](TimerNode* node) { ++static_cast<CountingTimer*>(node->owner)->fired; };
    timer->node.when_ns = reactor->NowNanos() + kMilli;
    reactor->StartTimer(&timer->node);
  }
  reactor->CancelTimer(&cancelled->node);
  reactor->CancelTimer(&cancelled->node);  // no effect
  auto sleep = reactor->SleepFor(3 * kMilli);
  co_await sleep;
  reactor->CancelTimer(&kept->node);  // has fired: no effect
}

Task<void> YieldTwice(Reactor* reactor, int id, std::vector<int>* order) {
  for (int i = 0; i < 2; ++i) {
    order->push_back(id);
    auto yield = reactor->Yield();
    co_await yield;
  }
}

Task<void> Alternate(Reactor* reactor, std::vector<int>* order) {
  Gate gate;
  gate.Spawn(YieldTwice(reactor, 1, order));
  gate.Spawn(YieldTwice(reactor, 2, order));
  co_await gate.Close();
}

}  // namespace

void RunToEnd(Reactor* reactor, Task<void> body) {
  RunThenStop(reactor, std::move(body));
  reactor->Run();
}

void ReactorSuite::SetUp() { reactor_ = GetParam().make(); }

void ReactorSuite::RunToEnd(Task<void> body) { io::RunToEnd(reactor_.get(), std::move(body)); }

std::unique_ptr<File> ReactorSuite::MakeFile(std::size_t size_bytes) {
  FileOptions options;
  options.create = true;
  options.size_bytes = size_bytes;
  auto file = reactor_->OpenFile(GetParam().data_path(), options);
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? *std::move(file) : nullptr;
}

TEST_P(ReactorSuite, ReadsWhatWasWritten) {
  auto file = MakeFile(kMiB);
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->size_bytes(), kMiB);
  RunToEnd(RoundTrip(reactor_.get(), file.get()));
}

TEST_P(ReactorSuite, TakesMemoryFromOutsideTheArena) {
  auto file = MakeFile(kMiB);
  ASSERT_NE(file, nullptr);
  RunToEnd(RoundTripOutsideTheArena(file.get()));
}

TEST_P(ReactorSuite, DoesMoreOperationsThanItsQueueHolds) {
  constexpr unsigned kCount = 900;  // the factories make reactors with a depth of 64
  auto file = MakeFile(kCount * kBlock);
  ASSERT_NE(file, nullptr);
  unsigned done = 0;
  RunToEnd(ManyBlocks(reactor_.get(), file.get(), kCount, &done));
  EXPECT_EQ(done, kCount);
}

TEST_P(ReactorSuite, KeepsOperationsOfDifferentSizesApart) {
  auto file = MakeFile(2 * kMiB);
  ASSERT_NE(file, nullptr);
  RunToEnd(MixedSizes(reactor_.get(), file.get()));
}

TEST_P(ReactorSuite, Flushes) {
  auto file = MakeFile(kMiB);
  ASSERT_NE(file, nullptr);
  RunToEnd(WriteThenFlush(reactor_.get(), file.get()));
}

TEST_P(ReactorSuite, DiscardsOnlyTheRange) {
  auto file = MakeFile(kMiB);
  ASSERT_NE(file, nullptr);
  RunToEnd(DiscardThenRead(reactor_.get(), file.get()));
}

TEST_P(ReactorSuite, FailsAReadPastTheEnd) {
  auto file = MakeFile(kMiB);
  ASSERT_NE(file, nullptr);
  RunToEnd(ReadPastTheEnd(reactor_.get(), file.get()));
}

TEST_P(ReactorSuite, FiresTimersInOrder) {
  std::vector<int> order;
  RunToEnd(SleepInDisorder(reactor_.get(), &order));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4}));
}

TEST_P(ReactorSuite, DoesNotFireACancelledTimer) {
  CountingTimer cancelled;
  CountingTimer kept;
  RunToEnd(StartAndCancel(reactor_.get(), &cancelled, &kept));
  EXPECT_EQ(cancelled.fired, 0);
  EXPECT_EQ(kept.fired, 1);
}

TEST_P(ReactorSuite, RunsOthersWhenACoroutineYields) {
  std::vector<int> order;
  RunToEnd(Alternate(reactor_.get(), &order));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 1, 2}));
}

TEST_P(ReactorSuite, RefusesASecondOpenerOfALockedFile) {
  const std::string path = GetParam().data_path();
  FileOptions options;
  options.create = true;
  options.size_bytes = kMiB;
  auto first = reactor_->OpenFile(path, options);
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = reactor_->OpenFile(path, options);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition) << second.status();
  first->reset();
  auto third = reactor_->OpenFile(path, options);
  EXPECT_TRUE(third.ok()) << third.status();
}

TEST_P(ReactorSuite, DoesNotFindAFileThatIsNotThere) {
  auto file = reactor_->OpenFile(GetParam().data_path(), FileOptions{});
  EXPECT_EQ(file.status().code(), absl::StatusCode::kNotFound) << file.status();
}

}  // namespace keelson::io
