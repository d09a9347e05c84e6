#pragma once
// Server: synchronous gRPC services on a UNIX socket (mode 0600), with the standard health
// service beside them (grpc.health.v1; NOT_SERVING until SetServing). Owned by a program's main
// thread; gRPC calls the service on threads of its own.

#include <grpcpp/support/status.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace grpc {
class Server;
class ServerContext;
class Service;
}  // namespace grpc

namespace keelson::rpc {

class Server {
 public:
  // Listens on `path`, after removing a stale socket there. The services outlive the server.
  // FAILED_PRECONDITION: another process listens there. INVALID_ARGUMENT: the path is too long.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const std::string& path,
                                                       absl::Span<grpc::Service* const> services);
  static absl::StatusOr<std::unique_ptr<Server>> Start(const std::string& path,
                                                       grpc::Service* service) {
    return Start(path, absl::MakeConstSpan(&service, 1));
  }
  // Shuts down, if that has not happened, without patience.
  ~Server();

  void SetServing(bool serving);

  // Takes no more calls, cancels those that are still running after `patience`, and returns when
  // every handler has returned.
  void Shutdown(std::chrono::milliseconds patience);

 private:
  Server(std::string path, std::unique_ptr<grpc::Server> server);

  std::string path_;
  std::unique_ptr<grpc::Server> server_;
  bool down_ = false;
};

// Runs `handler` as the body of the RPC `method`: logs one INFO line with the request's id (the
// caller's x-request-id, or a number), the method, the duration and the outcome, never the request
// itself, and turns an exception that a library threw into INTERNAL.
grpc::Status HandleCall(const grpc::ServerContext& context, std::string_view method,
                        absl::FunctionRef<absl::Status()> handler);

}  // namespace keelson::rpc
