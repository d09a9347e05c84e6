#include "csi/controller.h"

#include "absl/strings/str_cat.h"
#include "csi/ask.h"
#include "csi/call.h"
#include "csi/checks.h"

namespace keelson::csi {

using Stub = control::Provisioner::StubInterface;

Controller::Controller(Stub* provisioner, bool enable_alpha)
    : provisioner_(provisioner), enable_alpha_(enable_alpha) {}

grpc::Status Controller::ControllerGetCapabilities(
    grpc::ServerContext* context, const pb::ControllerGetCapabilitiesRequest* request,
    pb::ControllerGetCapabilitiesResponse* response) {
  using Rpc = pb::ControllerServiceCapability::RPC;
  return Call(*context, "ControllerGetCapabilities", *request, [&] {
    // SINGLE_NODE_MULTI_WRITER is alpha in name only: without it, Kubernetes cannot tell
    // ReadWriteOncePod from ReadWriteOnce.
    for (const Rpc::Type type :
         {Rpc::CREATE_DELETE_VOLUME, Rpc::PUBLISH_UNPUBLISH_VOLUME, Rpc::LIST_VOLUMES,
          Rpc::GET_CAPACITY, Rpc::CREATE_DELETE_SNAPSHOT, Rpc::LIST_SNAPSHOTS, Rpc::CLONE_VOLUME,
          Rpc::PUBLISH_READONLY, Rpc::EXPAND_VOLUME, Rpc::LIST_VOLUMES_PUBLISHED_NODES,
          Rpc::SINGLE_NODE_MULTI_WRITER, Rpc::MODIFY_VOLUME}) {
      response->add_capabilities()->mutable_rpc()->set_type(type);
    }
    if (!enable_alpha_) return absl::OkStatus();
    for (const Rpc::Type type :
         {Rpc::GET_VOLUME, Rpc::GET_SNAPSHOT, Rpc::GET_VOLUME_HEALTH, Rpc::LIST_VOLUME_HEALTH}) {
      response->add_capabilities()->mutable_rpc()->set_type(type);
    }
    return absl::OkStatus();
  });
}

absl::Status Controller::CheckAlpha() const {
  if (enable_alpha_) return absl::OkStatus();
  return absl::UnimplementedError(
      "alpha in this version of the specification; start keelson-csi with --enable-alpha for it");
}

absl::Status Controller::GetVolume(const grpc::ServerContext& context, const std::string& volume_id,
                                   control::Volume* volume) {
  if (!CanBeId(volume_id)) {
    return absl::NotFoundError("there is no volume with this volume_id; it is not one of ours");
  }
  control::GetVolumeRequest ask;
  ask.set_volume_id(volume_id);
  control::GetVolumeResponse answer;
  if (absl::Status status = Ask(context, *provisioner_, &Stub::GetVolume, ask, &answer);
      !status.ok()) {
    return status;
  }
  volume->Swap(answer.mutable_volume());
  return absl::OkStatus();
}

}  // namespace keelson::csi
