// KernelListener and ListenOn.

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/kernel_reactor.h"
#include "blockstore/io/kernel_stream.h"
#include "blockstore/io/socket_address.h"
#include "blockstore/io/status.h"

namespace keelson::io {
namespace {

constexpr int kBacklog = 128;
constexpr mode_t kSocketMode = 0600;

// Removes what a dead process left at `path`; an error when it is not for us to remove.
absl::Status RemoveStaleSocket(const std::string& path, const SocketAddress& at) {
  struct stat found;
  if (lstat(path.c_str(), &found) != 0) return absl::OkStatus();  // gone meanwhile
  if (!S_ISSOCK(found.st_mode)) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, " exists and is not a socket; remove it or choose another path"));
  }
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return ErrnoStatus(errno, absl::StrCat("probing ", path));
  const int rc = connect(probe, at.get(), at.size_bytes);
  const int error_number = rc == 0 ? 0 : errno;
  close(probe);
  // Only a refusal proves that nobody listens; a full backlog (EAGAIN) proves the opposite.
  if (error_number != ECONNREFUSED) {
    return absl::AlreadyExistsError(
        absl::StrCat("another process listens on ", path, "; stop it or choose another path"));
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, absl::StrCat("removing the stale socket ", path));
  }
  return absl::OkStatus();
}

// Binds `fd` and starts to listen.
absl::Status BindAndListen(int fd, const Address& address, const SocketAddress& at) {
  const std::string act = absl::StrCat("listening on ", AddressName(address));
  if (at.family() == AF_UNIX) {
    // Before bind, which creates the path with the mode of the socket: it is never open to others.
    if (fchmod(fd, kSocketMode) != 0) return ErrnoStatus(errno, act);
  } else {
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  }
  int rc = bind(fd, at.get(), at.size_bytes);
  if (rc != 0 && errno == EADDRINUSE && at.family() == AF_UNIX) {
    RETURN_IF_ERROR(RemoveStaleSocket(address.unix_path, at));
    rc = bind(fd, at.get(), at.size_bytes);
  }
  if (rc == 0) rc = listen(fd, kBacklog);
  if (rc == 0) return absl::OkStatus();
  if (errno == EADDRINUSE) {
    return absl::AlreadyExistsError(
        absl::StrCat(act, ": the address is in use by another process"));
  }
  return ErrnoStatus(errno, act);
}

}  // namespace

KernelListener::KernelListener(KernelReactor* reactor, int fd, Address address)
    : socket_(reactor, fd), address_(std::move(address)) {
  if (address_.unix_path.empty()) {
    address_.port = BoundPort(fd);
    return;
  }
  struct stat found;
  if (lstat(address_.unix_path.c_str(), &found) == 0) {
    path_device_ = found.st_dev;
    path_inode_ = found.st_ino;
  }
}

KernelListener::~KernelListener() { Close(); }

Task<absl::StatusOr<std::unique_ptr<Stream>>> KernelListener::Accept() {
  KEEL_CHECK(accepting_ == nullptr, "one Accept is in flight at a time");
  int result = 0;
  do {
    if (closed_) break;
    SocketOp op;
    op.kind = SocketOp::Kind::kAccept;
    op.socket = &socket_;
    accepting_ = &op;
    SocketWait wait(&op, kNoDeadline);  // a listener waits for ever; Close ends it
    result = co_await wait;
    accepting_ = nullptr;
    // ECONNABORTED: a peer that gave up while it queued; the next one may be fine.
  } while (result == -EINTR || result == -EAGAIN || result == -ECONNABORTED);
  if (closed_) {
    if (result > 0) close(result);
    co_return absl::CancelledError(
        absl::StrCat("the listener on ", AddressName(address_), " was closed"));
  }
  if (result < 0) {
    co_return ErrnoStatus(-result, absl::StrCat("accepting on ", AddressName(address_)));
  }
  co_return KernelStream::Adopt(socket_.reactor(), result);
}

void KernelListener::Close() {
  if (std::exchange(closed_, true)) return;
  struct stat found;
  if (!address_.unix_path.empty() && lstat(address_.unix_path.c_str(), &found) == 0 &&
      found.st_dev == path_device_ && found.st_ino == path_inode_) {
    unlink(address_.unix_path.c_str());
  }
  shutdown(socket_.fd(), SHUT_RDWR);  // peers are refused from here on
  if (accepting_ != nullptr) socket_.reactor()->CancelSocketOp(accepting_);
}

absl::StatusOr<std::unique_ptr<Listener>> ListenOn(KernelReactor* reactor, const Address& address) {
  ASSIGN_OR_RETURN(const SocketAddress at, ToSocketAddress(address));
  const int fd = socket(at.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return ErrnoStatus(errno, absl::StrCat("listening on ", AddressName(address)));
  if (absl::Status status = BindAndListen(fd, address, at); !status.ok()) {
    close(fd);
    return status;
  }
  return std::make_unique<KernelListener>(reactor, fd, address);
}

}  // namespace keelson::io
