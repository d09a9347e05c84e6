// Real file systems on real loop devices, mounted for real: skipped without root. Mounts are made
// in a mount namespace of the test's own and go with it.

#include "csi/kernel_host.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "csi/command.h"
#include "csi/fd.h"
#include "csi/filesystem.h"
#include "csi/mount_table.h"
#include "tests/unit/csi/loop_disks.h"

namespace keelson::csi {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kMib = std::uint64_t{1} << 20;
// mkfs.xfs makes nothing smaller than 300 MiB.
constexpr std::uint64_t kVolumeBytes = 320 * kMib;

class KernelHostTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    if (access("/dev/loop-control", W_OK) != 0) GTEST_SKIP() << "there are no loop devices";
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      GTEST_SKIP() << "no mount namespace can be made here";
    }
    char pattern[] = "/var/tmp/keelson-host-XXXXXX";
    base_ = mkdtemp(pattern);
    root_ = base_ + "/root";
    for (const char* name : {"/disks", "/root/stage", "/root/pod", "/outside"}) {
      fs::create_directories(base_ + name);
    }
    disks_ = std::make_unique<LoopDisks>(base_ + "/disks");
    auto host = KernelHost::Open(root_);
    ASSERT_TRUE(host.ok()) << host.status();
    host_ = std::move(*host);
  }

  void TearDown() override {
    if (base_.empty()) return;
    const auto table = ReadMountTable();
    for (auto entry = table->rbegin(); entry != table->rend(); ++entry) {
      if (absl::StartsWith(entry->target, base_)) umount2(entry->target.c_str(), MNT_DETACH);
    }
    disks_.reset();
    fs::remove_all(base_);
  }

  Device MakeDevice(const std::string& id, std::uint64_t size_bytes = kVolumeBytes,
                    const std::string& source = "") {
    EXPECT_TRUE(disks_->Make(id, size_bytes, source).ok());
    const auto path = disks_->Attach(id, false);
    EXPECT_TRUE(path.ok()) << path.status();
    return Refreshed(*path);
  }
  Device Refreshed(const std::string& path) {
    const auto device = host_->FindDevice(path);
    EXPECT_TRUE(device.ok()) << device.status();
    return *device;
  }
  void MakeAndMount(const Device& device, const std::string& fs_type) {
    const absl::Status made = host_->Format(device, fs_type);
    ASSERT_TRUE(made.ok()) << made;
    const absl::Status mounted = host_->Mount(device, fs_type, MountOptions(), Stage());
    ASSERT_TRUE(mounted.ok()) << mounted;
  }
  // Bytes over what is on the device.
  static void Overwrite(const Device& device, off_t offset, std::size_t size) {
    const Fd fd(open(device.path.c_str(), O_WRONLY | O_CLOEXEC));
    const std::string bytes(size, '\xA5');
    ASSERT_EQ(pwrite(fd.get(), bytes.data(), size, offset), static_cast<ssize_t>(size));
    ASSERT_EQ(fsync(fd.get()), 0);
  }

  std::string Stage() const { return root_ + "/stage"; }
  std::string Target() const { return root_ + "/pod/target"; }

  std::string base_;
  std::string root_;
  std::unique_ptr<LoopDisks> disks_;
  std::unique_ptr<KernelHost> host_;
};

class KernelHostFsTest : public KernelHostTest,
                         public ::testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(Filesystems, KernelHostFsTest, ::testing::Values("ext4", "xfs"),
                         [](const auto& fs_type) { return std::string(fs_type.param); });

