#include "csi/kernel_host.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "csi/filesystem.h"
#include "csi/new_mount.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

// One on top of the other at one path; more is somebody's mistake.
constexpr int kStackedMountsMax = 32;

constexpr mode_t kDirectoryMode = 0750;
constexpr mode_t kFileMode = 0600;

Mounted MountedOf(const MountEntry& entry, const std::string& path) {
  Mounted mounted;
  mounted.path = path;
  mounted.device = entry.device;
  mounted.fs_type = entry.fs_type;
  mounted.whole = entry.root == "/";
  mounted.fs_read_only = HasOption(entry.fs_options, "ro");
  mounted.read_only = mounted.fs_read_only || HasOption(entry.mount_options, "ro");
  mounted.attributes = AttributesOf(entry.mount_options);
  return mounted;
}

// Device nodes are bound from the file system of /dev, so only mounts of such can be one.
bool MayBeNode(const MountEntry& entry) {
  return entry.root != "/" && (entry.fs_type == "devtmpfs" || entry.fs_type == "tmpfs");
}

void NoteNode(int fd, Mounted* mounted) {
  struct stat status {};
  if (fstat(fd, &status) != 0 || !S_ISBLK(status.st_mode)) return;
  mounted->block = true;
  mounted->whole = true;
  mounted->device = status.st_rdev;
}

}  // namespace

absl::StatusOr<std::unique_ptr<KernelHost>> KernelHost::Open(const std::string& mount_root) {
  ASSIGN_OR_RETURN(Beneath beneath, Beneath::Open(mount_root));
  return std::unique_ptr<KernelHost>(new KernelHost(mount_root, std::move(beneath)));
}

absl::StatusOr<Device> KernelHost::FindDevice(const std::string& path) {
  if (!absl::StartsWith(path, "/dev/")) {
    return absl::FailedPreconditionError(
        absl::StrCat("the block store names the device '", path, "', which is not below /dev"));
  }
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("device ", path));
  struct stat status {};
  Device device;
  device.path = path;
  int read_only = 0;
  if (fstat(fd.get(), &status) != 0) return ErrnoStatus(errno, absl::StrCat("device ", path));
  if (!S_ISBLK(status.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is not a block device"));
  }
  if (ioctl(fd.get(), BLKGETSIZE64, &device.size_bytes) != 0 ||
      ioctl(fd.get(), BLKROGET, &read_only) != 0) {
    return ErrnoStatus(errno, absl::StrCat("device ", path));
  }
  device.number = status.st_rdev;
  device.read_only = read_only != 0;
  return device;
}

absl::StatusOr<std::optional<int>> KernelHost::MountIdAt(const Beneath::Place& place) {
  const absl::StatusOr<Fd> fd = Beneath::OpenEntry(place, 0);
  if (absl::IsNotFound(fd.status())) return std::optional<int>();
  if (!fd.ok()) return fd.status();
  ASSIGN_OR_RETURN(const int outside, MountIdOf(place.parent.get()));
  ASSIGN_OR_RETURN(const int inside, MountIdOf(fd->get()));
  if (outside == inside) return std::optional<int>();
  return std::optional<int>(inside);
}

absl::StatusOr<std::optional<Mounted>> KernelHost::MountedAt(const std::string& path) {
  const std::optional<Mounted> nothing;
  absl::StatusOr<Beneath::Place> place = beneath_.OpenParent(path);
  if (absl::IsNotFound(place.status())) return nothing;
  if (!place.ok()) return place.status();
  ASSIGN_OR_RETURN(const std::optional<int> id, MountIdAt(*place));
  if (!id.has_value()) return nothing;
  ASSIGN_OR_RETURN(const std::vector<MountEntry> table, ReadMountTable());
  const auto entry = std::find_if(table.begin(), table.end(),
                                  [&](const MountEntry& each) { return each.id == *id; });
  if (entry == table.end()) {
    return absl::AbortedError(absl::StrCat("what is mounted at ", path, " changes; try again"));
  }
  Mounted mounted = MountedOf(*entry, path);
  if (MayBeNode(*entry)) {
    ASSIGN_OR_RETURN(const Fd fd, Beneath::OpenEntry(*place, 0));
    NoteNode(fd.get(), &mounted);
  }
  return std::optional<Mounted>(std::move(mounted));
}

