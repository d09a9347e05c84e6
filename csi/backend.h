#pragma once
// Calls of the driver to the programs behind it: the provisioner and the local block store. Any
// thread.

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace keelson::csi {

// A channel to "unix:/path" that connects when it is used, and again whenever it must, within a
// second. INVALID_ARGUMENT: not such an address.
absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenBackend(const std::string& address);

// A call for the sake of `caller`: ends when that one is cancelled or its deadline comes, and after
// `patience` at the latest.
std::unique_ptr<grpc::ClientContext> ContextFor(const grpc::ServerContext& caller,
                                                std::chrono::milliseconds patience);
// A call of the driver's own.
std::unique_ptr<grpc::ClientContext> ContextFor(std::chrono::milliseconds patience);

// What came back, for our own caller: same code and message, but never without a message, and where
// `who` could not be reached, it is named. UNKNOWN becomes INTERNAL.
absl::Status BackendStatus(const grpc::Status& status, std::string_view who);

}  // namespace keelson::csi
