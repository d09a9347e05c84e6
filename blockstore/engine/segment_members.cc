// Segment: its members: sessions that break and come back, and the configurations that say so.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/engine/segment.h"
#include "blockstore/engine/segment_fan_out.h"
#include "blockstore/engine/transitions.h"
#include "blockstore/io/log.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"

namespace keelson::engine {

using replica::Configuration;
using replica::Member;
using replica::MemberState;

namespace {

// R14: it was a member of a history that an operator left behind. A replica that was just made has
// accepted no engine's configuration yet.
bool IsStranger(const Configuration& in_force, const Configuration& record) {
  if (record.quarantined()) return true;
  return record.version.epoch != pool::Epoch{} && record.forced != in_force.forced;
}

}  // namespace

MemberSlot* Segment::FindSlot(const pool::ReplicaId& replica) const {
  for (const auto& slot : slots_) {
    if (slot->member.replica == replica) return slot.get();
  }
  return nullptr;
}

MemberSlot* Segment::SlotFor(const Member& member) {
  MemberSlot* slot = FindSlot(member.replica);
  if (slot != nullptr || slots_.size() == kSlotsMax) return slot;
  auto made = std::make_unique<MemberSlot>();
  made->index = slots_.size();
  made->member = member;
  made->port = ports_->MakePort(member);
  made->local = ports_->IsLocal(member);
  slots_.push_back(std::move(made));
  return slots_.back().get();
}

const Member* Segment::Record(const MemberSlot& slot) const {
  return in_force_.Find(slot.member.pool, slot.member.replica);
}

const Member* Segment::Voter(const MemberSlot& slot) const {
  for (const Configuration* configuration : {&in_force_, under_way_ ? &*under_way_ : nullptr}) {
    if (configuration == nullptr) continue;
    for (const auto* members : {&configuration->members, &configuration->predecessor}) {
      const auto found =
          std::find_if(members->begin(), members->end(),
                       [&slot](const Member& member) { return member.SameReplica(slot.member); });
      if (found != members->end()) return &*found;
    }
  }
  return nullptr;
}

void Segment::UpdateSlots() {
  for (const auto& slot : slots_) {
    const auto in_sync = [&slot](const Configuration& configuration) {
      const Member* member = configuration.Find(slot->member.pool, slot->member.replica);
      return member != nullptr && member->state == MemberState::kInSync;
    };
    slot->in_sync = in_sync(in_force_) || (under_way_ && in_sync(*under_way_));
    if (slot->in_sync) slot->catching_up = false;
    slot->removed = phase_ == Phase::kServing && Record(*slot) == nullptr &&
                    !(under_way_ && under_way_->Find(slot->member.pool, slot->member.replica));
  }
}

bool Segment::Degrading() const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [](const auto& slot) { return slot->in_sync && !slot->connected; });
}

bool Segment::AnyInSyncConnected() const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [](const auto& slot) { return slot->in_sync && slot->connected; });
}

void Segment::MemberFailed(MemberSlot* slot, std::uint64_t session, const absl::Status& status) {
  if (!Alive(*slot, session)) return;
  if (absl::IsAborted(status)) {
    Fail(status);
    return;
  }
  if (slot->in_sync && IsMembersOwn(status) && IsLastCopy(*slot)) {
    Freeze(status);
    return;
  }
  slot->connected = false;
  slot->catching_up = false;
  slot->faulty = IsMembersOwn(status);
  slot->problem = std::string(status.message());
  speeds_.Forget(slot->index);
  // What it cannot do now it cannot do at once again (its pool is full, for example).
  if (slot->faulty && slot->resync_running && !slot->in_sync) PostponeResync(slot, status);
  if (!closing_) {
    KEEL_LOG_WARN("event=member_failed volume={} segment={} replica={} in_sync={} reason=\"{}\"",
                  in_force_.volume_name, in_force_.segment, slot->member.replica.ToString(),
                  slot->in_sync, slot->problem);
  }
  changed_.WakeAll();
  if (slot->in_sync) StartDegrade();
  StartKeeper(slot);
}

