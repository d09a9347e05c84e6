#include "csi/snapshot_metadata.h"

#include "absl/status/status.h"
#include "csi/call.h"

namespace keelson::csi {
namespace {

constexpr char kWhy[] =
    "this driver does not tell which blocks a snapshot holds, and does not advertise "
    "SNAPSHOT_METADATA_SERVICE; read the whole snapshot";

}  // namespace

grpc::Status SnapshotMetadata::GetMetadataAllocated(
    grpc::ServerContext* context, const pb::GetMetadataAllocatedRequest* request,
    grpc::ServerWriter<pb::GetMetadataAllocatedResponse>*) {
  return Call(*context, "GetMetadataAllocated", *request,
              [] { return absl::UnimplementedError(kWhy); });
}

grpc::Status SnapshotMetadata::GetMetadataDelta(grpc::ServerContext* context,
                                                const pb::GetMetadataDeltaRequest* request,
                                                grpc::ServerWriter<pb::GetMetadataDeltaResponse>*) {
  return Call(*context, "GetMetadataDelta", *request,
              [] { return absl::UnimplementedError(kWhy); });
}

}  // namespace keelson::csi
