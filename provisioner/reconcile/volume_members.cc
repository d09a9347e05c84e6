// VolumeReconciler: members. Healing, drain, locality and another number of copies are one act: a
// replica is planned, made, added and filled, and only then another one leaves (R13).

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/plan.h"
#include "provisioner/reconcile/volume_reconciler.h"

namespace keelson::provisioner {
namespace {

constexpr std::int64_t kProgressNanos = 2'000'000'000;  // how often a rebuild is looked at

bool IsMember(const v1::GetVolumeStatusResponse& seen, int segment, const std::string& replica) {
  if (segment >= seen.segments_size()) return false;
  const auto& members = seen.segments(segment).configuration().members();
  return std::any_of(members.begin(), members.end(),
                     [&](const v1::Member& member) { return member.replica_id() == replica; });
}

bool InSync(const v1::GetVolumeStatusResponse& seen, int segment, const std::string& replica) {
  if (segment >= seen.segments_size()) return false;
  const auto& members = seen.segments(segment).members();
  return std::any_of(members.begin(), members.end(), [&](const v1::MemberStatus& member) {
    return member.member().replica_id() == replica && member.connected() &&
           member.member().state() == v1::MEMBER_STATE_IN_SYNC;
  });
}

const rec::ReplicaRecord* WitnessOf(const rec::SegmentRecord& segment) {
  for (const rec::ReplicaRecord& replica : segment.replicas()) {
    if (replica.witness() && replica.life() != rec::ReplicaRecord::LEAVING) return &replica;
  }
  return nullptr;
}

}  // namespace

VolumeReconciler::Step VolumeReconciler::SettleMembers(Pass* pass) {
  if (pass->record().state() == rec::VolumeRecord::KEPT && pass->record().orphans().empty() &&
      !pass->seen) {
    return Progress::kDone;  // its redundancy is looked after when somebody uses it
  }
  absl::Status trouble;
  for (int i = 0; i < pass->record().segments_size(); ++i) {
    const Step step = SettleSegment(pass, i);
    if (step.ok() && *step == Progress::kAgain) return step;
    if (!step.ok() && trouble.ok()) trouble = step.status();
  }
  if (!trouble.ok()) return trouble;
  return Progress::kDone;
}

VolumeReconciler::Step VolumeReconciler::SettleSegment(Pass* pass, int segment) {
  const rec::VolumeRecord& record = pass->record();
  const rec::SegmentRecord& members = record.segments(segment);
  for (const rec::ReplicaRecord& replica : members.replicas()) {
    if (replica.life() == rec::ReplicaRecord::LEAVING) return RemoveMember(pass, segment, replica);
  }
  for (const rec::ReplicaRecord& replica : members.replicas()) {
    if (replica.life() == rec::ReplicaRecord::PLANNED) return AddMember(pass, segment, replica);
  }
  const int wanted = static_cast<int>(record.settings().replicas());
  const std::string engine_node =
      record.attachment().maintenance() ? "" : record.attachment().node();
  int copies = 0;
  int good = 0;
  int good_in_sync = 0;
  bool engine_has_copy = false;
  const rec::ReplicaRecord* leaving = nullptr;  // the one to go, if one is too many
  int leaving_rank = -1;
  for (const rec::ReplicaRecord& replica : members.replicas()) {
    if (replica.witness()) continue;
    ++copies;
    if (replica.node() == engine_node) engine_has_copy = true;
    const bool draining = env_->IntentOf(replica.node()) == "draining";
    const bool gone = AbsentTooLong(pass, replica);
    const bool fine = !draining && !gone;
    good += fine ? 1 : 0;
    const bool in_sync = pass->seen && InSync(*pass->seen, segment, replica.replica_id());
    good_in_sync += fine && in_sync ? 1 : 0;
    // Rather one that is gone, then one that drains, then one without everything, and the
    // engine's own last.
    const int rank = gone ? 4 : draining ? 3 : !in_sync ? 2 : replica.node() != engine_node ? 1 : 0;
    if (rank > leaving_rank) {
      leaving = &replica;
      leaving_rank = rank;
    }
  }
  if (good < wanted) {
    if (!MayRebuild(pass, segment, good)) return Progress::kDone;
    return PlanMember(pass, segment, engine_node);
  }
  if (good_in_sync >= wanted) {
    env_->rebuilds->Done(RebuildKey(*pass, segment));
  } else {
    env_->rebuilds->Renew(RebuildKey(*pass, segment), env_->clock->SteadyNanos());
  }
  if (copies > wanted) {
    std::optional<BlockStore> store;
    const Step engine = NeedEngine(pass, &store);
    if (!engine.ok() || *engine != Progress::kDone) return engine;
    if (good_in_sync < wanted) {
      pass->Again(kProgressNanos);  // a new copy is being filled
      return Progress::kDone;
    }
    const std::string replica_id = leaving->replica_id();
    RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
      for (rec::ReplicaRecord& replica : *changed->mutable_segments(segment)->mutable_replicas()) {
        if (replica.replica_id() == replica_id) replica.set_life(rec::ReplicaRecord::LEAVING);
      }
      return absl::OkStatus();
    }));
    return Progress::kAgain;
  }
  if (pass->seen && good_in_sync < wanted) pass->Again(kProgressNanos);
  if (record.settings().data_locality() == "bestEffort" && !engine_node.empty() &&
      !engine_has_copy && good_in_sync == wanted) {
    return PlanMember(pass, segment, engine_node);
  }
  return Progress::kDone;
}

