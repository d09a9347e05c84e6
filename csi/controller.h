#pragma once
// Controller: the controller service of the specification, as a translation to the provisioner,
// which has all state and all idempotency. Called on gRPC's threads; has no state that changes.
//
// What is checked here is what the specification says of every request. StorageClass and
// VolumeAttributesClass parameters are the provisioner's to understand.

#include <grpcpp/server_context.h>

#include "absl/status/status.h"
#include "csi/backend.h"
#include "csi/names.h"
#include "proto/csi/v1/csi.grpc.pb.h"
#include "proto/keelson/v1/provisioner.grpc.pb.h"

namespace keelson::csi {

class Controller final : public pb::Controller::Service {
 public:
  // `provisioner` outlives this. Without `enable_alpha`, what the specification calls alpha and
  // Kubernetes does not need is neither advertised nor answered.
  Controller(control::Provisioner::StubInterface* provisioner, bool enable_alpha);

  grpc::Status ControllerGetCapabilities(grpc::ServerContext* context,
                                         const pb::ControllerGetCapabilitiesRequest* request,
                                         pb::ControllerGetCapabilitiesResponse* response) override;

  // controller_volumes.cc
  grpc::Status CreateVolume(grpc::ServerContext* context, const pb::CreateVolumeRequest* request,
                            pb::CreateVolumeResponse* response) override;
  grpc::Status DeleteVolume(grpc::ServerContext* context, const pb::DeleteVolumeRequest* request,
                            pb::DeleteVolumeResponse* response) override;
  grpc::Status ControllerExpandVolume(grpc::ServerContext* context,
                                      const pb::ControllerExpandVolumeRequest* request,
                                      pb::ControllerExpandVolumeResponse* response) override;
  grpc::Status ControllerModifyVolume(grpc::ServerContext* context,
                                      const pb::ControllerModifyVolumeRequest* request,
                                      pb::ControllerModifyVolumeResponse* response) override;
  grpc::Status ControllerPublishVolume(grpc::ServerContext* context,
                                       const pb::ControllerPublishVolumeRequest* request,
                                       pb::ControllerPublishVolumeResponse* response) override;
  grpc::Status ControllerUnpublishVolume(grpc::ServerContext* context,
                                         const pb::ControllerUnpublishVolumeRequest* request,
                                         pb::ControllerUnpublishVolumeResponse* response) override;

  // controller_questions.cc
  grpc::Status ValidateVolumeCapabilities(
      grpc::ServerContext* context, const pb::ValidateVolumeCapabilitiesRequest* request,
      pb::ValidateVolumeCapabilitiesResponse* response) override;
  grpc::Status ListVolumes(grpc::ServerContext* context, const pb::ListVolumesRequest* request,
                           pb::ListVolumesResponse* response) override;
  grpc::Status GetCapacity(grpc::ServerContext* context, const pb::GetCapacityRequest* request,
                           pb::GetCapacityResponse* response) override;
  grpc::Status ControllerGetVolume(grpc::ServerContext* context,
                                   const pb::ControllerGetVolumeRequest* request,
                                   pb::ControllerGetVolumeResponse* response) override;
  grpc::Status ControllerListVolumeHealth(
      grpc::ServerContext* context, const pb::ControllerListVolumeHealthRequest* request,
      pb::ControllerListVolumeHealthResponse* response) override;
  grpc::Status ControllerGetVolumeHealth(grpc::ServerContext* context,
                                         const pb::ControllerGetVolumeHealthRequest* request,
                                         pb::ControllerGetVolumeHealthResponse* response) override;

  // controller_snapshots.cc
  grpc::Status CreateSnapshot(grpc::ServerContext* context,
                              const pb::CreateSnapshotRequest* request,
                              pb::CreateSnapshotResponse* response) override;
  grpc::Status DeleteSnapshot(grpc::ServerContext* context,
                              const pb::DeleteSnapshotRequest* request,
                              pb::DeleteSnapshotResponse* response) override;
  grpc::Status ListSnapshots(grpc::ServerContext* context, const pb::ListSnapshotsRequest* request,
                             pb::ListSnapshotsResponse* response) override;
  grpc::Status GetSnapshot(grpc::ServerContext* context, const pb::GetSnapshotRequest* request,
                           pb::GetSnapshotResponse* response) override;

 private:
  absl::Status GetVolume(const grpc::ServerContext& context, const std::string& volume_id,
                         control::Volume* volume);

  absl::Status Create(const grpc::ServerContext& context, const pb::CreateVolumeRequest& request,
                      pb::CreateVolumeResponse* response);
  absl::Status Publish(const grpc::ServerContext& context,
                       const pb::ControllerPublishVolumeRequest& request,
                       pb::ControllerPublishVolumeResponse* response);
  absl::Status Unpublish(const grpc::ServerContext& context,
                         const pb::ControllerUnpublishVolumeRequest& request);
  absl::Status Expand(const grpc::ServerContext& context,
                      const pb::ControllerExpandVolumeRequest& request,
                      pb::ControllerExpandVolumeResponse* response);
  absl::Status Validate(const grpc::ServerContext& context,
                        const pb::ValidateVolumeCapabilitiesRequest& request,
                        pb::ValidateVolumeCapabilitiesResponse* response);
  absl::Status Capacity(const grpc::ServerContext& context, const pb::GetCapacityRequest& request,
                        pb::GetCapacityResponse* response);
  absl::Status ListHealth(const grpc::ServerContext& context,
                          const pb::ControllerListVolumeHealthRequest& request,
                          pb::ControllerListVolumeHealthResponse* response);
  absl::Status List(const grpc::ServerContext& context, const pb::ListSnapshotsRequest& request,
                    pb::ListSnapshotsResponse* response);

  // UNIMPLEMENTED unless alpha RPCs are enabled.
  absl::Status CheckAlpha() const;

  control::Provisioner::StubInterface* const provisioner_;
  const bool enable_alpha_;
};

}  // namespace keelson::csi
