#include "blockstore/service/keeper/loop_device.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/service/keeper/keeper_messages.h"
#include "blockstore/service/keeper/loop_usage.h"

namespace keelson::service {
namespace {

constexpr std::uint32_t kBlockBytes = 4096;
constexpr long kFuseMagic = 0x65735546;
// Somebody else may take the free one first.
constexpr int kAttachAttempts = 32;
// A scanner of new devices (udev) has it open for a moment.
constexpr int kBusyAttempts = 20;
constexpr int kNodeAttempts = 40;
constexpr timespec kPause = {0, 50'000'000};

std::string NodePath(int index) { return absl::StrCat("/dev/loop", index); }

// A node of /dev that was just asked for may take a moment.
absl::StatusOr<Descriptor> OpenNode(int index, int flags) {
  const std::string path = NodePath(index);
  for (int attempt = 0;; ++attempt) {
    Descriptor node(open(path.c_str(), flags | O_CLOEXEC));
    if (node) return node;
    if (errno != ENOENT || attempt == kNodeAttempts) {
      return io::ErrnoStatus(errno, absl::StrCat("open of ", path));
    }
    nanosleep(&kPause, nullptr);
  }
}

// The path that the kernel names as the backing file; empty: the device has none.
std::string BackingPath(int index) {
  std::ifstream file(absl::StrCat("/sys/block/loop", index, "/loop/backing_file"));
  std::string path;
  std::getline(file, path);
  return path;
}

bool IsOn(int index, const std::string& path) {
  const std::string backing = BackingPath(index);
  return backing == path || backing == path + " (deleted)";
}

// Whether the open `node` is of `binding`. A dead connection does not tell its device number: then
// it is the path that counts.
absl::StatusOr<bool> IsOurs(int node, const LoopBinding& binding, const std::string& path) {
  loop_info64 info = {};
  if (ioctl(node, LOOP_GET_STATUS64, &info) == 0) return info.lo_device == binding.device;
  if (errno == ENXIO) return false;
  if (errno == ENOTCONN || errno == ECONNABORTED || errno == EIO) {
    return IsOn(binding.index, path);
  }
  return io::ErrnoStatus(errno, absl::StrCat("status of ", NodePath(binding.index)));
}

absl::Status InUse(int index) {
  std::string users = DescribeLoopUsers(index);
  if (users.empty()) users = "mounted or open where this process does not see it";
  return absl::FailedPreconditionError(
      absl::StrCat(NodePath(index), " is in use: ", users, "; end that first"));
}

// The device, open to nobody else but processes without O_EXCL. Empty: there is none.
absl::StatusOr<Descriptor> OpenAlone(int index) {
  const std::string path = NodePath(index);
  for (int attempt = 0; attempt < kBusyAttempts; ++attempt) {
    Descriptor node(open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    if (node) return node;
    if (errno == ENXIO || errno == ENOENT) return Descriptor();
    if (errno != EBUSY) return io::ErrnoStatus(errno, absl::StrCat("open of ", path));
    if (attempt > 2 && !DescribeLoopUsers(index).empty()) break;
    nanosleep(&kPause, nullptr);
  }
  return InUse(index);
}

absl::StatusOr<LoopBinding> TryAttach(int control, int file, bool read_only) {
  LoopBinding binding;
  binding.index = ioctl(control, LOOP_CTL_GET_FREE);
  if (binding.index < 0) return io::ErrnoStatus(errno, "asking for a free loop device");
  ASSIGN_OR_RETURN(const Descriptor node, OpenNode(binding.index, read_only ? O_RDONLY : O_RDWR));
  loop_config config = {};
  config.fd = static_cast<std::uint32_t>(file);
  config.block_size = kBlockBytes;
  config.info.lo_flags = LO_FLAGS_DIRECT_IO | (read_only ? LO_FLAGS_READ_ONLY : 0);
  if (ioctl(node.get(), LOOP_CONFIGURE, &config) == 0) return binding;
  if (errno == EBUSY) return absl::AbortedError("it was taken by somebody else");
  return io::ErrnoStatus(errno, absl::StrCat("setting up ", NodePath(binding.index)));
}

absl::Status FreeLoop(const LoopBinding& binding, const std::string& path) {
  ASSIGN_OR_RETURN(const Descriptor node, OpenAlone(binding.index));
  if (!node) return absl::OkStatus();
  ASSIGN_OR_RETURN(const bool ours, IsOurs(node.get(), binding, path));
  if (!ours) return absl::OkStatus();
  if (!DescribeLoopUsers(binding.index).empty()) return InUse(binding.index);
  // An error here is that of a volume that has ended in errors: there is nothing left to save.
  fsync(node.get());
  if (ioctl(node.get(), LOOP_CLR_FD) != 0 && errno != ENXIO) {
    return io::ErrnoStatus(errno, absl::StrCat("freeing of ", NodePath(binding.index)));
  }
  return absl::OkStatus();
}

// After LOOP_CLR_FD and the last close the device is free, unless somebody has opened it since our
// look: then the kernel frees it at that one's close, which must not happen behind our back.
absl::Status CheckFreed(const LoopBinding& binding, const std::string& path) {
  const Descriptor node(open(NodePath(binding.index).c_str(), O_RDONLY | O_CLOEXEC));
  if (!node) return absl::OkStatus();
  ASSIGN_OR_RETURN(const bool ours, IsOurs(node.get(), binding, path));
  if (!ours) return absl::OkStatus();
  loop_info64 info = {};
  if (ioctl(node.get(), LOOP_GET_STATUS64, &info) == 0) {
    info.lo_flags &= ~static_cast<std::uint32_t>(LO_FLAGS_AUTOCLEAR);
    ioctl(node.get(), LOOP_SET_STATUS64, &info);
  }
  return InUse(binding.index);
}

}  // namespace

absl::StatusOr<LoopBinding> AttachLoop(const std::string& path, bool read_only) {
  const Descriptor file(
      open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_CLOEXEC));
  if (!file) return io::ErrnoStatus(errno, absl::StrCat("open of ", path));
  struct statfs system = {};
  struct stat status = {};
  if (fstatfs(file.get(), &system) != 0 || fstat(file.get(), &status) != 0) {
    return io::ErrnoStatus(errno, absl::StrCat("status of ", path));
  }
  if (system.f_type != kFuseMagic || !S_ISREG(status.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is not a file served over FUSE"));
  }
  const Descriptor control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) return io::ErrnoStatus(errno, "open of /dev/loop-control");
  for (int attempt = 0; attempt < kAttachAttempts; ++attempt) {
    absl::StatusOr<LoopBinding> binding = TryAttach(control.get(), file.get(), read_only);
    if (absl::IsAborted(binding.status())) continue;
    if (binding.ok()) binding->device = status.st_dev;
    return binding;
  }
  return absl::UnavailableError("every free loop device was taken by somebody else first");
}

absl::Status CheckLoop(const LoopBinding& binding) {
  ASSIGN_OR_RETURN(const Descriptor node, OpenNode(binding.index, O_RDONLY));
  ASSIGN_OR_RETURN(const bool ours, IsOurs(node.get(), binding, ""));
  if (ours) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat(NodePath(binding.index), " is on another file, or on none"));
}

