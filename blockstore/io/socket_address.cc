#include "blockstore/io/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstring>

#include "absl/strings/str_cat.h"

namespace keelson::io {
namespace {

std::string HostPortName(const std::string& host, std::uint16_t port) {
  if (host.find(':') != std::string::npos) return absl::StrCat("[", host, "]:", port);
  return absl::StrCat(host, ":", port);
}

}  // namespace

absl::StatusOr<SocketAddress> ToSocketAddress(const Address& address) {
  SocketAddress result;
  if (!address.unix_path.empty()) {
    auto* local = reinterpret_cast<sockaddr_un*>(&result.storage);
    if (address.unix_path.size() >= sizeof(local->sun_path)) {
      return absl::InvalidArgumentError(absl::StrCat("UNIX socket path ", address.unix_path,
                                                     " is too long; the kernel takes at most ",
                                                     sizeof(local->sun_path) - 1, " characters"));
    }
    local->sun_family = AF_UNIX;
    std::memcpy(local->sun_path, address.unix_path.data(), address.unix_path.size());
    result.size_bytes = sizeof(sockaddr_un);
    return result;
  }
  auto* v4 = reinterpret_cast<sockaddr_in*>(&result.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&result.storage);
  if (inet_pton(AF_INET, address.host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(address.port);
    result.size_bytes = sizeof(sockaddr_in);
    return result;
  }
  if (inet_pton(AF_INET6, address.host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(address.port);
    result.size_bytes = sizeof(sockaddr_in6);
    return result;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "host \"", address.host, "\" is not a numeric address such as 127.0.0.1 or ::1"));
}

std::string AddressName(const Address& address) {
  if (!address.unix_path.empty()) return absl::StrCat("unix:", address.unix_path);
  return HostPortName(address.host, address.port);
}

std::string PeerName(int fd) {
  sockaddr_storage storage = {};
  socklen_t size_bytes = sizeof(storage);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &size_bytes) != 0) return "unknown";
  char text[INET6_ADDRSTRLEN] = "";
  if (storage.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage);
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
    return HostPortName(text, ntohs(v4->sin_port));
  }
  if (storage.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&storage);
    inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
    return HostPortName(text, ntohs(v6->sin6_port));
  }
  ucred credentials = {};
  socklen_t credentials_bytes = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &credentials_bytes) != 0) {
    return "unknown";
  }
  return absl::StrCat("unix pid ", credentials.pid);
}

std::uint16_t BoundPort(int fd) {
  sockaddr_storage storage = {};
  socklen_t size_bytes = sizeof(storage);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size_bytes) != 0) return 0;
  if (storage.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
  }
  if (storage.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
  }
  return 0;
}

}  // namespace keelson::io
