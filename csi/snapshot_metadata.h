#pragma once
// SnapshotMetadata: which blocks a snapshot holds. The block store cannot tell yet, so the service
// is not advertised, and whoever calls it anyway is told so. Called on gRPC's threads; no state.

#include <grpcpp/server_context.h>

#include "csi/names.h"
#include "proto/csi/v1/csi.grpc.pb.h"

namespace keelson::csi {

class SnapshotMetadata final : public pb::SnapshotMetadata::Service {
 public:
  grpc::Status GetMetadataAllocated(
      grpc::ServerContext* context, const pb::GetMetadataAllocatedRequest* request,
      grpc::ServerWriter<pb::GetMetadataAllocatedResponse>* writer) override;
  grpc::Status GetMetadataDelta(grpc::ServerContext* context,
                                const pb::GetMetadataDeltaRequest* request,
                                grpc::ServerWriter<pb::GetMetadataDeltaResponse>* writer) override;
};

}  // namespace keelson::csi
