// Segment: the attach (R1, R2, R3, R9, R14). What is decided is AttachPlan's.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/engine/attach_plan.h"
#include "blockstore/engine/segment.h"
#include "blockstore/engine/segment_fan_out.h"
#include "blockstore/io/log.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"

namespace keelson::engine {

io::Task<absl::StatusOr<std::unique_ptr<SegmentEngine>>> SegmentEngine::Attach(
    io::Reactor* reactor, PortFactory* ports, SegmentHint hint, pool::Epoch epoch,
    SegmentOptions options) {
  auto segment = std::make_unique<Segment>(reactor, ports, epoch, options);
  absl::Status started = co_await segment->Start(std::move(hint));
  if (!started.ok()) co_return started;
  co_return std::unique_ptr<SegmentEngine>(std::move(segment));
}

io::Task<absl::Status> Segment::Start(SegmentHint hint) {
  in_force_.volume = hint.volume;
  in_force_.segment = hint.segment;
  AttachPlan plan(hint, epoch_, reactor_->NowNanos(), options_);
  absl::Status status = co_await Attach(&plan);
  if (status.ok()) {
    UpdateSlots();
    StartKeepers();
    if (Degrading()) StartDegrade();
    status = co_await CollectUnreconciled();
    phase_ = Phase::kServing;
  }
  if (!status.ok()) {
    Fail(status);
    // Why it failed is known; how its sessions end adds nothing.
    (void)co_await Close();
    co_return status;
  }
  KEEL_LOG_INFO("event=segment_attached volume={} epoch={}.{} {}", in_force_.volume_name,
                epoch_.attachment, epoch_.restart, ToString(in_force_));
  if (in_force_.forced == epoch_) {
    KEEL_LOG_WARN("event=forced volume={} segment={} replica={}", in_force_.volume_name,
                  in_force_.segment, in_force_.members.front().replica.ToString());
  }
  StartReconcile();
  StartResyncs();
  StartQuarantines();
  if (!in_force_.predecessor.empty()) gate_.Spawn(FinishChange());
  ArmTick();
  co_return absl::OkStatus();
}

io::Task<void> Segment::PrepareForAttach(AttachPlan* plan, MemberSlot* slot) {
  co_await slot->port->Close();
  absl::StatusOr<replica::PrepareAnswer> answer =
      co_await slot->port->Prepare(epoch_, ShortDeadline());
  const std::int64_t now_ns = reactor_->NowNanos();
  if (phase_ != Phase::kPreparing) {
    // Too late for the first configuration, which it would have to have: the keeper asks again.
  } else if (answer.ok()) {
    slot->incarnation = answer->incarnation;
    slot->progress = answer->progress;
    ++slot->session;
    slot->connected = answer->configuration.has_value();
    slot->problem = slot->connected ? "" : "it has no readable record";
    plan->OnAnswer(slot->member, *answer, now_ns);
  } else {
    slot->problem = std::string(answer.status().message());
    plan->OnFailure(slot->member, answer.status());
    // A pause before the next try; the plan asks again.
    const std::int64_t until_ns = now_ns + options_.reconnect_interval_ns;
    changed_.WakeAll();
    while (phase_ == Phase::kPreparing && health_.ok() && reactor_->NowNanos() < until_ns) {
      co_await WaitUntil(until_ns);
    }
  }
  slot->preparing = false;
  if (phase_ != Phase::kPreparing && health_.ok() && Voter(*slot) != nullptr) StartKeeper(slot);
  changed_.WakeAll();
}

void Segment::StartKeepers() {
  for (const auto* members : {&in_force_.members, &in_force_.predecessor}) {
    for (const replica::Member& member : *members) {
      MemberSlot* slot = SlotFor(member);
      if (slot != nullptr && !slot->connected) StartKeeper(slot);
    }
  }
}

io::Task<absl::Status> Segment::Attach(AttachPlan* plan) {
  const std::int64_t started_ns = reactor_->NowNanos();
  const std::int64_t limit_ns = options_.attach_limit_ns;
  absl::Status status;
  for (;;) {
    const std::int64_t now_ns = reactor_->NowNanos();
    // A session may have ended after its answer.
    for (const auto& slot : slots_) {
      if (!slot->connected || slot->port->open()) continue;
      slot->connected = false;
      plan->OnFailure(slot->member, absl::UnavailableError("its session ended"));
    }
    const AttachDecision decision = plan->Decide(now_ns);
    if (decision.kind == AttachDecision::Kind::kFenced) {
      status = decision.status;
      break;
    }
    if (decision.kind == AttachDecision::Kind::kReady) {
      in_force_ = *decision.first;
      phase_ = Phase::kFirst;
      changed_.WakeAll();
      // The votes of those whose sessions have ended since they answered may be needed.
      UpdateSlots();
      StartKeepers();
      io::AsyncMutex::Guard guard = co_await config_.Lock();
      if (SeededBug(kFirstConfigurationNotCommitted)) break;
      status = co_await Commit(*decision.first);
      // A member may have sealed for a snapshot that never came into force. It drops that layer
      // now, so that layers are the same everywhere before anything is copied.
      if (status.ok() && in_force_.data_member_count() > 1) status = co_await Confirm();
      break;
    }
    if (decision.kind == AttachDecision::Kind::kRefused &&
        (absl::IsFailedPrecondition(decision.status) ||
         (limit_ns > 0 && now_ns - started_ns >= limit_ns))) {
      status = decision.status;
      break;
    }
    for (const replica::Member& member : plan->ToPrepare()) {
      MemberSlot* slot = SlotFor(member);
      if (slot == nullptr || slot->preparing) continue;
      slot->preparing = true;
      if (!gate_.Spawn(PrepareForAttach(plan, slot))) slot->preparing = false;
    }
    std::int64_t wake_ns = now_ns + options_.reconnect_interval_ns;
    if (decision.kind == AttachDecision::Kind::kWait) {
      wake_ns = std::min(wake_ns, decision.until_ns);
    }
    if (wake_ns > reactor_->NowNanos()) co_await WaitUntil(wake_ns);
  }
  // `plan` is this call's: nobody may be left who tells it something.
  if (!status.ok()) Fail(status);
  phase_ = Phase::kFirst;
  changed_.WakeAll();
  for (;;) {
    const bool preparing =
        std::any_of(slots_.begin(), slots_.end(), [](const auto& slot) { return slot->preparing; });
    if (!preparing) break;
    co_await changed_.Wait();
  }
  co_return status;
}

void Segment::StartQuarantines() {
  if (!in_force_.was_forced() || SeededBug(kForceTellsNobody)) return;
  for (const auto& slot : slots_) {
    const auto& before = in_force_.predecessor;
    const bool leaving = std::any_of(before.begin(), before.end(), [&slot](const auto& member) {
      return member.SameReplica(slot->member);
    });
    if (Record(*slot) != nullptr || leaving) continue;
    slot->connected = false;
    slot->removed = true;
    gate_.Spawn(Quarantine(slot.get()));
  }
}

io::Task<void> Segment::Quarantine(MemberSlot* slot) {
  constexpr std::int64_t kPauseGrowth = 2;
  std::int64_t pause_ns = options_.reconnect_interval_ns;
  const std::int64_t pause_ns_max = 16 * options_.reconnect_interval_ns;
  co_await reactor_->Yield();
  while (health_.ok() && !closing_) {
    absl::Status told = co_await TellOfForce(slot);
    if (told.ok()) break;
    // An engine of a higher epoch has it, which decides by itself what it is. One that is not found
    // may be in a pool that is not open yet.
    if (absl::IsAborted(told)) break;
    slot->problem = std::string(told.message());
    co_await Pause(reactor_->NowNanos() + pause_ns);
    pause_ns = std::min(kPauseGrowth * pause_ns, pause_ns_max);
  }
  co_await slot->port->Close();
}

io::Task<absl::Status> Segment::TellOfForce(MemberSlot* slot) {
  co_await slot->port->Close();
  absl::StatusOr<replica::PrepareAnswer> answer =
      co_await slot->port->Prepare(epoch_, ShortDeadline());
  if (!answer.ok()) co_return answer.status();
  const std::optional<replica::Configuration>& record = answer->configuration;
  // Without a record it is nothing that could go on; and one of this history was removed from it.
  if (!record.has_value() || record->forced >= in_force_.forced ||
      record->succeeded_by >= in_force_.forced) {
    co_return absl::OkStatus();
  }
  replica::Configuration current = in_force_;
  absl::Status told = co_await slot->port->Accept(std::move(current), Deadline());
  if (told.ok()) {
    KEEL_LOG_WARN("event=quarantined volume={} segment={} replica={}", in_force_.volume_name,
                  in_force_.segment, slot->member.replica.ToString());
  }
  co_return told;
}

io::Task<absl::Status> Segment::CollectUnreconciled() {
  // One copy cannot differ from itself.
  if (in_force_.in_sync_count() < 2 || SeededBug(kNoReconcile)) co_return absl::OkStatus();
  // All of them, or they are marked out: one whose notes are not known must not count as InSync.
  std::uint64_t collected = 0;
  std::int64_t waits_ns = 0;
  while (health_.ok()) {
    MemberSlot* next = nullptr;
    bool missing = false;
    for (const auto& slot : slots_) {
      if (!slot->in_sync || (collected & slot->bit()) != 0) continue;
      missing = true;
      if (slot->connected && next == nullptr) next = slot.get();
    }
    if (!missing) break;
    if (next == nullptr) {
      co_await WaitForChange(&waits_ns);
      continue;
    }
    const std::uint64_t session = next->session;
    std::vector<replica::RegionNote> notes;
    absl::Status status = co_await ListNotes(next, in_force_.clean, 0, UINT32_MAX, &notes);
    if (!status.ok()) {
      MemberFailed(next, session, status);
      continue;
    }
    collected |= next->bit();
    for (const replica::RegionNote& note : notes) unreconciled_.insert(note.region);
  }
  co_return health_;
}

}  // namespace keelson::engine
