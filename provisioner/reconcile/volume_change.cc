// VolumeReconciler: size, snapshots, and how many copies must have everything.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/plan.h"
#include "provisioner/reconcile/volume_reconciler.h"

namespace keelson::provisioner {
namespace {

constexpr std::int64_t kCloneNanos = 1'000'000'000;  // how often the end of clones is looked for

std::uint64_t SizeOf(const rec::VolumeRecord& volume) {
  std::uint64_t bytes = 0;
  for (const rec::SegmentRecord& segment : volume.segments()) bytes += segment.size_bytes();
  return bytes;
}

bool IsPlanned(const rec::SegmentRecord& segment) {
  return std::all_of(segment.replicas().begin(), segment.replicas().end(),
                     [](const rec::ReplicaRecord& replica) {
                       return replica.life() == rec::ReplicaRecord::PLANNED;
                     });
}

}  // namespace

// --- Size ---

VolumeReconciler::Step VolumeReconciler::SettleSize(Pass* pass) {
  const rec::VolumeRecord& record = pass->record();
  if (record.made_bytes() >= record.size_bytes() || record.state() == rec::VolumeRecord::KEPT) {
    return Progress::kDone;
  }
  std::optional<BlockStore> store;
  const Step engine = NeedEngine(pass, &store);
  if (!engine.ok() || *engine != Progress::kDone) return engine;
  const std::uint64_t held_bytes =
      record.segment_bytes() * static_cast<std::uint64_t>(record.segments_size());
  if (record.segment_bytes() != 0 && record.size_bytes() > held_bytes) {
    const std::vector<placement::NodeState> nodes = env_->NodeStates("");
    std::vector<rec::SegmentRecord> further;
    for (std::uint64_t at = held_bytes; at < record.size_bytes(); at += record.segment_bytes()) {
      const std::uint64_t bytes = std::min(record.segment_bytes(), record.size_bytes() - at);
      absl::StatusOr<rec::SegmentRecord> segment = PlanSegment(nodes, record, bytes, *env_);
      RETURN_IF_ERROR(segment.status());
      further.push_back(*std::move(segment));
    }
    RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
      for (const rec::SegmentRecord& segment : further) *changed->add_segments() = segment;
      return absl::OkStatus();
    }));
    return Progress::kAgain;
  }
  v1::GrowVolumeRequest request;
  request.set_name(pass->id());
  request.set_size_bytes(record.size_bytes());
  for (int i = 0; i < record.segments_size(); ++i) {
    if (!IsPlanned(record.segments(i))) continue;
    for (const rec::ReplicaRecord& replica : record.segments(i).replicas()) {
      RETURN_IF_ERROR(CreateReplica(record, i, replica, nullptr));
    }
    *request.add_new_segments() = HintOf(record, i, /*planned=*/true);
  }
  RETURN_IF_ERROR(store->GrowVolume(request));
  RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
    if (changed->made_bytes() >= request.size_bytes()) return absl::OkStatus();
    for (rec::SegmentRecord& segment : *changed->mutable_segments()) {
      if (!IsPlanned(segment)) continue;
      for (rec::ReplicaRecord& replica : *segment.mutable_replicas()) {
        replica.set_life(rec::ReplicaRecord::MEMBER);
      }
    }
    // Every segment but the last is full now.
    std::uint64_t left_bytes = request.size_bytes();
    for (rec::SegmentRecord& segment : *changed->mutable_segments()) {
      const bool last = changed->segment_bytes() == 0 || left_bytes <= changed->segment_bytes();
      segment.set_size_bytes(last ? left_bytes : changed->segment_bytes());
      left_bytes -= segment.size_bytes();
    }
    changed->set_made_bytes(SizeOf(*changed));
    return absl::OkStatus();
  }));
  spdlog::info("event=volume_grown volume={} bytes={}", pass->id(), pass->record().made_bytes());
  return Progress::kAgain;
}

// --- Snapshots ---

VolumeReconciler::Step VolumeReconciler::SettleSnapshots(Pass* pass) {
  bool any = false;
  for (const Stored<rec::SnapshotRecord>& snapshot : SnapshotsOf(pass->id())) {
    any = true;
    // An internal one is there for one clone, whose record is older than it is.
    const bool over =
        snapshot.value.internal() && env_->ClonesUnderWay(snapshot.value.id()).empty();
    if (snapshot.value.state() == rec::SnapshotRecord::READY && !over) continue;
    if (snapshot.value.state() == rec::SnapshotRecord::CUTTING &&
        !snapshot.value.group_id().empty()) {
      // Its group's reconciler cuts it, together with the others; what it needs is an engine.
      pass->Again(kCloneNanos);
      std::optional<BlockStore> store;
      const Step engine = NeedEngine(pass, &store);
      if (!engine.ok() || *engine == Progress::kAgain) return engine;
      continue;
    }
    const bool cut = snapshot.value.state() == rec::SnapshotRecord::CUTTING && !over;
    const Step step = cut ? CutSnapshot(pass, snapshot) : DropSnapshot(pass, snapshot);
    if (!step.ok() || *step == Progress::kAgain) return step;
  }
  if (HasClonesUnderWay(*pass)) {
    pass->Again(kCloneNanos);
    std::optional<BlockStore> store;
    return NeedEngine(pass, &store);
  }
  if (pass->record().state() != rec::VolumeRecord::KEPT || any) return Progress::kDone;
  RETURN_IF_ERROR(Change(pass, [](rec::VolumeRecord* record) {
    record->set_state(rec::VolumeRecord::DELETING);
    return absl::OkStatus();
  }));
  return Progress::kAgain;
}

