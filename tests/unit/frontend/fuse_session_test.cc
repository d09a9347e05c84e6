// A FUSE session over a memory device and the kernel's side in memory: what is answered, what is
// refused, what is bounded, and how it ends.

#include "blockstore/frontend/fuse_session.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <cerrno>
#include <memory>
#include <string>

#include "blockstore/io/gate.h"
#include "tests/unit/frontend/manual_reactor.h"
#include "tests/unit/frontend/memory_device.h"
#include "tests/unit/frontend/memory_fuse.h"

namespace keelson::frontend::testing {
namespace {

constexpr std::uint64_t kDeviceBytes = std::uint64_t{4} << 20;

io::Task<void> RunSession(FuseSession* session, bool* done) {
  co_await session->Run();
  *done = true;
}

io::Task<void> ReplaceDevice(FuseSession* session, engine::BlockDevice* device, bool* done) {
  co_await session->Replace(device);
  *done = true;
}

class FuseSessionTest : public ::testing::Test {
 protected:
  FuseSessionTest() : device_(kDeviceBytes), kernel_(&reactor_) {}
  ~FuseSessionTest() override {
    if (session_ == nullptr) return;
    device_.Release();
    session_->End();
    reactor_.Settle();
    EXPECT_TRUE(done_);
    EXPECT_EQ(gate_.running(), 0u);
    EXPECT_EQ(reactor_.buffers().free_bytes(), reactor_.buffers().arena().size());
  }

  void Start(const FuseOptions& options = {}) {
    Make(options);
    Begin();
  }
  void Make(const FuseOptions& options = {}) {
    session_ = std::make_unique<FuseSession>(&reactor_, "vol", kernel_.MakeChannel(), options,
                                             &device_, &counters_);
  }
  void Begin() {
    gate_.Spawn(RunSession(session_.get(), &done_));
    reactor_.Settle();
  }
  // The error of the answer to `unique`, as a positive errno; -1: there is none yet.
  int ErrorOf(std::uint64_t unique) {
    reactor_.Settle();
    const FuseAnswer* answer = kernel_.AnswerTo(unique);
    return answer == nullptr ? -1 : -answer->error;
  }

