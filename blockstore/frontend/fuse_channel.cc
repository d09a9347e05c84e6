#include "blockstore/frontend/fuse_channel.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "blockstore/io/status.h"

namespace keelson::frontend {

absl::StatusOr<std::unique_ptr<FuseChannel>> KernelFuseChannel::Make(io::Reactor* reactor, int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    const absl::Status status = io::ErrnoStatus(errno, "making a FUSE connection non-blocking");
    close(fd);
    return status;
  }
  ASSIGN_OR_RETURN(std::unique_ptr<io::Readiness> readiness, reactor->WatchReadable(fd));
  return std::unique_ptr<FuseChannel>(new KernelFuseChannel(std::move(readiness)));
}

int KernelFuseChannel::Receive(std::span<const iovec> parts) {
  const ssize_t got = readv(readiness_->fd(), parts.data(), static_cast<int>(parts.size()));
  return got >= 0 ? static_cast<int>(got) : -errno;
}

int KernelFuseChannel::Send(std::span<const iovec> parts) {
  const ssize_t sent = writev(readiness_->fd(), parts.data(), static_cast<int>(parts.size()));
  return sent >= 0 ? 0 : -errno;
}

}  // namespace keelson::frontend
