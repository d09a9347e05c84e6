#include "blockstore/engine/segment.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/engine/segment_fan_out.h"
#include "blockstore/io/log.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"

namespace keelson::engine {

using replica::RangeLock;

// Counts a request, so that Close can wait for it.
class Segment::InFlight {
 public:
  explicit InFlight(Segment* segment) : segment_(segment) {
    ++segment_->in_flight_;
    segment_->asked_since_tick_ = true;
  }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  ~InFlight() {
    if (--segment_->in_flight_ == 0) segment_->changed_.WakeAll();
  }

 private:
  Segment* segment_;
};

Segment::Segment(io::Reactor* reactor, PortFactory* ports, pool::Epoch epoch,
                 SegmentOptions options)
    : reactor_(reactor),
      ports_(ports),
      epoch_(epoch),
      options_(options),
      lease_(options.lease_ns),
      generations_(epoch),
      speeds_(options.slow) {
  slots_.reserve(kSlotsMax);
  roll_timer_.owner = this;
  roll_timer_.fire = [](io::TimerNode* timer) {
    auto* segment = static_cast<Segment*>(timer->owner);
    segment->gate_.Spawn(segment->TimedRoll());
  };
  tick_timer_.owner = this;
  tick_timer_.fire = [](io::TimerNode* timer) { static_cast<Segment*>(timer->owner)->OnTick(); };
  wake_timer_.owner = this;
  wake_timer_.fire = [](io::TimerNode* timer) {
    static_cast<Segment*>(timer->owner)->changed_.WakeAll();
  };
}

Segment::~Segment() { KEEL_CHECK(closed_, "a segment's engine is closed before it is destroyed"); }

void Segment::Fail(absl::Status why) {
  if (!health_.ok()) return;
  health_ = std::move(why);
  if (absl::IsAborted(health_)) ++counters_.fenced;
  KEEL_LOG_WARN("event=attachment_ended volume={} segment={} epoch={}.{} reason=\"{}\"",
                in_force_.volume_name, in_force_.segment, epoch_.attachment, epoch_.restart,
                std::string(health_.message()));
  changed_.WakeAll();
}

io::Task<void> Segment::WaitForChange(std::int64_t* since_ns) {
  if (!health_.ok()) co_return;
  if (*since_ns == 0) *since_ns = reactor_->NowNanos();
  ++waiting_;
  ArmTick();
  co_await changed_.Wait();
  --waiting_;
  const std::int64_t limit_ns = options_.backlog_limit_ns;
  if (limit_ns > 0 && health_.ok() && reactor_->NowNanos() - *since_ns > limit_ns) {
    Fail(absl::UnavailableError(absl::StrCat("volume ", in_force_.volume_name, ": I/O waited for ",
                                             limit_ns / 1'000'000'000, " s (", Status().waiting_for,
                                             "); attach the volume again")));
  }
}

io::Task<void> Segment::WaitUntil(std::int64_t when_ns) {
  if (!wake_timer_.armed || wake_timer_.when_ns > when_ns) {
    reactor_->CancelTimer(&wake_timer_);
    wake_timer_.when_ns = when_ns;
    reactor_->StartTimer(&wake_timer_);
  }
  co_await changed_.Wait();
}

io::Task<void> Segment::Pause(std::int64_t until_ns) {
  while (health_.ok() && reactor_->NowNanos() < until_ns) co_await WaitUntil(until_ns);
}

bool Segment::EnoughInSync() const {
  return in_force_.in_sync_count() >= in_force_.min_in_sync || SeededBug(kAckWithoutMinInSync);
}

// --- Writes and trims ---

io::Task<absl::Status> Segment::Write(std::uint64_t offset, std::span<const std::byte> from) {
  Change change;
  change.offset = offset;
  change.size_bytes = from.size();
  change.data = from.data();
  co_return co_await RunChange(&change);
}

io::Task<absl::Status> Segment::Trim(std::uint64_t offset, std::uint64_t size_bytes) {
  Change change;
  change.trim = true;
  change.offset = offset;
  change.size_bytes = size_bytes;
  co_return co_await RunChange(&change);
}

absl::Status Segment::Detaching() const {
  return absl::UnavailableError(
      absl::StrCat("volume ", in_force_.volume_name, " is being detached"));
}

io::Task<absl::Status> Segment::RunChange(Change* change) {
  if (closing_) co_return Detaching();
  InFlight in_flight(this);
  absl::Status status;
  {
    RangeLock::Hold hold(&ranges_, change->offset, change->offset + change->size_bytes,
                         RangeLock::kExclusive);
    co_await hold;
    if (!health_.ok()) co_return health_;
    if (!frozen_.ok()) co_return frozen_;
    change->generation = generations_.Enter();
    status = co_await Apply(change);
    generations_.Leave(change->generation);
    // A generation that ends by this may be waited for.
    if (generations_.waiting() > 0 || rolling_.locked()) changed_.WakeAll();
  }
  ArmRoll();
  // Too few copies (R7): the acknowledgement waits, but not with the range held, which the resync
  // that brings the next copy needs. A member that becomes InSync meanwhile has been given it.
  while (status.ok() && ((Degrading() && !SeededBug(kAckBeforeDegrade)) || !EnoughInSync())) {
    co_await WaitForChange(&change->waits_ns);
    status = health_;
  }
  co_return status;
}

io::Task<void> Segment::SendChange(Change* change, Legs* legs) {
  const std::int64_t deadline_ns = Deadline();
  const auto call = [change, deadline_ns](replica::ReplicaPort* port) {
    if (change->trim) {
      return port->Trim(change->offset, change->size_bytes, change->generation, deadline_ns);
    }
    return port->Write(change->offset, std::span(change->data, change->size_bytes),
                       change->generation, deadline_ns);
  };
  co_await FanOut(legs, call);
}

io::Task<absl::Status> Segment::Apply(Change* change) {
  for (;;) {
    if (!health_.ok()) co_return health_;
    // Also after a wait: a member that might have applied it may not be InSync any more.
    if (change->refused != 0 && SettleRefusals(change)) co_return change->refusal;
    Legs legs;
    for (const auto& slot : slots_) {
      if (slot->takes_writes() && ((change->applied | change->refused) & slot->bit()) == 0) {
        legs.Add(slot.get());
      }
    }
    if (legs.count() > 0) {
      co_await SendChange(change, &legs);
      for (const Leg& leg : legs) {
        if (leg.status.ok()) {
          change->applied |= leg.slot->bit();
        } else if (IsMembersOwn(leg.status) && Alive(*leg.slot, leg.session)) {
          change->refused |= leg.slot->bit();
          change->refusal = leg.status;
        } else {
          MemberFailed(leg);
        }
      }
      WatchSpeed(&legs);
      continue;
    }
    // Nobody is left to ask. Everyone who counts must have it, and nobody may be on his way out.
    bool everyone = !Degrading() || SeededBug(kAckBeforeDegrade);
    for (const auto& slot : slots_) {
      if (!slot->connected && SeededBug(kAckBeforeDegrade)) continue;
      if (slot->in_sync && (change->applied & slot->bit()) == 0) everyone = false;
    }
    if (everyone) co_return absl::OkStatus();
    co_await WaitForChange(&change->waits_ns);
  }
}

bool Segment::SettleRefusals(Change* change) {
  bool applied = false;
  for (const auto& slot : slots_) {
    if (slot->in_sync && (change->applied & slot->bit()) != 0) applied = true;
  }
  if (!applied) {
    bool waiting = false;  // for an InSync member that may yet have applied it
    for (const auto& slot : slots_) {
      if (slot->in_sync && ((change->applied | change->refused) & slot->bit()) == 0) waiting = true;
    }
    if (waiting) return false;
    // No InSync member could: the client's error. They may differ in what they did of it.
    if (!SeededBug(kRefusalLeavesDifference)) Unsettle(change->offset, change->size_bytes);
    return true;
  }
  if (SeededBug(kRefusalWithoutDegrade)) return true;
  for (const auto& slot : slots_) {
    if ((change->refused & slot->bit()) != 0) {
      change->refused &= ~slot->bit();
      MemberFailed(slot.get(), slot->session, change->refusal);
    }
  }
  return false;
}

// --- Flush ---

io::Task<absl::Status> Segment::Flush() {
  if (closing_) co_return Detaching();
  InFlight in_flight(this);
  co_return co_await FlushMembers(nullptr);
}

io::Task<absl::Status> Segment::FlushMembers(bool* short_of_copies) {
  std::uint64_t flushed = 0;
  std::int64_t waits_ns = 0;
  for (;;) {
    if (!health_.ok()) co_return health_;
    if (!frozen_.ok()) co_return frozen_;
    Legs legs;
    bool everyone = !Degrading() && EnoughInSync();
    for (const auto& slot : slots_) {
      if (!slot->in_sync || (flushed & slot->bit()) != 0) continue;
      everyone = false;
      if (legs.count() > 0 && SeededBug(kFlushOneMember)) continue;
      if (slot->connected) legs.Add(slot.get());
    }
    if (legs.count() > 0) {
      const std::int64_t deadline_ns = Deadline();
      co_await FanOut(
          &legs, [deadline_ns](replica::ReplicaPort* port) { return port->Flush(deadline_ns); });
      for (const Leg& leg : legs) {
        if (leg.status.ok() || SeededBug(kFlushFailureIgnored)) {
          flushed |= leg.slot->bit();
          if (SeededBug(kFlushOneMember)) co_return absl::OkStatus();
          continue;
        }
        MemberFailed(leg);
        // R8: it was the last copy, and what was not flushed can be relied on no more.
        if (!frozen_.ok()) co_return leg.status;
      }
      WatchSpeed(&legs);
      continue;
    }
    if (everyone) co_return absl::OkStatus();
    if (short_of_copies != nullptr && hold_given_up_) co_return HoldGivenUp();
    if (short_of_copies != nullptr && !Degrading() && !EnoughInSync()) {
      *short_of_copies = true;
      co_return absl::UnavailableError("there are too few copies that have everything");
    }
    co_await WaitForChange(&waits_ns);
  }
}

// --- Reads ---

MemberSlot* Segment::PickReader(std::uint64_t not_these) const {
  MemberSlot* found = nullptr;
  for (const auto& slot : slots_) {
    const replica::Member* record = Record(*slot);
    if (record == nullptr) continue;
    const bool reads = record->state == replica::MemberState::kInSync ||
                       (SeededBug(kReadFromSyncing) && slot->catching_up);
    if (!reads || !slot->connected || (not_these & slot->bit()) != 0) continue;
    if (slot->local) return slot.get();
    if (found == nullptr) found = slot.get();
  }
  return found;
}

io::Task<absl::Status> Segment::Read(std::uint64_t offset, std::span<std::byte> into) {
  if (closing_) co_return Detaching();
  InFlight in_flight(this);
  std::uint64_t bad_slots = 0;
  {
    for (;;) {
      if (AnyUnreconciled(offset, into.size()) && !SeededBug(kReadBeforeReconcile)) {
        CO_RETURN_IF_ERROR(co_await EnsureReconciled(offset, into.size()));
      }
      RangeLock::Hold hold(&ranges_, offset, offset + into.size(), RangeLock::kShared);
      if (SeededBug(kReadDuringWrite)) hold.Release();
      co_await hold;
      if (AnyUnreconciled(offset, into.size()) && !SeededBug(kReadBeforeReconcile)) {
        continue;  // a write that failed meanwhile
      }
      CO_RETURN_IF_ERROR(co_await ReadFrom(offset, into, &bad_slots));
      break;
    }
  }
  const std::int64_t arrived_ns = reactor_->NowNanos();
  CO_RETURN_IF_ERROR(co_await AwaitLease(arrived_ns));
  if (bad_slots != 0) gate_.Spawn(Repair(offset, into.size(), bad_slots));
  co_return absl::OkStatus();
}

io::Task<absl::Status> Segment::ReadFrom(std::uint64_t offset, std::span<std::byte> into,
                                         std::uint64_t* bad_slots) {
  std::int64_t waits_ns = 0;
  absl::Status last;
  for (;;) {
    if (!health_.ok()) co_return health_;
    MemberSlot* slot = PickReader(*bad_slots);
    if (slot == nullptr) {
      // Of those that are there nobody has good bytes. Others may come back; but with an error in
      // hand the client is not kept waiting for them.
      if (!last.ok()) co_return last;
      co_await WaitForChange(&waits_ns);
      continue;
    }
    const std::uint64_t session = slot->session;
    absl::Status status = co_await slot->port->Read(offset, into, Deadline());
    if (status.ok()) {
      if (slot->local && slot->port->open()) {
        lease_.OnAnswered(slot->member.replica, reactor_->NowNanos());
      }
      co_return absl::OkStatus();
    }
    if (IsMembersOwn(status)) {
      last = status;
      *bad_slots |= slot->bit();
      ++counters_.read_retries;
    } else {
      MemberFailed(slot, session, status);
    }
  }
}

io::Task<absl::Status> Segment::AwaitLease(std::int64_t arrived_ns) {
  std::int64_t waits_ns = 0;
  while (!lease_.ValidAt(in_force_, arrived_ns) && !SeededBug(kReadWithoutLease)) {
    if (!health_.ok()) co_return health_;
    SendHeartbeats();
    if (lease_.ValidAt(in_force_, arrived_ns)) break;
    co_await WaitForChange(&waits_ns);
  }
  co_return health_;
}

io::Task<absl::StatusOr<std::vector<replica::DataRun>>> Segment::Map(std::uint64_t offset,
                                                                     std::uint64_t size_bytes,
                                                                     std::size_t runs_max) {
  InFlight in_flight(this);
  std::int64_t waits_ns = 0;
  for (;;) {
    if (!health_.ok()) co_return health_;
    MemberSlot* slot = PickReader(0);
    if (slot == nullptr) {
      co_await WaitForChange(&waits_ns);
      continue;
    }
    const std::uint64_t session = slot->session;
    absl::StatusOr<std::vector<replica::DataRun>> runs =
        co_await slot->port->Map(offset, size_bytes, runs_max, Deadline());
    if (runs.ok() || IsMembersOwn(runs.status())) co_return runs;
    MemberFailed(slot, session, runs.status());
  }
}

}  // namespace keelson::engine
