#pragma once
// SocketAddress: an io::Address in the kernel's form, and the names of sockets for messages.

#include <sys/socket.h>

#include <string>

#include "absl/status/statusor.h"
#include "blockstore/io/stream.h"

namespace keelson::io {

struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t size_bytes = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

// INVALID_ARGUMENT: the UNIX path is too long for the kernel, or the host is not a numeric address.
absl::StatusOr<SocketAddress> ToSocketAddress(const Address& address);

// "unix:/run/x.sock", "127.0.0.1:4711" or "[::1]:4711".
std::string AddressName(const Address& address);

// Who is at the other end of a connected socket: "unix pid 123", "127.0.0.1:4711", "[::1]:4711".
std::string PeerName(int fd);

// The port a TCP socket is bound to; 0 when it has none.
std::uint16_t BoundPort(int fd);

}  // namespace keelson::io