TEST_P(KernelHostFsTest, AVolumeIsMadeMountedShownReadOnlyAndPutAway) {
  const std::string fs_type = GetParam();
  const Device device = MakeDevice("v");
  EXPECT_EQ(host_->Probe(device)->fs_type, "");
  ASSERT_TRUE(host_->Format(device, fs_type).ok());
  EXPECT_EQ(host_->Probe(device)->fs_type, fs_type);
  EXPECT_EQ(host_->Probe(device)->fs_size_bytes, kVolumeBytes);
  EXPECT_TRUE(host_->Check(device, fs_type).ok());
  EXPECT_FALSE(host_->MountedAt(Stage())->has_value());

  MountOptions options;
  options.attributes = MOUNT_ATTR_NOATIME | MOUNT_ATTR_NOSUID;
  ASSERT_TRUE(host_->Mount(device, fs_type, options, Stage()).ok());
  const auto staged = host_->MountedAt(Stage());
  ASSERT_TRUE(staged.ok() && staged->has_value());
  EXPECT_EQ((*staged)->device, device.number);
  EXPECT_EQ((*staged)->fs_type, fs_type);
  EXPECT_EQ((*staged)->attributes, options.attributes);
  EXPECT_FALSE((*staged)->read_only);

  EXPECT_TRUE(*host_->MakeTarget(Target(), true));
  EXPECT_FALSE(*host_->MakeTarget(Target(), true));
  ASSERT_TRUE(host_->Bind(Stage(), device.number, Target(), true).ok());
  EXPECT_TRUE((*host_->MountedAt(Target()))->read_only);
  EXPECT_FALSE((*host_->MountedAt(Target()))->fs_read_only);
  EXPECT_EQ(host_->MountsOf(device.number)->size(), 2u);
  std::ofstream(Stage() + "/file") << "text";
  EXPECT_TRUE(fs::exists(Target() + "/file"));
  EXPECT_EQ(open((Target() + "/file").c_str(), O_WRONLY), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_GT(host_->GetUsage(Target())->bytes_available, kVolumeBytes / 2);
  EXPECT_GT(host_->GetUsage(Target())->inodes_total, 1000u);

  EXPECT_TRUE(host_->Unmount(Target()).ok());
  EXPECT_TRUE(host_->RemoveTarget(Target()).ok());
  EXPECT_FALSE(fs::exists(Target()));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(host_->Unmount(Stage()).ok());
  EXPECT_TRUE(host_->MountsOf(device.number)->empty());
}

TEST_P(KernelHostFsTest, AMountedFileSystemGrowsWithItsDevice) {
  const std::string fs_type = GetParam();
  if (fs_type == "ext4" && prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE) != 1) {
    GTEST_SKIP() << "growing a mounted ext4 needs CAP_SYS_RESOURCE, which this machine withholds";
  }
  Device device = MakeDevice("v");
  MakeAndMount(device, fs_type);
  const std::uint64_t before = host_->GetUsage(Stage())->bytes_total;
  EXPECT_TRUE(host_->Grow(device, fs_type, Stage()).ok());
  ASSERT_TRUE(disks_->Grow("v", 2 * kVolumeBytes).ok());
  device = Refreshed(device.path);
  ASSERT_EQ(device.size_bytes, 2 * kVolumeBytes);
  const absl::Status grown = host_->Grow(device, fs_type, Stage());
  ASSERT_TRUE(grown.ok()) << grown;
  EXPECT_GT(host_->GetUsage(Stage())->bytes_total, before + kVolumeBytes / 2);
}

TEST_F(KernelHostTest, AnUnmountedExt4GrowsWithItsDevice) {
  Device device = MakeDevice("v");
  ASSERT_TRUE(host_->Format(device, "ext4").ok());
  ASSERT_TRUE(disks_->Grow("v", 2 * kVolumeBytes).ok());
  device = Refreshed(device.path);
  const absl::Status grown = GrowUnmountedExt4(device);
  ASSERT_TRUE(grown.ok()) << grown;
  EXPECT_EQ(host_->Probe(device)->fs_size_bytes, 2 * kVolumeBytes);
}

TEST_P(KernelHostFsTest, AnUncleanCopyIsReadWithoutWritingToIt) {
  const std::string fs_type = GetParam();
  const Device device = MakeDevice("v");
  MakeAndMount(device, fs_type);
  std::ofstream(Stage() + "/file") << "text";
  const Device copy = MakeDevice("copy", kVolumeBytes, "v");
  fs::create_directories(root_ + "/copy");
  MountOptions options;
  options.read_only = true;
  options.file_system = {{fs_type == "xfs" ? "norecovery" : "noload", ""}};
  if (fs_type == "xfs") options.file_system.emplace_back("nouuid", "");
  const auto bytes = [&] {
    std::ifstream file(disks_->Path("copy"), std::ios::binary);
    return std::hash<std::string>()(std::string(std::istreambuf_iterator<char>(file), {}));
  };
  const std::size_t before = bytes();
  const absl::Status mounted = host_->Mount(copy, fs_type, options, root_ + "/copy");
  ASSERT_TRUE(mounted.ok()) << mounted;
  EXPECT_TRUE((*host_->MountedAt(root_ + "/copy"))->fs_read_only);
  ASSERT_TRUE(host_->Unmount(root_ + "/copy").ok());
  EXPECT_EQ(bytes(), before);
}

