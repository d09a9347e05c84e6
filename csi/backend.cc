#include "csi/backend.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "absl/strings/str_cat.h"
#include "csi/status.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/status_map.h"

namespace keelson::csi {
namespace {

// Pauses between attempts, and how long one may take: a busy machine needs more than a moment.
constexpr int kReconnectPauseMs = 100;
constexpr int kReconnectPauseMsMax = 1000;
constexpr int kConnectMsMax = 10'000;
// A list of volumes with all that the provisioner says of each is larger than gRPC's 4 MiB.
constexpr int kMessageBytesMax = 64 << 20;

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenBackend(const std::string& address) {
  ASSIGN_OR_RETURN(const std::string path, rpc::UnixPathOf(address));
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectPauseMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectMsMax);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectPauseMsMax);
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  return grpc::CreateCustomChannel(absl::StrCat("unix:", path), grpc::InsecureChannelCredentials(),
                                   arguments);
}

std::unique_ptr<grpc::ClientContext> ContextFor(const grpc::ServerContext& caller,
                                                std::chrono::milliseconds patience) {
  // Deadline and cancellation of the caller are propagated; the earlier deadline counts.
  auto context = grpc::ClientContext::FromServerContext(caller);
  context->set_deadline(std::chrono::system_clock::now() + patience);
  return context;
}

std::unique_ptr<grpc::ClientContext> ContextFor(std::chrono::milliseconds patience) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + patience);
  return context;
}

absl::Status BackendStatus(const grpc::Status& status, std::string_view who) {
  if (status.ok()) return absl::OkStatus();
  const absl::Status received = rpc::FromGrpcStatus(status);
  const std::string name(who);
  const std::string text(received.message());
  switch (received.code()) {
    case absl::StatusCode::kUnavailable:
      return absl::UnavailableError(absl::StrCat("the ", name, " is not available: ", text));
    case absl::StatusCode::kDeadlineExceeded:
      return absl::DeadlineExceededError(
          absl::StrCat("the ", name, " has not finished in time; try again: ", text));
    case absl::StatusCode::kUnknown:
      return absl::InternalError(absl::StrCat("the ", name, " failed: ", text));
    case absl::StatusCode::kUnimplemented:
      return absl::UnimplementedError(
          absl::StrCat("the ", name, " of this version does not do that: ", text));
    default:
      break;
  }
  if (text.empty()) {
    return absl::Status(received.code(), absl::StrCat("the ", name, " refused, without a reason"));
  }
  return received;
}

}  // namespace keelson::csi
