#include "proto/rpc/channel.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include "absl/strings/str_cat.h"
#include "proto/rpc/unix_socket.h"

namespace keelson::rpc {

absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectUnix(const std::string& path) {
  const absl::Status probe = ProbeUnixSocket(path);
  if (absl::IsNotFound(probe) || absl::IsUnavailable(probe)) {
    return absl::UnavailableError(absl::StrCat(probe.message(), "; is the program running?"));
  }
  if (!probe.ok()) return probe;
  return grpc::CreateChannel(absl::StrCat("unix:", path), grpc::InsecureChannelCredentials());
}

absl::StatusOr<std::string> UnixPathOf(const std::string& address) {
  constexpr char kScheme[] = "unix:";
  constexpr std::size_t kSchemeLength = sizeof(kScheme) - 1;
  std::string path =
      address.substr(0, kSchemeLength) == kScheme ? address.substr(kSchemeLength) : "";
  if (path.size() > 2 && path.compare(0, 3, "///") == 0) path.erase(0, 2);
  if (path.size() > 1 && path[0] == '/' && path[1] != '/') return path;
  return absl::InvalidArgumentError(
      absl::StrCat("address '", address, "' must be unix:/ABSOLUTE/PATH of a program's socket"));
}

}  // namespace keelson::rpc
