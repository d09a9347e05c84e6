#include "csi/filesystem.h"

#include <blkid/blkid.h>
#include <endian.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "csi/command.h"
#include "csi/fd.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

// How long a tool may take before it is taken for hung. A check reads all metadata.
constexpr std::chrono::minutes kMakeTimeout(10);
constexpr std::chrono::minutes kCheckTimeout(60);
constexpr std::chrono::minutes kGrowTimeout(10);

// e2fsck(8), "EXIT CODE": errors were corrected; and a restart is advised, which is for root's.
constexpr int kE2fsckCorrected = 1;
constexpr int kE2fsckRestart = 2;

// libblkid (of util-linux 2.38) does not tell the size of a file system, so it is read from its
// superblock, by the layouts in the kernel's Documentation/filesystems.
constexpr std::size_t kHeadBytes = 4096;
using Head = std::array<unsigned char, kHeadBytes>;

template <class Word>
Word At(const Head& head, std::size_t offset) {
  Word word;
  std::memcpy(&word, head.data() + offset, sizeof(word));
  return word;
}

std::uint64_t Ext4Size(const Head& head) {
  constexpr std::size_t kSuperblock = 1024;
  constexpr std::uint32_t kLogBlockMax = 6;
  constexpr std::uint32_t kIncompat64Bit = 0x80;
  const std::uint32_t log_block = le32toh(At<std::uint32_t>(head, kSuperblock + 0x18));
  if (log_block > kLogBlockMax) return 0;
  std::uint64_t blocks = le32toh(At<std::uint32_t>(head, kSuperblock + 0x4));
  if ((le32toh(At<std::uint32_t>(head, kSuperblock + 0x60)) & kIncompat64Bit) != 0) {
    blocks |= std::uint64_t{le32toh(At<std::uint32_t>(head, kSuperblock + 0x150))} << 32;
  }
  return blocks << (10 + log_block);
}

std::uint64_t XfsSize(const Head& head) {
  return std::uint64_t{be32toh(At<std::uint32_t>(head, 4))} * be64toh(At<std::uint64_t>(head, 8));
}

std::uint64_t FilesystemSize(int fd, const std::string& fs_type) {
  Head head{};
  if (pread(fd, head.data(), head.size(), 0) != static_cast<ssize_t>(head.size())) return 0;
  if (fs_type == "ext4") return Ext4Size(head);
  if (fs_type == "xfs") return XfsSize(head);
  return 0;
}

std::string Value(blkid_probe probe, const char* name) {
  const char* data = nullptr;
  std::size_t size = 0;
  if (blkid_probe_lookup_value(probe, name, &data, &size) != 0 || data == nullptr) return "";
  return data;
}

absl::Status ToolFailed(const std::string& tool, const Device& device,
                        const CommandResult& result) {
  return absl::InternalError(absl::StrCat(tool, " of ", device.path, " failed with status ",
                                          result.exit_code, ": ", OneLine(result.output)));
}

absl::Status RunE2fsck(const std::vector<std::string>& command, const Device& device) {
  ASSIGN_OR_RETURN(const CommandResult result, RunCommand(command, -1, kCheckTimeout));
  if ((result.exit_code & ~(kE2fsckCorrected | kE2fsckRestart)) == 0) return absl::OkStatus();
  return DamagedError(device, "ext4", OneLine(result.output));
}

}  // namespace

absl::StatusOr<Signature> ProbeDevice(const Device& device) {
  const Fd fd(open(device.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("open of ", device.path));
  using Probe = std::remove_pointer_t<blkid_probe>;
  const std::unique_ptr<Probe, void (*)(blkid_probe)> probe(blkid_new_probe(), blkid_free_probe);
  if (probe == nullptr || blkid_probe_set_device(probe.get(), fd.get(), 0, 0) != 0) {
    return absl::InternalError(absl::StrCat("cannot probe ", device.path));
  }
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_MAGIC);
  blkid_probe_enable_partitions(probe.get(), 1);
  switch (blkid_do_safeprobe(probe.get())) {
    case 1:
      return Signature{};
    case 0:
      break;
    case -2:
      return absl::FailedPreconditionError(absl::StrCat(
          device.path,
          " has the signatures of several file systems; nothing is written to it. Look "
          "with 'wipefs ",
          device.path, "' and erase the wrong one"));
    default:
      return absl::InternalError(
          absl::StrCat("what is on ", device.path,
                       " cannot be read, so nothing is written to it; see the "
                       "block store's log"));
  }
  Signature signature;
  signature.fs_type = Value(probe.get(), "TYPE");
  if (signature.fs_type.empty()) {
    signature.fs_type = absl::StrCat(Value(probe.get(), "PTTYPE"), " partition table");
  }
  signature.fs_size_bytes = FilesystemSize(fd.get(), signature.fs_type);
  return signature;
}

