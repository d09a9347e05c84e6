// What only kernel sockets do: paths, stale sockets, adopted descriptors.

#include "blockstore/io/kernel_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "blockstore/io/gate.h"
#include "blockstore/io/socket_address.h"
#include "tests/unit/io/kernel_test_util.h"

namespace keelson::io {
namespace {

class KernelStreamTest : public ReactorSuite {
 protected:
  Address address_{GetParam().data_path(), "", 0};
};
INSTANTIATE_TEST_SUITE_P(Kernel, KernelStreamTest, ::testing::ValuesIn(KernelReactors()), NameOf);

// A socket whose process died: bound, and nobody listens.
void LeaveStaleSocket(const Address& address) {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  auto at = ToSocketAddress(address);
  ASSERT_TRUE(at.ok());
  ASSERT_EQ(bind(fd, at->get(), at->size_bytes), 0);
  close(fd);
}

TEST_P(KernelStreamTest, ReplacesAStaleSocket) {
  LeaveStaleSocket(address_);
  auto listener = reactor_->Listen(address_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  struct stat found;
  ASSERT_EQ(stat(address_.unix_path.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600u);
  listener->reset();
  EXPECT_NE(access(address_.unix_path.c_str(), F_OK), 0) << "closing removes the path";
}

TEST_P(KernelStreamTest, DoesNotTakeASocketThatIsAnswered) {
  auto first = reactor_->Listen(address_);
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = reactor_->Listen(address_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists) << second.status();
}

TEST_P(KernelStreamTest, DoesNotRemoveAFileThatIsNotASocket) {
  const int fd = open(address_.unix_path.c_str(), O_CREAT | O_WRONLY, 0600);
  ASSERT_GE(fd, 0);
  close(fd);
  auto listener = reactor_->Listen(address_);
  EXPECT_EQ(listener.status().code(), absl::StatusCode::kAlreadyExists) << listener.status();
  EXPECT_EQ(access(address_.unix_path.c_str(), F_OK), 0);
}

TEST_P(KernelStreamTest, DoesNotRemoveAnothersSocketWhenItCloses) {
  auto first = reactor_->Listen(address_);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(unlink(address_.unix_path.c_str()), 0);
  auto second = reactor_->Listen(address_);
  ASSERT_TRUE(second.ok()) << second.status();
  (*first)->Close();
  EXPECT_EQ(access(address_.unix_path.c_str(), F_OK), 0);
}

TEST_P(KernelStreamTest, TellsThePortTheKernelChose) {
  auto listener = reactor_->Listen({"", "127.0.0.1", 0});
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_NE((*listener)->address().port, 0);
  auto second = reactor_->Listen((*listener)->address());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists) << second.status();
}

TEST_P(KernelStreamTest, RefusesHostNamesAndLongPaths) {
  auto named = reactor_->Listen({"", "localhost", 0});
  EXPECT_EQ(named.status().code(), absl::StatusCode::kInvalidArgument) << named.status();
  auto too_long = reactor_->Listen({"/" + std::string(200, 'x'), "", 0});
  EXPECT_EQ(too_long.status().code(), absl::StatusCode::kInvalidArgument) << too_long.status();
}

Task<void> PingPong(Stream* near, Stream* far) {
  char ping[] = "ping";
  iovec part = {ping, 4};
  const absl::Status wrote = co_await near->WriteAll({&part, 1}, kNoDeadline);
  EXPECT_TRUE(wrote.ok()) << wrote;
  std::array<std::byte, 8> bytes;
  auto got = co_await far->ReadSome(bytes, kNoDeadline);
  EXPECT_TRUE(got.ok() && *got == 4) << got.status();
}

TEST_P(KernelStreamTest, AdoptsBothEndsOfASocketPair) {
  // One end as the other backend would like it: adopting sets what this one needs.
  std::array<int, 2> fds;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds.data()), 0);
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
  auto near = reactor_->AdoptStream(fds[0]);
  auto far = reactor_->AdoptStream(fds[1]);
  ASSERT_TRUE(near.ok() && far.ok());
  EXPECT_EQ((*near)->peer(), "unix pid " + std::to_string(getpid()));
  RunToEnd(PingPong(near->get(), far->get()));
}

TEST_P(KernelStreamTest, DoesNotAdoptWhatIsNotAStream) {
  std::array<int, 2> fds;
  ASSERT_EQ(pipe(fds.data()), 0);
  EXPECT_EQ(reactor_->AdoptStream(fds[0]).status().code(), absl::StatusCode::kInvalidArgument);
  close(fds[1]);
}

// The accepted end dies with unread data, which makes the kernel send a reset.
Task<void> ReadAfterReset(Stream* near, std::unique_ptr<Stream> far) {
  char text[] = "unread";
  iovec part = {text, 6};
  const absl::Status wrote = co_await near->WriteAll({&part, 1}, kNoDeadline);
  EXPECT_TRUE(wrote.ok()) << wrote;
  far.reset();
  std::array<std::byte, 8> bytes;
  auto got = co_await near->ReadSome(bytes, kNoDeadline);
  EXPECT_EQ(got.status().code(), absl::StatusCode::kUnavailable) << got.status();
}

TEST_P(KernelStreamTest, CallsAResetUnavailable) {
  std::array<int, 2> fds;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds.data()), 0);
  auto near = reactor_->AdoptStream(fds[0]);
  auto far = reactor_->AdoptStream(fds[1]);
  ASSERT_TRUE(near.ok() && far.ok());
  RunToEnd(ReadAfterReset(near->get(), *std::move(far)));
}