absl::StatusOr<std::vector<Mounted>> KernelHost::MountsOf(dev_t device) {
  ASSIGN_OR_RETURN(const std::vector<MountEntry> table, ReadMountTable());
  const std::string& real_root = beneath_.real_root();
  const std::string prefix = real_root == "/" ? "/" : absl::StrCat(real_root, "/");
  std::vector<Mounted> found;
  for (const MountEntry& entry : table) {
    if (!absl::StartsWith(entry.target, prefix)) continue;
    const std::string path = absl::StrCat(mount_root_ == "/" ? "" : mount_root_, "/",
                                          entry.target.substr(prefix.size()));
    Mounted mounted = MountedOf(entry, path);
    if (MayBeNode(entry)) {
      const absl::StatusOr<Fd> fd = beneath_.OpenPath(path, 0);
      if (fd.ok()) NoteNode(fd->get(), &mounted);
    }
    if (mounted.device == device && mounted.whole) found.push_back(std::move(mounted));
  }
  return found;
}

absl::StatusOr<Signature> KernelHost::Probe(const Device& device) { return ProbeDevice(device); }

absl::Status KernelHost::Format(const Device& device, const std::string& fs_type) {
  return MakeFilesystem(device, fs_type);
}

absl::Status KernelHost::Check(const Device& device, const std::string& fs_type) {
  return CheckFilesystem(device, fs_type);
}

absl::Status KernelHost::Mount(const Device& device, const std::string& fs_type,
                               const MountOptions& options, const std::string& path) {
  const absl::StatusOr<Fd> target = beneath_.OpenPath(path, O_DIRECTORY);
  if (absl::IsNotFound(target.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat("the directory ", path, " does not exist; its maker is the caller"));
  }
  if (!target.ok()) return target.status();
  ASSIGN_OR_RETURN(const Fd mount, NewMount(device, fs_type, options));
  return MoveMount(mount.get(), target->get(), path);
}

absl::StatusOr<bool> KernelHost::GrowUnmounted(const Device& device, const std::string& fs_type) {
  // The kernel wants this capability of whoever grows a mounted ext4, and some runtimes withhold
  // it.
  if (fs_type != "ext4" || prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE) == 1) return false;
  RETURN_IF_ERROR(GrowUnmountedExt4(device));
  return true;
}

absl::Status KernelHost::Grow(const Device& device, const std::string& fs_type,
                              const std::string& path) {
  ASSIGN_OR_RETURN(const Fd mount, beneath_.OpenPath(path, O_DIRECTORY));
  return GrowFilesystem(device, fs_type, mount.get());
}

