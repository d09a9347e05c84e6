#include "blockstore/io/kernel_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/io/kernel_test_util.h"

namespace keelson::io {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

class KernelFileTest : public ::testing::Test {
 protected:
  std::unique_ptr<Reactor> reactor_ = MakeKernelReactor(Backend::kAuto);
  std::string path_ = ScratchDirectory::Get().NewPath();
  FileOptions create_{.create = true, .size_bytes = kMiB};
};

TEST_F(KernelFileTest, PreallocatesANewFileForItsOwnerOnly) {
  auto file = reactor_->OpenFile(path_, create_);
  ASSERT_TRUE(file.ok()) << file.status();
  struct stat found;
  ASSERT_EQ(stat(path_.c_str(), &found), 0);
  EXPECT_EQ(static_cast<std::size_t>(found.st_size), kMiB);
  EXPECT_GE(static_cast<std::size_t>(found.st_blocks) * 512, kMiB);
  EXPECT_EQ(found.st_mode & 0777, 0600u);
  EXPECT_TRUE((*file)->sector_bytes() == 512 || (*file)->sector_bytes() == 4096);
}

TEST_F(KernelFileTest, FinishesACreationThatACrashCutShort) {
  const int fd = open(path_.c_str(), O_CREAT | O_WRONLY, 0600);
  ASSERT_GE(fd, 0);
  close(fd);
  auto file = reactor_->OpenFile(path_, create_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->size_bytes(), kMiB);
}

TEST_F(KernelFileTest, KeepsTheSizeOfAnExistingFile) {
  { ASSERT_TRUE(reactor_->OpenFile(path_, create_).ok()); }
  create_.size_bytes = kMiB / 2;
  auto file = reactor_->OpenFile(path_, create_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->size_bytes(), kMiB);
}

TEST_F(KernelFileTest, LeavesNothingBehindWhenThereIsNoSpace) {
  create_.size_bytes = std::uint64_t{1} << 60;
  auto file = reactor_->OpenFile(path_, create_);
  EXPECT_FALSE(file.ok());
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

TEST_F(KernelFileTest, LetsReadersShareButNotWithAWriter) {
  FileOptions reading{.read_only = true};
  {
    auto writer = reactor_->OpenFile(path_, create_);
    ASSERT_TRUE(writer.ok()) << writer.status();
    EXPECT_EQ(reactor_->OpenFile(path_, reading).status().code(),
              absl::StatusCode::kFailedPrecondition);
  }
  auto first = reactor_->OpenFile(path_, reading);
  auto second = reactor_->OpenFile(path_, reading);
  EXPECT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(reactor_->OpenFile(path_, create_).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(KernelFileTest, IsLockedAgainstAnotherProcess) {
  auto file = reactor_->OpenFile(path_, create_);
  ASSERT_TRUE(file.ok()) << file.status();
  const pid_t child = fork();
  if (child == 0) {
    const int fd = open(path_.c_str(), O_RDWR);
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    _exit(fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : 7);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(KernelFileTest, OpensWithoutTheLockWhenTold) {
  auto first = reactor_->OpenFile(path_, create_);
  create_.lock = false;
  auto second = reactor_->OpenFile(path_, create_);
  EXPECT_TRUE(first.ok() && second.ok());
}

TEST_F(KernelFileTest, RefusesWhatIsNotAFile) {
  auto file = reactor_->OpenFile("/dev/null", FileOptions{.lock = false});
  EXPECT_FALSE(file.ok());
  auto directory = reactor_->OpenFile("/", FileOptions{.read_only = true});
  EXPECT_FALSE(directory.ok());
}

TEST_F(KernelFileTest, NamesTheRemedyWhereDirectIoIsRefused) {
  auto file = reactor_->OpenFile("/proc/version", FileOptions{.read_only = true, .lock = false});
  ASSERT_EQ(file.status().code(), absl::StatusCode::kFailedPrecondition) << file.status();
  EXPECT_NE(std::string(file.status().message()).find("ext4"), std::string::npos);
}

TEST_F(KernelFileTest, WritesNothingThroughAReadOnlyFile) {
  { ASSERT_TRUE(reactor_->OpenFile(path_, create_).ok()); }
  auto file = reactor_->OpenFile(path_, FileOptions{.read_only = true});
  ASSERT_TRUE(file.ok()) << file.status();
  auto write = [](Reactor* reactor, File* target) -> Task<void> {
    Buffer buffer = co_await reactor->buffers().Take(kIoAlignment);
    const absl::Status wrote = co_await target->Write(0, buffer.span());
    EXPECT_FALSE(wrote.ok());
  };
  RunToEnd(reactor_.get(), write(reactor_.get(), file->get()));
}

}  // namespace
}  // namespace keelson::io
