// VolumeReconciler: a volume's replicas come to be, and go.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/ids.h"
#include "provisioner/reconcile/plan.h"
#include "provisioner/reconcile/volume_reconciler.h"

namespace keelson::provisioner {
namespace {

constexpr std::int64_t kDependencyNanos = 1'000'000'000;  // a change elsewhere is heard of earlier
constexpr std::int64_t kOrphanNanos = 30'000'000'000;

// Whether another place would do better than another attempt.
bool IsThePlaces(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsNotFound(status) ||
         absl::IsFailedPrecondition(status);
}

}  // namespace

// --- Making ---

absl::Status VolumeReconciler::CreateReplica(const rec::VolumeRecord& volume, int segment,
                                             const rec::ReplicaRecord& replica,
                                             const v1::Configuration* present) const {
  ASSIGN_OR_RETURN(const BlockStore store, env_->StoreOf(replica.node()));
  v1::CreateReplicaRequest request;
  request.set_volume_id(volume.uuid());
  request.set_volume(volume.id());
  request.set_segment(static_cast<std::uint32_t>(segment));
  request.set_replica_id(replica.replica_id());
  request.set_pool(replica.pool_id());
  request.set_size_bytes(volume.segments(segment).size_bytes());
  request.set_witness(replica.witness());
  request.set_min_in_sync(MinInSyncNow(volume, segment));
  request.set_segment_count(static_cast<std::uint32_t>(volume.segments_size()));
  request.set_segment_bytes(volume.segment_bytes());
  if (present != nullptr) {
    // One that is to be added knows the members that there are, and is none of them yet.
    *request.mutable_members() = present->members();
  } else {
    for (const rec::ReplicaRecord& other : volume.segments(segment).replicas()) {
      v1::Member* const member = request.add_members();
      *member = env_->MemberOf(other);
      member->set_state(other.witness() ? v1::MEMBER_STATE_OUT : v1::MEMBER_STATE_IN_SYNC);
    }
  }
  request.set_clone_of_replica_id(replica.clone_of_replica_id());
  request.set_clone_snapshot_id(replica.clone_snapshot_id());
  return store.CreateReplica(request).status();
}

VolumeReconciler::Step VolumeReconciler::Make(Pass* pass) {
  if (pass->record().segments().empty()) return PlanClone(pass);
  for (int i = 0; i < pass->record().segments_size(); ++i) {
    for (const rec::ReplicaRecord& replica : pass->record().segments(i).replicas()) {
      const absl::Status made = CreateReplica(pass->record(), i, replica, nullptr);
      if (made.ok()) continue;
      const bool gone = IsThePlaces(made) || env_->Lost(replica.node());
      if (!gone) return made;
      if (replica.clone_of_replica_id().empty()) return Replan(pass, i, made);
      const std::string& snapshot_id = pass->record().clone_of_snapshot_id();
      const auto snapshot = env_->records->snapshots().Find(KeyOfId(kSnapshotPrefix, snapshot_id));
      const bool there = !absl::IsNotFound(snapshot.status()) &&
                         (!snapshot.ok() || snapshot->value.id() == snapshot_id);
      if (there) return made;
      return GiveUp(pass, absl::StrCat("snapshot ", snapshot_id, " was deleted"));
    }
  }
  RETURN_IF_ERROR(Change(pass, [](rec::VolumeRecord* record) {
    std::uint64_t made_bytes = 0;
    for (rec::SegmentRecord& segment : *record->mutable_segments()) {
      made_bytes += segment.size_bytes();
      for (rec::ReplicaRecord& replica : *segment.mutable_replicas()) {
        replica.set_life(rec::ReplicaRecord::MEMBER);
      }
    }
    record->set_made_bytes(made_bytes);
    record->set_state(rec::VolumeRecord::READY);
    return absl::OkStatus();
  }));
  spdlog::info("event=volume_made volume={} name=\"{}\" bytes={}", pass->id(),
               pass->record().name(), pass->record().size_bytes());
  if (!pass->record().source_volume_id().empty()) {
    env_->Poke(Kind::kVolume, KeyOfId(kVolumePrefix, pass->record().source_volume_id()));
  }
  return Progress::kAgain;
}

VolumeReconciler::Step VolumeReconciler::Replan(Pass* pass, int segment, const absl::Status& why) {
  spdlog::info("event=volume_replanned volume={} segment={} reason=\"{}\"", pass->id(), segment,
               why.ToString());
  // All of the segment: each of its replicas knows all others from the beginning.
  const std::vector<placement::NodeState> nodes = env_->NodeStates(pass->volume.key);
  absl::StatusOr<rec::SegmentRecord> planned =
      PlanSegment(nodes, pass->record(), pass->record().segments(segment).size_bytes(), *env_);
  RETURN_IF_ERROR(planned.status());
  RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* record) {
    if (record->state() != rec::VolumeRecord::MAKING) return absl::OkStatus();
    rec::SegmentRecord* const old = record->mutable_segments(segment);
    for (const rec::ReplicaRecord& replica : old->replicas()) AddOrphan(replica, record);
    *old = *planned;
    return absl::OkStatus();
  }));
  return Progress::kAgain;
}

