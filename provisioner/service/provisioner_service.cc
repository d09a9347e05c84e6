#include "provisioner/service/provisioner_service.h"

#include <utility>

#include "proto/keelson/v1/provisioner.grpc.pb.h"
#include "proto/rpc/server.h"
#include "provisioner/service/controller.h"

namespace keelson::provisioner {
namespace {

template <typename T>
absl::Status Into(absl::StatusOr<T> from, T* to) {
  if (!from.ok()) return from.status();
  *to = *std::move(from);
  return absl::OkStatus();
}

// A call that gives back an object, one that gives back nothing, one that gives back its response.
#define KEEL_OBJECT(Method, field)                                                       \
  grpc::Status Method(grpc::ServerContext* context, const api::Method##Request* request, \
                      api::Method##Response* response) override {                        \
    return rpc::HandleCall(*context, #Method, [&] {                                      \
      return Into(controller_->Method(*request), response->mutable_##field());           \
    });                                                                                  \
  }
#define KEEL_EMPTY(Method)                                                                    \
  grpc::Status Method(grpc::ServerContext* context, const api::Method##Request* request,      \
                      api::Method##Response*) override {                                      \
    return rpc::HandleCall(*context, #Method, [&] { return controller_->Method(*request); }); \
  }
#define KEEL_RESPONSE(Method)                                                              \
  grpc::Status Method(grpc::ServerContext* context, const api::Method##Request* request,   \
                      api::Method##Response* response) override {                          \
    return rpc::HandleCall(*context, #Method,                                              \
                           [&] { return Into(controller_->Method(*request), response); }); \
  }

class ProvisionerService final : public api::Provisioner::Service {
 public:
  explicit ProvisionerService(Controller* controller) : controller_(controller) {}

  KEEL_OBJECT(CreateVolume, volume)
  KEEL_EMPTY(DeleteVolume)
  KEEL_OBJECT(GetVolume, volume)
  KEEL_RESPONSE(ListVolumes)
  KEEL_RESPONSE(ValidateVolume)
  KEEL_RESPONSE(PublishVolume)
  KEEL_EMPTY(UnpublishVolume)
  KEEL_RESPONSE(ExpandVolume)
  KEEL_EMPTY(ModifyVolume)
  KEEL_RESPONSE(GetCapacity)
  KEEL_OBJECT(CreateSnapshot, snapshot)
  KEEL_EMPTY(DeleteSnapshot)
  KEEL_RESPONSE(ListSnapshots)
  KEEL_RESPONSE(ListSnapshotBlocks)
  KEEL_OBJECT(CreateGroupSnapshot, group)
  KEEL_OBJECT(GetGroupSnapshot, group)
  KEEL_EMPTY(DeleteGroupSnapshot)
  KEEL_EMPTY(RegisterNode)
  KEEL_EMPTY(SetNodeIntent)
  KEEL_EMPTY(RemoveNode)
  KEEL_RESPONSE(Why)
  KEEL_RESPONSE(Adopt)

  grpc::Status ListNodes(grpc::ServerContext* context, const api::ListNodesRequest*,
                         api::ListNodesResponse* response) override {
    return rpc::HandleCall(*context, "ListNodes", [&] {
      *response = controller_->ListNodes();
      return absl::OkStatus();
    });
  }

 private:
  Controller* controller_;
};

#undef KEEL_OBJECT
#undef KEEL_EMPTY
#undef KEEL_RESPONSE

}  // namespace

std::unique_ptr<grpc::Service> MakeProvisionerService(Controller* controller) {
  return std::make_unique<ProvisionerService>(controller);
}

}  // namespace keelson::provisioner
