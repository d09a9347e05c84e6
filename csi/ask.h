#pragma once
// Ask: one call of the provisioner in the course of a controller RPC. Any thread.

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <chrono>

#include "absl/status/status.h"
#include "csi/backend.h"
#include "csi/names.h"
#include "proto/keelson/v1/provisioner.grpc.pb.h"

namespace keelson::csi {

// For callers that set no deadline, or a very late one. What has begun goes on in the provisioner.
constexpr std::chrono::minutes kProvisionerPatience(5);

template <class Request, class Response>
absl::Status Ask(const grpc::ServerContext& caller,
                 control::Provisioner::StubInterface& provisioner,
                 grpc::Status (control::Provisioner::StubInterface::*method)(grpc::ClientContext*,
                                                                             const Request&,
                                                                             Response*),
                 const Request& request, Response* response) {
  const auto context = ContextFor(caller, kProvisionerPatience);
  return BackendStatus((provisioner.*method)(context.get(), request, response), "provisioner");
}

}  // namespace keelson::csi