TEST_P(KernelHostFsTest, ADamagedFileSystemIsNamedWithItsRemedyAndLeftAsItIs) {
  const std::string fs_type = GetParam();
  const Device device = MakeDevice("v");
  ASSERT_TRUE(host_->Format(device, fs_type).ok());
  // The root directory's inode and everything near it.
  Overwrite(device, 64 * 1024, 16 * kMib);
  const absl::Status status = host_->Mount(device, fs_type, MountOptions(), Stage());
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(fs_type == "xfs" ? "xfs_repair" : "e2fsck -f"));
  EXPECT_EQ(host_->Probe(device)->fs_type, fs_type);
}

TEST_F(KernelHostTest, WhatTheCheckCannotMendIsLeftToAPerson) {
  const Device device = MakeDevice("v");
  ASSERT_TRUE(host_->Format(device, "ext4").ok());
  Overwrite(device, 64 * 1024, 16 * kMib);
  // Not unmounted cleanly, so that the check looks at everything.
  ASSERT_EQ(
      RunCommand({"debugfs", "-w", "-R", "ssv state 0", device.path}, -1, std::chrono::seconds(60))
          ->exit_code,
      0);
  const absl::Status status = host_->Check(device, "ext4");
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
}

TEST_F(KernelHostTest, SeveralSignaturesAreNoneThatIsTrusted) {
  const Device ext4 = MakeDevice("e");
  const Device xfs = MakeDevice("x");
  ASSERT_TRUE(host_->Format(ext4, "ext4").ok());
  ASSERT_TRUE(host_->Format(xfs, "xfs").ok());
  const Fd from(open(ext4.path.c_str(), O_RDONLY | O_CLOEXEC));
  const Fd to(open(xfs.path.c_str(), O_WRONLY | O_CLOEXEC));
  char superblock[1024];
  ASSERT_EQ(pread(from.get(), superblock, sizeof(superblock), 1024), 1024);
  ASSERT_EQ(pwrite(to.get(), superblock, sizeof(superblock), 1024), 1024);
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->Probe(xfs).status()));
}

TEST_F(KernelHostTest, ADeviceInUseIsNotFormatted) {
  const Device device = MakeDevice("v");
  MakeAndMount(device, "ext4");
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->Format(device, "ext4")));
}

TEST_F(KernelHostTest, ADeviceThatHoldsSomethingIsNotFormattedWhoeverProbedIt) {
  const Device device = MakeDevice("v", 16 * kMib);
  ASSERT_TRUE(host_->Format(device, "ext4").ok());
  EXPECT_TRUE(absl::IsAborted(host_->Format(device, "ext4")));
}

TEST_F(KernelHostTest, AnOptionThatIsNotKnownIsNamedWithoutItsValue) {
  const Device device = MakeDevice("v");
  ASSERT_TRUE(host_->Format(device, "ext4").ok());
  MountOptions options;
  options.file_system = {{"nosuchoption", "canary"}};
  const absl::Status status = host_->Mount(device, "ext4", options, Stage());
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("nosuchoption"));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("canary")));
  EXPECT_FALSE(host_->MountedAt(Stage())->has_value());
}

