// The FUSE sessions of a reactor by name, over SOCK_SEQPACKET pairs in place of /dev/fuse.

#include "blockstore/service/fuse_frontend.h"

#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "blockstore/service/reactor_thread.h"

namespace keelson::service {
namespace {

// A request of `opcode`, and the errno of its answer; -1 when none comes.
int Ask(int fd, std::uint32_t opcode, std::string arguments) {
  fuse_in_header header = {};
  header.len = static_cast<std::uint32_t>(sizeof(header) + arguments.size());
  header.opcode = opcode;
  header.unique = 9;
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  bytes += arguments;
  if (send(fd, bytes.data(), bytes.size(), 0) < 0) return -1;
  fuse_out_header answer = {};
  do {
    if (recv(fd, &answer, sizeof(answer), MSG_TRUNC) < static_cast<ssize_t>(sizeof(answer))) {
      return -1;
    }
  } while (answer.unique == 0);  // a notification
  return -answer.error;
}

std::string WriteArguments() {
  fuse_write_in write = {};
  write.offset = 1 << 20;
  write.size = 4096;
  std::string bytes(reinterpret_cast<const char*>(&write), sizeof(write));
  return bytes + std::string(4096, 'x');
}

std::string ReadArguments() {
  fuse_read_in read = {};
  read.size = 4096;
  return {reinterpret_cast<const char*>(&read), sizeof(read)};
}

io::Task<void> LeaveAndClose(FuseFrontend* files) {
  files->Leave();
  co_await files->Close();
}

class FuseFrontendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<ReactorThread>> thread = ReactorThread::Start({}, "fuse-test");
    ASSERT_TRUE(thread.ok()) << thread.status();
    thread_ = *std::move(thread);
    files_ = std::make_unique<FuseFrontend>(&thread_->reactor());
  }
  void TearDown() override {
    thread_->Run([this] { return LeaveAndClose(files_.get()); });
    for (const int fd : ends_) close(fd);
  }

  // The kernel's end of a connection that is served as `name`.
  int Open(const std::string& name, std::optional<bool> adopted) {
    int ends[2] = {-1, -1};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    ends_.push_back(ends[0]);
    status_ =
        thread_->Run([&] { return files_->Open(name, ends[1], /*device=*/nullptr, adopted); });
    return ends[0];
  }

  std::vector<int> ends_;
  absl::Status status_;
  std::unique_ptr<ReactorThread> thread_;
  std::unique_ptr<FuseFrontend> files_;
};

TEST_F(FuseFrontendTest, AVolumeThatIsNotAttachedAnyMoreGivesErrorsForEverything) {
  const int kernel = Open("vol", true);
  ASSERT_TRUE(status_.ok()) << status_;
  EXPECT_EQ(Ask(kernel, FUSE_READ, ReadArguments()), EIO);
  EXPECT_EQ(Ask(kernel, FUSE_WRITE, WriteArguments()), EIO);
  EXPECT_EQ(Ask(kernel, FUSE_FSYNC, std::string(sizeof(fuse_fsync_in), '\0')), EIO);
  EXPECT_EQ(Ask(kernel, FUSE_GETATTR, std::string(sizeof(fuse_getattr_in), '\0')), 0);
}

TEST_F(FuseFrontendTest, AnAdoptedConnectionIsToldToSendAgain) {
  const int kernel = Open("vol", true);
  fuse_out_header first = {};
  ASSERT_EQ(recv(kernel, &first, sizeof(first), 0), static_cast<ssize_t>(sizeof(first)));
  EXPECT_EQ(first.unique, 0u);
  EXPECT_EQ(first.error, frontend::fuse::kNotifyResend);
}

TEST_F(FuseFrontendTest, ANameIsServedOnceAtATime) {
  Open("vol", false);
  ASSERT_TRUE(status_.ok());
  Open("vol", false);
  EXPECT_TRUE(absl::IsAlreadyExists(status_)) << status_;
  thread_->Run([this] { return files_->End("vol"); });
  Open("vol", false);
  EXPECT_TRUE(status_.ok()) << status_;
}

TEST_F(FuseFrontendTest, TheEndOfASessionIsTheEndOfItsConnection) {
  const int kernel = Open("vol", false);
  thread_->Run([this] { return files_->End("vol"); });
  char byte = 0;
  EXPECT_EQ(recv(kernel, &byte, 1, 0), 0);
  EXPECT_FALSE(thread_->Run([this] { return files_->Find("vol").has_value(); }));
}

}  // namespace
}  // namespace keelson::service
