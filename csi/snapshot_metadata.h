#pragma once
// SnapshotMetadata: which blocks a snapshot has, and which changed between two of a volume, as the
// provisioner tells it, for backups. Alpha in the specification: UNIMPLEMENTED without
// --enable-alpha. Ranges are of variable length, whole blocks of 4 KiB; each stream has a message,
// also when there is no range. Called on gRPC's threads, one of which it keeps until its stream
// ends; has no state.

#include <grpcpp/server_context.h>

#include <cstdint>

#include "absl/status/status.h"
#include "csi/names.h"
#include "proto/csi/v1/csi.grpc.pb.h"
#include "proto/keelson/v1/provisioner.grpc.pb.h"

namespace keelson::csi {

class SnapshotMetadata final : public pb::SnapshotMetadata::Service {
 public:
  // `provisioner` outlives this.
  SnapshotMetadata(control::Provisioner::StubInterface* provisioner, bool enable_alpha)
      : provisioner_(provisioner), enable_alpha_(enable_alpha) {}

  grpc::Status GetMetadataAllocated(
      grpc::ServerContext* context, const pb::GetMetadataAllocatedRequest* request,
      grpc::ServerWriter<pb::GetMetadataAllocatedResponse>* writer) override;
  grpc::Status GetMetadataDelta(grpc::ServerContext* context,
                                const pb::GetMetadataDeltaRequest* request,
                                grpc::ServerWriter<pb::GetMetadataDeltaResponse>* writer) override;

 private:
  absl::Status CheckAlpha() const;
  // Asks for page after page of what `ask` names, and sends each in messages of at most
  // `max_results` ranges (0: as many as are sensible). CANCELLED: the caller reads no more.
  template <typename Response>
  absl::Status Stream(const grpc::ServerContext& context, control::ListSnapshotBlocksRequest ask,
                      std::int64_t starting_offset, std::int32_t max_results,
                      grpc::ServerWriter<Response>* writer);

  control::Provisioner::StubInterface* const provisioner_;
  const bool enable_alpha_;
};

}  // namespace keelson::csi