absl::Status MakeFilesystem(const Device& device, const std::string& fs_type) {
  // A new volume is thin and reads as zeroes: there is nothing to discard. Neither tool is told to
  // force anything, so both still refuse a device that is in use.
  std::vector<std::string> command;
  if (fs_type == "xfs") {
    command = {"mkfs.xfs", "-q", "-K", "-b", "size=4096", device.path};
  } else {
    command = {"mkfs.ext4", "-q", "-b", "4096", "-m", "0", "-E", "nodiscard", device.path};
  }
  // Another driver may be at it too, while one is replaced by its successor. Whoever makes a file
  // system or has one mounted has the device open exclusively; and from the look that found nothing
  // to the end of the making nobody else makes one, by the lock.
  Fd alone(open(device.path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  if (!alone.ok()) return ErrnoStatus(errno, absl::StrCat("exclusive use of ", device.path));
  alone.Close();
  const Fd locked(open(device.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!locked.ok() || flock(locked.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::AbortedError(absl::StrCat(device.path,
                                           " is being looked at or formatted by "
                                           "another program; try again"));
  }
  ASSIGN_OR_RETURN(const Signature signature, ProbeDevice(device));
  if (!signature.fs_type.empty()) {
    return absl::AbortedError(absl::StrCat(device.path, " holds ", signature.fs_type,
                                           " now and is not formatted; try again"));
  }
  ASSIGN_OR_RETURN(const CommandResult result, RunCommand(command, -1, kMakeTimeout));
  return result.exit_code == 0 ? absl::OkStatus() : ToolFailed(command.front(), device, result);
}

absl::Status CheckFilesystem(const Device& device, const std::string& fs_type) {
  // Mounting is what recovers an xfs; its repair program is for people.
  if (fs_type != "ext4") return absl::OkStatus();
  return RunE2fsck({"e2fsck", "-p", device.path}, device);
}

absl::Status GrowUnmountedExt4(const Device& device) {
  // resize2fs asks for the full check when nothing is mounted.
  RETURN_IF_ERROR(RunE2fsck({"e2fsck", "-f", "-p", device.path}, device));
  ASSIGN_OR_RETURN(const CommandResult result,
                   RunCommand({"resize2fs", device.path}, -1, kGrowTimeout));
  return result.exit_code == 0 ? absl::OkStatus() : ToolFailed("resize2fs", device, result);
}

absl::Status GrowFilesystem(const Device& device, const std::string& fs_type, int mount_fd) {
  std::vector<std::string> command;
  if (fs_type == "xfs") {
    // "." is the mount: the tool starts in it, so that no path is resolved again.
    command = {"xfs_growfs", "-d", "."};
  } else if (fs_type == "ext4") {
    command = {"resize2fs", device.path};
  } else {
    return absl::FailedPreconditionError(
        absl::StrCat("a file system of type ", fs_type, " cannot be grown; ext4 and xfs can"));
  }
  ASSIGN_OR_RETURN(const CommandResult result, RunCommand(command, mount_fd, kGrowTimeout));
  if (result.exit_code == 0) return absl::OkStatus();
  const absl::Status failed = ToolFailed(command.front(), device, result);
  if (fs_type != "ext4") return failed;
  return absl::InternalError(absl::StrCat(
      failed.message(), " (the kernel lets only CAP_SYS_RESOURCE grow a mounted ext4)"));
}

absl::Status DamagedError(const Device& device, const std::string& fs_type,
                          const std::string& what) {
  const std::string repair = fs_type == "xfs" ? absl::StrCat("xfs_repair ", device.path)
                                              : absl::StrCat("e2fsck -f ", device.path);
  return absl::DataLossError(
      absl::StrCat("the ", fs_type, " file system on ", device.path,
                   " is damaged and is left as it is. Take a snapshot, then run '", repair,
                   "' on this node while nothing has it mounted. Found: ", what));
}

}  // namespace keelson::csi
