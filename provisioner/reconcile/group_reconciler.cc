#include "provisioner/reconcile/group_reconciler.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/ids.h"

namespace keelson::provisioner {
namespace {

constexpr std::uint32_t kHoldMs = 5'000;
constexpr std::size_t kHoldDigits = 32;
constexpr std::int64_t kAgainNanos = 500'000'000;

}  // namespace

Outcome GroupReconciler::Run(const std::string& key) {
  const auto group = env_->records->groups().Find(key);
  if (absl::IsNotFound(group.status())) return {};
  if (!group.ok()) return {group.status(), 0};
  switch (group->value.state()) {
    case rec::GroupRecord::CUTTING:
      return Cut(*group);
    case rec::GroupRecord::DELETING:
      return Drop(*group);
    default:
      return {};
  }
}

absl::Status GroupReconciler::PlanSnapshots(const rec::GroupRecord& group) {
  for (int i = 0; i < group.snapshot_ids_size(); ++i) {
    const std::string key = KeyOfId(kSnapshotPrefix, group.snapshot_ids(i));
    if (env_->records->snapshots().Find(key).ok()) continue;
    rec::SnapshotRecord snapshot;
    snapshot.set_id(group.snapshot_ids(i));
    snapshot.set_volume_id(group.volume_ids(i));
    snapshot.set_group_id(group.id());
    const absl::Status created = env_->records->snapshots().Create(key, snapshot);
    if (!created.ok() && !absl::IsAlreadyExists(created)) return created;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<GroupReconciler::Part>> GroupReconciler::FindEngines(
    const rec::GroupRecord& group) {
  std::vector<Part> parts;
  for (int i = 0; i < group.volume_ids_size(); ++i) {
    const std::string& id = group.volume_ids(i);
    const std::string key = KeyOfId(kVolumePrefix, id);
    ASSIGN_OR_RETURN(const Stored<rec::VolumeRecord> volume, env_->records->volumes().Find(key));
    const rec::AttachmentRecord& attachment = volume.value.attachment();
    if (volume.value.id() != id || attachment.node().empty() || !attachment.served()) {
      env_->Poke(Kind::kVolume, key);
      return absl::UnavailableError(absl::StrCat("volume ", id, " has no engine yet"));
    }
    ASSIGN_OR_RETURN(BlockStore store, env_->StoreOf(attachment.node()));
    parts.push_back({id, group.snapshot_ids(i), std::move(store)});
  }
  return parts;
}

absl::StatusOr<std::vector<v1::Snapshot>> GroupReconciler::CutAll(const std::vector<Part>& parts) {
  // What an earlier round left is of another point in time.
  for (const Part& part : parts) {
    const absl::Status gone = part.store.DeleteSnapshot(part.volume_id, part.snapshot_id);
    if (!gone.ok() && !absl::IsNotFound(gone)) return gone;
  }
  const std::string hold = RandomHex(kHoldDigits);
  absl::Status status;
  for (const Part& part : parts) {
    if (status.ok()) status = part.store.HoldWrites(part.volume_id, hold, kHoldMs);
  }
  std::vector<v1::Snapshot> cut;
  for (const Part& part : parts) {
    if (!status.ok()) break;
    absl::StatusOr<v1::Snapshot> one =
        part.store.CreateSnapshot(part.volume_id, part.snapshot_id, hold);
    status = one.status();
    if (one.ok()) cut.push_back(*std::move(one));
  }
  for (const Part& part : parts) {
    // A hold that cannot be released ends by itself.
    const absl::Status released = part.store.ReleaseWrites(part.volume_id, hold);
    if (!released.ok()) {
      spdlog::info("event=hold_not_released volume={} reason=\"{}\"", part.volume_id,
                   released.ToString());
    }
  }
  if (!status.ok()) return status;
  return cut;
}

Outcome GroupReconciler::Cut(const Stored<rec::GroupRecord>& group) {
  if (const absl::Status planned = PlanSnapshots(group.value); !planned.ok()) return {planned, 0};
  const absl::StatusOr<std::vector<Part>> parts = FindEngines(group.value);
  if (absl::IsUnavailable(parts.status())) return {absl::OkStatus(), kAgainNanos};
  if (!parts.ok()) return {parts.status(), 0};
  const absl::StatusOr<std::vector<v1::Snapshot>> cut = CutAll(*parts);
  if (!cut.ok()) {
    spdlog::warn("event=group_not_cut group={} reason=\"{}\"", group.value.id(),
                 cut.status().ToString());
    return {cut.status(), 0};
  }
  for (std::size_t i = 0; i < parts->size(); ++i) {
    const v1::Snapshot& one = (*cut)[i];
    const auto changed = env_->records->snapshots().Update(
        KeyOfId(kSnapshotPrefix, (*parts)[i].snapshot_id), [&](rec::SnapshotRecord* record) {
          record->set_state(rec::SnapshotRecord::READY);
          record->set_block_store_id(one.id());
          record->set_size_bytes(one.size_bytes());
          record->set_created_unix_ns(one.created_unix_ns());
          return absl::OkStatus();
        });
    if (!changed.ok()) return {changed.status(), 0};
  }
  const auto ready = env_->records->groups().Update(group.key, [&](rec::GroupRecord* record) {
    if (record->state() != rec::GroupRecord::CUTTING) return absl::OkStatus();
    record->set_state(rec::GroupRecord::READY);
    record->set_created_unix_ns(cut->front().created_unix_ns());
    return absl::OkStatus();
  });
  if (!ready.ok()) return {ready.status(), 0};
  spdlog::info("event=group_cut group={} volumes={}", group.value.id(), parts->size());
  return {};
}

Outcome GroupReconciler::Drop(const Stored<rec::GroupRecord>& group) {
  bool any = false;
  for (const std::string& id : group.value.snapshot_ids()) {
    const std::string key = KeyOfId(kSnapshotPrefix, id);
    const auto changed = env_->records->snapshots().Update(key, [&](rec::SnapshotRecord* record) {
      if (record->id() == id) record->set_state(rec::SnapshotRecord::DELETING);
      return absl::OkStatus();
    });
    if (absl::IsNotFound(changed.status())) continue;
    if (!changed.ok()) return {changed.status(), 0};
    any = any || changed->value.id() == id;
  }
  if (any) return {absl::OkStatus(), kAgainNanos};
  return {env_->records->groups().Remove(group.key, group.revision), 0};
}

}  // namespace keelson::provisioner
