#pragma once
// ControlClient: keelctl's connection to keelson-provisioner. Blocking; one thread. Errors are the
// provisioner's, or say that it does not answer.

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/keelson/v1/provisioner.grpc.pb.h"

namespace keelson::ctl {

namespace control = keelson::control::v1;

class ControlClient {
 public:
  // `address` is "unix:/ABSOLUTE/PATH".
  static absl::StatusOr<std::unique_ptr<ControlClient>> Connect(const std::string& address,
                                                                std::chrono::seconds timeout);

  // One call: client.Call(&ControlClient::Stub::CreateVolume, request).
  using Stub = control::Provisioner::Stub;
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + timeout_);
    Response response;
    const absl::Status status = Explain((stub_.get()->*method)(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }

  // The id of the volume that has this id or name. NOT_FOUND; FAILED_PRECONDITION: several do.
  absl::StatusOr<std::string> FindVolume(const std::string& what);
  absl::StatusOr<std::string> FindSnapshot(const std::string& what);

 private:
  ControlClient(std::string address, std::chrono::seconds timeout, std::unique_ptr<Stub> stub)
      : address_(std::move(address)), timeout_(timeout), stub_(std::move(stub)) {}
  absl::Status Explain(const grpc::Status& status) const;

  const std::string address_;
  const std::chrono::seconds timeout_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace keelson::ctl
