#include "blockstore/pool/pool_directory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/gate.h"

namespace keelson::pool {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr std::uint64_t kSizeBytes = std::uint64_t{16} << 20;

// A block device over a file, or none where the kernel or the container gives no loop devices.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& file) {
    std::ofstream(file).close();
    fs::resize_file(file, std::uint64_t{32} << 20);
    const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) return;
    const int number = ioctl(control, LOOP_CTL_GET_FREE);
    close(control);
    if (number < 0) return;
    path_ = absl::StrCat("/dev/loop", number);
    fd_ = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    const int backing = open(file.c_str(), O_RDWR | O_CLOEXEC);
    if (fd_ >= 0 && backing >= 0) bound_ = ioctl(fd_, LOOP_SET_FD, backing) == 0;
    if (backing >= 0) close(backing);
  }
  ~LoopDevice() {
    if (bound_) ioctl(fd_, LOOP_CLR_FD, 0);
    if (fd_ >= 0) close(fd_);
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  bool bound() const { return bound_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
  bool bound_ = false;
};

class PoolDirectoryTest : public ::testing::Test {
 protected:
  PoolDirectoryTest() {
    std::string pattern = ::testing::TempDir() + "pool_directory_XXXXXX";
    parent_ = mkdtemp(pattern.data());
    directory_ = parent_ + "/pool";
    auto reactor = io::MakeReactor({.buffer_arena_bytes = std::size_t{8} << 20});
    EXPECT_TRUE(reactor.ok()) << reactor.status();
    reactor_ = *std::move(reactor);
  }
  ~PoolDirectoryTest() override {
    Close();
    fs::remove_all(parent_);
  }

  static io::Task<void> RunAndStop(io::Reactor* reactor, io::Task<void> task) {
    co_await std::move(task);
    reactor->Stop();
  }
  void Run(io::Task<void> task) {
    io::Gate gate;
    gate.Spawn(RunAndStop(reactor_.get(), std::move(task)));
    reactor_->Run();
  }

  static io::Task<void> CreateInto(io::Reactor* reactor, CreatePoolOptions options,
                                   absl::StatusOr<PoolId>* result) {
    *result = co_await CreatePoolDirectory(reactor, std::move(options));
  }
  absl::StatusOr<PoolId> CreateWith(CreatePoolOptions options) {
    absl::StatusOr<PoolId> result;
    Run(CreateInto(reactor_.get(), std::move(options), &result));
    return result;
  }
  absl::StatusOr<PoolId> CreateAt(std::string directory, std::uint64_t size_bytes) {
    CreatePoolOptions options;
    options.directory = std::move(directory);
    options.size_bytes = size_bytes;
    return CreateWith(std::move(options));
  }
  absl::StatusOr<PoolId> Create() { return CreateAt(directory_, kSizeBytes); }
  absl::StatusOr<PoolId> CreateOn(const std::string& device, bool force) {
    return CreateWith({.directory = directory_, .device = device, .force = force});
  }

  static io::Task<void> OpenInto(io::Reactor* reactor, OpenPoolOptions options,
                                 absl::StatusOr<std::unique_ptr<Pool>>* result) {
    *result = co_await OpenPoolDirectory(reactor, std::move(options));
  }
  absl::Status Open() {
    absl::StatusOr<std::unique_ptr<Pool>> result;
    Run(OpenInto(reactor_.get(), {.directory = directory_}, &result));
    if (!result.ok()) return result.status();
    pool_ = *std::move(result);
    return absl::OkStatus();
  }
  static io::Task<void> ClosePool(Pool* pool) {
    const absl::Status closed = co_await pool->Close();
    EXPECT_TRUE(closed.ok()) << closed;
  }
  void Close() {
    if (pool_ == nullptr) return;
    Run(ClosePool(pool_.get()));
    pool_.reset();
  }

  std::string parent_;
  std::string directory_;
  std::unique_ptr<io::Reactor> reactor_;
  std::unique_ptr<Pool> pool_;
};

TEST_F(PoolDirectoryTest, MakesAPoolThatOpensAgainInTheSameBoot) {
  const absl::StatusOr<PoolId> id = Create();
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(fs::file_size(directory_ + "/data"), kSizeBytes);
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(pool_->id(), *id);
  EXPECT_EQ(pool_->space().capacity_bytes, kSizeBytes - kDataStart);
  const Uuid incarnation = pool_->incarnation();
  Close();
  const absl::Status again = Open();
  ASSERT_TRUE(again.ok()) << again;
  EXPECT_FALSE(pool_->restarted());
  EXPECT_EQ(pool_->incarnation(), incarnation);
}

TEST_F(PoolDirectoryTest, RefusesADirectoryThatHoldsAPool) {
  ASSERT_TRUE(Create().ok());
  const absl::StatusOr<PoolId> second = Create();
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Open().ok());
}

