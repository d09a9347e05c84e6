// A session over a real descriptor on each reactor backend: a SOCK_SEQPACKET pair, which like
// /dev/fuse gives one message to a read and takes one from a write. Counts what is allocated.

#include "blockstore/frontend/fuse_channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <future>
#include <thread>

#include "blockstore/frontend/fuse_session.h"
#include "blockstore/io/gate.h"
#include "tests/unit/frontend/allocation_count.h"
#include "tests/unit/frontend/memory_device.h"
#include "tests/unit/frontend/memory_fuse.h"

namespace keelson::frontend::testing {
namespace {

io::Task<void> RunAndStop(FuseSession* session, io::Reactor* reactor) {
  co_await session->Run();
  reactor->Stop();
}

struct WriteRequest {
  fuse_in_header header = {};
  fuse_write_in write = {};
  std::array<char, 4096> data;
};

void SendWrite(int fd, std::uint64_t unique, std::uint64_t block) {
  WriteRequest request;
  request.header.len = sizeof(request);
  request.header.opcode = FUSE_WRITE;
  request.header.unique = unique;
  request.write.offset = block * 4096;
  request.write.size = 4096;
  request.data.fill(static_cast<char>(block));
  ASSERT_EQ(send(fd, &request, sizeof(request), 0), static_cast<ssize_t>(sizeof(request)));
}

// Receives the answer to a write; its error.
int ReceiveAnswer(int fd) {
  struct {
    fuse_out_header header;
    fuse_write_out body;
  } answer = {};
  if (recv(fd, &answer, sizeof(answer), 0) != sizeof(answer)) return -1;
  return -answer.header.error;
}

class FuseChannelTest : public ::testing::TestWithParam<io::Backend> {
 protected:
  FuseChannelTest() : device_(8 << 20) {}

  void SetUp() override {
    io::ReactorOptions options;
    options.backend = GetParam();
    absl::StatusOr<std::unique_ptr<io::Reactor>> reactor = io::MakeReactor(options);
    if (!reactor.ok()) GTEST_SKIP() << reactor.status();
    reactor_ = *std::move(reactor);
  }

  // Serves one end of a pair on this thread while `kernel` has the other in its own.
  void ServeWhile(std::function<void(int fd)> kernel) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    absl::StatusOr<std::unique_ptr<FuseChannel>> channel =
        KernelFuseChannel::Make(reactor_.get(), ends[0]);
    ASSERT_TRUE(channel.ok()) << channel.status();
    FuseSession session(reactor_.get(), "vol", *std::move(channel), FuseOptions(), &device_,
                        &counters_);
    io::Gate gate;
    gate.Spawn(RunAndStop(&session, reactor_.get()));
    std::thread thread([&] {
      kernel(ends[1]);
      reactor_->Post([&session] { session.End(); });
    });
    reactor_->Run();
    thread.join();
    close(ends[1]);
    EXPECT_EQ(gate.running(), 0u);
  }

  std::uint64_t ReactorAllocations() {
    std::promise<std::uint64_t> count;
    reactor_->Post([&count] { count.set_value(AllocationsOfThisThread()); });
    return count.get_future().get();
  }

  MemoryDevice device_;
  FuseCounters counters_;
  std::unique_ptr<io::Reactor> reactor_;
};

TEST_P(FuseChannelTest, ServesRequestsAsTheyCome) {
  int failed = 0;
  ServeWhile([&failed](int fd) {
    for (std::uint64_t round = 0; round < 50; ++round) {
      for (std::uint64_t i = 0; i < 16; ++i) SendWrite(fd, 1 + i, round * 16 + i);
      for (std::uint64_t i = 0; i < 16; ++i) failed += ReceiveAnswer(fd) != 0 ? 1 : 0;
    }
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(device_.writes(), 800u);
  EXPECT_EQ(device_.bytes()[799 * 4096], static_cast<std::byte>(799 & 0xff));
}

TEST_P(FuseChannelTest, EndsWhileItWaits) {
  ServeWhile([](int) {});
  EXPECT_EQ(device_.writes(), 0u);
}

TEST_P(FuseChannelTest, AllocatesNothingPerRequest) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "coroutine frames are not pooled under AddressSanitizer";
#endif
  std::uint64_t allocated = 0;
  ServeWhile([this, &allocated](int fd) {
    auto round = [fd] {
      for (std::uint64_t i = 0; i < 32; ++i) SendWrite(fd, 1 + i, i);
      for (std::uint64_t i = 0; i < 32; ++i) ReceiveAnswer(fd);
    };
    for (int warm_up = 0; warm_up < 20; ++warm_up) round();
    const std::uint64_t before = ReactorAllocations();
    for (int i = 0; i < 100; ++i) round();
    allocated = ReactorAllocations() - before;
  });
  EXPECT_LE(allocated, 100u);
}

INSTANTIATE_TEST_SUITE_P(Backends, FuseChannelTest,
                         ::testing::Values(io::Backend::kUring, io::Backend::kAio),
                         [](const auto& param_info) {
                           return std::string(param_info.param == io::Backend::kUring ? "Uring"
                                                                                      : "Aio");
                         });

}  // namespace
}  // namespace keelson::frontend::testing
