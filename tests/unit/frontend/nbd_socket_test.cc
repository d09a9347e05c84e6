// The server over real sockets on each reactor backend: a blocking client in a thread of its own.
// Counts what the reactor's thread allocates meanwhile.

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <future>
#include <string>
#include <thread>
#include <utility>

#include "blockstore/io/reactor.h"
#include "tests/unit/frontend/allocation_count.h"
#include "tests/unit/frontend/nbd_conversation.h"

namespace keelson::frontend::testing {
namespace {

using nbd::Command;

bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

std::string ReceiveExactly(int fd, std::size_t size) {
  std::string bytes(size, '\0');
  std::size_t at = 0;
  while (at < size) {
    const ssize_t received = recv(fd, bytes.data() + at, size - at, 0);
    if (received <= 0) break;
    at += static_cast<std::size_t>(received);
  }
  bytes.resize(at);
  return bytes;
}

void Handshake(int fd) {
  SendAll(fd, ClientFlags(3) + OptionBytes(nbd::Option::kExportName, "vol"));
  ReceiveExactly(fd, 18 + 10);
}

void Disconnect(int fd) {
  SendAll(fd, RequestBytes(Command::kDisconnect, 3, 0, 0));
  EXPECT_EQ(ReceiveExactly(fd, 1), "") << "the server closes after a disconnect";
  close(fd);
}

// Writes `blocks` blocks in one go and reads them back in one go; returns the replies of the reads.
std::string WriteAndReadBlocks(int fd, std::uint64_t blocks) {
  std::string writes;
  std::string reads;
  for (std::uint64_t block = 0; block < blocks; ++block) {
    writes += RequestBytes(Command::kWrite, block, block * 4096, 4096);
    writes.append(4096, static_cast<char>(block));
    reads += RequestBytes(Command::kRead, block, block * 4096, 4096);
  }
  SendAll(fd, writes);
  ReceiveExactly(fd, blocks * nbd::kSimpleReplyBytes);
  SendAll(fd, reads);
  return ReceiveExactly(fd, blocks * (nbd::kSimpleReplyBytes + 4096));
}

io::Task<void> CloseAndStop(NbdServer* server, io::Reactor* reactor) {
  co_await server->Close();
  reactor->Stop();
}

class NbdSocketTest : public ::testing::TestWithParam<io::Backend> {
 protected:
  NbdSocketTest() : device_(8 << 20) { directory_.Add("vol", &device_); }

  void SetUp() override {
    io::ReactorOptions options;
    options.backend = GetParam();
    absl::StatusOr<std::unique_ptr<io::Reactor>> reactor = io::MakeReactor(options);
    if (!reactor.ok()) GTEST_SKIP() << reactor.status();
    reactor_ = *std::move(reactor);
  }

  // Serves one end of a socketpair on this thread while `client` has the other in its own.
  void ServeWhile(std::function<void(int fd)> client) {
    NbdServer server(reactor_.get(), &directory_, {});
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    absl::StatusOr<std::unique_ptr<io::Stream>> stream = reactor_->AdoptStream(ends[0]);
    ASSERT_TRUE(stream.ok()) << stream.status();
    ASSERT_TRUE(server.Adopt(*std::move(stream)));
    io::Gate gate;
    std::thread thread([&] {
      Handshake(ends[1]);
      client(ends[1]);
      Disconnect(ends[1]);
      reactor_->Post([&] { gate.Spawn(CloseAndStop(&server, reactor_.get())); });
    });
    reactor_->Run();
    thread.join();
    EXPECT_EQ(gate.running(), 0u);
    EXPECT_EQ(server.counters().protocol_errors, 0u);
  }

  // What the reactor's thread has allocated so far. From another thread.
  std::uint64_t ReactorAllocations() {
    std::promise<std::uint64_t> count;
    reactor_->Post([&count] { count.set_value(AllocationsOfThisThread()); });
    return count.get_future().get();
  }

  MemoryDevice device_;
  MemoryDirectory directory_;
  std::unique_ptr<io::Reactor> reactor_;
};

TEST_P(NbdSocketTest, ServesManyRequestsAtOnce) {
  std::string heard;
  ServeWhile([&heard](int fd) { heard = WriteAndReadBlocks(fd, 200); });
  ReplyReader reader(heard);
  for (int i = 0; i < 200; ++i) {
    const ReplyMessage reply = reader.Reply(4096);
    ASSERT_EQ(reply.data, std::string(4096, static_cast<char>(reply.cookie)));
  }
  EXPECT_TRUE(reader.Done());
}

TEST_P(NbdSocketTest, ServesLargeRequests) {
  constexpr std::uint32_t kLarge = 5 << 20;
  std::string heard;
  ServeWhile([&heard](int fd) {
    SendAll(fd, RequestBytes(Command::kWrite, 1, 0, kLarge) + std::string(kLarge, 'L'));
    ReceiveExactly(fd, nbd::kSimpleReplyBytes);
    SendAll(fd, RequestBytes(Command::kRead, 2, 0, kLarge));
    heard = ReceiveExactly(fd, nbd::kSimpleReplyBytes + kLarge);
  });
  ASSERT_EQ(heard.size(), nbd::kSimpleReplyBytes + kLarge);
  EXPECT_TRUE(heard.substr(nbd::kSimpleReplyBytes) == std::string(kLarge, 'L'));
}

TEST_P(NbdSocketTest, AllocatesNothingPerRequest) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "coroutine frames are not pooled under AddressSanitizer";
#endif
  std::uint64_t allocated = 0;
  ServeWhile([this, &allocated](int fd) {
    for (int warm_up = 0; warm_up < 5; ++warm_up) WriteAndReadBlocks(fd, 400);
    const std::uint64_t before = ReactorAllocations();
    for (int round = 0; round < 20; ++round) WriteAndReadBlocks(fd, 400);
    allocated = ReactorAllocations() - before;
  });
  // Free lists may still grow when more happens at once than ever before: 16,000 requests here.
  EXPECT_LE(allocated, 100u);
}

INSTANTIATE_TEST_SUITE_P(Backends, NbdSocketTest,
                         ::testing::Values(io::Backend::kUring, io::Backend::kAio),
                         [](const auto& param_info) {
                           return std::string(param_info.param == io::Backend::kUring ? "Uring"
                                                                                      : "Aio");
                         });

}  // namespace
}  // namespace keelson::frontend::testing