std::string VolumeReconciler::RebuildKey(const Pass& pass, int segment) {
  return absl::StrCat(pass.id(), "/", segment);
}

bool VolumeReconciler::MayRebuild(Pass* pass, int segment, int copies) {
  if (env_->rebuilds->MayRun(RebuildKey(*pass, segment), copies, env_->clock->SteadyNanos())) {
    return true;
  }
  pass->Again(kProgressNanos);
  pass->note = absl::UnavailableError(
      absl::StrCat("its new copy waits for its turn: ", env_->rebuilds->running(),
                   " others are being filled, which is the most at once (--rebuilds)"));
  return false;
}

bool VolumeReconciler::AbsentTooLong(Pass* pass, const rec::ReplicaRecord& replica) {
  if (!env_->records->nodes().Find(replica.node()).ok()) return true;
  const NodeView view = env_->stores->View(replica.node());
  if (!view.heard) return false;
  const std::int64_t now_ns = env_->clock->SteadyNanos();
  std::int64_t since_ns = 0;
  {
    std::lock_guard lock(mutex_);
    if (view.answers && env_->PoolHealthy(replica.node(), replica.pool_id())) {
      absent_since_ns_.erase(replica.replica_id());
      return false;
    }
    since_ns = absent_since_ns_.emplace(replica.replica_id(), now_ns).first->second;
  }
  const std::int64_t left_ns = since_ns + env_->options.heal_after_ns - now_ns;
  if (left_ns <= 0) return true;
  pass->Again(left_ns);
  return false;
}

VolumeReconciler::Step VolumeReconciler::PlanMember(Pass* pass, int segment,
                                                    const std::string& near_node) {
  const rec::VolumeRecord& record = pass->record();
  const rec::SegmentRecord& members = record.segments(segment);
  const bool for_locality =
      CopiesOf(members) >= static_cast<int>(record.settings().replicas()) && !near_node.empty();
  absl::StatusOr<rec::ReplicaRecord> copy =
      PlanReplica(record, segment, /*witness=*/false, near_node, *env_);
  if (!copy.ok()) {
    if (!absl::IsResourceExhausted(copy.status())) return copy.status();
    // Nowhere to go: it stays as it is, and `why` says so. A node that comes or empties is heard
    // of. Others need not wait for it.
    env_->rebuilds->Done(RebuildKey(*pass, segment));
    pass->note = copy.status();
    pass->Again(env_->options.look_interval_ns);
    return Progress::kDone;
  }
  // Only there is it of use.
  if (for_locality && copy->node() != near_node && AllAreWell(*pass, segment))
    return Progress::kDone;
  // A single copy gets its vote's helper beside it; so does a number that stays even.
  std::optional<rec::ReplicaRecord> witness;
  const int then = CopiesOf(members) + 1;
  const bool stays_even = then % 2 == 0 && then == static_cast<int>(record.settings().replicas());
  if (WitnessOf(members) == nullptr && (CopiesOf(members) == 1 || stays_even)) {
    rec::VolumeRecord with = record;
    *with.mutable_segments(segment)->add_replicas() = *copy;
    absl::StatusOr<rec::ReplicaRecord> planned =
        PlanReplica(with, segment, /*witness=*/true, "", *env_);
    if (planned.ok()) witness = *std::move(planned);
  }
  RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
    *changed->mutable_segments(segment)->add_replicas() = *copy;
    if (witness) *changed->mutable_segments(segment)->add_replicas() = *witness;
    return absl::OkStatus();
  }));
  spdlog::info("event=replica_planned volume={} segment={} node={} replica={}", pass->id(), segment,
               copy->node(), copy->replica_id());
  return Progress::kAgain;
}

bool VolumeReconciler::AllAreWell(const Pass& pass, int segment) const {
  const rec::SegmentRecord& members = pass.volume.value.segments(segment);
  return std::all_of(members.replicas().begin(), members.replicas().end(),
                     [this](const rec::ReplicaRecord& replica) {
                       return env_->Answers(replica.node()) &&
                              env_->IntentOf(replica.node()) != "draining";
                     });
}