bool Segment::IsLastCopy(const MemberSlot& slot) const {
  return std::none_of(slots_.begin(), slots_.end(), [&slot](const auto& other) {
    return other.get() != &slot && other->in_sync && other->connected;
  });
}

void Segment::Freeze(const absl::Status& why) {
  if (!frozen_.ok()) return;
  frozen_ = absl::UnavailableError(absl::StrCat(
      "volume ", in_force_.volume_name, ": its last copy has failed (", std::string(why.message()),
      "); nothing is written or flushed until its pool is opened again and the volume "
      "is attached again"));
  KEEL_LOG_WARN("event=segment_frozen volume={} segment={} reason=\"{}\"", in_force_.volume_name,
                in_force_.segment, std::string(why.message()));
  changed_.WakeAll();
}

// --- Configurations ---

io::Task<absl::Status> Segment::Commit(Configuration next) {
  under_way_ = std::move(next);
  UpdateSlots();
  Ballot ballot(*under_way_);
  std::int64_t waits_ns = 0;
  for (const auto& slot : slots_) slot->mute = false;
  while (!ballot.in_force()) {
    if (!health_.ok()) co_return health_;
    if (!frozen_.ok()) co_return frozen_;
    Legs legs;
    for (const auto& slot : slots_) {
      const auto named = [&slot](const std::vector<Member>& members) {
        return std::any_of(members.begin(), members.end(), [&slot](const Member& member) {
          return member.SameReplica(slot->member);
        });
      };
      // One that failed a request, or restarted, is to be marked out, and its vote may be needed
      // for that.
      const bool leaves = slot->in_sync && (slot->faulty || slot->restarted);
      const bool votes = slot->connected || (leaves && !slot->mute && slot->port->open());
      if (!votes || ballot.HasAccepted(slot->member.replica)) continue;
      if (named(under_way_->members) || named(under_way_->predecessor)) legs.Add(slot.get());
    }
    if (legs.count() == 0) {
      co_await WaitForChange(&waits_ns);
      continue;
    }
    const std::int64_t deadline_ns = Deadline();
    const Configuration* configuration = &*under_way_;
    co_await FanOut(&legs, [configuration, deadline_ns](replica::ReplicaPort* port) {
      return port->Accept(*configuration, deadline_ns);
    });
    for (const Leg& leg : legs) {
      if (leg.status.ok()) {
        ballot.OnAccepted(leg.slot->member.replica);
      } else {
        // When its session has ended the next one may.
        if (!leg.slot->connected) leg.slot->mute = leg.slot->port->open();
        MemberFailed(leg);
      }
    }
  }
  if (!health_.ok()) co_return health_;
  in_force_ = std::move(*under_way_);
  under_way_.reset();
  UpdateSlots();
  KEEL_LOG_DEBUG("event=configuration_in_force {}", ToString(in_force_));
  changed_.WakeAll();
  // A member that came back while this was under way may not have it, and must not be used without.
  for (const auto& slot : slots_) {
    if (!slot->connected || ballot.HasAccepted(slot->member.replica)) continue;
    if (Record(*slot) == nullptr || SeededBug(kSealLate)) continue;
    MemberFailed(slot.get(), slot->session, absl::UnavailableError("it missed a configuration"));
  }
  if (Degrading()) StartDegrade();
  StartResyncs();
  co_return absl::OkStatus();
}

io::Task<absl::Status> Segment::Confirm() {
  Configuration again = in_force_;
  ++again.version.counter;
  co_return co_await Commit(std::move(again));
}

void Segment::StartDegrade() {
  if (degrade_running_ || phase_ == Phase::kPreparing) return;
  degrade_running_ = gate_.Spawn(Degrade());
}