TEST_F(KernelHostTest, ARawVolumeIsShownAsItsDeviceNode) {
  const Device device = MakeDevice("v", 16 * kMib);
  const Device other = MakeDevice("w", 16 * kMib);
  EXPECT_TRUE(*host_->MakeTarget(Target(), false));
  EXPECT_FALSE(*host_->MakeTarget(Target(), false));
  ASSERT_TRUE(host_->BindDevice(device, Target()).ok());
  struct stat status {};
  ASSERT_EQ(stat(Target().c_str(), &status), 0);
  EXPECT_TRUE(S_ISBLK(status.st_mode));
  EXPECT_EQ(status.st_rdev, device.number);
  const auto there = host_->MountedAt(Target());
  ASSERT_TRUE(there.ok() && there->has_value());
  EXPECT_TRUE((*there)->block);
  EXPECT_EQ((*there)->device, device.number);
  EXPECT_EQ(host_->MountsOf(device.number)->size(), 1u);
  EXPECT_TRUE(host_->MountsOf(other.number)->empty());
  EXPECT_TRUE(host_->Unmount(Target()).ok());
  EXPECT_TRUE(host_->RemoveTarget(Target()).ok());
  EXPECT_FALSE(fs::exists(Target()));
}

TEST_F(KernelHostTest, AMountInUseStaysUntilItIsNot) {
  const Device device = MakeDevice("v");
  MakeAndMount(device, "ext4");
  Fd user(open((Stage() + "/file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  const absl::Status status = host_->Unmount(Stage());
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("in use"));
  user.Close();
  EXPECT_TRUE(host_->Unmount(Stage()).ok());
}

TEST_F(KernelHostTest, NothingButAnEmptyDirectoryOrFileIsRemoved) {
  fs::create_directories(root_ + "/full/inside");
  std::ofstream(root_ + "/text") << "text";
  fs::create_symlink(base_ + "/outside", root_ + "/link");
  for (const char* name : {"/full", "/text", "/link"}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(host_->RemoveTarget(root_ + name))) << name;
    EXPECT_TRUE(fs::exists(fs::symlink_status(root_ + name))) << name;
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->MakeTarget(root_ + "/text", false).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->MakeTarget(root_ + "/link", true).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->MakeTarget(root_ + "/no/x", true).status()));
  EXPECT_TRUE(host_->RemoveTarget(root_ + "/none").ok());
  EXPECT_TRUE(host_->RemoveTarget(root_ + "/none/none").ok());
}

TEST_F(KernelHostTest, AMountFromElsewhereIsNotBound) {
  const Device device = MakeDevice("v");
  MakeAndMount(device, "ext4");
  ASSERT_TRUE(host_->MakeTarget(Target(), true).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->Bind(Stage(), 1234, Target(), false)));
  EXPECT_TRUE(
      absl::IsFailedPrecondition(host_->Bind(root_ + "/pod", device.number, Target(), false)));
  EXPECT_FALSE(host_->MountedAt(Target())->has_value());
}

// Somebody exchanges the pod's directory for a link to elsewhere, all the time.
TEST_F(KernelHostTest, AnExchangedTargetIsNeverMountedElsewhere) {
  const Device device = MakeDevice("v", 16 * kMib);
  MakeAndMount(device, "ext4");
  fs::create_directory_symlink(base_ + "/outside", root_ + "/trap");
  fs::create_directories(base_ + "/outside/target");
  std::atomic<bool> stop{false};
  std::thread racer([&] {
    while (!stop) {
      renameat2(AT_FDCWD, (root_ + "/pod").c_str(), AT_FDCWD, (root_ + "/trap").c_str(),
                RENAME_EXCHANGE);
    }
  });
  int bound = 0;
  int elsewhere = 0;
  for (int i = 0; i < 100; ++i) {
    host_->MakeTarget(Target(), true).IgnoreError();
    if (host_->Bind(Stage(), device.number, Target(), false).ok()) ++bound;
    const auto table = ReadMountTable();
    for (const MountEntry& entry : *table) {
      if (absl::StartsWith(entry.target, base_ + "/outside")) ++elsewhere;
    }
    for (int attempt = 0; attempt < 1000; ++attempt) {
      if (host_->Unmount(Target()).ok() && host_->RemoveTarget(Target()).ok()) break;
    }
  }
  stop = true;
  racer.join();
  EXPECT_EQ(elsewhere, 0);
  EXPECT_GT(bound, 0);
  EXPECT_TRUE(fs::exists(base_ + "/outside/target"));
}

}  // namespace
}  // namespace keelson::csi