VolumeReconciler::Step VolumeReconciler::CutSnapshot(Pass* pass,
                                                     const Stored<rec::SnapshotRecord>& snapshot) {
  std::optional<BlockStore> store;
  const Step engine = NeedEngine(pass, &store);
  if (!engine.ok() || *engine != Progress::kDone) return engine;
  const std::string& name = snapshot.value.id();
  absl::StatusOr<v1::Snapshot> cut = store->CreateSnapshot(pass->id(), name, "");
  if (absl::IsAlreadyExists(cut.status())) {
    // An earlier call of ours, whose answer was lost.
    ASSIGN_OR_RETURN(const std::vector<v1::Snapshot> all, store->ListSnapshots(pass->id()));
    for (const v1::Snapshot& one : all) {
      if (one.name() == name) cut = one;
    }
  }
  RETURN_IF_ERROR(cut.status());
  RETURN_IF_ERROR(env_->records->snapshots()
                      .Update(snapshot.key,
                              [&](rec::SnapshotRecord* record) {
                                if (record->id() != name ||
                                    record->state() != rec::SnapshotRecord::CUTTING) {
                                  return absl::OkStatus();
                                }
                                record->set_state(rec::SnapshotRecord::READY);
                                record->set_block_store_id(cut->id());
                                record->set_size_bytes(cut->size_bytes());
                                record->set_created_unix_ns(cut->created_unix_ns());
                                return absl::OkStatus();
                              })
                      .status());
  spdlog::info("event=snapshot_cut volume={} snapshot={}", pass->id(), name);
  return Progress::kAgain;
}

VolumeReconciler::Step VolumeReconciler::DropSnapshot(Pass* pass,
                                                      const Stored<rec::SnapshotRecord>& snapshot) {
  // What is being made from it needs it a little longer.
  if (!env_->ClonesUnderWay(snapshot.value.id()).empty()) return Progress::kDone;
  std::optional<BlockStore> store;
  const Step engine = NeedEngine(pass, &store);
  if (!engine.ok() || *engine != Progress::kDone) return engine;
  const absl::Status dropped = store->DeleteSnapshot(pass->id(), snapshot.value.id());
  if (!dropped.ok() && !absl::IsNotFound(dropped)) return dropped;
  RETURN_IF_ERROR(env_->records->snapshots().Remove(snapshot.key, snapshot.revision));
  spdlog::info("event=snapshot_deleted volume={} snapshot={}", pass->id(), snapshot.value.id());
  return Progress::kAgain;
}

// --- Settings that a serving engine takes: QoS, min in sync ---

VolumeReconciler::Step VolumeReconciler::SettleQos(Pass* pass) {
  if (!pass->seen || pass->record().attachment().maintenance()) return Progress::kDone;
  const v1::Qos wanted = QosOf(pass->record().settings());
  if (pass->seen->qos().iops() == wanted.iops() &&
      pass->seen->qos().bandwidth_bytes_per_second() == wanted.bandwidth_bytes_per_second()) {
    return Progress::kDone;
  }
  ASSIGN_OR_RETURN(const BlockStore store, env_->StoreOf(pass->record().attachment().node()));
  RETURN_IF_ERROR(store.SetQos(pass->id(), wanted));
  return Progress::kDone;
}

VolumeReconciler::Step VolumeReconciler::SettleMinInSync(Pass* pass) {
  const rec::VolumeRecord& record = pass->record();
  if (!pass->seen || record.segments().empty()) return Progress::kDone;
  std::uint32_t wanted = record.settings().replicas();
  for (int i = 0; i < record.segments_size(); ++i)
    wanted = std::min(wanted, MinInSyncNow(record, i));
  bool other = false;
  for (const v1::SegmentStatus& segment : pass->seen->segments()) {
    other = other || segment.configuration().min_in_sync() != wanted;
  }
  if (!other) return Progress::kDone;
  ASSIGN_OR_RETURN(const BlockStore store, env_->StoreOf(record.attachment().node()));
  const absl::Status set = store.SetMinInSync(pass->id(), wanted);
  // The engine knows how many copies it has; ours may still be on their way.
  if (absl::IsInvalidArgument(set)) return Progress::kDone;
  return set.ok() ? Step(Progress::kDone) : Step(set);
}

}  // namespace keelson::provisioner
