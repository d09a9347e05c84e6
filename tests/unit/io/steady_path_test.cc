// The steady I/O path allocates nothing: the operator new of counting_new.cc counts.

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "blockstore/io/gate.h"
#include "tests/unit/io/counting_new.h"
#include "tests/unit/io/kernel_test_util.h"

namespace keelson::io {
namespace {

class SteadyPathTest : public ReactorSuite {};
INSTANTIATE_TEST_SUITE_P(Kernel, SteadyPathTest, ::testing::ValuesIn(KernelReactors()), NameOf);

Task<void> WriteAndReadBlocks(Reactor* reactor, File* file, int count) {
  for (int i = 0; i < count; ++i) {
    Buffer buffer = co_await reactor->buffers().Take(kIoAlignment);
    const std::uint64_t offset = static_cast<std::uint64_t>(i % 16) * kIoAlignment;
    const absl::Status wrote = co_await file->Write(offset, buffer.span());
    EXPECT_TRUE(wrote.ok()) << wrote;
    const absl::Status read = co_await file->Read(offset, buffer.span());
    EXPECT_TRUE(read.ok()) << read;
  }
}

Task<void> RunWorkers(Reactor* reactor, File* file, int count) {
  Gate gate;
  for (int worker = 0; worker < 8; ++worker) {
    gate.Spawn(WriteAndReadBlocks(reactor, file, count));
  }
  co_await gate.Close();
}

Task<void> CountAllocations(Reactor* reactor, File* file, std::size_t* counted) {
  co_await RunWorkers(reactor, file, 20);  // warm-up
  const std::size_t before = AllocationCount();
  co_await RunWorkers(reactor, file, 20);
  *counted = AllocationCount() - before;
}

TEST_P(SteadyPathTest, ReadsAndWritesBlocksWithoutTheHeap) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "coroutine frames are not pooled under AddressSanitizer";
#endif
  auto file = MakeFile(1 << 20);
  ASSERT_NE(file, nullptr);
  std::size_t counted = 1;
  RunToEnd(CountAllocations(reactor_.get(), file.get(), &counted));
  EXPECT_EQ(counted, 0u);
}

Task<void> SendAndReceive(Reactor* reactor, Stream* near, Stream* far, int count) {
  for (int i = 0; i < count; ++i) {
    Buffer buffer = co_await reactor->buffers().Take(kIoAlignment);
    iovec part = {buffer.data(), buffer.size()};
    const std::int64_t deadline_ns = reactor->NowNanos() + 10'000'000'000;
    const absl::Status wrote = co_await near->WriteAll({&part, 1}, deadline_ns);
    EXPECT_TRUE(wrote.ok()) << wrote;
    for (std::size_t have = 0; have < buffer.size();) {
      auto got = co_await far->ReadSome(buffer.span().subspan(have), deadline_ns);
      EXPECT_TRUE(got.ok()) << got.status();
      if (!got.ok()) co_return;
      have += *got;
    }
  }
}

Task<void> CountStreamAllocations(Reactor* reactor, Stream* near, Stream* far,
                                  std::size_t* counted) {
  co_await SendAndReceive(reactor, near, far, 20);  // warm-up
  const std::size_t before = AllocationCount();
  co_await SendAndReceive(reactor, near, far, 20);
  *counted = AllocationCount() - before;
}

TEST_P(SteadyPathTest, MovesBytesOverAStreamWithoutTheHeap) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "coroutine frames are not pooled under AddressSanitizer";
#endif
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  auto near = reactor_->AdoptStream(fds[0]);
  auto far = reactor_->AdoptStream(fds[1]);
  ASSERT_TRUE(near.ok() && far.ok());
  std::size_t counted = 1;
  RunToEnd(CountStreamAllocations(reactor_.get(), near->get(), far->get(), &counted));
  EXPECT_EQ(counted, 0u);
}

}  // namespace
}  // namespace keelson::io
