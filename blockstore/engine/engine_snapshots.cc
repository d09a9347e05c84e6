// Engine: snapshots, and writes held for them (R15).

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/engine/engine.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/names.h"

namespace keelson::engine {

namespace {

// How long a snapshot waits for copies, or for regions to be made equal, before it fails.
constexpr std::int64_t kHoldPatienceNanos = 30'000'000'000;
// More than can still be asked for by calls that were on their way when their hold ended.
constexpr std::size_t kEndedHoldsMax = 256;

}  // namespace

// --- Snapshots ---

io::Task<absl::StatusOr<pool::SnapshotId>> Engine::Snapshot(std::string name,
                                                            std::int64_t created_unix_ns,
                                                            std::optional<pool::Uuid> hold) {
  if (detaching_) co_return Detaching();
  CO_RETURN_IF_ERROR(replica::CheckName("snapshot", name));
  InFlight in_flight(this);
  io::AsyncMutex::Guard guard = co_await snapshots_.Lock();
  if (hold.has_value()) {
    if (!hold_ || hold_->id != *hold) co_return HoldIsOver();
    if (hold_->snapshot == name) co_return hold_->snapshot_id;
  } else if (hold_) {
    co_return absl::FailedPreconditionError(absl::StrCat(
        "volume ", name_, ": writes are held for another snapshot; try again when it has ended"));
  }
  replica::ConfiguredSnapshot snapshot;
  snapshot.id = pool::SnapshotId(make_id_());
  snapshot.name = std::move(name);
  snapshot.created_unix_ns = created_unix_ns;
  // With one segment it is complete as soon as it is sealed.
  snapshot.complete = segments_.size() == 1;
  absl::Status status;
  if (hold.has_value()) {
    status = co_await CutUnderHold(snapshot);
  } else {
    status = co_await Cut(snapshot);
  }
  for (std::size_t i = 0; i < segments_.size() && status.ok() && !snapshot.complete; ++i) {
    status = co_await segments_[i]->CompleteSnapshot(snapshot.id);
  }
  if (status.ok()) co_return snapshot.id;
  if (hold.has_value()) EndHold();  // what is to be withdrawn needs the ranges
  co_await Withdraw(snapshot.id);
  co_return status;
}

io::Task<void> Engine::Withdraw(pool::SnapshotId id) {
  // What cannot be reached now is withdrawn by the next attach.
  for (const auto& segment : segments_) {
    absl::Status gone = co_await segment->DeleteSnapshot(id);
    if (!gone.ok() && !absl::IsNotFound(gone)) {
      KEEL_LOG_WARN("event=snapshot_not_withdrawn volume={} reason=\"{}\"", name_,
                    std::string(gone.message()));
    }
  }
}

io::Task<absl::Status> Engine::HoldAll(std::int64_t limit_ns, std::size_t* held) {
  for (*held = 0; *held < segments_.size(); ++*held) {
    if (hold_ && hold_->over) co_return HoldIsOver();
    CO_RETURN_IF_ERROR(co_await segments_[*held]->HoldWrites(limit_ns));
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Engine::SealAll(replica::ConfiguredSnapshot snapshot) {
  for (const auto& segment : segments_) {
    CO_RETURN_IF_ERROR(co_await segment->Seal(snapshot));
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Engine::Cut(replica::ConfiguredSnapshot snapshot) {
  std::size_t held = 0;
  absl::Status status = co_await HoldAll(reactor_->NowNanos() + kHoldPatienceNanos, &held);
  if (status.ok()) status = co_await SealAll(std::move(snapshot));
  for (std::size_t i = 0; i < held; ++i) segments_[i]->ReleaseWrites();
  co_return status;
}

io::Task<absl::Status> Engine::CutUnderHold(replica::ConfiguredSnapshot snapshot) {
  const std::string name = snapshot.name;
  const pool::SnapshotId id = snapshot.id;
  // Nothing is released while this is set, so the cut is of the moment that is held even if the
  // hold's time is up meanwhile.
  hold_->cutting = true;
  absl::Status sealed = co_await SealAll(std::move(snapshot));
  hold_->cutting = false;
  hold_->snapshot = name;
  hold_->snapshot_id = id;
  if (!sealed.ok() || hold_->over) EndHold();
  co_return sealed;
}

io::Task<absl::Status> Engine::DeleteSnapshot(pool::SnapshotId id) {
  InFlight in_flight(this);
  io::AsyncMutex::Guard guard = co_await snapshots_.Lock();
  // It needs the ranges, and would keep the cut waiting until the hold is over.
  if (hold_) {
    co_return absl::UnavailableError(absl::StrCat(
        "volume ", name_, ": writes are held for a snapshot; delete others when it has ended"));
  }
  std::size_t missing = 0;
  for (const auto& segment : segments_) {
    absl::Status deleted = co_await segment->DeleteSnapshot(id);
    if (absl::IsNotFound(deleted)) {
      ++missing;  // an earlier call got so far
    } else if (!deleted.ok()) {
      co_return deleted;
    }
  }
  if (missing < segments_.size()) co_return absl::OkStatus();
  co_return absl::NotFoundError(absl::StrCat("volume ", name_, " has no snapshot ", id.ToString()));
}

// --- Holds ---

io::Task<absl::Status> Engine::HoldWrites(pool::Uuid hold, std::int64_t duration_ns) {
  const std::int64_t limit_ns = reactor_->NowNanos() + duration_ns;
  InFlight in_flight(this);
  io::AsyncMutex::Guard guard = co_await snapshots_.Lock();
  if (detaching_) co_return Detaching();
  if (hold_ && hold_->id == hold) co_return absl::OkStatus();
  if (hold_) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("volume ", name_, ": writes are held already, by ", hold_->id.ToString()));
  }
  // Held again, a snapshot under it would be of another moment than the caller counts on.
  if (HasEnded(hold) || reactor_->NowNanos() >= limit_ns) co_return HoldIsOver();
  hold_.emplace();
  hold_->id = hold;
  hold_timer_.when_ns = limit_ns;
  reactor_->StartTimer(&hold_timer_);
  std::size_t held = 0;
  // Of a hold that begins at its very end there would be no use.
  absl::Status status = co_await HoldAll(limit_ns - duration_ns / 4, &held);
  if (status.ok() && hold_->over) status = HoldIsOver();
  hold_->beginning = false;
  if (!status.ok()) EndHold();
  co_return status;
}

void Engine::ReleaseWrites(pool::Uuid hold) {
  if (hold_ && hold_->id == hold) {
    EndHold();
  } else if (!HasEnded(hold)) {
    RememberEnded(hold);
  }
}

void Engine::EndHold() {
  if (!hold_) return;
  InFlight in_flight(this);  // who is let go may detach
  if (hold_->beginning || hold_->cutting) {
    hold_->over = true;
    if (hold_->cutting) return;
  } else {
    reactor_->CancelTimer(&hold_timer_);
    RememberEnded(hold_->id);
    hold_.reset();
  }
  for (std::size_t i = 0; i < segments_.size(); ++i) segments_[i]->ReleaseWrites();
}

void Engine::RememberEnded(pool::Uuid hold) {
  ended_holds_.push_back(hold);
  if (ended_holds_.size() > kEndedHoldsMax) ended_holds_.pop_front();
}

bool Engine::HasEnded(pool::Uuid hold) const {
  return std::find(ended_holds_.begin(), ended_holds_.end(), hold) != ended_holds_.end();
}

absl::Status Engine::HoldIsOver() const {
  return absl::AbortedError(absl::StrCat(
      "volume ", name_, ": the hold of its writes is over, or never was; begin with a new one"));
}

}  // namespace keelson::engine