VolumeReconciler::Step VolumeReconciler::AddMember(Pass* pass, int segment,
                                                   const rec::ReplicaRecord& planned) {
  std::optional<BlockStore> store;
  const Step engine = NeedEngine(pass, &store);
  if (!engine.ok() || *engine != Progress::kDone) return engine;
  const rec::SegmentRecord& members = pass->record().segments(segment);
  const rec::ReplicaRecord* copy = &planned;
  const rec::ReplicaRecord* witness = nullptr;  // planned with it
  for (const rec::ReplicaRecord& other : members.replicas()) {
    if (other.life() != rec::ReplicaRecord::PLANNED) continue;
    (other.witness() ? witness : copy) = &other;
  }
  if (copy->witness()) witness = nullptr;  // a witness alone
  const std::string copy_id = copy->replica_id();
  const std::string witness_id = witness == nullptr ? "" : witness->replica_id();
  if (!IsMember(*pass->seen, segment, copy_id)) {
    const v1::Configuration& present = pass->seen->segments(segment).configuration();
    absl::Status made = CreateReplica(pass->record(), segment, *copy, &present);
    if (made.ok() && witness != nullptr) {
      made = CreateReplica(pass->record(), segment, *witness, &present);
    }
    v1::AddReplicaRequest request;
    request.set_volume(pass->id());
    request.set_segment(static_cast<std::uint32_t>(segment));
    *request.mutable_member() = env_->MemberOf(*copy);
    std::string dropped;  // a witness that an odd number of copies does not need
    if (witness != nullptr) {
      *request.mutable_witness() = env_->MemberOf(*witness);
    } else if (const rec::ReplicaRecord* const old = WitnessOf(members);
               old != nullptr && !copy->witness() && CopiesOf(members) % 2 == 1 &&
               CopiesOf(members) == static_cast<int>(pass->record().settings().replicas())) {
      *request.mutable_witness() = env_->MemberOf(*old);
      dropped = old->replica_id();
    }
    if (made.ok()) made = store->AddReplica(request);
    if (!made.ok()) {
      // Not there: it is planned anew, elsewhere if that is better.
      RETURN_IF_ERROR(ForgetReplicas(pass, segment, {copy_id, witness_id}));
      return made;
    }
    if (!dropped.empty()) RETURN_IF_ERROR(ForgetReplicas(pass, segment, {dropped}));
  }
  RETURN_IF_ERROR(Change(pass, [&](rec::VolumeRecord* changed) {
    for (rec::ReplicaRecord& replica : *changed->mutable_segments(segment)->mutable_replicas()) {
      if (replica.replica_id() == copy_id || replica.replica_id() == witness_id) {
        replica.set_life(rec::ReplicaRecord::MEMBER);
      }
    }
    return absl::OkStatus();
  }));
  spdlog::info("event=replica_added volume={} segment={} replica={}", pass->id(), segment, copy_id);
  return Progress::kAgain;
}

VolumeReconciler::Step VolumeReconciler::RemoveMember(Pass* pass, int segment,
                                                      const rec::ReplicaRecord& leaving) {
  std::optional<BlockStore> store;
  const Step engine = NeedEngine(pass, &store);
  if (!engine.ok() || *engine != Progress::kDone) return engine;
  const rec::SegmentRecord& members = pass->record().segments(segment);
  const std::string replica_id = leaving.replica_id();
  std::string witness_id;
  if (IsMember(*pass->seen, segment, replica_id)) {
    v1::RemoveReplicaRequest request;
    request.set_volume(pass->id());
    request.set_segment(static_cast<std::uint32_t>(segment));
    request.set_replica_id(replica_id);
    const int left = CopiesOf(members);  // without those that leave
    const rec::ReplicaRecord* const witness = WitnessOf(members);
    if (!leaving.witness() && witness != nullptr && left % 2 == 1) {
      witness_id = witness->replica_id();
      request.set_witness_replica_id(witness_id);
    }
    RETURN_IF_ERROR(store->RemoveReplica(request));
  }
  RETURN_IF_ERROR(ForgetReplicas(pass, segment, {replica_id, witness_id}));
  spdlog::info("event=replica_removed volume={} segment={} replica={}", pass->id(), segment,
               replica_id);
  return Progress::kAgain;
}

absl::Status VolumeReconciler::ForgetReplicas(Pass* pass, int segment,
                                              const std::vector<std::string>& ids) {
  return Change(pass, [&](rec::VolumeRecord* changed) {
    auto* const replicas = changed->mutable_segments(segment)->mutable_replicas();
    for (int i = replicas->size() - 1; i >= 0; --i) {
      if (std::find(ids.begin(), ids.end(), replicas->Get(i).replica_id()) == ids.end()) continue;
      AddOrphan(replicas->Get(i), changed);
      replicas->DeleteSubrange(i, 1);
    }
    return absl::OkStatus();
  });
}

}  // namespace keelson::provisioner
