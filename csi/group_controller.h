#pragma once
// GroupController: snapshots of several volumes at one point in time, as a translation to the
// provisioner. Called on gRPC's threads; has no state.

#include <grpcpp/server_context.h>

#include "csi/names.h"
#include "proto/csi/v1/csi.grpc.pb.h"
#include "proto/keelson/v1/provisioner.grpc.pb.h"

namespace keelson::csi {

class GroupController final : public pb::GroupController::Service {
 public:
  // `provisioner` outlives this.
  explicit GroupController(control::Provisioner::StubInterface* provisioner)
      : provisioner_(provisioner) {}

  grpc::Status GroupControllerGetCapabilities(
      grpc::ServerContext* context, const pb::GroupControllerGetCapabilitiesRequest* request,
      pb::GroupControllerGetCapabilitiesResponse* response) override;
  grpc::Status CreateVolumeGroupSnapshot(grpc::ServerContext* context,
                                         const pb::CreateVolumeGroupSnapshotRequest* request,
                                         pb::CreateVolumeGroupSnapshotResponse* response) override;
  grpc::Status DeleteVolumeGroupSnapshot(grpc::ServerContext* context,
                                         const pb::DeleteVolumeGroupSnapshotRequest* request,
                                         pb::DeleteVolumeGroupSnapshotResponse* response) override;
  grpc::Status GetVolumeGroupSnapshot(grpc::ServerContext* context,
                                      const pb::GetVolumeGroupSnapshotRequest* request,
                                      pb::GetVolumeGroupSnapshotResponse* response) override;

 private:
  control::Provisioner::StubInterface* const provisioner_;
};

}  // namespace keelson::csi
