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

}  // namespace keelson::rpc