absl::Status GrowLoop(const LoopBinding& binding, const std::string& path) {
  // Asking for its size tells the kernel the new one; newer kernels do so by themselves.
  struct stat status = {};
  if (BackingPath(binding.index) == path) stat(path.c_str(), &status);
  ASSIGN_OR_RETURN(const Descriptor node, OpenNode(binding.index, O_RDONLY));
  ASSIGN_OR_RETURN(const bool ours, IsOurs(node.get(), binding, ""));
  if (!ours) {
    return absl::NotFoundError(
        absl::StrCat(NodePath(binding.index), " is on another file, or on none"));
  }
  if (ioctl(node.get(), LOOP_SET_CAPACITY) != 0) {
    return io::ErrnoStatus(errno, absl::StrCat("growth of ", NodePath(binding.index)));
  }
  return absl::OkStatus();
}

absl::Status DetachLoop(const LoopBinding& binding, const std::string& path) {
  {
    // Before it is claimed: another's device is none of our business.
    const Descriptor seen(open(NodePath(binding.index).c_str(), O_RDONLY | O_CLOEXEC));
    if (!seen) return absl::OkStatus();
    ASSIGN_OR_RETURN(const bool ours, IsOurs(seen.get(), binding, path));
    if (!ours) return absl::OkStatus();
  }
  RETURN_IF_ERROR(FreeLoop(binding, path));
  return CheckFreed(binding, path);
}

absl::Status DetachLoopsOf(const std::string& path) {
  std::error_code error;
  absl::Status status;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block", error)) {
    const std::string name = entry.path().filename();
    LoopBinding binding;
    if (name.rfind("loop", 0) != 0 || !absl::SimpleAtoi(name.substr(4), &binding.index)) continue;
    if (!IsOn(binding.index, path)) continue;
    const absl::Status one = DetachLoop(binding, path);
    if (status.ok()) status = one;
  }
  return status;
}

}  // namespace keelson::service