VolumeReconciler::Step VolumeReconciler::GiveUp(Pass* pass, const std::string& why) {
  spdlog::warn("event=volume_given_up volume={} reason=\"{}\"", pass->id(), why);
  RETURN_IF_ERROR(Change(pass, [](rec::VolumeRecord* record) {
    if (record->state() == rec::VolumeRecord::MAKING) {
      record->set_state(rec::VolumeRecord::DELETING);
    }
    return absl::OkStatus();
  }));
  return Progress::kAgain;
}

VolumeReconciler::Step VolumeReconciler::BeginInternalSnapshot(Pass* pass, const std::string& key,
                                                               bool taken) {
  const std::string& source_id = pass->record().source_volume_id();
  const std::string source_key = KeyOfId(kVolumePrefix, source_id);
  const absl::StatusOr<Volume> source = env_->records->volumes().Find(source_key);
  if (!source.ok() && !absl::IsNotFound(source.status())) return source.status();
  const bool there = source.ok() && source->value.id() == source_id &&
                     source->value.state() != rec::VolumeRecord::DELETING;
  if (!there) return GiveUp(pass, absl::StrCat("volume ", source_id, " was deleted"));
  if (taken) {
    // An earlier clone of this name had it, and its source lets it go.
    pass->Again(kDependencyNanos);
    return Progress::kWait;
  }
  rec::SnapshotRecord snapshot;
  snapshot.set_id(pass->record().clone_of_snapshot_id());
  snapshot.set_volume_id(source_id);
  snapshot.set_internal(true);
  const absl::Status created = env_->records->snapshots().Create(key, snapshot);
  if (!created.ok() && !absl::IsAlreadyExists(created)) return created;
  return Progress::kAgain;
}

VolumeReconciler::Step VolumeReconciler::PlanClone(Pass* pass) {
  const std::string& snapshot_id = pass->record().clone_of_snapshot_id();
  const std::string snapshot_key = KeyOfId(kSnapshotPrefix, snapshot_id);
  const absl::StatusOr<Stored<rec::SnapshotRecord>> snapshot =
      env_->records->snapshots().Find(snapshot_key);
  if (!snapshot.ok() && !absl::IsNotFound(snapshot.status())) return snapshot.status();
  if (!snapshot.ok() || snapshot->value.id() != snapshot_id) {
    if (!pass->record().source_volume_id().empty()) {
      return BeginInternalSnapshot(pass, snapshot_key, snapshot.ok());
    }
    return GiveUp(pass, absl::StrCat("snapshot ", snapshot_id, " was deleted"));
  }
  const std::string source_key = KeyOfId(kVolumePrefix, snapshot->value.volume_id());
  ASSIGN_OR_RETURN(const Volume source, env_->records->volumes().Find(source_key));
  // The source's own reconciler cuts the snapshot and keeps an engine while clones are made. One
  // that is to be deleted meanwhile is there until then.
  const bool cut = snapshot->value.state() == rec::SnapshotRecord::READY ||
                   (snapshot->value.state() == rec::SnapshotRecord::DELETING &&
                    !snapshot->value.block_store_id().empty());
  if (!cut || !source.value.attachment().served()) {
    env_->Poke(Kind::kVolume, source_key);
    pass->Again(kDependencyNanos);
    return Progress::kWait;
  }
  ASSIGN_OR_RETURN(const BlockStore store, env_->StoreOf(source.value.attachment().node()));
  ASSIGN_OR_RETURN(const v1::GetVolumeStatusResponse status,
                   store.GetVolumeStatus(source.value.id()));
  absl::StatusOr<std::vector<rec::SegmentRecord>> planned =
      PlanCloneSegments(source.value, status, snapshot->value, *env_);
  RETURN_IF_ERROR(planned.status());
  RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* record) {
    record->clear_segments();
    for (const rec::SegmentRecord& segment : *planned) *record->add_segments() = segment;
    record->set_segment_bytes(source.value.segment_bytes());
    // Its members take no number that the source has had.
    record->set_attachments(std::max(record->attachments(), source.value.attachments()));
    return absl::OkStatus();
  }));
  return Progress::kAgain;
}

