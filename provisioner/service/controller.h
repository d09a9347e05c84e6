#pragma once
// Controller: the calls of proto/keelson/v1/provisioner.proto. Each checks its arguments, writes
// what is wanted into a record and waits until the Reconciler has done it, or for as long as the
// caller is likely to. Errors are those of that file. Any thread; blocking. Owned by the program's
// main thread, outlived by the Reconciler.

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/keelson/v1/provisioner.pb.h"
#include "provisioner/reconcile/reconciler.h"

namespace keelson::provisioner {

namespace api = control::v1;

struct ControllerOptions {
  std::int64_t patience_ns = 20'000'000'000;  // of a call; the work goes on after it
  std::uint64_t default_size_bytes = std::uint64_t{10} << 30;
};

class Controller {
 public:
  Controller(Reconciler* reconciler, const ControllerOptions& options)
      : reconciler_(reconciler), options_(options) {}

  absl::StatusOr<api::Volume> CreateVolume(const api::CreateVolumeRequest& request);
  absl::Status DeleteVolume(const api::DeleteVolumeRequest& request);
  absl::StatusOr<api::Volume> GetVolume(const api::GetVolumeRequest& request);
  absl::StatusOr<api::ListVolumesResponse> ListVolumes(const api::ListVolumesRequest& request);
  absl::StatusOr<api::ValidateVolumeResponse> ValidateVolume(
      const api::ValidateVolumeRequest& request);
  absl::StatusOr<api::PublishVolumeResponse> PublishVolume(
      const api::PublishVolumeRequest& request);
  absl::Status UnpublishVolume(const api::UnpublishVolumeRequest& request);
  absl::StatusOr<api::ExpandVolumeResponse> ExpandVolume(const api::ExpandVolumeRequest& request);
  absl::Status ModifyVolume(const api::ModifyVolumeRequest& request);
  absl::StatusOr<api::GetCapacityResponse> GetCapacity(const api::GetCapacityRequest& request);

  absl::StatusOr<api::Snapshot> CreateSnapshot(const api::CreateSnapshotRequest& request);
  absl::Status DeleteSnapshot(const api::DeleteSnapshotRequest& request);
  absl::StatusOr<api::ListSnapshotsResponse> ListSnapshots(
      const api::ListSnapshotsRequest& request);
  absl::StatusOr<api::ListSnapshotBlocksResponse> ListSnapshotBlocks(
      const api::ListSnapshotBlocksRequest& request);

  absl::StatusOr<api::GroupSnapshot> CreateGroupSnapshot(
      const api::CreateGroupSnapshotRequest& request);
  absl::StatusOr<api::GroupSnapshot> GetGroupSnapshot(const api::GetGroupSnapshotRequest& request);
  absl::Status DeleteGroupSnapshot(const api::DeleteGroupSnapshotRequest& request);

  absl::Status RegisterNode(const api::RegisterNodeRequest& request);
  api::ListNodesResponse ListNodes();
  absl::Status SetNodeIntent(const api::SetNodeIntentRequest& request);
  absl::Status RemoveNode(const api::RemoveNodeRequest& request);
  absl::StatusOr<api::WhyResponse> Why(const api::WhyRequest& request);
  absl::StatusOr<api::AdoptResponse> Adopt(const api::AdoptRequest& request);

 private:
  using VolumeRow = Stored<rec::VolumeRecord>;
  using SnapshotRow = Stored<rec::SnapshotRecord>;
  using GroupRow = Stored<rec::GroupRecord>;

  // --- controller.cc ---
  // NOT_FOUND: no such volume, or it is deleted.
  absl::StatusOr<VolumeRow> FindVolume(std::string_view id);
  absl::StatusOr<SnapshotRow> FindSnapshot(std::string_view id);
  // The live volume of that name; NOT_FOUND; ABORTED: one is still being deleted.
  absl::StatusOr<VolumeRow> FindByName(const std::string& name, std::string* free_key);
  // Waits; when it takes too long, the volume's trouble as an error.
  absl::Status AwaitVolume(const std::string& key, const std::function<bool()>& done,
                           std::string_view what);
  api::Volume Describe(const VolumeRow& row);
  static api::Snapshot Describe(const rec::SnapshotRecord& snapshot);

  // --- adopt.cc ---
  void AdoptSnapshots(const rec::VolumeRecord& volume, bool dry_run, api::AdoptResponse* response);

  // --- block_lists.cc ---
  struct BlockListing;
  // UNAVAILABLE: it is not cut yet, or others of its group are not.
  absl::StatusOr<rec::SnapshotRecord> FindReadySnapshot(std::string_view id);
  absl::StatusOr<BlockListing> FindListing(const api::ListSnapshotBlocksRequest& request);
  // The nodes to ask for a segment, the likeliest first.
  std::vector<std::string> NodesToAsk(const VolumeRow& volume, int segment);
  absl::StatusOr<v1::ListBlocksResponse> AskForBlocks(const std::string& node,
                                                      const BlockListing& listing,
                                                      std::uint32_t segment,
                                                      std::uint64_t from_offset,
                                                      std::uint32_t count_max);
  // Adds what lies in the segment of response->next_offset, which goes on to the first block that
  // is not looked at.
  absl::Status ListSegment(const BlockListing& listing, std::uint32_t count_max,
                           api::ListSnapshotBlocksResponse* response);

  // --- groups.cc ---
  absl::StatusOr<GroupRow> FindGroup(std::string_view id);
  absl::StatusOr<api::GroupSnapshot> DescribeGroup(const rec::GroupRecord& group);

  // --- volumes.cc ---
  absl::StatusOr<std::string> BeginVolume(const api::CreateVolumeRequest& request);
  absl::Status CheckSame(const api::CreateVolumeRequest& request,
                         const rec::VolumeRecord& record) const;
  absl::StatusOr<std::uint64_t> ChooseSize(const api::CreateVolumeRequest& request);
  absl::Status PlanSource(const api::CreateVolumeRequest& request, const std::string& key,
                          rec::VolumeRecord* record);
  // It has everything, as far as was seen.
  bool IsWell(const rec::ReplicaRecord& replica, const std::optional<VolumeSight>& sight) const;
  void CheckHealth(const VolumeRow& row, api::Volume* volume);

  Reconciler* reconciler_;
  const ControllerOptions options_;
  std::mutex making_;  // two volumes of one name are not begun at once
};

}  // namespace keelson::provisioner
