#pragma once
// Socket: a descriptor of a kernel reactor, and SocketOp: one receive, send, accept or connect on
// it, or a wait until it can be read (which does for other descriptors than sockets, too). The two
// backends differ below this line only; streams, listeners and Connect are written once on top of
// it. Owned by one reactor, used on its thread.

#include <sys/socket.h>

#include <coroutine>
#include <cstddef>
#include <cstdint>

#include "blockstore/io/reactor.h"

namespace keelson::io {

class KernelReactor;
class Socket;

// One operation in flight. Lives in the awaiting coroutine's frame, with everything the kernel
// reads or fills, until `done` is called. Like an IoOp, but a short transfer is the caller's to
// continue.
struct SocketOp {
  enum class Kind : std::uint8_t { kReceive, kSend, kAccept, kConnect, kReadable };
  Kind kind = Kind::kReceive;
  bool cancelled = false;  // the backend's: a cancel was asked for
  int result = 0;          // bytes moved, an accepted descriptor, poll events, 0 or -errno
  Socket* socket = nullptr;
  std::byte* data = nullptr;       // kReceive
  std::size_t size_bytes = 0;      // kReceive
  msghdr message = {};             // kSend
  const sockaddr* peer = nullptr;  // kConnect
  socklen_t peer_bytes = 0;        // kConnect
  void (*done)(SocketOp* op) = nullptr;
  void* owner = nullptr;     // the submitter's
  SocketOp* next = nullptr;  // the backend's

  bool reads() const { return kind != Kind::kSend && kind != Kind::kConnect; }
};

// Owns the descriptor. Every operation has completed before it is destroyed.
class Socket {
 public:
  // Takes over `fd`, and makes it blocking or not as the backend wants it.
  Socket(KernelReactor* reactor, int fd);
  // Takes over `fd` as it is, for kReadable only.
  struct AsItIs {};
  Socket(KernelReactor* reactor, int fd, AsItIs);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  KernelReactor* reactor() const { return reactor_; }
  int fd() const { return fd_; }
  // At most one operation reads and one writes; this is where the libaio backend parks them until
  // the socket is ready. nullptr while none is parked.
  SocketOp*& parked(bool reads) { return parked_[reads ? 0 : 1]; }

 private:
  friend class KernelReactor;
  KernelReactor* reactor_;  // outlives the socket
  int fd_;
  SocketOp* parked_[2] = {nullptr, nullptr};
  std::uint32_t in_flight_ = 0;
};

// co_await wait: submits the operation, and cancels it at the deadline. Resumes only when the
// kernel has let go of the memory. The result is that of the operation, or -ETIME when the deadline
// came first. Lives as a named local of the awaiting coroutine.
class [[nodiscard]] SocketWait {
 public:
  SocketWait(SocketOp* op, std::int64_t deadline_ns);
  SocketWait(const SocketWait&) = delete;
  SocketWait& operator=(const SocketWait&) = delete;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> awaiting);
  int await_resume() const noexcept;

 private:
  SocketOp* op_;
  std::coroutine_handle<> waiter_;
  TimerNode deadline_;
  bool timed_out_ = false;
};

}  // namespace keelson::io
