#include "provisioner/service/controller.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/attachments.h"
#include "provisioner/reconcile/ids.h"
#include "provisioner/service/request_checks.h"

namespace keelson::provisioner {
namespace {

// Records of one name: one that lives and those that are still being deleted.
constexpr std::uint32_t kSameNameMax = 1000;

const char* StateName(v1::MemberState state) {
  switch (state) {
    case v1::MEMBER_STATE_IN_SYNC:
      return "InSync";
    case v1::MEMBER_STATE_SYNCING:
      return "Syncing";
    case v1::MEMBER_STATE_OUT:
      return "Out";
    default:
      return "Unknown";
  }
}

}  // namespace

absl::StatusOr<Controller::VolumeRow> Controller::FindVolume(std::string_view id) {
  const std::string text(id);
  if (text.empty()) return absl::InvalidArgumentError("volume_id is missing");
  const std::string key = KeyOfId(kVolumePrefix, id);
  if (!key.empty()) {
    absl::StatusOr<VolumeRow> row = reconciler_->records().volumes().Find(key);
    if (!row.ok() && !absl::IsNotFound(row.status())) return row.status();
    if (row.ok() && row->value.id() == text && Lives(row->value)) return row;
  }
  return absl::NotFoundError(absl::StrCat("there is no volume '", text.substr(0, 128), "'"));
}

absl::StatusOr<Controller::SnapshotRow> Controller::FindSnapshot(std::string_view id) {
  const std::string text(id);
  if (text.empty()) return absl::InvalidArgumentError("snapshot_id is missing");
  const std::string key = KeyOfId(kSnapshotPrefix, id);
  if (!key.empty()) {
    absl::StatusOr<SnapshotRow> row = reconciler_->records().snapshots().Find(key);
    if (!row.ok() && !absl::IsNotFound(row.status())) return row.status();
    if (row.ok() && row->value.id() == text && !row->value.internal() &&
        row->value.state() != rec::SnapshotRecord::DELETING) {
      return row;
    }
  }
  return absl::NotFoundError(absl::StrCat("there is no snapshot '", text.substr(0, 128), "'"));
}

absl::StatusOr<Controller::VolumeRow> Controller::FindByName(const std::string& name,
                                                             std::string* free_key) {
  free_key->clear();
  std::uint32_t taken = 0;
  for (std::uint32_t number = 0; number < kSameNameMax; ++number) {
    const std::string key = KeyOfName(kVolumePrefix, name, number);
    absl::StatusOr<VolumeRow> row = reconciler_->records().volumes().Find(key);
    if (absl::IsNotFound(row.status())) {
      if (free_key->empty()) *free_key = key;
      // Numbers are taken from below; a gap of a few is what deletions leave.
      if (++taken > 8) break;
      continue;
    }
    RETURN_IF_ERROR(row.status());
    if (Lives(row->value)) return row;
  }
  if (free_key->empty()) {
    return absl::AbortedError(
        absl::StrCat("too many volumes of the name '", name, "' are still being deleted"));
  }
  return absl::NotFoundError(absl::StrCat("there is no volume of the name '", name, "'"));
}

absl::Status Controller::AwaitVolume(const std::string& key, const std::function<bool()>& done,
                                     std::string_view what) {
  if (reconciler_->Await(done, options_.patience_ns)) return absl::OkStatus();
  const std::optional<VolumeSight> sight = reconciler_->volumes().SightOf(key);
  const absl::Status trouble = sight ? sight->trouble : absl::OkStatus();
  if (!trouble.ok()) {
    return absl::UnavailableError(
        absl::StrCat(std::string(what), " is not done yet: ", std::string(trouble.message())));
  }
  return absl::DeadlineExceededError(
      absl::StrCat(std::string(what), " is not done yet; it goes on"));
}

api::Snapshot Controller::Describe(const rec::SnapshotRecord& snapshot) {
  api::Snapshot described;
  described.set_id(snapshot.id());
  described.set_name(snapshot.name());
  described.set_source_volume_id(snapshot.volume_id());
  described.set_size_bytes(snapshot.size_bytes());
  described.set_created_unix_ns(snapshot.created_unix_ns());
  described.set_ready(snapshot.state() == rec::SnapshotRecord::READY);
  described.set_group_snapshot_id(snapshot.group_id());
  return described;
}

api::Volume Controller::Describe(const VolumeRow& row) {
  const rec::VolumeRecord& record = row.value;
  api::Volume volume;
  volume.set_id(record.id());
  volume.set_name(record.name());
  volume.set_capacity_bytes(record.size_bytes());
  *volume.mutable_settings() = record.settings();
  volume.set_source_snapshot_id(record.source_snapshot_id());
  volume.set_source_volume_id(record.source_volume_id());
  *volume.mutable_accessible() = record.accessible();
  volume.set_created_unix_ns(record.created_unix_ns());
  volume.set_ready(record.state() == rec::VolumeRecord::READY &&
                   record.made_bytes() >= record.size_bytes());
  for (const rec::PublicationRecord& publication : record.publications()) {
    api::Publication* const described = volume.add_publications();
    described->set_node(publication.node());
    *described->mutable_capability() = publication.capability();
    described->set_read_only(publication.read_only());
    described->set_attached(IsServed(record, publication));
  }
  const std::optional<VolumeSight> sight = reconciler_->volumes().SightOf(row.key);
  for (int i = 0; i < record.segments_size(); ++i) {
    for (const rec::ReplicaRecord& replica : record.segments(i).replicas()) {
      api::ReplicaPlace* const place = volume.add_replicas();
      place->set_segment(static_cast<std::uint32_t>(i));
      place->set_node(replica.node());
      place->set_pool_id(replica.pool_id());
      place->set_replica_id(replica.replica_id());
      place->set_witness(replica.witness());
      v1::MemberState state = v1::MEMBER_STATE_UNSPECIFIED;
      if (sight) {
        for (const VolumeSight::Member& member : sight->members) {
          if (member.replica_id == replica.replica_id()) state = member.state;
        }
      }
      place->set_state(StateName(state));
    }
  }
  CheckHealth(row, &volume);
  return volume;
}

bool Controller::IsWell(const rec::ReplicaRecord& replica,
                        const std::optional<VolumeSight>& sight) const {
  if (sight) {
    for (const VolumeSight::Member& member : sight->members) {
      if (member.replica_id != replica.replica_id()) continue;
      return member.connected && member.state == v1::MEMBER_STATE_IN_SYNC;
    }
  }
  return reconciler_->environment().Answers(replica.node());
}

void Controller::CheckHealth(const VolumeRow& row, api::Volume* volume) {
  const std::optional<VolumeSight> sight = reconciler_->volumes().SightOf(row.key);
  if (sight && !sight->error.empty()) {
    volume->set_severity(api::INACCESSIBLE);
    volume->set_problem(sight->error);
    return;
  }
  if (sight && !sight->waiting_for.empty()) {
    volume->set_severity(api::INACCESSIBLE);
    volume->set_problem(absl::StrCat("its I/O waits for ", sight->waiting_for));
    return;
  }
  // What counts is the segment that has the fewest.
  int copies = 0;
  int well = 0;
  std::set<std::string> who;
  for (int i = 0; i < row.value.segments_size(); ++i) {
    int segment_copies = 0;
    int segment_well = 0;
    for (const rec::ReplicaRecord& replica : row.value.segments(i).replicas()) {
      if (replica.witness()) continue;
      ++segment_copies;
      if (IsWell(replica, sight)) {
        ++segment_well;
      } else {
        who.insert(replica.node());
      }
    }
    if (i == 0 || segment_well < well) {
      copies = segment_copies;
      well = segment_well;
    }
  }
  if (!who.empty()) {
    volume->set_severity(well == 0 ? api::INACCESSIBLE : api::DEGRADED);
    volume->set_problem(absl::StrCat(well, " of ", copies, " copies have everything; not on ",
                                     absl::StrJoin(who, ", ")));
  } else if (sight && !sight->trouble.ok()) {
    volume->set_severity(api::DEGRADED);
    volume->set_problem(std::string(sight->trouble.message()));
  }
}

}  // namespace keelson::provisioner
