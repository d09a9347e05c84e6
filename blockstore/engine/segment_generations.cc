// Segment: generations (R10), snapshots (R15), growth, heartbeats, and the end of an attachment.

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
using replica::RangeLock;

// --- Generations ---

void Segment::ArmRoll() {
  wrote_since_roll_ = true;
  if (closing_) return;
  bool early = false;
  for (const auto& slot : slots_) early = early || slot->port->wants_new_generation();
  if (rolling_.locked() || (roll_timer_.armed && !early)) return;
  if (roll_timer_.armed && roll_timer_.when_ns <= reactor_->NowNanos()) return;
  reactor_->CancelTimer(&roll_timer_);
  roll_timer_.when_ns = reactor_->NowNanos() + (early ? 0 : options_.generation_interval_ns);
  reactor_->StartTimer(&roll_timer_);
}

io::Task<void> Segment::TimedRoll() {
  const bool wrote = std::exchange(wrote_since_roll_, false);
  absl::Status status = co_await RollGeneration();
  if (!status.ok()) {
    KEEL_LOG_DEBUG("event=generation_not_clean volume={} segment={} reason=\"{}\"",
                   in_force_.volume_name, in_force_.segment, std::string(status.message()));
    if (health().ok()) ArmRoll();
    co_return;
  }
  // One more after the last write: it stores the checksums of the regions carried over.
  if (wrote || wrote_since_roll_) {
    ArmRoll();
    wrote_since_roll_ = false;
  }
}

io::Task<absl::Status> Segment::RollGeneration() {
  io::AsyncMutex::Guard guard = co_await rolling_.Lock();
  if (!health_.ok()) co_return health_;
  if (!frozen_.ok()) co_return frozen_;
  co_return co_await EndGeneration();
}

io::Task<absl::Status> Segment::EndGeneration() {
  const pool::Generation closing = generations_.Roll();
  std::int64_t waits_ns = 0;
  while (!generations_.HasEnded(closing) && !SeededBug(kCleanBeforeWritesEnd)) {
    if (!health_.ok()) co_return health_;
    co_await WaitForChange(&waits_ns);
  }
  Legs legs;
  for (const auto& slot : slots_) {
    if (slot->takes_writes()) legs.Add(slot.get());
  }
  if (legs.count() == 0) co_return absl::UnavailableError("no member is connected");
  const std::int64_t deadline_ns = Deadline();
  co_await FanOut(&legs, [closing, deadline_ns](replica::ReplicaPort* port) {
    return port->EndGeneration(closing, deadline_ns);
  });
  std::uint64_t flushed = 0;
  absl::Status failure;
  for (const Leg& leg : legs) {
    if (leg.status.ok()) {
      flushed |= leg.slot->bit();
    } else {
      failure = leg.status;
    }
  }
  bool any = false;
  for (const auto& slot : slots_) any = any || (slot->in_sync && (flushed & slot->bit()) != 0);
  if (!any && !failure.ok() && IsMembersOwn(failure)) {
    // Every copy failed to flush. A flush of the client's will say so; nothing is clean by this.
    co_return failure;
  }
  for (const Leg& leg : legs) {
    if (!leg.status.ok()) MemberFailed(leg);
  }
  ++counters_.generations;
  io::AsyncMutex::Guard guard = co_await config_.Lock();
  if (!health_.ok()) co_return health_;
  // R10: clean only if exactly those that flushed are InSync, and if they are known to be equal.
  for (const auto& slot : slots_) {
    const replica::Member* record = Record(*slot);
    const bool in_sync = record != nullptr && record->state == replica::MemberState::kInSync;
    if (in_sync && (flushed & slot->bit()) == 0 && !SeededBug(kCleanWithFailedMember)) {
      co_return absl::UnavailableError(
          absl::StrCat("volume ", in_force_.volume_name,
                       ": a member failed or joined while the generation ended"));
    }
  }
  if (!unreconciled_.empty() && !SeededBug(kCleanWhileUnreconciled)) {
    co_return absl::UnavailableError(absl::StrCat("volume ", in_force_.volume_name, " has ",
                                                  unreconciled_.size(),
                                                  " regions that are not reconciled yet"));
  }
  absl::StatusOr<Configuration> next = AdvanceClean(in_force_, closing);
  if (!next.ok()) co_return next.status();
  co_return co_await Commit(std::move(*next));
}

// --- Snapshots and size ---

io::Task<absl::Status> Segment::HoldWrites(std::int64_t limit_ns) {
  if (!health_.ok()) co_return health_;
  if (barrier_.has_value() || hold_under_way_) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("volume ", in_force_.volume_name, " is being snapshotted already"));
  }
  hold_under_way_ = true;
  hold_given_up_ = false;
  absl::Status held = co_await TakeBarrier(limit_ns);
  hold_under_way_ = false;
  if (held.ok() && hold_given_up_) held = HoldGivenUp();
  if (!held.ok()) barrier_.reset();
  co_return held;
}