// --- Unmaking ---

absl::Status VolumeReconciler::DeleteReplica(const rec::OrphanRecord& orphan) const {
  // What is forgotten on purpose took its pools with it.
  if (!env_->records->nodes().Find(orphan.node()).ok()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const BlockStore store, env_->StoreOf(orphan.node()));
  v1::DeleteReplicaRequest request;
  request.set_pool(orphan.pool_id());
  request.set_replica_id(orphan.replica_id());
  const absl::Status deleted = store.DeleteReplica(request);
  if (!absl::IsNotFound(deleted)) return deleted;
  // No such pool. One that could not be opened today may be there tomorrow.
  ASSIGN_OR_RETURN(const v1::GetNodeResponse node, store.GetNode());
  for (const v1::Pool& pool : node.pools()) {
    if (pool.id().empty()) {
      return absl::UnavailableError(absl::StrCat(
          "node ", orphan.node(), ": pool ", pool.directory(),
          " is not open and may have a replica that is to be deleted: ", pool.error()));
    }
  }
  return absl::OkStatus();
}

VolumeReconciler::Step VolumeReconciler::DeleteOrphans(Pass* pass) {
  const auto orphans = pass->record().orphans();
  for (const rec::OrphanRecord& orphan : orphans) {
    if (!env_->Answers(orphan.node()) && env_->records->nodes().Find(orphan.node()).ok()) {
      pass->Again(kOrphanNanos);
      continue;
    }
    const absl::Status deleted = DeleteReplica(orphan);
    if (!deleted.ok()) {
      spdlog::info("event=replica_not_deleted volume={} replica={} reason=\"{}\"", pass->id(),
                   orphan.replica_id(), deleted.ToString());
      pass->Again(kOrphanNanos);
      continue;
    }
    RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* record) {
      auto* const all = record->mutable_orphans();
      for (int i = 0; i < all->size(); ++i) {
        if (all->Get(i).replica_id() != orphan.replica_id()) continue;
        all->DeleteSubrange(i, 1);
        break;
      }
      return absl::OkStatus();
    }));
    return Progress::kAgain;
  }
  return Progress::kDone;
}

VolumeReconciler::Step VolumeReconciler::Unmake(Pass* pass) {
  if (pass->record().attachment().shared()) return SettleShared(pass);
  if (!pass->record().attachment().node().empty()) return ReleaseEngine(pass);
  for (const Stored<rec::SnapshotRecord>& snapshot : SnapshotsOf(pass->id())) {
    RETURN_IF_ERROR(env_->records->snapshots().Remove(snapshot.key, snapshot.revision));
  }
  if (!pass->record().segments().empty()) {
    RETURN_IF_ERROR(Change(pass, [](rec::VolumeRecord* record) {
      for (const rec::SegmentRecord& segment : record->segments()) {
        for (const rec::ReplicaRecord& replica : segment.replicas()) AddOrphan(replica, record);
      }
      record->clear_segments();
      return absl::OkStatus();
    }));
    return Progress::kAgain;
  }
  Step told = TellAbandoned(pass);
  if (!told.ok() || *told != Progress::kDone) return told;
  const Step deleted = DeleteOrphans(pass);
  if (!deleted.ok() || *deleted != Progress::kDone) return deleted;
  if (!pass->record().orphans().empty()) return Progress::kWait;
  RETURN_IF_ERROR(env_->records->volumes().Remove(pass->volume.key, pass->volume.revision));
  spdlog::info("event=volume_deleted volume={}", pass->id());
  return Progress::kAgain;  // and the record is found to be gone
}

}  // namespace keelson::provisioner