io::Task<void> Segment::Degrade() {
  degrade_running_ = true;
  co_await reactor_->Yield();  // those that failed together are marked together
  while (health_.ok() && frozen_.ok() && Degrading()) {
    if (!AnyInSyncConnected() && !SeededBug(kMarkOutLastCopy)) {
      // The last copies: they are waited for, never given up (R6).
      co_await WaitUntil(reactor_->NowNanos() + options_.reconnect_interval_ns);
      continue;
    }
    io::AsyncMutex::Guard guard = co_await config_.Lock();
    absl::StatusOr<Configuration> next = in_force_;
    std::size_t marked = 0;
    for (const auto& slot : slots_) {
      const Member* record = next->Find(slot->member.pool, slot->member.replica);
      if (slot->connected || record == nullptr || record->state != MemberState::kInSync) continue;
      absl::StatusOr<Configuration> without = MarkOut(*next, slot->member.replica);
      if (!without.ok()) continue;  // the last one
      next = std::move(without);
      ++marked;
    }
    // None when it came back meanwhile; and without a copy to go on with nobody is marked.
    if (marked == 0 || (!AnyInSyncConnected() && !SeededBug(kMarkOutLastCopy))) continue;
    absl::Status committed = co_await Commit(std::move(*next));
    if (!committed.ok()) break;
    counters_.degrades += marked;
    KEEL_LOG_WARN("event=degraded volume={} segment={} in_sync={}", in_force_.volume_name,
                  in_force_.segment, in_force_.in_sync_count());
  }
  degrade_running_ = false;
}

// --- Sessions ---

void Segment::StartKeeper(MemberSlot* slot) {
  // Also while the attachment is being ended: its last generation may need the member.
  if (slot->keeper_running || slot->preparing || slot->connected || slot->removed) return;
  if (phase_ == Phase::kPreparing || !health_.ok()) return;
  slot->keeper_running = true;
  if (!gate_.Spawn(Keeper(slot))) slot->keeper_running = false;
}

io::Task<void> Segment::Keeper(MemberSlot* slot) {
  constexpr std::int64_t kPauseGrowth = 2;
  std::int64_t pause_ns = options_.reconnect_interval_ns;
  const std::int64_t pause_ns_max = 16 * options_.reconnect_interval_ns;
  co_await reactor_->Yield();
  while (health_.ok() && !slot->connected && !slot->removed) {
    absl::Status status = co_await Connect(slot);
    if (status.ok()) {
      slot->problem.clear();
      changed_.WakeAll();
      StartResyncs();
      break;
    }
    if (absl::IsAborted(status)) {
      Fail(status);
      break;
    }
    slot->problem = std::string(status.message());
    const std::int64_t until_ns = reactor_->NowNanos() + pause_ns;
    // An InSync member is waited for by I/O: it is not asked less and less often.
    if (!slot->in_sync) pause_ns = std::min(kPauseGrowth * pause_ns, pause_ns_max);
    co_await Pause(until_ns);
  }
  slot->keeper_running = false;
}

io::Task<absl::Status> Segment::Connect(MemberSlot* slot) {
  if (HasToLeave(*slot) && slot->port->open()) {
    // It has a session to vote in, and none to be used in.
    FailIfAllRestarted();
    co_return absl::UnavailableError(slot->problem);
  }
  co_await slot->port->Close();
  absl::StatusOr<replica::PrepareAnswer> answer =
      co_await slot->port->Prepare(epoch_, ShortDeadline());
  if (!answer.ok()) co_return answer.status();
  if (!health_.ok()) co_return absl::CancelledError("the volume is detached");
  const Member* record = Voter(*slot);
  if (record == nullptr) co_return absl::FailedPreconditionError("it is not a member any more");
  if (answer->pool != slot->member.pool || answer->replica != slot->member.replica) {
    co_return absl::FailedPreconditionError("another replica answers at its address");
  }
  if (!answer->configuration.has_value()) {
    co_return absl::DataLossError(
        "it has no readable record: remove it from the volume and add a new replica");
  }
  slot->mute = false;
  if (slot->in_sync && answer->incarnation != record->incarnation &&
      !SeededBug(kTakeBackRestartedMember)) {
    slot->restarted = true;
    changed_.WakeAll();
    FailIfAllRestarted();
    co_return absl::UnavailableError("it restarted and is being marked out");
  }
  if (HasToLeave(*slot)) {
    changed_.WakeAll();
    co_return absl::UnavailableError("it failed a request and is being marked out");
  }
  // What it missed while it was away. A configuration that comes into force meanwhile goes to it
  // too; one under way is sent by Commit.
  replica::ConfigurationVersion accepted;
  while (accepted < in_force_.version && !SeededBug(kSealLate)) {
    accepted = in_force_.version;
    Configuration current = in_force_;
    CO_RETURN_IF_ERROR(co_await slot->port->Accept(std::move(current), Deadline()));
  }
  if (!slot->port->open()) co_return absl::UnavailableError("the session ended again");
  slot->incarnation = answer->incarnation;
  slot->progress = answer->progress;
  slot->faulty = false;
  slot->restarted = false;
  ++slot->session;
  slot->connected = true;
  co_return absl::OkStatus();
}

