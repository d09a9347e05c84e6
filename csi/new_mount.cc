#include "csi/new_mount.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "csi/command.h"
#include "csi/filesystem.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

// What the file system has to say, without anything that was in the value of an option.
std::string KernelMessages(int fs_fd, const MountOptions& options) {
  std::string all;
  char line[512];
  ssize_t length = 0;
  while ((length = read(fs_fd, line, sizeof(line))) > 0) {
    const std::string text(line, static_cast<std::size_t>(length));
    bool tells_value = false;
    for (const auto& [name, value] : options.file_system) {
      tells_value = tells_value || (!value.empty() && text.find(value) != std::string::npos);
    }
    if (!tells_value) absl::StrAppend(&all, text, " ");
  }
  return OneLine(all);
}

absl::Status Configure(int fs_fd, const std::string& fs_type, const MountOptions& options) {
  for (const auto& [name, value] : options.file_system) {
    const int result = value.empty()
                           ? fsconfig(fs_fd, FSCONFIG_SET_FLAG, name.c_str(), nullptr, 0)
                           : fsconfig(fs_fd, FSCONFIG_SET_STRING, name.c_str(), value.c_str(), 0);
    if (result == 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("mount_flags: ", fs_type, " does not take the option '", OneLine(name),
                     "' or its value: ", KernelMessages(fs_fd, options)));
  }
  return absl::OkStatus();
}

absl::Status CreateFailed(int error, const Device& device, const std::string& fs_type,
                          const std::string& messages) {
  const std::string what = absl::StrCat("mount of ", device.path, " as ", fs_type);
  switch (error) {
    case EUCLEAN:
    case EBADMSG:
      return DamagedError(device, fs_type, messages.empty() ? "see the kernel's log" : messages);
    case EINVAL:
      return absl::InvalidArgumentError(absl::StrCat(
          what, ": the kernel refuses the mount options together, or what is on the device: ",
          messages, "; see the kernel's log"));
    default: {
      const absl::Status status = ErrnoStatus(error, what);
      return absl::Status(status.code(), absl::StrCat(status.message(), ". ", messages));
    }
  }
}

}  // namespace

absl::StatusOr<Fd> NewMount(const Device& device, const std::string& fs_type,
                            const MountOptions& options) {
  const Fd fs(fsopen(fs_type.c_str(), FSOPEN_CLOEXEC));
  if (!fs.ok()) {
    if (errno == ENODEV) {
      return absl::FailedPreconditionError(
          absl::StrCat("the kernel of this node does not have the file system ", fs_type));
    }
    return ErrnoStatus(errno, absl::StrCat("fsopen of ", fs_type));
  }
  if (fsconfig(fs.get(), FSCONFIG_SET_STRING, "source", device.path.c_str(), 0) != 0) {
    return ErrnoStatus(errno, absl::StrCat("mount of ", device.path));
  }
  if (options.read_only && fsconfig(fs.get(), FSCONFIG_SET_FLAG, "ro", nullptr, 0) != 0) {
    return ErrnoStatus(errno, absl::StrCat("read-only mount of ", device.path));
  }
  RETURN_IF_ERROR(Configure(fs.get(), fs_type, options));
  if (fsconfig(fs.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    const int error = errno;
    return CreateFailed(error, device, fs_type, KernelMessages(fs.get(), options));
  }
  const std::uint64_t attributes = options.attributes | (options.read_only ? MOUNT_ATTR_RDONLY : 0);
  Fd mount(fsmount(fs.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes)));
  if (!mount.ok()) return ErrnoStatus(errno, absl::StrCat("mount of ", device.path));
  return mount;
}

absl::StatusOr<Fd> CloneMount(int source_fd, bool read_only, const std::string& name) {
  Fd mount(open_tree(source_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
  if (!mount.ok()) return ErrnoStatus(errno, absl::StrCat("clone of the mount at ", name));
  if (!read_only) return mount;
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (mount_setattr(mount.get(), "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) != 0) {
    return ErrnoStatus(errno, absl::StrCat("read-only view of ", name));
  }
  return mount;
}

absl::Status MoveMount(int mount_fd, int place_fd, const std::string& name) {
  if (move_mount(mount_fd, "", place_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) ==
      0) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, absl::StrCat("mount at ", name));
}

}  // namespace keelson::csi