// The backlog of a listener that accepts nothing fills up; the connect that does not fit waits, and
// its deadline ends it.
Task<void> ConnectUntilItWaits(Reactor* reactor, Address address) {
  std::vector<std::unique_ptr<Stream>> connected;
  absl::Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) {
    auto stream = co_await reactor->Connect(address, reactor->NowNanos() + 50'000'000);
    status = stream.status();
    if (status.ok()) connected.push_back(*std::move(stream));
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
}

TEST_P(KernelStreamTest, EndsAConnectAtItsDeadline) {
  auto listener = reactor_->Listen(address_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  RunToEnd(ConnectUntilItWaits(reactor_.get(), address_));
}

// Many idle readers do not keep the file operations out of the ring.
Task<void> ReadUntilShutdown(Stream* stream) {
  std::array<std::byte, 8> bytes;
  auto got = co_await stream->ReadSome(bytes, kNoDeadline);
  EXPECT_EQ(got.status().code(), absl::StatusCode::kUnavailable) << got.status();
}

Task<void> WriteAmongIdleStreams(Reactor* reactor, File* file) {
  std::vector<std::unique_ptr<Stream>> streams;
  Gate gate;
  for (int i = 0; i < 200; ++i) {
    std::array<int, 2> fds;
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds.data()), 0);
    for (const int fd : fds) {
      auto stream = reactor->AdoptStream(fd);
      EXPECT_TRUE(stream.ok()) << stream.status();
      gate.Spawn(ReadUntilShutdown(stream->get()));
      streams.push_back(*std::move(stream));
    }
  }
  Buffer buffer = co_await reactor->buffers().Take(kIoAlignment);
  const absl::Status wrote = co_await file->Write(0, buffer.span());
  EXPECT_TRUE(wrote.ok()) << wrote;
  for (auto& stream : streams) stream->Shutdown();
  co_await gate.Close();
}

TEST_P(KernelStreamTest, WritesFilesWhileManyStreamsAreIdle) {
  auto file = MakeFile(1 << 20);
  ASSERT_NE(file, nullptr);
  RunToEnd(WriteAmongIdleStreams(reactor_.get(), file.get()));
}

}  // namespace
}  // namespace keelson::io