bool Segment::HasToLeave(const MemberSlot& slot) const {
  return slot.in_sync && (slot.restarted || (slot.faulty && AnyInSyncConnected()));
}

void Segment::FailIfAllRestarted() {
  for (const auto& slot : slots_) {
    if (slot->in_sync && !slot->restarted) return;
  }
  // R3: what outlived such a loss must not go on as if nothing had happened.
  Fail(absl::UnavailableError(
      absl::StrCat("volume ", in_force_.volume_name,
                   ": every copy restarted, and writes that were acknowledged but not flushed may "
                   "be gone; attach the volume again")));
}

void Segment::StartResyncs() {
  if (phase_ != Phase::kServing || closing_ || !health_.ok()) return;
  for (const auto& slot : slots_) {
    const Member* record = Record(*slot);
    if (record == nullptr || slot->in_sync || slot->resync_running) continue;
    if (record->witness && !SeededBug(kWitnessCountsAsCopy)) continue;
    if (!slot->connected) {
      StartKeeper(slot.get());
      continue;
    }
    slot->resync_running = true;
    if (!gate_.Spawn(Resync(slot.get()))) slot->resync_running = false;
  }
}

// --- Membership ---

io::Task<absl::Status> Segment::PrepareNew(Member member, Configuration* next) {
  MemberSlot* slot = SlotFor(member);
  if (slot == nullptr) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("volume ", in_force_.volume_name,
                     " has had too many members in this attachment: attach it again"));
  }
  if (slot->connected) co_return absl::OkStatus();
  co_await slot->port->Close();
  absl::StatusOr<replica::PrepareAnswer> answer =
      co_await slot->port->Prepare(epoch_, ShortDeadline());
  if (!answer.ok()) co_return answer.status();
  if (answer->configuration.has_value() && IsStranger(in_force_, *answer->configuration)) {
    co_await slot->port->Close();
    co_return absl::FailedPreconditionError(
        absl::StrCat("replica ", member.replica.ToString(), " of volume ", in_force_.volume_name,
                     " is of another history, which an operator left behind: delete it, and add a "
                     "new one"));
  }
  slot->incarnation = answer->incarnation;
  slot->progress = {};
  slot->removed = false;
  ++slot->session;
  slot->connected = true;
  Member* named = next->Find(member.pool, member.replica);
  if (named != nullptr) named->incarnation = answer->incarnation;
  co_return absl::OkStatus();
}

io::Task<absl::Status> Segment::AddMember(Member member, const Member* witness) {
  if (!health_.ok()) co_return health_;
  std::optional<Member> with;
  if (witness != nullptr) with = *witness;
  io::AsyncMutex::Guard guard = co_await config_.Lock();
  if (!health_.ok()) co_return health_;
  absl::StatusOr<Configuration> next = engine::AddMember(in_force_, member, with);
  if (!next.ok()) co_return next.status();
  // Every member, new or returning, is prepared before any other use (R1).
  CO_RETURN_IF_ERROR(co_await PrepareNew(member, &*next));
  if (with.has_value() && next->Find(with->pool, with->replica) != nullptr) {
    CO_RETURN_IF_ERROR(co_await PrepareNew(*with, &*next));
  }
  co_return co_await CommitMembership(std::move(*next));
}

io::Task<absl::Status> Segment::RemoveMember(pool::ReplicaId replica, const Member* witness) {
  if (!health_.ok()) co_return health_;
  std::optional<Member> with;
  if (witness != nullptr) with = *witness;
  io::AsyncMutex::Guard guard = co_await config_.Lock();
  if (!health_.ok()) co_return health_;
  absl::StatusOr<Configuration> next = engine::RemoveMember(in_force_, replica, with);
  if (!next.ok()) co_return next.status();
  if (with.has_value() && next->Find(with->pool, with->replica) != nullptr) {
    CO_RETURN_IF_ERROR(co_await PrepareNew(*with, &*next));
  }
  co_return co_await CommitMembership(std::move(*next));
}

