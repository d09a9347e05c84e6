// Controller: snapshots.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/ids.h"
#include "provisioner/service/controller.h"
#include "provisioner/service/request_checks.h"

namespace keelson::provisioner {

absl::StatusOr<api::Snapshot> Controller::CreateSnapshot(
    const api::CreateSnapshotRequest& request) {
  RETURN_IF_ERROR(CheckName("name", request.name()));
  RETURN_IF_ERROR(CheckSnapshotParameters(request.parameters()));
  const std::string key = KeyOfName(kSnapshotPrefix, request.name(), 0);
  absl::StatusOr<SnapshotRow> row = reconciler_->records().snapshots().Find(key);
  if (!row.ok() && !absl::IsNotFound(row.status())) return row.status();
  if (row.ok()) {
    if (row->value.state() == rec::SnapshotRecord::DELETING) {
      return absl::AbortedError(
          absl::StrCat("snapshot '", request.name(), "' is still being deleted"));
    }
    if (row->value.volume_id() != request.source_volume_id()) {
      return absl::AlreadyExistsError(absl::StrCat(
          "snapshot '", request.name(), "' is there already, of volume ", row->value.volume_id()));
    }
  } else {
    if (request.source_volume_id().empty()) {
      return absl::InvalidArgumentError("source_volume_id is missing");
    }
    ASSIGN_OR_RETURN(const VolumeRow volume, FindVolume(request.source_volume_id()));
    if (volume.value.state() != rec::VolumeRecord::READY) {
      return absl::UnavailableError(
          absl::StrCat("volume ", volume.value.id(), " is not ready yet"));
    }
    rec::SnapshotRecord record;
    record.set_id(NewId(key));
    record.set_name(request.name());
    record.set_volume_id(volume.value.id());
    const absl::Status created = reconciler_->records().snapshots().Create(key, record);
    if (absl::IsAlreadyExists(created)) {
      return absl::AbortedError(
          absl::StrCat("snapshot '", request.name(), "' is being made by another call"));
    }
    RETURN_IF_ERROR(created);
  }
  RETURN_IF_ERROR(AwaitVolume(
      KeyOfId(kVolumePrefix, request.source_volume_id()),
      [&] {
        row = reconciler_->records().snapshots().Find(key);
        return !row.ok() || row->value.state() != rec::SnapshotRecord::CUTTING;
      },
      absl::StrCat("snapshot '", request.name(), "'")));
  RETURN_IF_ERROR(row.status());
  return Describe(row->value);
}

absl::Status Controller::DeleteSnapshot(const api::DeleteSnapshotRequest& request) {
  const absl::StatusOr<SnapshotRow> row = FindSnapshot(request.snapshot_id());
  if (absl::IsNotFound(row.status())) return absl::OkStatus();
  RETURN_IF_ERROR(row.status());
  if (!row->value.group_id().empty()) {
    return absl::InvalidArgumentError(absl::StrCat("snapshot ", row->value.id(),
                                                   " belongs to group snapshot ",
                                                   row->value.group_id(), "; delete that"));
  }
  const auto changed =
      reconciler_->records().snapshots().Update(row->key, [&](rec::SnapshotRecord* record) {
        if (record->id() == request.snapshot_id()) record->set_state(rec::SnapshotRecord::DELETING);
        return absl::OkStatus();
      });
  if (absl::IsNotFound(changed.status())) return absl::OkStatus();
  RETURN_IF_ERROR(changed.status());
  const std::string key = row->key;
  return AwaitVolume(
      KeyOfId(kVolumePrefix, row->value.volume_id()),
      [&] { return !reconciler_->records().snapshots().Find(key).ok(); },
      absl::StrCat("the deletion of snapshot ", request.snapshot_id()));
}

absl::StatusOr<api::ListSnapshotsResponse> Controller::ListSnapshots(
    const api::ListSnapshotsRequest& request) {
  const std::string& after = request.starting_token();
  if (!after.empty() && KeyOfId(kSnapshotPrefix, absl::StrCat(after, "-00000000")) != after) {
    return absl::AbortedError("starting_token is not one of ours; list anew");
  }
  api::ListSnapshotsResponse response;
  std::string last;
  for (const SnapshotRow& row : reconciler_->records().snapshots().All()) {
    const rec::SnapshotRecord& snapshot = row.value;
    if (row.key <= after || snapshot.internal() || snapshot.state() != rec::SnapshotRecord::READY) {
      continue;
    }
    if (!snapshot.group_id().empty()) {
      // Of a group all are there or none.
      const absl::StatusOr<GroupRow> group = FindGroup(snapshot.group_id());
      if (!group.ok() || group->value.state() != rec::GroupRecord::READY) continue;
    }
    if (!request.snapshot_id().empty() && snapshot.id() != request.snapshot_id()) continue;
    if (!request.source_volume_id().empty() && snapshot.volume_id() != request.source_volume_id()) {
      continue;
    }
    if (request.max_entries() != 0 &&
        static_cast<std::uint32_t>(response.snapshots_size()) == request.max_entries()) {
      response.set_next_token(last);
      break;
    }
    *response.add_snapshots() = Describe(snapshot);
    last = row.key;
  }
  return response;
}

}  // namespace keelson::provisioner
