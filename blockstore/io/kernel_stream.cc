#include "blockstore/io/kernel_stream.h"

#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/kernel_reactor.h"
#include "blockstore/io/socket_address.h"
#include "blockstore/io/status.h"

namespace keelson::io {
namespace {

// A UNIX socket whose backlog is full is asked again after this.
constexpr std::int64_t kConnectRetryNanos = 10'000'000;

void SendSmallMessagesAtOnce(int fd) {
  // Refused by UNIX sockets, which never delay.
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

// Drops the first `bytes` of `parts`.
std::span<iovec> Advance(std::span<iovec> parts, std::size_t bytes) {
  while (!parts.empty() && bytes >= parts.front().iov_len) {
    bytes -= parts.front().iov_len;
    parts = parts.subspan(1);
  }
  if (bytes > 0) {
    parts.front().iov_base = static_cast<char*>(parts.front().iov_base) + bytes;
    parts.front().iov_len -= bytes;
  }
  return parts;
}

bool Transient(int result) { return result == -EINTR || result == -EAGAIN; }

}  // namespace

KernelStream::KernelStream(KernelReactor* reactor, int fd)
    : socket_(reactor, fd), peer_(PeerName(fd)) {
  SendSmallMessagesAtOnce(fd);
}

absl::StatusOr<std::unique_ptr<Stream>> KernelStream::Adopt(KernelReactor* reactor, int fd) {
  int type = 0;
  socklen_t type_bytes = sizeof(type);
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) != 0 || type != SOCK_STREAM) {
    close(fd);
    return absl::InvalidArgumentError(
        absl::StrCat("descriptor ", fd, " is not a stream socket, so it cannot be a Stream"));
  }
  return std::make_unique<KernelStream>(reactor, fd);
}

absl::Status KernelStream::FailureStatus(int result, const char* act) const {
  if (shut_down_) {
    return absl::UnavailableError(absl::StrCat(act, " ", peer_, ": the stream was shut down"));
  }
  return ErrnoStatus(-result, absl::StrCat(act, " ", peer_));
}

Task<absl::StatusOr<std::size_t>> KernelStream::ReadSome(std::span<std::byte> into,
                                                         std::int64_t deadline_ns) {
  KEEL_CHECK(!into.empty(), "a read has room for at least one byte");
  int result = 0;
  do {
    if (shut_down_) co_return FailureStatus(-ECONNRESET, "reading from");
    SocketOp op;
    op.kind = SocketOp::Kind::kReceive;
    op.socket = &socket_;
    op.data = into.data();
    op.size_bytes = into.size();
    SocketWait wait(&op, deadline_ns);
    result = co_await wait;
  } while (Transient(result));
  if (result < 0 || shut_down_) co_return FailureStatus(result, "reading from");
  co_return static_cast<std::size_t>(result);
}

Task<absl::Status> KernelStream::WriteAll(std::span<iovec> parts, std::int64_t deadline_ns) {
  parts = Advance(parts, 0);
  while (!parts.empty()) {
    if (shut_down_) co_return FailureStatus(-EPIPE, "writing to");
    SocketOp op;
    op.kind = SocketOp::Kind::kSend;
    op.socket = &socket_;
    op.message.msg_iov = parts.data();
    op.message.msg_iovlen = std::min<std::size_t>(parts.size(), IOV_MAX);
    SocketWait wait(&op, deadline_ns);
    const int result = co_await wait;
    if (Transient(result)) continue;
    if (result < 0) co_return FailureStatus(result, "writing to");
    parts = Advance(parts, static_cast<std::size_t>(result));
  }
  co_return absl::OkStatus();
}

Task<int> KernelStream::ConnectSocket(const SocketAddress* to, std::int64_t deadline_ns) {
  SocketOp op;
  op.kind = SocketOp::Kind::kConnect;
  op.socket = &socket_;
  op.peer = to->get();
  op.peer_bytes = to->size_bytes;
  SocketWait wait(&op, deadline_ns);
  const int result = co_await wait;
  if (result == 0) peer_ = PeerName(socket_.fd());
  co_return result;
}

void KernelStream::Shutdown() {
  if (std::exchange(shut_down_, true)) return;
  // Wakes what waits on the socket, on both backends. Fails only when the peer has gone already.
  shutdown(socket_.fd(), SHUT_RDWR);
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectTo(KernelReactor* reactor, Address address,
                                                        std::int64_t deadline_ns) {
  CO_ASSIGN_OR_RETURN(const SocketAddress to, ToSocketAddress(address));
  const std::string act = absl::StrCat("connecting to ", AddressName(address));
  for (;;) {
    const int fd = socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) co_return ErrnoStatus(errno, act);
    auto stream = std::make_unique<KernelStream>(reactor, fd);
    const int result = co_await stream->ConnectSocket(&to, deadline_ns);
    if (result == 0) co_return std::unique_ptr<Stream>(std::move(stream));
    if (!Transient(result)) co_return ErrnoStatus(-result, act);
    const std::int64_t retry_ns = reactor->NowNanos() + kConnectRetryNanos;
    if (retry_ns >= deadline_ns) co_return ErrnoStatus(ETIMEDOUT, act);
    auto pause = reactor->SleepUntil(retry_ns);
    co_await pause;
  }
}

}  // namespace keelson::io