io::Task<absl::Status> Segment::CommitMembership(Configuration next) {
  CO_RETURN_IF_ERROR(co_await Commit(std::move(next)));
  absl::StatusOr<Configuration> finished = FinishMembership(in_force_);
  if (!finished.ok()) co_return finished.status();
  CO_RETURN_IF_ERROR(co_await Commit(std::move(*finished)));
  // Whoever is no member any more is let go of, so that it can be deleted.
  for (const auto& slot : slots_) {
    if (!slot->removed) continue;
    slot->connected = false;
    co_await slot->port->Close();
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Segment::SetMinInSync(std::uint32_t copies) {
  io::AsyncMutex::Guard guard = co_await config_.Lock();
  if (!health_.ok()) co_return health_;
  absl::StatusOr<Configuration> next = engine::SetMinInSync(in_force_, copies);
  if (!next.ok()) co_return next.status();
  co_return co_await Commit(std::move(*next));
}

io::Task<void> Segment::FinishChange() {
  // A change of the membership that an earlier engine began: both majorities have accepted it now.
  io::AsyncMutex::Guard guard = co_await config_.Lock();
  if (!health_.ok()) co_return;
  absl::StatusOr<Configuration> next = FinishMembership(in_force_);
  if (!next.ok()) co_return;  // somebody else has
  absl::Status committed = co_await Commit(std::move(*next));
  if (!committed.ok()) {
    KEEL_LOG_WARN("event=membership_not_finished volume={} reason=\"{}\"", in_force_.volume_name,
                  std::string(committed.message()));
  }
}

std::string Segment::ProblemOf(const MemberSlot& slot) const {
  if (!slot.problem.empty()) return slot.problem;
  std::string slow = SpeedProblem(slot);
  if (!slow.empty() || slot.in_sync || slot.resync_problem.empty()) return slow;
  return absl::StrCat("the last try to bring it up to date failed: ", slot.resync_problem);
}

SegmentStatus Segment::Status() const {
  SegmentStatus status;
  status.configuration = in_force_;
  status.regions_to_reconcile = unreconciled_.size();
  status.scrub = scrub_;
  status.health = health_.ok() ? frozen_ : health_;
  std::vector<std::string> missing;
  for (const auto& slot : slots_) {
    const Member* record = Record(*slot);
    if (record == nullptr) continue;
    MemberStatus one;
    one.member = *record;
    one.connected = slot->connected;
    one.problem = ProblemOf(*slot);
    one.resync_regions_left = slot->missing_regions.size();
    one.resync_copied_bytes = slot->copied_bytes;
    if (!slot->connected) {
      missing.push_back(
          absl::StrCat("replica ", slot->member.replica.ToString(), " at ",
                       slot->member.address.empty() ? "this node" : slot->member.address,
                       slot->problem.empty() ? "" : ": ", slot->problem));
    }
    status.members.push_back(std::move(one));
  }
  const auto connected = [this](const Member& member) {
    const MemberSlot* slot = FindSlot(member.replica);
    return slot != nullptr && slot->connected;
  };
  std::string who;
  for (const std::string& one : missing) absl::StrAppend(&who, who.empty() ? "" : "; ", one);
  if (!replica::HasMajority(under_way_ ? *under_way_ : in_force_, connected)) {
    status.waiting_for = absl::StrCat("a majority of the members; not reached: ", who);
  } else if (!AnyInSyncConnected()) {
    status.waiting_for = absl::StrCat("a copy that has everything; not reached: ", who);
  } else if (!EnoughInSync()) {
    status.waiting_for =
        absl::StrCat(in_force_.min_in_sync, " copies that have everything (there are ",
                     in_force_.in_sync_count(), "); not reached: ", who);
  } else if (Degrading()) {
    status.waiting_for = "the record that a member missed something";
  }
  return status;
}

}  // namespace keelson::engine
