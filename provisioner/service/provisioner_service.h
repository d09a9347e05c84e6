#pragma once
// The gRPC service Provisioner over a Controller. gRPC's threads.

#include <memory>

namespace grpc {
class Service;
}  // namespace grpc

namespace keelson::provisioner {

class Controller;

// The controller outlives the service.
std::unique_ptr<grpc::Service> MakeProvisionerService(Controller* controller);

}  // namespace keelson::provisioner
