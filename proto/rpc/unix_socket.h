#pragma once
// UNIX socket paths as a gRPC server and its clients need them: is somebody there, and may this
// path be listened on. Blocking, brief; any thread. No gRPC inside.

#include <string>

#include "absl/status/status.h"

namespace keelson::rpc {

// Connects to `path` and hangs up. OK: a process listens there. NOT_FOUND: no such path.
// UNAVAILABLE: a socket that a dead process left behind. PERMISSION_DENIED: not for this user.
// INVALID_ARGUMENT: longer than the kernel allows. FAILED_PRECONDITION: not a socket.
absl::Status ProbeUnixSocket(const std::string& path);

// Makes `path` free to listen on: removes a socket that a dead process left behind.
// FAILED_PRECONDITION: a living process listens there, or the path is something else, which is
// kept. Two servers that start at the same moment must be kept apart by a lock of their own.
absl::Status ClearStaleUnixSocket(const std::string& path);

}  // namespace keelson::rpc
