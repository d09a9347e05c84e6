#include "blockstore/service/fuse_mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"

namespace keelson::service {
namespace {

constexpr char kType[] = "fuse.keelson";

// The place to mount on. A file that was left behind does as well; what is mounted on it does not.
absl::Status MakeMountPoint(const std::string& path) {
  const Descriptor file(
      open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (file || errno == EEXIST) return absl::OkStatus();
  return io::ErrnoStatus(errno, absl::StrCat("creation of ", path));
}

}  // namespace

absl::StatusOr<Descriptor> MountFuseFile(const std::string& path, const std::string& volume,
                                         bool read_only) {
  RETURN_IF_ERROR(UnmountFuseFile(path));
  RETURN_IF_ERROR(MakeMountPoint(path));
  Descriptor device(open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!device) return io::ErrnoStatus(errno, "open of /dev/fuse");
  const std::string options = absl::StrCat(
      "fd=", device.get(), ",rootmode=100600,user_id=", geteuid(), ",group_id=", getegid());
  const unsigned long flags =
      MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | (read_only ? MS_RDONLY : 0);
  const std::string source = absl::StrCat("keelson:", volume);
  if (mount(source.c_str(), path.c_str(), kType, flags, options.c_str()) != 0) {
    const absl::Status status = io::ErrnoStatus(errno, absl::StrCat("mount of ", path));
    unlink(path.c_str());
    return status;
  }
  return device;
}

absl::Status UnmountFuseFile(const std::string& path) {
  // More than one after a crash at a bad moment. EINVAL: nothing is mounted there.
  while (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
  }
  if (errno != EINVAL && errno != ENOENT) {
    return io::ErrnoStatus(errno, absl::StrCat("unmounting ", path));
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return io::ErrnoStatus(errno, absl::StrCat("removal of ", path));
  }
  return absl::OkStatus();
}

std::vector<std::string> FuseFilesIn(const std::string& directory) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(directory.c_str()), closedir);
  if (folder == nullptr) return names;
  while (const dirent* entry = readdir(folder.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  return names;
}

}  // namespace keelson::service
