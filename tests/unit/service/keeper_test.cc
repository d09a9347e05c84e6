// keelson-fuse-keeper and the daemon's side of it, with pipes in place of FUSE connections: the
// real program, started from beside this test.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "blockstore/service/child_process.h"
#include "blockstore/service/keeper_client.h"
#include "tests/unit/service/temporary_directory.h"

namespace keelson::service {
namespace {

using std::chrono::milliseconds;

// The ends of a pipe. What is written into one comes out of the other, in any process.
struct Pipe {
  Pipe() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(pipe(ends), 0);
    out = Descriptor(ends[0]);
    in = Descriptor(ends[1]);
  }
  Descriptor out;
  Descriptor in;
};

bool EventuallyTrue(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

class KeeperTest : public ::testing::Test {
 protected:
  KeeperTest() : program_(ProgramBeside("keelson-fuse-keeper")) {}

  void SetUp() override {
    if (!std::filesystem::exists(program_)) GTEST_SKIP() << program_ << " is not built";
  }
  void TearDown() override {
    KeeperClient client(directory_.path(), program_);
    const auto left = client.Fetch();
    if (!left.ok()) return;
    for (const auto& [name, kept] : *left) EXPECT_TRUE(client.Drop(name).ok());
  }

  std::string SocketPath() const { return directory_.Child("fuse-keeper.sock"); }
  bool KeeperIsThere() const { return std::filesystem::exists(SocketPath()); }
  // The keeper's process id, as the other end of its socket.
  pid_t KeeperId() const {
    const absl::StatusOr<Descriptor> connection = ConnectToKeeper(SocketPath());
    if (!connection.ok()) return -1;
    ucred peer = {};
    socklen_t size_bytes = sizeof(peer);
    getsockopt(connection->get(), SOL_SOCKET, SO_PEERCRED, &peer, &size_bytes);
    return peer.pid;
  }

  TemporaryDirectory directory_;
  const std::string program_;
};

TEST_F(KeeperTest, GivesWhatOneDaemonLeftToTheNext) {
  Pipe pipe;
  {
    KeeperClient client(directory_.path(), program_);
    ASSERT_TRUE(client.Fetch().ok());
    ASSERT_TRUE(client.Keep("vol", "the note", pipe.out).ok());
  }
  pipe.out.Reset();
  ASSERT_EQ(write(pipe.in.get(), "x", 1), 1);
  KeeperClient next(directory_.path(), program_);
  absl::StatusOr<std::map<std::string, KeeperClient::Kept>> found = next.Fetch();
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ((*found)["vol"].note, "the note");
  char byte = 0;
  ASSERT_EQ(read((*found)["vol"].descriptor.get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'x');
}

TEST_F(KeeperTest, EndsWithTheLastOfWhatItKeeps) {
  Pipe pipe;
  KeeperClient client(directory_.path(), program_);
  ASSERT_TRUE(client.Keep("a", "", pipe.out).ok());
  ASSERT_TRUE(client.Keep("b", "", pipe.out).ok());
  ASSERT_TRUE(client.Drop("a").ok());
  EXPECT_TRUE(KeeperIsThere());
  ASSERT_TRUE(client.Drop("b").ok());
  EXPECT_TRUE(EventuallyTrue([this] { return !KeeperIsThere(); }));
  // And is started again for the next one.
  EXPECT_TRUE(client.Keep("c", "", pipe.out).ok());
  EXPECT_TRUE(KeeperIsThere());
}

TEST_F(KeeperTest, IsStartedAgainWhenItDiesAndGetsEverythingBack) {
  Pipe pipe;
  KeeperClient client(directory_.path(), program_);
  ASSERT_TRUE(client.Keep("vol", "note", pipe.out).ok());
  const pid_t first = KeeperId();
  ASSERT_GT(first, 0);
  ASSERT_EQ(kill(first, SIGKILL), 0);
  EXPECT_TRUE(EventuallyTrue([this, first] {
    const pid_t now = KeeperId();
    return now > 0 && now != first;
  }));
  EXPECT_TRUE(EventuallyTrue([this] {
    KeeperClient other(directory_.path(), program_);
    const auto found = other.Fetch();
    return found.ok() && found->count("vol") == 1;
  }));
  EXPECT_EQ(client.problem(), "");
}

TEST_F(KeeperTest, LetsGoOfWhatHasEndedByItself) {
  Pipe pipe;
  KeeperClient client(directory_.path(), program_);
  ASSERT_TRUE(client.Keep("vol", "", pipe.out).ok());
  pipe.in.Reset();
  EXPECT_TRUE(EventuallyTrue([this] { return !KeeperIsThere(); }));
  // And nobody starts another for it.
  Pipe second;
  ASSERT_TRUE(client.Keep("other", "", second.out).ok());
  KeeperClient next(directory_.path(), program_);
  const auto found = next.Fetch();
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->size(), 1u);
}

TEST_F(KeeperTest, SaysWhatIsMissingWhileItCannotBeStarted) {
  Pipe pipe;
  KeeperClient client(directory_.path(), "/nowhere/keelson-fuse-keeper");
  const absl::Status status = client.Keep("vol", "", pipe.out);
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("/nowhere/keelson-fuse-keeper"), std::string::npos) << status;
}

TEST_F(KeeperTest, ItsSocketIsForThisUserOnly) {
  Pipe pipe;
  KeeperClient client(directory_.path(), program_);
  ASSERT_TRUE(client.Keep("vol", "", pipe.out).ok());
  struct stat status = {};
  ASSERT_EQ(stat(SocketPath().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(KeeperTest, RefusesWhatItDoesNotUnderstand) {
  Pipe pipe;
  KeeperClient client(directory_.path(), program_);
  ASSERT_TRUE(client.Keep("vol", "", pipe.out).ok());
  const absl::StatusOr<Descriptor> stranger = ConnectToKeeper(SocketPath());
  ASSERT_TRUE(stranger.ok());
  ASSERT_EQ(send(stranger->get(), "hello", 5, MSG_NOSIGNAL), 5);
  char byte = 0;
  EXPECT_EQ(recv(stranger->get(), &byte, 1, 0), 0) << "it closes the connection";
  const absl::StatusOr<Descriptor> without = ConnectToKeeper(SocketPath());
  ASSERT_TRUE(without.ok());
  ASSERT_TRUE(SendKeeperMessage(without->get(), {KeeperAct::kKeep, "vol", ""}).ok());
  const auto answer = ReceiveKeeperMessage(without->get(), 5000);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->message.act, KeeperAct::kRefuse);
  EXPECT_TRUE(client.Keep("other", "", pipe.out).ok()) << "it goes on";
}

TEST_F(KeeperTest, UsesLittleMemory) {
  Pipe pipe;
  KeeperClient client(directory_.path(), program_);
  ASSERT_TRUE(client.Keep("vol", "", pipe.out).ok());
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer needs much";
#endif
  std::ifstream statm("/proc/" + std::to_string(KeeperId()) + "/statm");
  long size_pages = 0;
  long resident_pages = 0;
  long shared_pages = 0;
  statm >> size_pages >> resident_pages >> shared_pages;
  EXPECT_LT((resident_pages - shared_pages) * 4, 8 << 10) << "KiB of its own";
}

TEST(ChildProcessTest, GivesWhatWasPrintedAndTheCode) {
  EXPECT_EQ(*RunProgram("/bin/sh", {"-c", "echo words"}, milliseconds(10'000)), "words");
  const absl::Status status =
      RunProgram("/bin/sh", {"-c", "echo why; exit 9"}, milliseconds(10'000)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "why");
  EXPECT_EQ(RunProgram("/bin/sh", {"-c", "kill -9 $$"}, milliseconds(10'000)).status().code(),
            absl::StatusCode::kInternal);
  EXPECT_TRUE(absl::IsNotFound(RunProgram("/nowhere", {}, milliseconds(10'000)).status()));
}

TEST(ChildProcessTest, EndsWhatDoesNotEnd) {
  EXPECT_TRUE(
      absl::IsDeadlineExceeded(RunProgram("/bin/sleep", {"1000"}, milliseconds(50)).status()));
}

TEST(KeeperMessagesTest, APathThatIsTooLongIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(ConnectToKeeper(std::string(200, 'x')).status()));
}

}  // namespace
}  // namespace keelson::service
