#pragma once
// The client's side of a gRPC service on a UNIX socket. Any thread.

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace keelson::rpc {

// A channel to the program that listens on `path`. Fails at once, and says what to do, when nobody
// does (UNAVAILABLE) or the user may not (PERMISSION_DENIED); gRPC alone would try again for a
// while.
absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectUnix(const std::string& path);

// The path in "unix:/absolute/path", the one form of address that programs know each other by.
// INVALID_ARGUMENT for anything else.
absl::StatusOr<std::string> UnixPathOf(const std::string& address);

}  // namespace keelson::rpc