io::Task<absl::Status> Segment::TakeBarrier(std::int64_t limit_ns) {
  for (;;) {
    CO_RETURN_IF_ERROR(co_await AwaitSettled(limit_ns));
    // Shared: writes, trims and copying wait; reads change nothing.
    barrier_.emplace(&ranges_, 0, UINT64_MAX, RangeLock::kShared);
    RangeLock::Hold& barrier = *barrier_;
    if (SeededBug(kSealWithoutHold)) barrier.Release();
    co_await barrier;
    if (hold_given_up_) co_return HoldGivenUp();
    // Not settled: a write before the barrier failed half-way, or a member was lost.
    bool short_of_copies = !Settled();
    if (!short_of_copies) {
      absl::Status flushed = co_await FlushMembers(&short_of_copies);
      if (flushed.ok() || !short_of_copies) co_return flushed;
    }
    barrier_.reset();  // whoever is to bring the copies back needs what it holds
  }
}

void Segment::ReleaseWrites() {
  if (!hold_under_way_) {
    barrier_.reset();
    return;
  }
  hold_given_up_ = true;
  changed_.WakeAll();
  if (hold_under_way_ && barrier_.has_value()) barrier_->Cancel();
}

absl::Status Segment::HoldGivenUp() const {
  return absl::AbortedError(absl::StrCat("volume ", in_force_.volume_name,
                                         ": writes were released before all of them were held"));
}

bool Segment::Settled() const { return unreconciled_.empty() && !Degrading() && EnoughInSync(); }

