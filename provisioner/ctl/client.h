#pragma once
// Client: keelctl's connection to one keelson-blockstore. Blocking; one thread. Every call but
// CheckPool, DumpPool and the lists of blocks, which take as long as the pool is big, has a
// deadline. Errors are the daemon's, or say that it does not answer.

#include <chrono>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/keelson/v1/blockstore.pb.h"

namespace keelson::ctl {

class Client {
 public:
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& socket,
                                                         std::chrono::seconds timeout);
  ~Client();

  absl::StatusOr<v1::CreatePoolResponse> CreatePool(const v1::CreatePoolRequest& request);
  absl::StatusOr<v1::ListPoolsResponse> ListPools();
  absl::StatusOr<v1::CheckPoolResponse> CheckPool(const v1::CheckPoolRequest& request);
  // Calls `print` for each line, in order.
  absl::Status DumpPool(const v1::DumpPoolRequest& request,
                        absl::FunctionRef<void(const std::string&)> print);

  absl::StatusOr<v1::CreateVolumeResponse> CreateVolume(const v1::CreateVolumeRequest& request);
  absl::StatusOr<v1::ListVolumesResponse> ListVolumes();
  absl::StatusOr<v1::DeleteVolumeResponse> DeleteVolume(const v1::DeleteVolumeRequest& request);
  absl::StatusOr<v1::CreateSnapshotResponse> CreateSnapshot(
      const v1::CreateSnapshotRequest& request);
  // Call `use` for each part, in order.
  using UseBlocks = absl::FunctionRef<void(const v1::ListBlocksResponse&)>;
  absl::Status ListAllocated(const v1::ListAllocatedRequest& request, UseBlocks use);
  absl::Status ListChanged(const v1::ListChangedRequest& request, UseBlocks use);
  absl::StatusOr<v1::HoldWritesResponse> HoldWrites(const v1::HoldWritesRequest& request);
  absl::StatusOr<v1::ReleaseWritesResponse> ReleaseWrites(const v1::ReleaseWritesRequest& request);
  absl::StatusOr<v1::DeleteSnapshotResponse> DeleteSnapshot(
      const v1::DeleteSnapshotRequest& request);
  absl::StatusOr<v1::ListSnapshotsResponse> ListSnapshots(const v1::ListSnapshotsRequest& request);
  absl::StatusOr<v1::CloneVolumeResponse> CloneVolume(const v1::CloneVolumeRequest& request);
  absl::StatusOr<v1::GrowVolumeResponse> GrowVolume(const v1::GrowVolumeRequest& request);
  absl::StatusOr<v1::AttachVolumeResponse> AttachVolume(const v1::AttachVolumeRequest& request);
  absl::StatusOr<v1::DetachVolumeResponse> DetachVolume(const v1::DetachVolumeRequest& request);
  absl::StatusOr<v1::SetClientsResponse> SetClients(const v1::SetClientsRequest& request);
  absl::StatusOr<v1::GetVolumeStatusResponse> GetVolumeStatus(
      const v1::GetVolumeStatusRequest& request);
  absl::StatusOr<v1::SetQosResponse> SetQos(const v1::SetQosRequest& request);
  absl::StatusOr<v1::ScrubVolumeResponse> ScrubVolume(const v1::ScrubVolumeRequest& request);

  absl::StatusOr<v1::GetNodeResponse> GetNode();
  absl::StatusOr<v1::CreateReplicaResponse> CreateReplica(const v1::CreateReplicaRequest& request);
  absl::StatusOr<v1::DeleteReplicaResponse> DeleteReplica(const v1::DeleteReplicaRequest& request);
  absl::StatusOr<v1::ListReplicasResponse> ListReplicas(const v1::ListReplicasRequest& request);
  absl::StatusOr<v1::AddReplicaResponse> AddReplica(const v1::AddReplicaRequest& request);
  absl::StatusOr<v1::RemoveReplicaResponse> RemoveReplica(const v1::RemoveReplicaRequest& request);
  absl::StatusOr<v1::SetMinInSyncResponse> SetMinInSync(const v1::SetMinInSyncRequest& request);

 private:
  struct Connection;  // keeps gRPC's headers out of this one
  explicit Client(std::unique_ptr<Connection> connection);
  std::unique_ptr<Connection> connection_;
};

}  // namespace keelson::ctl