absl::StatusOr<bool> KernelHost::MakeTarget(const std::string& path, bool directory) {
  const absl::StatusOr<Beneath::Place> place = beneath_.OpenParent(path);
  if (absl::IsNotFound(place.status())) {
    return absl::FailedPreconditionError(absl::StrCat("the directory that holds ", path,
                                                      " does not exist; its maker is the caller"));
  }
  if (!place.ok()) return place.status();
  const int parent = place->parent.get();
  if (directory) {
    if (mkdirat(parent, place->name.c_str(), kDirectoryMode) == 0) return true;
  } else {
    const Fd file(openat(parent, place->name.c_str(),
                         O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, kFileMode));
    if (file.ok()) return true;
  }
  if (errno != EEXIST) return ErrnoStatus(errno, absl::StrCat("making of ", path));
  struct stat status {};
  if (fstatat(parent, place->name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return ErrnoStatus(errno, absl::StrCat("path ", path));
  }
  const bool right =
      directory ? S_ISDIR(status.st_mode) : S_ISREG(status.st_mode) && status.st_size == 0;
  if (right) return false;
  return absl::FailedPreconditionError(absl::StrCat(
      path, " exists and is not ", directory ? "a directory" : "an empty file", "; remove it"));
}

absl::Status KernelHost::RemoveTarget(const std::string& path) {
  const absl::StatusOr<Beneath::Place> place = beneath_.OpenParent(path);
  if (absl::IsNotFound(place.status())) return absl::OkStatus();
  if (!place.ok()) return place.status();
  struct stat status {};
  if (fstatat(place->parent.get(), place->name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoStatus(errno, absl::StrCat("path ", path));
  }
  const bool directory = S_ISDIR(status.st_mode);
  if (!directory && !(S_ISREG(status.st_mode) && status.st_size == 0)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is neither a directory nor an empty file: not ours, and not removed"));
  }
  if (unlinkat(place->parent.get(), place->name.c_str(), directory ? AT_REMOVEDIR : 0) == 0 ||
      errno == ENOENT) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, absl::StrCat("removal of ", path));
}

absl::Status KernelHost::Bind(const std::string& from, dev_t device, const std::string& target,
                              bool read_only) {
  ASSIGN_OR_RETURN(const Fd source, beneath_.OpenPath(from, O_DIRECTORY));
  ASSIGN_OR_RETURN(const Fd place, beneath_.OpenPath(target, O_DIRECTORY));
  ASSIGN_OR_RETURN(const Fd mount, CloneMount(source.get(), read_only, from));
  struct stat status {};
  if (fstat(mount.get(), &status) != 0) return ErrnoStatus(errno, absl::StrCat("path ", from));
  if (status.st_dev != device) {
    return absl::FailedPreconditionError(
        absl::StrCat("the volume's file system is no longer mounted at ", from));
  }
  return MoveMount(mount.get(), place.get(), target);
}

absl::Status KernelHost::BindDevice(const Device& device, const std::string& target) {
  ASSIGN_OR_RETURN(const Fd place, beneath_.OpenPath(target, 0));
  struct stat status {};
  // A descriptor of a link is one that can be mounted on, too.
  if (fstat(place.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(target, " is no longer a file; try again"));
  }
  const Fd node(open(device.path.c_str(), O_PATH | O_CLOEXEC));
  if (!node.ok()) return ErrnoStatus(errno, absl::StrCat("device ", device.path));
  ASSIGN_OR_RETURN(const Fd mount, CloneMount(node.get(), false, device.path));
  if (fstat(mount.get(), &status) != 0 || !S_ISBLK(status.st_mode) ||
      status.st_rdev != device.number) {
    return absl::FailedPreconditionError(
        absl::StrCat(device.path, " is no longer the device of the volume; try again"));
  }
  return MoveMount(mount.get(), place.get(), target);
}

absl::Status KernelHost::Unmount(const std::string& path) {
  const absl::StatusOr<Beneath::Place> place = beneath_.OpenParent(path);
  if (absl::IsNotFound(place.status())) return absl::OkStatus();
  if (!place.ok()) return place.status();
  for (int layer = 0; layer < kStackedMountsMax; ++layer) {
    ASSIGN_OR_RETURN(const std::optional<int> id, MountIdAt(*place));
    if (!id.has_value()) return absl::OkStatus();
    // A descriptor of the mount itself would keep it busy, so it is named from the directory above.
    const std::string handle =
        absl::StrCat("/proc/self/fd/", place->parent.get(), "/", place->name);
    if (umount2(handle.c_str(), UMOUNT_NOFOLLOW) == 0) continue;
    if (errno == EINVAL) return absl::OkStatus();
    if (errno == EBUSY) {
      return absl::FailedPreconditionError(absl::StrCat(
          path,
          " is in use: a process has files open or its directory there, or something is "
          "mounted below it; end that and try again"));
    }
    return ErrnoStatus(errno, absl::StrCat("unmount of ", path));
  }
  return absl::InternalError(
      absl::StrCat("more than ", kStackedMountsMax, " mounts on top of each other at ", path));
}

absl::StatusOr<Usage> KernelHost::GetUsage(const std::string& path) {
  ASSIGN_OR_RETURN(const Fd fd, beneath_.OpenPath(path, O_DIRECTORY));
  struct statfs status {};
  if (fstatfs(fd.get(), &status) != 0) return ErrnoStatus(errno, absl::StrCat("statfs of ", path));
  const auto block = static_cast<std::uint64_t>(status.f_frsize);
  Usage usage;
  usage.bytes_total = status.f_blocks * block;
  usage.bytes_available = status.f_bavail * block;
  usage.bytes_used = (status.f_blocks - status.f_bfree) * block;
  usage.inodes_total = status.f_files;
  usage.inodes_available = status.f_ffree;
  return usage;
}

}  // namespace keelson::csi