io::Task<absl::Status> Segment::AwaitSettled(std::int64_t limit_ns) {
  // Sealed layers must be equal on all members, so nothing may be left to reconcile (R15).
  while (!Settled()) {
    if (!health_.ok()) co_return health_;
    if (!frozen_.ok()) co_return frozen_;
    if (hold_given_up_) co_return HoldGivenUp();
    if (reactor_->NowNanos() >= limit_ns) {
      const std::string what =
          unreconciled_.empty() ? Status().waiting_for
                                : absl::StrCat(unreconciled_.size(), " regions to be reconciled");
      co_return absl::UnavailableError(absl::StrCat("volume ", in_force_.volume_name, " waits for ",
                                                    what, "; try again when it has them"));
    }
    if (!unreconciled_.empty()) StartReconcile();
    co_await WaitUntil(limit_ns);
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Segment::Seal(replica::ConfiguredSnapshot snapshot) {
  KEEL_CHECK(barrier_.has_value(), "a snapshot is sealed while writes are held");
  io::AsyncMutex::Guard rolling = co_await rolling_.Lock();
  snapshot.sealed = generations_.Roll();
  snapshot.size_bytes = in_force_.size_bytes;
  io::AsyncMutex::Guard guard = co_await config_.Lock();
  if (!health_.ok()) co_return health_;
  absl::StatusOr<Configuration> next = AddSnapshot(in_force_, std::move(snapshot));
  if (!next.ok()) co_return next.status();
  absl::Status committed = co_await Commit(std::move(*next));
  ArmRoll();
  co_return committed;
}

io::Task<absl::Status> Segment::CompleteSnapshot(pool::SnapshotId id) {
  io::AsyncMutex::Guard guard = co_await config_.Lock();
  if (!health_.ok()) co_return health_;
  absl::StatusOr<Configuration> next = engine::CompleteSnapshot(in_force_, id);
  if (!next.ok()) co_return next.status();
  co_return co_await Commit(std::move(*next));
}

io::Task<absl::Status> Segment::DeleteSnapshot(pool::SnapshotId id) {
  // While it is gone at one member and still there at another nothing may be copied between them.
  RangeLock::Hold everything(&ranges_, 0, UINT64_MAX, RangeLock::kExclusive);
  co_await everything;
  io::AsyncMutex::Guard guard = co_await config_.Lock();
  if (!health_.ok()) co_return health_;
  absl::StatusOr<Configuration> next = RemoveSnapshot(in_force_, id);
  if (!next.ok()) co_return next.status();
  CO_RETURN_IF_ERROR(co_await Commit(std::move(*next)));
  if (in_force_.members.size() == 1) co_return absl::OkStatus();
  co_return co_await Confirm();
}

io::Task<absl::Status> Segment::Grow(std::uint64_t size_bytes) {
  io::AsyncMutex::Guard guard = co_await config_.Lock();
  if (!health_.ok()) co_return health_;
  if (size_bytes == in_force_.size_bytes) co_return absl::OkStatus();
  absl::StatusOr<Configuration> next = engine::Grow(in_force_, size_bytes);
  if (!next.ok()) co_return next.status();
  co_return co_await Commit(std::move(*next));
}

io::Task<absl::Status> Segment::SetSegmentCount(std::uint32_t count) {
  io::AsyncMutex::Guard guard = co_await config_.Lock();
  if (!health_.ok()) co_return health_;
  absl::StatusOr<Configuration> next = engine::SetSegmentCount(in_force_, count);
  if (!next.ok()) co_return next.status();
  co_return co_await Commit(std::move(*next));
}

// --- Heartbeats ---

void Segment::ArmTick() {
  if (tick_timer_.armed || closing_ || !health_.ok()) return;
  // A segment whose members all are of this process has nobody to listen for.
  const bool remote = std::any_of(slots_.begin(), slots_.end(),
                                  [](const auto& slot) { return !slot->local && !slot->removed; });
  if (!remote && waiting_ == 0) return;
  tick_timer_.when_ns = reactor_->NowNanos() + options_.lease_ns / 3;
  reactor_->StartTimer(&tick_timer_);
}

void Segment::OnTick() {
  if (closing_) return;
  if (waiting_ > 0) changed_.WakeAll();  // limits may have passed
  // Nobody needs the lease of a volume at rest; that its members are there is still looked at.
  constexpr std::uint64_t kQuietTicks = 6;
  quiet_ticks_ = std::exchange(asked_since_tick_, false) ? 0 : quiet_ticks_ + 1;
  if (quiet_ticks_ < 2 || quiet_ticks_ % kQuietTicks == 0) SendHeartbeats();
  ArmTick();
}

void Segment::SendHeartbeats() {
  for (const auto& slot : slots_) {
    if (!slot->connected || slot->heartbeat_in_flight) continue;
    if (slot->local) {
      // What is in this process can be looked at.
      if (slot->port->open()) {
        lease_.OnAnswered(slot->member.replica, reactor_->NowNanos());
        continue;
      }
    }
    slot->heartbeat_in_flight = true;
    if (!gate_.Spawn(Beat(slot.get()))) slot->heartbeat_in_flight = false;
  }
}

io::Task<void> Segment::Beat(MemberSlot* slot) {
  const std::uint64_t session = slot->session;
  const std::int64_t sent_ns = reactor_->NowNanos();
  absl::Status status = co_await slot->port->Heartbeat(ShortDeadline());
  slot->heartbeat_in_flight = false;
  if (status.ok()) {
    lease_.OnAnswered(slot->member.replica,
                      SeededBug(kLeaseFromAnswer) ? reactor_->NowNanos() : sent_ns);
    if (waiting_ > 0) changed_.WakeAll();
  } else {
    MemberFailed(slot, session, status);
  }
}

// --- The end ---

io::Task<absl::Status> Segment::Close() {
  if (closed_) co_return absl::OkStatus();
  closing_ = true;
  reactor_->CancelTimer(&roll_timer_);
  // What waits for members that do not come is not waited for in turn.
  const std::int64_t limit_ns = reactor_->NowNanos() + 2 * options_.member_timeout_ns;
  while (in_flight_ > 0 && health_.ok() && reactor_->NowNanos() < limit_ns) {
    co_await WaitUntil(limit_ns);
  }
  absl::Status status = health_.ok() ? frozen_ : health_;
  if (status.ok() && in_flight_ > 0) {
    status = absl::UnavailableError(absl::StrCat("volume ", in_force_.volume_name,
                                                 " is detached while I/O waits for ",
                                                 Status().waiting_for));
  }
  if (status.ok() && phase_ == Phase::kServing && !options_.read_only)
    status = co_await LastGeneration(limit_ns);
  if (health_.ok()) {
    health_ =
        absl::UnavailableError(absl::StrCat("volume ", in_force_.volume_name, " is detached"));
  }
  changed_.WakeAll();
  // Calls to members end by this, and with them what runs in the gate.
  for (const auto& slot : slots_) co_await slot->port->Close();
  while (in_flight_ > 0) co_await changed_.Wait();
  co_await gate_.Close();
  for (const auto& slot : slots_) co_await slot->port->Close();
  reactor_->CancelTimer(&roll_timer_);
  reactor_->CancelTimer(&tick_timer_);
  reactor_->CancelTimer(&wake_timer_);
  barrier_.reset();
  closed_ = true;
  co_return status;
}

io::Task<absl::Status> Segment::LastGeneration(std::int64_t limit_ns) {
  // In the gate, so that a majority that does not come cannot hold up the detachment for ever.
  bool done = false;
  absl::Status status;
  if (!gate_.Spawn(RunLastGeneration(limit_ns, &done, &status))) co_return health_;
  while (!done && reactor_->NowNanos() < limit_ns) co_await WaitUntil(limit_ns);
  if (!done) {
    const std::string waits_for = Status().waiting_for;
    Fail(absl::UnavailableError(absl::StrCat(
        "volume ", in_force_.volume_name, " is detached without its last generation being clean; ",
        waits_for.empty() ? std::string(status.message()) : "it waited for " + waits_for)));
    for (const auto& slot : slots_) co_await slot->port->Close();
    while (!done) co_await changed_.Wait();
    co_return health_;
  }
  co_return status;
}

io::Task<void> Segment::RunLastGeneration(std::int64_t limit_ns, bool* done, absl::Status* status) {
  for (;;) {
    *status = co_await RollGeneration();
    // Again when a member came or went in its midst, or while regions are still being reconciled.
    if (status->ok() || !health().ok() || reactor_->NowNanos() >= limit_ns) break;
    co_await WaitUntil(std::min(limit_ns, reactor_->NowNanos() + options_.reconnect_interval_ns));
  }
  *done = true;
  changed_.WakeAll();
}

}  // namespace keelson::engine
