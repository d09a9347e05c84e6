// Controller: snapshots of several volumes at one point in time.

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/ids.h"
#include "provisioner/service/controller.h"
#include "provisioner/service/request_checks.h"

namespace keelson::provisioner {
namespace {

constexpr int kVolumesMax = 64;

template <typename Ids>
std::set<std::string> SetOf(const Ids& ids) {
  return {ids.begin(), ids.end()};
}

}  // namespace

absl::StatusOr<Controller::GroupRow> Controller::FindGroup(std::string_view id) {
  if (id.empty()) return absl::InvalidArgumentError("group_snapshot_id is missing");
  const std::string key = KeyOfId(kGroupPrefix, id);
  if (!key.empty()) {
    absl::StatusOr<GroupRow> row = reconciler_->records().groups().Find(key);
    if (!row.ok() && !absl::IsNotFound(row.status())) return row.status();
    if (row.ok() && row->value.id() == id && row->value.state() != rec::GroupRecord::DELETING) {
      return row;
    }
  }
  return absl::NotFoundError(
      absl::StrCat("there is no group snapshot '", std::string(id.substr(0, 128)), "'"));
}

absl::StatusOr<api::GroupSnapshot> Controller::DescribeGroup(const rec::GroupRecord& group) {
  api::GroupSnapshot described;
  described.set_id(group.id());
  described.set_name(group.name());
  described.set_created_unix_ns(group.created_unix_ns());
  described.set_ready(group.state() == rec::GroupRecord::READY);
  for (const std::string& id : group.snapshot_ids()) {
    ASSIGN_OR_RETURN(const SnapshotRow snapshot,
                     reconciler_->records().snapshots().Find(KeyOfId(kSnapshotPrefix, id)));
    *described.add_snapshots() = Describe(snapshot.value);
  }
  return described;
}

absl::StatusOr<api::GroupSnapshot> Controller::CreateGroupSnapshot(
    const api::CreateGroupSnapshotRequest& request) {
  RETURN_IF_ERROR(CheckName("name", request.name()));
  RETURN_IF_ERROR(CheckSnapshotParameters(request.parameters()));
  const std::set<std::string> wanted = SetOf(request.source_volume_ids());
  if (wanted.empty() || static_cast<int>(wanted.size()) != request.source_volume_ids_size() ||
      request.source_volume_ids_size() > kVolumesMax) {
    return absl::InvalidArgumentError("source_volume_ids must name 1 to 64 different volumes");
  }
  const std::string key = KeyOfName(kGroupPrefix, request.name(), 0);
  absl::StatusOr<GroupRow> row = reconciler_->records().groups().Find(key);
  if (!row.ok() && !absl::IsNotFound(row.status())) return row.status();
  if (row.ok()) {
    if (row->value.state() == rec::GroupRecord::DELETING) {
      return absl::AbortedError(
          absl::StrCat("group snapshot '", request.name(), "' is still being deleted"));
    }
    if (SetOf(row->value.volume_ids()) != wanted) {
      return absl::AlreadyExistsError(
          absl::StrCat("group snapshot '", request.name(), "' is there already, of other volumes"));
    }
  } else {
    rec::GroupRecord record;
    record.set_id(NewId(key));
    record.set_name(request.name());
    for (const std::string& id : request.source_volume_ids()) {
      ASSIGN_OR_RETURN(const VolumeRow volume, FindVolume(id));
      if (volume.value.state() != rec::VolumeRecord::READY) {
        return absl::UnavailableError(absl::StrCat("volume ", id, " is not ready yet"));
      }
      record.add_volume_ids(id);
      record.add_snapshot_ids(
          NewId(KeyOfName(kSnapshotPrefix, absl::StrCat("group/", record.id(), "/", id), 0)));
    }
    const absl::Status created = reconciler_->records().groups().Create(key, record);
    if (absl::IsAlreadyExists(created)) {
      return absl::AbortedError(
          absl::StrCat("group snapshot '", request.name(), "' is being made by another call"));
    }
    RETURN_IF_ERROR(created);
  }
  RETURN_IF_ERROR(AwaitVolume(
      KeyOfId(kVolumePrefix, request.source_volume_ids(0)),
      [&] {
        row = reconciler_->records().groups().Find(key);
        return !row.ok() || row->value.state() != rec::GroupRecord::CUTTING;
      },
      absl::StrCat("group snapshot '", request.name(), "'")));
  RETURN_IF_ERROR(row.status());
  return DescribeGroup(row->value);
}

absl::StatusOr<api::GroupSnapshot> Controller::GetGroupSnapshot(
    const api::GetGroupSnapshotRequest& request) {
  ASSIGN_OR_RETURN(const GroupRow row, FindGroup(request.group_snapshot_id()));
  if (!request.snapshot_ids().empty() &&
      SetOf(request.snapshot_ids()) != SetOf(row.value.snapshot_ids())) {
    return absl::InvalidArgumentError(
        absl::StrCat("snapshot_ids are not those of group snapshot ", row.value.id()));
  }
  return DescribeGroup(row.value);
}

absl::Status Controller::DeleteGroupSnapshot(const api::DeleteGroupSnapshotRequest& request) {
  const absl::StatusOr<GroupRow> row = FindGroup(request.group_snapshot_id());
  if (absl::IsNotFound(row.status())) return absl::OkStatus();
  RETURN_IF_ERROR(row.status());
  if (!request.snapshot_ids().empty() &&
      SetOf(request.snapshot_ids()) != SetOf(row->value.snapshot_ids())) {
    return absl::InvalidArgumentError(
        absl::StrCat("snapshot_ids are not those of group snapshot ", row->value.id()));
  }
  const auto changed =
      reconciler_->records().groups().Update(row->key, [&](rec::GroupRecord* record) {
        if (record->id() == request.group_snapshot_id()) {
          record->set_state(rec::GroupRecord::DELETING);
        }
        return absl::OkStatus();
      });
  if (absl::IsNotFound(changed.status())) return absl::OkStatus();
  RETURN_IF_ERROR(changed.status());
  const std::string key = row->key;
  return AwaitVolume(
      KeyOfId(kVolumePrefix, row->value.volume_ids(0)),
      [&] { return !reconciler_->records().groups().Find(key).ok(); },
      absl::StrCat("the deletion of group snapshot ", request.group_snapshot_id()));
}

}  // namespace keelson::provisioner