TEST_F(PoolDirectoryTest, RefusesImpossibleSizesAndPlaces) {
  for (std::uint64_t size : {std::uint64_t{0}, kSizeBytes - kExtentBytes, kSizeBytes + 1}) {
    const absl::StatusOr<PoolId> made = CreateAt(directory_, size);
    EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument) << size;
  }
  EXPECT_EQ(CreateAt("", kSizeBytes).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CreateAt(parent_ + "/no/pool", kSizeBytes).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_FALSE(fs::exists(directory_));
}

TEST_F(PoolDirectoryTest, APoolWhoseCreationWasInterruptedIsNotOpenedAndCanBeMadeAgain) {
  ASSERT_TRUE(Create().ok());
  std::ofstream(directory_ + "/creating").close();  // as if the last step had not been reached
  const absl::Status opened = Open();
  EXPECT_EQ(opened.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(opened.message()), HasSubstr("make it again"));
  const absl::StatusOr<PoolId> again = Create();
  ASSERT_TRUE(again.ok()) << again.status();
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(pool_->id(), *again);
  EXPECT_FALSE(fs::exists(directory_ + "/creating"));
}

TEST_F(PoolDirectoryTest, DoesNotRemakeAPoolThatIsOpen) {
  ASSERT_TRUE(Create().ok());
  ASSERT_TRUE(Open().ok());
  std::ofstream(directory_ + "/creating").close();
  EXPECT_EQ(Create().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(fs::exists(directory_ + "/meta/CURRENT"));
}

TEST_F(PoolDirectoryTest, SaysWhatIsMissing) {
  absl::Status opened = Open();
  EXPECT_EQ(opened.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(opened.message()), HasSubstr("there is no pool at " + directory_));
  ASSERT_TRUE(Create().ok());
  fs::rename(directory_ + "/meta", parent_ + "/meta");
  opened = Open();
  EXPECT_EQ(opened.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(opened.message()),
              HasSubstr("metadata store missing at " + directory_ + "/meta"));
  fs::rename(parent_ + "/meta", directory_ + "/meta");
  fs::rename(directory_ + "/data", parent_ + "/data");
  EXPECT_EQ(Open().code(), absl::StatusCode::kNotFound);
}

TEST_F(PoolDirectoryTest, RefusesASecondOpener) {
  ASSERT_TRUE(Create().ok());
  ASSERT_TRUE(Open().ok());
  const std::unique_ptr<Pool> first = std::move(pool_);
  const absl::Status second = Open();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition) << second;
  Run(ClosePool(first.get()));
}

TEST_F(PoolDirectoryTest, RefusesATruncatedDataFile) {
  ASSERT_TRUE(Create().ok());
  fs::resize_file(directory_ + "/data", kSizeBytes - kExtentBytes);
  const absl::Status opened = Open();
  EXPECT_EQ(opened.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(opened.message()), HasSubstr("truncated"));
}

TEST_F(PoolDirectoryTest, TakesAFileForNoDevice) {
  const std::string file = parent_ + "/file";
  std::ofstream(file).close();
  EXPECT_EQ(CreateOn(file, /*force=*/true).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(fs::exists(directory_));
}

TEST_F(PoolDirectoryTest, OverwritesADeviceThatHoldsSomethingOnlyByForce) {
  const LoopDevice device(parent_ + "/backing");
  if (!device.bound()) GTEST_SKIP() << "no loop devices here";
  std::ofstream(device.path(), std::ios::in | std::ios::out).seekp(0x438) << "\x53\xef";  // ext4's
  const absl::StatusOr<PoolId> refused = CreateOn(device.path(), /*force=*/false);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition) << refused.status();
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--force"));
  EXPECT_FALSE(fs::exists(directory_ + "/data"));

  const absl::StatusOr<PoolId> forced = CreateOn(device.path(), /*force=*/true);
  ASSERT_TRUE(forced.ok()) << forced.status();
  EXPECT_EQ(fs::read_symlink(directory_ + "/data"), device.path());
  const absl::Status opened = Open();
  ASSERT_TRUE(opened.ok()) << opened;
  EXPECT_EQ(pool_->space().capacity_bytes, std::uint64_t{31} << 20);
}

TEST_F(PoolDirectoryTest, RefusesADeviceInUse) {
  const LoopDevice device(parent_ + "/backing");
  if (!device.bound()) GTEST_SKIP() << "no loop devices here";
  const int holder = open(device.path().c_str(), O_RDWR | O_EXCL | O_CLOEXEC);
  ASSERT_GE(holder, 0);
  const absl::StatusOr<PoolId> refused = CreateOn(device.path(), /*force=*/true);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition) << refused.status();
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("in use"));
  close(holder);
}

TEST(CurrentBootIdTest, IsTheSameWheneverItIsRead) {
  const absl::StatusOr<BootId> boot = CurrentBootId();
  ASSERT_TRUE(boot.ok()) << boot.status();
  EXPECT_FALSE(boot->is_nil());
  EXPECT_EQ(*boot, *CurrentBootId());
}

}  // namespace
}  // namespace keelson::pool
