#include "proto/rpc/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace keelson::rpc {

absl::Status ProbeUnixSocket(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket path '", path, "' must have 1 to ",
                                                   sizeof(address.sun_path) - 1, " characters"));
  }
  struct stat info = {};
  if (lstat(path.c_str(), &info) == 0 && !S_ISSOCK(info.st_mode) && !S_ISLNK(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, " exists and is not a socket"));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return absl::InternalError(absl::StrCat("no socket: ", std::strerror(errno)));
  const int result = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = result == 0 ? 0 : errno;
  close(fd);
  switch (error) {
    case 0:
    case EAGAIN:  // its backlog is full: somebody is there
      return absl::OkStatus();
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(absl::StrCat("there is no socket at ", path));
    case ECONNREFUSED:
      return absl::UnavailableError(absl::StrCat("no process listens on ", path));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(absl::StrCat("this user may not connect to ", path));
    default:
      return absl::InternalError(absl::StrCat("connect to ", path, ": ", std::strerror(error)));
  }
}

absl::Status ClearStaleUnixSocket(const std::string& path) {
  const absl::Status probe = ProbeUnixSocket(path);
  if (probe.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("another process listens on ", path, "; stop it or choose another path"));
  }
  if (absl::IsNotFound(probe)) return absl::OkStatus();
  if (!absl::IsUnavailable(probe)) return probe;
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return absl::PermissionDeniedError(
        absl::StrCat("cannot remove the stale socket ", path, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace keelson::rpc
