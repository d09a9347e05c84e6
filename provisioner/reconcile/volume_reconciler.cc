#include "provisioner/reconcile/volume_reconciler.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "proto/rpc/status_macros.h"

namespace keelson::provisioner {
namespace {

// A pass that never comes to its end would keep a worker for itself.
constexpr int kStepsMax = 64;
constexpr std::uint64_t kRegionBytes = std::uint64_t{4} << 20;

}  // namespace

Outcome VolumeReconciler::Run(const std::string& key) {
  for (int i = 0; i < kStepsMax; ++i) {
    absl::StatusOr<Volume> volume = env_->records->volumes().Find(key);
    if (absl::IsNotFound(volume.status())) {
      std::lock_guard lock(mutex_);
      sights_.erase(key);
      return {};
    }
    if (!volume.ok()) return {volume.status(), 0};
    Pass pass;
    pass.volume = *std::move(volume);
    const Step step = RunOnce(&pass);
    if (step.ok() && *step == Progress::kAgain) continue;
    Remember(key, pass, step.ok() ? pass.note : step.status());
    env_->records->Nudge();  // whoever waits for this volume learns its trouble
    if (!step.ok()) {
      spdlog::log(absl::IsUnavailable(step.status()) ? spdlog::level::info : spdlog::level::warn,
                  "event=volume_not_settled volume={} reason=\"{}\"", pass.id(),
                  step.status().ToString());
      return {step.status(), 0};
    }
    return {absl::OkStatus(), pass.again_ns};
  }
  return {absl::InternalError("the volume does not come to rest"), 0};
}

VolumeReconciler::Step VolumeReconciler::RunOnce(Pass* pass) {
  if (pass->record().state() == rec::VolumeRecord::MAKING) return Make(pass);
  if (pass->record().state() == rec::VolumeRecord::DELETING) return Unmake(pass);
  // In this order: what I/O waits for first. A step that has something left to do ends the pass,
  // unless it can only wait.
  using Method = Step (VolumeReconciler::*)(Pass*);
  constexpr Method kSteps[] = {
      &VolumeReconciler::SettleAttachment, &VolumeReconciler::SettleSize,
      &VolumeReconciler::SettleSnapshots,  &VolumeReconciler::SettleMinInSync,
      &VolumeReconciler::SettleQos,        &VolumeReconciler::SettleMembers,
      &VolumeReconciler::DeleteOrphans,    &VolumeReconciler::TellAbandoned};
  absl::Status trouble;
  for (const Method method : kSteps) {
    const Step step = (this->*method)(pass);
    if (step.ok() && *step == Progress::kAgain) return step;
    if (!step.ok() && trouble.ok()) trouble = step.status();
  }
  // A maintenance engine that nothing needs any more is let go.
  const rec::AttachmentRecord& attachment = pass->record().attachment();
  if (trouble.ok() && pass->again_ns == 0 && attachment.maintenance() &&
      !attachment.node().empty() && !HasClonesUnderWay(*pass)) {
    return ReleaseEngine(pass);
  }
  if (!trouble.ok()) return trouble;
  if (!pass->record().publications().empty()) pass->Again(env_->options.look_interval_ns);
  return Progress::kDone;
}

absl::Status VolumeReconciler::Change(Pass* pass,
                                      absl::FunctionRef<absl::Status(rec::VolumeRecord*)> change) {
  const std::string& id = pass->volume.value.id();
  absl::StatusOr<Volume> changed =
      env_->records->volumes().Update(pass->volume.key, [&](rec::VolumeRecord* record) {
        // Another volume of the same name may have taken its place.
        if (record->id() != id) return absl::AbortedError("the volume was made anew");
        return change(record);
      });
  RETURN_IF_ERROR(changed.status());
  pass->volume = *std::move(changed);
  return absl::OkStatus();
}

void VolumeReconciler::Remember(const std::string& key, const Pass& pass,
                                const absl::Status& trouble) {
  VolumeSight sight;
  if (pass.seen) {
    for (const v1::SegmentStatus& segment : pass.seen->segments()) {
      if (sight.waiting_for.empty()) sight.waiting_for = segment.waiting_for();
      if (sight.error.empty()) sight.error = segment.error();
      for (const v1::MemberStatus& member : segment.members()) {
        sight.members.push_back({.replica_id = member.member().replica_id(),
                                 .state = member.member().state(),
                                 .connected = member.connected(),
                                 .problem = member.problem(),
                                 .resync_bytes_left = member.resync_regions_left() * kRegionBytes});
      }
    }
    if (sight.error.empty()) sight.error = pass.seen->error();
  }
  sight.trouble = trouble;
  std::lock_guard lock(mutex_);
  VolumeSight& last = sights_[key];
  if (!trouble.ok()) {
    sight.trouble_since_unix_ns =
        last.trouble.ok() ? env_->clock->UnixNanos() : last.trouble_since_unix_ns;
    // What was seen before the trouble says more than nothing.
    if (!pass.seen && pass.volume.value.attachment().served()) sight.members = last.members;
  }
  last = std::move(sight);
}

std::optional<VolumeSight> VolumeReconciler::SightOf(const std::string& key) const {
  std::lock_guard lock(mutex_);
  const auto found = sights_.find(key);
  if (found == sights_.end()) return std::nullopt;
  return found->second;
}

std::vector<Stored<rec::SnapshotRecord>> VolumeReconciler::SnapshotsOf(
    const std::string& volume_id) const {
  std::vector<Stored<rec::SnapshotRecord>> all = env_->records->snapshots().All();
  std::erase_if(all, [&](const auto& one) { return one.value.volume_id() != volume_id; });
  return all;
}

bool VolumeReconciler::HasClonesUnderWay(const Pass& pass) const {
  const std::vector<Stored<rec::SnapshotRecord>> snapshots = SnapshotsOf(pass.id());
  return std::any_of(snapshots.begin(), snapshots.end(), [this](const auto& snapshot) {
    return !env_->ClonesUnderWay(snapshot.value.id()).empty();
  });
}

}  // namespace keelson::provisioner
