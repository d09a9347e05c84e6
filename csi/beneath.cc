#include "csi/beneath.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

// The kernel answers EAGAIN when something was renamed while it looked.
constexpr int kAttemptsMax = 64;

absl::StatusOr<Fd> OpenBeneath(int directory, const std::string& relative, int flags,
                               const std::string& shown) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(O_PATH | O_NOFOLLOW | O_CLOEXEC | flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    const long fd = syscall(SYS_openat2, directory, relative.c_str(), &how, sizeof(how));
    if (fd >= 0) return Fd(static_cast<int>(fd));
    if (errno != EAGAIN && errno != EINTR) break;
  }
  if (errno == ELOOP || errno == EXDEV) {
    return absl::InvalidArgumentError(
        absl::StrCat("path ", shown, " has a symbolic link in it; none is followed"));
  }
  if (errno == ENOTDIR) {
    return absl::InvalidArgumentError(absl::StrCat("path ", shown,
                                                   " leads through, or is, "
                                                   "something that is not a directory"));
  }
  return ErrnoStatus(errno, absl::StrCat("path ", shown));
}

}  // namespace

absl::Status CheckPath(std::string_view field, const std::string& path, const std::string& root) {
  const std::string name(field);
  if (path.empty()) return absl::InvalidArgumentError(absl::StrCat(name, " is missing"));
  // Control characters would let a path forge lines of the log.
  const bool plain = std::all_of(path.begin(), path.end(), [](char c) {
    return !absl::ascii_iscntrl(static_cast<unsigned char>(c));
  });
  if (path.size() >= PATH_MAX || !plain) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " must have less than ", PATH_MAX, " bytes and no control character"));
  }
  const std::string prefix = root == "/" ? root : absl::StrCat(root, "/");
  if (path.compare(0, prefix.size(), prefix) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " must be below ", root,
                     " (--mount-root says which directory of the host may be mounted in)"));
  }
  for (absl::string_view part : absl::StrSplit(path.substr(prefix.size()), '/')) {
    if (part.empty() || part == "." || part == "..") {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " must not have empty components, '.' or '..'"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Beneath> Beneath::Open(const std::string& root) {
  Fd fd(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok()) return ErrnoStatus(errno, absl::StrCat("directory ", root));
  std::vector<char> real(PATH_MAX);
  const ssize_t length =
      readlink(absl::StrCat("/proc/self/fd/", fd.get()).c_str(), real.data(), real.size());
  if (length <= 0) return ErrnoStatus(errno, absl::StrCat("directory ", root));
  return Beneath(root, std::string(real.data(), static_cast<std::size_t>(length)), std::move(fd));
}

absl::StatusOr<Fd> Beneath::OpenPath(const std::string& path, int flags) const {
  ASSIGN_OR_RETURN(const Place place, OpenParent(path));
  return OpenEntry(place, flags);
}

absl::StatusOr<Beneath::Place> Beneath::OpenParent(const std::string& path) const {
  RETURN_IF_ERROR(CheckPath("path", path, root_));
  const std::string relative = path.substr(root_ == "/" ? 1 : root_.size() + 1);
  const std::size_t slash = relative.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : relative.substr(0, slash);
  Place place;
  ASSIGN_OR_RETURN(place.parent, OpenBeneath(fd_.get(), parent, O_DIRECTORY, path));
  place.name = slash == std::string::npos ? relative : relative.substr(slash + 1);
  return place;
}

absl::StatusOr<Fd> Beneath::OpenEntry(const Place& place, int flags) {
  return OpenBeneath(place.parent.get(), place.name, flags, absl::StrCat(".../", place.name));
}

}  // namespace keelson::csi
