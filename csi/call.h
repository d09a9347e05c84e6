#pragma once
// What stands around every RPC of the driver. Any thread.

#include <google/protobuf/message.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace keelson::csi {

// Logs the redacted request at debug, checks its sizes, runs `handler` as rpc::HandleCall does (one
// line with the outcome, exceptions become INTERNAL), and warns of a call that took long. An error
// always has a message and never has details, as the specification demands.
grpc::Status Call(const grpc::ServerContext& context, std::string_view method,
                  const google::protobuf::Message& request,
                  absl::FunctionRef<absl::Status()> handler);

}  // namespace keelson::csi