  ManualReactor reactor_{std::size_t{16} << 20};
  MemoryDevice device_;
  MemoryFuse kernel_;
  FuseCounters counters_;
  std::unique_ptr<FuseSession> session_;
  io::Gate gate_;
  bool done_ = false;
};

TEST_F(FuseSessionTest, AgreesWithTheKernelOnWhatItNeeds) {
  Start();
  kernel_.SendInit(7, 45, /*resends=*/true);
  ASSERT_EQ(ErrorOf(7), 0);
  const auto init = BodyOf<fuse_init_out>(kernel_.AnswerTo(7));
  EXPECT_EQ(init.major, 7u);
  EXPECT_EQ(init.minor, fuse::kMinor);
  EXPECT_EQ(init.max_write, 256u << 10);
  EXPECT_EQ(init.max_pages, 64u);
  EXPECT_GE(init.max_background, 32u);
  EXPECT_NE(init.flags & FUSE_ASYNC_DIO, 0u);
  EXPECT_EQ(init.flags2, fuse::kFlags2HasResend);
  EXPECT_TRUE(session_->initialised());
  EXPECT_TRUE(session_->kernel_resends());
}

TEST_F(FuseSessionTest, KnowsAKernelThatCannotSendAgain) {
  Start();
  kernel_.SendInit(7, 36, /*resends=*/false);
  ASSERT_EQ(ErrorOf(7), 0);
  EXPECT_EQ(BodyOf<fuse_init_out>(kernel_.AnswerTo(7)).minor, 36u);
  EXPECT_FALSE(session_->kernel_resends());
}

TEST_F(FuseSessionTest, RefusesAKernelThatIsTooOld) {
  Start();
  kernel_.SendInit(7, 30, false);
  EXPECT_EQ(ErrorOf(7), EPROTO);
  EXPECT_FALSE(session_->initialised());
}

TEST_F(FuseSessionTest, IsOneRegularFileOfTheVolumesSizeThatNobodyCaches) {
  Start();
  kernel_.Send(FUSE_GETATTR, 1, std::string(16, '\0'));
  kernel_.Send(FUSE_OPEN, 2, BytesOf(fuse_open_in{O_RDWR, 0}));
  kernel_.Send(FUSE_STATFS, 3, "");
  ASSERT_EQ(ErrorOf(3), 0);
  const auto attributes = BodyOf<fuse_attr_out>(kernel_.AnswerTo(1));
  EXPECT_EQ(attributes.attr.size, kDeviceBytes);
  EXPECT_EQ(attributes.attr.mode, static_cast<std::uint32_t>(S_IFREG | 0600));
  EXPECT_EQ(attributes.attr_valid, 0u) << "the next question must see a growth";
  const auto open = BodyOf<fuse_open_out>(kernel_.AnswerTo(2));
  EXPECT_NE(open.open_flags & FOPEN_DIRECT_IO, 0u);
  EXPECT_NE(open.open_flags & FOPEN_NOFLUSH, 0u);
  EXPECT_EQ(BodyOf<fuse_statfs_out>(kernel_.AnswerTo(3)).st.bsize, 4096u);
}

TEST_F(FuseSessionTest, WritesAndReadsBack) {
  Start();
  const std::string small(4096, 's');
  const std::string large(fuse::kPayloadBytesMax, 'l');
  kernel_.SendWrite(1, 8192, small);
  kernel_.SendWrite(2, 1 << 20, large);
  ASSERT_EQ(ErrorOf(1), 0);
  ASSERT_EQ(ErrorOf(2), 0);
  EXPECT_EQ(BodyOf<fuse_write_out>(kernel_.AnswerTo(1)).size, 4096u);
  EXPECT_EQ(BodyOf<fuse_write_out>(kernel_.AnswerTo(2)).size, fuse::kPayloadBytesMax);
  kernel_.SendRead(3, 8192, 4096);
  kernel_.SendRead(4, 1 << 20, fuse::kPayloadBytesMax);
  ASSERT_EQ(ErrorOf(4), 0);
  EXPECT_EQ(kernel_.AnswerTo(3)->body, small);
  EXPECT_TRUE(kernel_.AnswerTo(4)->body == large);
  EXPECT_EQ(device_.fua_calls(), 0u);
}

TEST_F(FuseSessionTest, ReadsNothingBehindTheEnd) {
  Start();
  kernel_.SendRead(1, kDeviceBytes, 4096);
  kernel_.SendRead(2, kDeviceBytes - 4096, 8192);
  ASSERT_EQ(ErrorOf(2), 0);
  EXPECT_EQ(kernel_.AnswerTo(1)->body.size(), 0u);
  EXPECT_EQ(kernel_.AnswerTo(2)->body.size(), 4096u);
}

TEST_F(FuseSessionTest, ASynchronousWriteIsDurable) {
  Start();
  kernel_.SendWrite(1, 0, std::string(4096, 'd'), O_DSYNC);
  ASSERT_EQ(ErrorOf(1), 0);
  EXPECT_EQ(device_.fua_calls(), 1u);
}

TEST_F(FuseSessionTest, FlushesOnFsyncAndTrimsOnPunchAndZero) {
  Start();
  kernel_.SendWrite(1, 0, std::string(16384, 'x'));
  kernel_.Send(FUSE_FSYNC, 2, BytesOf(fuse_fsync_in{}));
  kernel_.SendFallocate(3, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
  kernel_.SendFallocate(4, FALLOC_FL_ZERO_RANGE, 4096, 4096);
  ASSERT_EQ(ErrorOf(2), 0);
  ASSERT_EQ(ErrorOf(3), 0);
  ASSERT_EQ(ErrorOf(4), 0);
  EXPECT_EQ(device_.flushes(), 1u);
  EXPECT_EQ(device_.trims(), 2u);
  EXPECT_EQ(device_.bytes()[0], std::byte{0});
  EXPECT_EQ(device_.bytes()[4096], std::byte{0});
  EXPECT_EQ(device_.bytes()[8192], std::byte{'x'});
}

TEST_F(FuseSessionTest, RefusesWhatIsNotAlignedOrNotInside) {
  Start();
  kernel_.SendWrite(1, 512, std::string(4096, 'x'));
  kernel_.SendWrite(2, 0, std::string(512, 'x'));
  kernel_.SendWrite(3, kDeviceBytes, std::string(4096, 'x'));
  kernel_.SendWrite(4, ~std::uint64_t{4095}, std::string(8192, 'x'));
  kernel_.SendRead(5, 1, 4096);
  kernel_.SendRead(6, 0, fuse::kPayloadBytesMax + 4096);
  kernel_.SendFallocate(7, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 512, 4096);
  kernel_.SendFallocate(8, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, kDeviceBytes);
  kernel_.SendFallocate(9, 0, 0, 4096);
  kernel_.SendFallocate(10, FALLOC_FL_ZERO_RANGE, 0, ~std::uint64_t{4095});
  EXPECT_EQ(ErrorOf(1), EINVAL);
  EXPECT_EQ(ErrorOf(2), EINVAL);
  EXPECT_EQ(ErrorOf(3), ENOSPC);
  EXPECT_EQ(ErrorOf(4), ENOSPC);
  EXPECT_EQ(ErrorOf(5), EINVAL);
  EXPECT_EQ(ErrorOf(6), EINVAL);
  EXPECT_EQ(ErrorOf(7), EINVAL);
  EXPECT_EQ(ErrorOf(8), ENOSPC);
  EXPECT_EQ(ErrorOf(9), EOPNOTSUPP);
  EXPECT_EQ(ErrorOf(10), ENOSPC);
  EXPECT_EQ(device_.writes() + device_.trims(), 0u);
}

TEST_F(FuseSessionTest, AReadOnlyVolumeTakesNoChange) {
  device_.set_read_only(true);
  Start();
  kernel_.Send(FUSE_OPEN, 1, BytesOf(fuse_open_in{O_RDWR, 0}));
  kernel_.Send(FUSE_OPEN, 2, BytesOf(fuse_open_in{O_RDONLY, 0}));
  kernel_.SendWrite(3, 0, std::string(4096, 'x'));
  kernel_.SendFallocate(4, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
  EXPECT_EQ(ErrorOf(1), EROFS);
  EXPECT_EQ(ErrorOf(2), 0);
  EXPECT_EQ(ErrorOf(3), EROFS);
  EXPECT_EQ(ErrorOf(4), EROFS);
}

TEST_F(FuseSessionTest, AnswersWhatItDoesNotKnowAndWhatMakesNoSense) {
  Start();
  kernel_.Send(FUSE_GETXATTR, 1, "");
  kernel_.Send(FUSE_INTERRUPT, 2, std::string(8, '\0'));
  kernel_.Send(FUSE_READ, 3, "short");
  kernel_.SendRaw("no header");
  fuse_in_header lies = {};
  lies.len = 4000;
  lies.opcode = FUSE_GETATTR;
  lies.unique = 4;
  kernel_.SendRaw(std::string(BytesOf(lies)));
  fuse_write_in write = {};
  write.size = 8192;  // and no data
  kernel_.Send(FUSE_WRITE, 5, BytesOf(write));
  kernel_.Send(FUSE_FORGET, 6, std::string(8, '\0'));
  EXPECT_EQ(ErrorOf(1), ENOSYS);
  EXPECT_EQ(ErrorOf(2), ENOSYS);
  EXPECT_EQ(ErrorOf(3), EINVAL);
  EXPECT_EQ(ErrorOf(4), EINVAL);
  EXPECT_EQ(ErrorOf(5), EINVAL);
  EXPECT_EQ(ErrorOf(6), -1) << "a forget has no answer";
  EXPECT_EQ(counters_.malformed, 4u);
  EXPECT_FALSE(done_);
}

TEST_F(FuseSessionTest, AnErrorOfTheVolumeIsAnErrorOfTheDevice) {
  Start();
  device_.FailAfter(0, absl::AbortedError("fenced"));
  kernel_.SendRead(1, 0, 4096);
  kernel_.SendWrite(2, 0, std::string(4096, 'x'));
  kernel_.Send(FUSE_FSYNC, 3, BytesOf(fuse_fsync_in{}));
  EXPECT_EQ(ErrorOf(1), EIO);
  EXPECT_EQ(ErrorOf(2), EIO);
  EXPECT_EQ(ErrorOf(3), EIO);
  device_.FailAfter(0, absl::ResourceExhaustedError("the pool is full"));
  kernel_.SendWrite(4, 0, std::string(4096, 'x'));
  EXPECT_EQ(ErrorOf(4), ENOSPC);
}

TEST_F(FuseSessionTest, ManyRequestsRunAtOnce) {
  Start();
  device_.Hold();
  for (std::uint64_t i = 0; i < 64; ++i) kernel_.SendRead(100 + i, i * 4096, 4096);
  reactor_.Settle();
  EXPECT_EQ(device_.running(), 64u);
  device_.Release();
  EXPECT_EQ(ErrorOf(163), 0);
}

TEST_F(FuseSessionTest, LeavesToTheKernelWhatItHasNoRoomFor) {
  FuseOptions options;
  options.requests_in_flight_max = 4;
  Start(options);
  device_.Hold();
  for (std::uint64_t i = 0; i < 10; ++i) kernel_.SendRead(100 + i, 0, 4096);
  reactor_.Settle();
  EXPECT_EQ(device_.running(), 4u);
  EXPECT_EQ(kernel_.waiting(), 6u);
  device_.Release();
  EXPECT_EQ(ErrorOf(109), 0);
}

TEST_F(FuseSessionTest, LargeWritesAreBoundedByTheirBytes) {
  FuseOptions options;
  options.held_bytes_max = std::size_t{1} << 20;
  Start(options);
  device_.Hold();
  for (std::uint64_t i = 0; i < 10; ++i) {
    kernel_.SendWrite(100 + i, 0, std::string(fuse::kPayloadBytesMax, 'x'));
  }
  reactor_.Settle();
  EXPECT_EQ(device_.running(), 4u);
  device_.Release();
  EXPECT_EQ(ErrorOf(109), 0);
}

TEST_F(FuseSessionTest, AnIdleSessionHoldsNoBuffer) {
  Start();
  kernel_.SendRead(1, 0, 4096);
  ASSERT_EQ(ErrorOf(1), 0);
  EXPECT_EQ(reactor_.buffers().free_bytes(), reactor_.buffers().arena().size());
}

TEST_F(FuseSessionTest, ARequestThatWentAwayIsNoEnd) {
  Start();
  kernel_.FailReceive(EINTR);
  kernel_.FailReceive(ENOENT);
  kernel_.SendRead(1, 0, 4096);
  EXPECT_EQ(ErrorOf(1), 0);
  EXPECT_FALSE(session_->lost());
}

TEST_F(FuseSessionTest, EndsWhenTheFileSystemIsGone) {
  Start();
  kernel_.Vanish();
  reactor_.Settle();
  EXPECT_TRUE(done_);
  EXPECT_TRUE(session_->lost());
}

TEST_F(FuseSessionTest, AnAdoptedConnectionIsToldToSendAgainBeforeAnythingIsTaken) {
  Make();
  session_->Adopt(/*kernel_resends=*/true);
  kernel_.SendRead(1, 0, 4096);
  Begin();
  ASSERT_EQ(ErrorOf(1), 0);
  ASSERT_EQ(kernel_.answers().size(), 2u);
  EXPECT_EQ(kernel_.answers()[0].unique, 0u);
  EXPECT_EQ(kernel_.answers()[0].error, fuse::kNotifyResend);
}

TEST_F(FuseSessionTest, AKernelThatCannotSendAgainIsNotAskedTo) {
  Make();
  session_->Adopt(/*kernel_resends=*/false);
  Begin();
  EXPECT_TRUE(kernel_.answers().empty());
}

TEST_F(FuseSessionTest, ALeavingSessionFinishesWhatItTookAndTakesNoMore) {
  Start();
  kernel_.SendInit(1, 45, true);
  device_.Hold();
  kernel_.SendWrite(2, 0, std::string(4096, 'x'));
  reactor_.Settle();
  session_->Leave();
  kernel_.SendWrite(3, 4096, std::string(4096, 'y'));
  reactor_.Settle();
  EXPECT_FALSE(done_);
  device_.Release();
  EXPECT_EQ(ErrorOf(2), 0);
  EXPECT_EQ(ErrorOf(3), -1);
  EXPECT_EQ(kernel_.waiting(), 1u);
  EXPECT_TRUE(done_);
}

TEST_F(FuseSessionTest, WhatFailsBecauseTheDaemonLeavesIsLeftToTheSuccessor) {
  Start();
  kernel_.SendInit(1, 45, true);
  device_.Hold();
  kernel_.SendWrite(2, 0, std::string(4096, 'x'));
  reactor_.Settle();
  session_->Leave();
  device_.FailAfter(0, absl::CancelledError("the engine ends"));
  device_.Release();
  EXPECT_EQ(ErrorOf(2), -1);
  EXPECT_EQ(counters_.left, 1u);
  EXPECT_TRUE(done_);
}

TEST_F(FuseSessionTest, WithoutASuccessorThatGetsItAgainItIsAnError) {
  Start();
  kernel_.SendInit(1, 36, false);
  device_.Hold();
  kernel_.SendWrite(2, 0, std::string(4096, 'x'));
  reactor_.Settle();
  session_->Leave();
  device_.FailAfter(0, absl::CancelledError("the engine ends"));
  device_.Release();
  EXPECT_EQ(ErrorOf(2), EIO);
}

TEST_F(FuseSessionTest, AReplacedDeviceIsLetGoWhenItsRequestsHaveEnded) {
  Start();
  MemoryDevice other(kDeviceBytes);
  other.FailAfter(0, absl::UnavailableError("ended"));
  device_.Hold();
  kernel_.SendRead(1, 0, 4096);
  reactor_.Settle();
  bool replaced = false;
  gate_.Spawn(ReplaceDevice(session_.get(), &other, &replaced));
  kernel_.SendRead(2, 0, 4096);
  EXPECT_EQ(ErrorOf(2), EIO);
  EXPECT_FALSE(replaced);
  device_.Release();
  EXPECT_EQ(ErrorOf(1), 0);
  EXPECT_TRUE(replaced);
}

}  // namespace
}  // namespace keelson::frontend::testing
