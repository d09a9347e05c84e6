#pragma once
// absl::Status <-> grpc::Status: the one table between what our code returns and what goes over the
// wire. The codes have the same meaning on both sides; the message is carried, payloads are not.
// Pure functions; any thread.

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace keelson::rpc {

grpc::Status ToGrpcStatus(const absl::Status& status);

// A code that this program does not know (a newer peer) becomes UNKNOWN.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace keelson::rpc
