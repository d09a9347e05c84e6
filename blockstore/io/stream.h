#pragma once
// Stream: a connected byte stream (UNIX socket, TCP, or an in-memory pipe in tests). Listener: what
// accepts them. Owned by one reactor; used on its thread only.
//
// At most one read and one write are in flight on a stream at a time. Deadlines are absolute times
// on Reactor::NowNanos(); kNoDeadline must be written out where a wait may last for ever (an idle
// client).

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/io/task.h"

namespace keelson::io {

inline constexpr std::int64_t kNoDeadline = std::numeric_limits<std::int64_t>::max();

// Where to listen or connect: a UNIX socket path, or a TCP address with a numeric host.
struct Address {
  std::string unix_path;   // wins when not empty
  std::string host;        // "127.0.0.1" or "::1"
  std::uint16_t port = 0;  // 0: the kernel chooses (Listener::address() tells)
};

class Stream {
 public:
  virtual ~Stream() = default;

  // Reads what is there, at least one byte, into `into`; 0 is the peer's orderly end.
  // UNAVAILABLE: reset or shut down. DEADLINE_EXCEEDED: nothing came in time.
  virtual Task<absl::StatusOr<std::size_t>> ReadSome(std::span<std::byte> into,
                                                     std::int64_t deadline_ns) = 0;
  // Writes all of `parts`, in order, in as few calls as the kernel allows. `parts` is modified.
  virtual Task<absl::Status> WriteAll(std::span<iovec> parts, std::int64_t deadline_ns) = 0;
  // Ends both directions: a read or write in flight completes with UNAVAILABLE. Idempotent.
  virtual void Shutdown() = 0;
  // Who is at the other end, for messages: "unix pid 123" or "127.0.0.1:4711".
  virtual std::string peer() const = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  // The next connection. CANCELLED after Close.
  virtual Task<absl::StatusOr<std::unique_ptr<Stream>>> Accept() = 0;
  // Stops listening; an Accept in flight completes with CANCELLED; a UNIX socket's path is removed.
  virtual void Close() = 0;
  virtual Address address() const = 0;
};

}  // namespace keelson::io
