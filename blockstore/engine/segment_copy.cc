// Segment: making members equal: reconcile after a crash (R11), resync and rebuild (R12).

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/engine/segment.h"
#include "blockstore/engine/segment_fan_out.h"
#include "blockstore/engine/transitions.h"
#include "blockstore/io/log.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/pool.h"

namespace keelson::engine {

using pool::kExtentBytes;
using pool::kExtentsPerRegion;
using pool::kRegionBytes;
using replica::Configuration;
using replica::Member;
using replica::RangeLock;
using replica::RegionNote;

namespace {

constexpr std::size_t kNotesPerCall = 4096;
// Of a resync: one is begun, noted and listed while another is copied.
constexpr std::size_t kRegionsAtOnce = 2;

std::uint32_t RegionOf(std::uint64_t offset) {
  return static_cast<std::uint32_t>(offset / kRegionBytes);
}

}  // namespace

io::Task<absl::Status> Segment::ListNotes(MemberSlot* slot, pool::Generation above,
                                          std::uint32_t first, std::uint32_t last,
                                          std::vector<RegionNote>* notes) {
  while (first <= last) {
    const std::size_t count_max = first == last ? 1 : kNotesPerCall;
    absl::StatusOr<std::vector<RegionNote>> page =
        co_await slot->port->Notes(above, first, count_max, Deadline());
    if (!page.ok()) co_return page.status();
    for (const RegionNote& note : *page) {
      if (note.region > last) co_return absl::OkStatus();
      notes->push_back(note);
    }
    if (page->size() < count_max || page->back().region >= last) break;
    first = page->back().region + 1;
  }
  co_return absl::OkStatus();
}

// --- Copying ---

io::Task<absl::Status> Segment::CopyExtent(MemberSlot* source, MemberSlot* target,
                                           const pool::SnapshotId& layer, std::uint32_t extent) {
  // Not from the reactor's buffers: those who hold all of them may wait for this region.
  pool::HeaderBlock buffer(kExtentBytes);
  const std::uint64_t source_session = source->session;
  const pool::SnapshotId which = layer;
  absl::StatusOr<replica::ExtentContent> content =
      co_await source->port->ReadCopy(which, extent, buffer.span(), Deadline());
  if (!content.ok()) {
    // A block that the source cannot give is not the loss of the source.
    if (!IsMembersOwn(content.status())) MemberFailed(source, source_session, content.status());
    co_return content.status();
  }
  const std::uint64_t packed_bytes = content->data.Count() * pool::kBlockBytes;
  const std::uint64_t target_session = target->session;
  absl::Status written = co_await target->port->WriteCopy(
      which, extent, *content, buffer.span().first(packed_bytes), Deadline());
  if (!written.ok()) {
    MemberFailed(target, target_session, written);
    co_return written;
  }
  target->copied_bytes += packed_bytes;
  counters_.resync_copied_bytes += packed_bytes;
  co_return absl::OkStatus();
}

io::Task<void> Segment::RunCopyExtent(MemberSlot* source, MemberSlot* target,
                                      const pool::SnapshotId* layer, std::uint32_t extent,
                                      absl::Status* status, io::Latch* latch) {
  *status = co_await CopyExtent(source, target, *layer, extent);
  latch->Done();
}

io::Task<absl::Status> Segment::CopyExtents(MemberSlot* source, MemberSlot* target,
                                            const pool::SnapshotId& layer, std::uint32_t first,
                                            std::uint32_t count) {
  std::array<absl::Status, kExtentsPerRegion> ended;
  const pool::SnapshotId which = layer;
  io::Latch latch(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    if (gate_.Spawn(RunCopyExtent(source, target, &which, first + i, &ended[i], &latch))) continue;
    ended[i] = absl::UnavailableError("the volume is detached");
    latch.Done();
  }
  co_await latch;
  // The loss of a member says more than a block that it could not give.
  absl::Status worst;
  for (absl::Status& status : ended) {
    if (!status.ok() && (worst.ok() || IsMembersOwn(worst))) worst = std::move(status);
  }
  co_return worst;
}

io::Task<absl::Status> Segment::CopyRegion(MemberSlot* source, MemberSlot* target,
                                           std::uint32_t region, pool::Generation above) {
  std::vector<RegionNote> wanted;
  const std::uint64_t source_session = source->session;
  absl::Status listed = co_await ListNotes(source, above, region, region, &wanted);
  if (!listed.ok()) {
    MemberFailed(source, source_session, listed);
    co_return listed;
  }
  std::vector<RegionNote> theirs;
  const std::uint64_t target_session = target->session;
  if (!SeededBug(kResyncIgnoresOwnNotes)) {
    listed = co_await ListNotes(target, above, region, region, &theirs);
  }
  if (!listed.ok()) {
    MemberFailed(target, target_session, listed);
    co_return listed;
  }
  for (const RegionNote& note : theirs) {
    const bool known = std::any_of(wanted.begin(), wanted.end(), [&note](const RegionNote& one) {
      return one.layer == note.layer;
    });
    // A copy's generation is the source's note, which is not above `above` in this layer.
    if (!known) wanted.push_back({note.region, note.layer, above});
  }
  // Oldest first; what an extent of a layer hides is below it by then.
  std::vector<RegionNote> ordered;
  for (const replica::ConfiguredSnapshot& snapshot : in_force_.snapshots) {
    for (const RegionNote& note : wanted) {
      if (note.layer == snapshot.id) ordered.push_back(note);
    }
  }
  for (const RegionNote& note : wanted) {
    if (note.layer.is_nil()) ordered.push_back(note);
  }
  const std::uint64_t extents = (in_force_.size_bytes + kExtentBytes - 1) / kExtentBytes;
  const auto end = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(extents, (region + 1) * kExtentsPerRegion));
  for (const RegionNote& note : ordered) {
    absl::Status begun =
        co_await target->port->BeginCopy(note.layer, region, note.generation, Deadline());
    if (!begun.ok()) {
      MemberFailed(target, target_session, begun);
      co_return begun;
    }
    // All at once, so that the region is held for a short time, unless buffers are short: a copy
    // holds one until the other member, which needs one too, has answered.
    const io::BufferPool& buffers = reactor_->buffers();
    for (std::uint32_t extent = region * kExtentsPerRegion; extent < end;) {
      const bool plenty = buffers.free_bytes() >= buffers.arena().size() / 2;
      const std::uint32_t count = plenty ? end - extent : 1;
      CO_RETURN_IF_ERROR(co_await CopyExtents(source, target, note.layer, extent, count));
      extent += count;
    }
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Segment::CopyFromAny(Legs* targets, std::uint32_t region,
                                            pool::Generation above, MemberSlot** source) {
  std::uint64_t bad_slots = 0;
  absl::Status last = absl::UnavailableError("there is no copy to copy from");
  for (;;) {
    *source = PickReader(bad_slots);
    if (*source == nullptr) co_return last;
    const std::uint64_t session = (*source)->session;
    last = absl::OkStatus();
    for (const Leg& leg : *targets) {
      if (leg.slot == *source) continue;
      last = co_await CopyRegion(*source, leg.slot, region, above);
      if (!last.ok()) break;
    }
    if (last.ok()) break;
    for (const Leg& leg : *targets) {
      if (Alive(*leg.slot, leg.session)) continue;
      co_return absl::UnavailableError(
          absl::StrCat("a member failed while it was copied to: ", std::string(last.message())));
    }
    if (!IsMembersOwn(last) || !Alive(**source, session)) co_return last;
    // The source is there and cannot give a block of it.
    bad_slots |= (*source)->bit();
    ++counters_.read_retries;
  }
  if (bad_slots != 0) {
    const std::uint64_t offset = region * kRegionBytes;
    const std::uint64_t size_bytes = std::min(kRegionBytes, in_force_.size_bytes - offset);
    gate_.Spawn(Repair(offset, size_bytes, bad_slots));
  }
  co_return absl::OkStatus();
}

// --- Reconcile ---

bool Segment::AnyUnreconciled(std::uint64_t offset, std::uint64_t size_bytes) const {
  if (unreconciled_.empty()) [[likely]]
    return false;
  auto it = unreconciled_.lower_bound(RegionOf(offset));
  return it != unreconciled_.end() && *it <= RegionOf(offset + size_bytes - 1);
}

void Segment::Unsettle(std::uint64_t offset, std::uint64_t size_bytes) {
  const auto takers = std::count_if(slots_.begin(), slots_.end(), [](const auto& slot) {
    return slot->in_sync || slot->catching_up;
  });
  if (takers < 2) return;  // one copy cannot differ from itself
  for (std::uint32_t region = RegionOf(offset); region <= RegionOf(offset + size_bytes - 1);
       ++region) {
    unreconciled_.insert(region);
  }
  StartReconcile();
}

io::Task<absl::Status> Segment::EnsureReconciled(std::uint64_t offset, std::uint64_t size_bytes) {
  const std::uint32_t last = RegionOf(offset + size_bytes - 1);
  for (std::uint32_t region = RegionOf(offset); region <= last; ++region) {
    if (unreconciled_.count(region) > 0) CO_RETURN_IF_ERROR(co_await ReconcileRegion(region));
  }
  co_return absl::OkStatus();
}

void Segment::StartReconcile() {
  if (reconcile_running_ || unreconciled_.empty() || !health_.ok()) return;
  reconcile_running_ = true;
  if (!gate_.Spawn(ReconcileAll())) reconcile_running_ = false;
}

io::Task<void> Segment::ReconcileAll() {
  co_await reactor_->Yield();
  KEEL_LOG_INFO("event=reconcile_started volume={} segment={} regions={}", in_force_.volume_name,
                in_force_.segment, unreconciled_.size());
  // Also while the attachment is being ended: its last generation is clean only after this.
  while (!unreconciled_.empty() && health_.ok()) {
    const std::uint32_t region = *unreconciled_.begin();
    absl::Status status = co_await ReconcileRegion(region);
    if (!status.ok() && health_.ok()) {
      KEEL_LOG_WARN("event=reconcile_waits volume={} region={} reason=\"{}\"",
                    in_force_.volume_name, region, std::string(status.message()));
      co_await Pause(reactor_->NowNanos() + options_.reconnect_interval_ns);
    }
  }
  reconcile_running_ = false;
  // A generation that becomes clean now keeps the next attachment from doing this again.
  if (unreconciled_.empty()) ArmRoll();
  changed_.WakeAll();
}

io::Task<absl::Status> Segment::ReconcileRegion(std::uint32_t region) {
  RangeLock::Hold hold(&ranges_, region * kRegionBytes, (region + 1) * kRegionBytes,
                       RangeLock::kExclusive);
  co_await hold;
  std::int64_t waits_ns = 0;
  // Again and again until one pass went through with everybody who counts.
  while (unreconciled_.count(region) > 0) {
    if (!health_.ok()) co_return health_;
    if (PickReader(0) == nullptr || Degrading()) {
      co_await WaitForChange(&waits_ns);
      continue;
    }
    Legs targets;
    for (const auto& slot : slots_) {
      if (slot->takes_writes()) targets.Add(slot.get());
    }
    MemberSlot* source = nullptr;
    absl::Status status = co_await CopyFromAny(&targets, region, in_force_.clean, &source);
    if (!status.ok() && IsMembersOwn(status)) co_return status;
    if (!status.ok()) continue;  // whoever failed is not connected any more
    if (targets.count() > 0 && !SeededBug(kReconcileWithoutFlush)) {
      // Equal and flushed, before anything of it is answered (R11).
      const std::int64_t deadline_ns = Deadline();
      co_await FanOut(
          &targets, [deadline_ns](replica::ReplicaPort* port) { return port->Flush(deadline_ns); });
      bool failed = false;
      for (const Leg& leg : targets) {
        if (leg.status.ok()) continue;
        failed = true;
        MemberFailed(leg);
      }
      if (!frozen_.ok()) co_return frozen_;
      if (failed) continue;
    }
    unreconciled_.erase(region);
    ++counters_.reconciled_regions;
  }
  changed_.WakeAll();
  co_return absl::OkStatus();
}

// --- Resync ---

io::Task<void> Segment::Resync(MemberSlot* slot) {
  co_await reactor_->Yield();
  const std::uint64_t session = slot->session;
  absl::Status status = co_await ServeProbation(slot, session);
  while (status.ok() && reactor_->NowNanos() < slot->resync_after_ns) {
    co_await WaitUntil(slot->resync_after_ns);
    if (!health_.ok()) status = health_;
    if (!Alive(*slot, session)) status = absl::UnavailableError("the session ended");
  }
  if (status.ok()) status = co_await RunResync(slot, session);
  slot->resync_running = false;
  if (status.ok()) {
    speeds_.EndTrial(slot->index);
    slot->missing_regions.clear();
    slot->resync_problem.clear();
    slot->resync_pause_ns = 0;
    ++counters_.rejoins;
    KEEL_LOG_INFO("event=resynced volume={} segment={} replica={} copied_bytes={}",
                  in_force_.volume_name, in_force_.segment, slot->member.replica.ToString(),
                  slot->copied_bytes);
  } else {
    if (Alive(*slot, session)) {
      PostponeResync(slot, status);
      // Again with a new session.
      MemberFailed(slot, session, absl::UnavailableError(slot->resync_problem));
    } else if (SeededBug(kResyncGivesUp)) {
      slot->resync_running = true;  // so that nobody begins it again
      co_return;
    }
    StartKeeper(slot);
    StartResyncs();  // it may have come back already
  }
  changed_.WakeAll();
}

void Segment::PostponeResync(MemberSlot* slot, const absl::Status& why) {
  slot->resync_problem = std::string(why.message());
  slot->resync_pause_ns = std::clamp(2 * slot->resync_pause_ns, options_.reconnect_interval_ns,
                                     16 * options_.reconnect_interval_ns);
  slot->resync_after_ns = reactor_->NowNanos() + slot->resync_pause_ns;
  KEEL_LOG_WARN("event=resync_stopped volume={} segment={} replica={} pause_ms={} reason=\"{}\"",
                in_force_.volume_name, in_force_.segment, slot->member.replica.ToString(),
                slot->resync_pause_ns / 1'000'000, slot->resync_problem);
}

io::Task<absl::Status> Segment::RunResync(MemberSlot* slot, std::uint64_t session) {
  const auto lost = [] { return absl::UnavailableError("the session ended during the resync"); };
  {
    io::AsyncMutex::Guard guard = co_await config_.Lock();
    if (!health_.ok()) co_return health_;
    if (!Alive(*slot, session)) co_return lost();
    absl::StatusOr<Configuration> next =
        StartSync(in_force_, slot->member.replica, slot->incarnation, slot->member.address);
    if (!next.ok()) co_return next.status();
    CO_RETURN_IF_ERROR(co_await Commit(std::move(*next)));
  }
  const Member* record = Record(*slot);
  if (record == nullptr || !Alive(*slot, session)) co_return lost();
  const pool::Generation through = record->in_sync_through;
  {
    // Every write that was not sent to it has ended, so that its note is there to be found; every
    // later one goes to it.
    RangeLock::Hold everything(&ranges_, 0, UINT64_MAX, RangeLock::kExclusive);
    if (SeededBug(kJoinWithoutBarrier)) everything.Release();
    co_await everything;
    if (!Alive(*slot, session)) co_return lost();
    slot->catching_up = !SeededBug(kLiveWritesPassBy) && !SeededBug(kJoinWithoutBarrier);
  }
  MemberSlot* source = PickReader(0);
  if (source == nullptr) co_return absl::UnavailableError("there is no copy to resync from");
  std::vector<RegionNote> notes;
  CO_RETURN_IF_ERROR(co_await ListNotes(source, through, 0, UINT32_MAX, &notes));
  if (!SeededBug(kResyncIgnoresOwnNotes)) {
    CO_RETURN_IF_ERROR(co_await ListNotes(slot, through, 0, UINT32_MAX, &notes));
  }
  if (SeededBug(kJoinWithoutBarrier)) slot->catching_up = Alive(*slot, session);
  slot->missing_regions.clear();
  slot->copied_bytes = 0;
  for (const RegionNote& note : notes) {
    const bool done =
        note.region < slot->progress.position &&
        (note.generation <= slot->progress.generation || SeededBug(kResyncTrustsPosition));
    if (!done) slot->missing_regions.insert(note.region);
  }
  KEEL_LOG_INFO("event=resync_started volume={} segment={} replica={} regions={}",
                in_force_.volume_name, in_force_.segment, slot->member.replica.ToString(),
                slot->missing_regions.size());
  CO_RETURN_IF_ERROR(co_await CopyMissing(slot, session, through));

  // Nothing is missing; what was written to it is made durable, then it counts. With the checksums
  // of what was copied: a disk that lied about the flush is found out by them.
  if (!SeededBug(kInSyncBeforeFlush)) {
    CO_RETURN_IF_ERROR(co_await slot->port->RecordProgress(ProgressTo(UINT32_MAX), Deadline()));
  }
  io::AsyncMutex::Guard guard = co_await config_.Lock();
  if (!health_.ok()) co_return health_;
  if (!Alive(*slot, session) || !(slot->catching_up || SeededBug(kLiveWritesPassBy))) {
    co_return lost();
  }
  absl::StatusOr<Configuration> next = MarkInSync(in_force_, slot->member.replica);
  if (!next.ok()) co_return next.status();
  co_return co_await Commit(std::move(*next));
}

pool::Generation Segment::LastEnded() const {
  const pool::Generation ended = generations_.last_ended();
  return ended == pool::Generation{} ? pool::Generation{epoch_, 0} : ended;
}

replica::ResyncProgress Segment::ProgressTo(std::uint32_t position) const {
  // What a refused write has left of itself is on some copies only, until it is reconciled; its
  // generation may have ended.
  if (!unreconciled_.empty() && !SeededBug(kProgressOverRefusal)) {
    position = std::min(position, *unreconciled_.begin());
  }
  return {position, LastEnded()};
}

// What the coroutines that copy to one member share.
struct Segment::Rebuild {
  MemberSlot* slot;
  std::uint64_t session;
  pool::Generation through;
  std::int64_t started_ns;
  std::set<std::uint32_t> taken;     // the regions under way
  std::uint64_t recorded_bytes = 0;  // of slot->copied_bytes, with the last progress
  absl::Status status;               // the first error ends all of them
};

io::Task<absl::Status> Segment::CopyMissing(MemberSlot* slot, std::uint64_t session,
                                            pool::Generation through) {
  Rebuild rebuild{slot, session, through, reactor_->NowNanos(), {}, 0, absl::OkStatus()};
  io::Latch latch(kRegionsAtOnce);
  for (std::size_t i = 0; i < kRegionsAtOnce; ++i) {
    if (gate_.Spawn(CopyRegions(&rebuild, &latch))) continue;
    rebuild.status = absl::UnavailableError("the volume is detached");
    latch.Done();
  }
  co_await latch;
  co_return rebuild.status;
}

io::Task<void> Segment::CopyRegions(Rebuild* rebuild, io::Latch* latch) {
  const std::set<std::uint32_t>& missing = rebuild->slot->missing_regions;
  while (rebuild->status.ok()) {
    const auto next = std::find_if(missing.begin(), missing.end(), [rebuild](std::uint32_t region) {
      return rebuild->taken.count(region) == 0;
    });
    if (next == missing.end()) break;
    const std::uint32_t region = *next;
    rebuild->taken.insert(region);
    absl::Status status = co_await CopyMissingRegion(rebuild, region);
    rebuild->taken.erase(region);
    if (!status.ok() && rebuild->status.ok()) rebuild->status = std::move(status);
    co_await reactor_->Yield();
  }
  latch->Done();
}

io::Task<absl::Status> Segment::CopyMissingRegion(Rebuild* rebuild, std::uint32_t region) {
  MemberSlot* slot = rebuild->slot;
  const auto ended = [] { return absl::UnavailableError("the session ended"); };
  while (slot->missing_regions.count(region) > 0) {
    if (!health_.ok()) co_return health_;
    if (!Alive(*slot, rebuild->session)) co_return ended();
    if (unreconciled_.count(region) > 0) CO_RETURN_IF_ERROR(co_await ReconcileRegion(region));
    RangeLock::Hold hold(&ranges_, region * kRegionBytes, (region + 1) * kRegionBytes,
                         RangeLock::kExclusive);
    if (SeededBug(kResyncWithoutRangeLock)) hold.Release();
    co_await hold;
    if (!Alive(*slot, rebuild->session)) co_return ended();
    if (unreconciled_.count(region) > 0) continue;  // a write that failed half-way
    Legs target;
    target.Add(slot);
    MemberSlot* source = nullptr;
    CO_RETURN_IF_ERROR(co_await CopyFromAny(&target, region, rebuild->through, &source));
    slot->missing_regions.erase(region);
  }
  const std::uint64_t copied_bytes = slot->copied_bytes;
  if (copied_bytes - rebuild->recorded_bytes >= options_.resync_step_bytes &&
      !slot->missing_regions.empty()) {
    rebuild->recorded_bytes = copied_bytes;
    // All writes of the generations that have ended are in the regions copied so far, or were
    // sent to the member itself; the flush before the record covers them.
    CO_RETURN_IF_ERROR(co_await slot->port->RecordProgress(
        ProgressTo(*slot->missing_regions.begin()), Deadline()));
  }
  if (options_.resync_bytes_per_second > 0) {
    const std::int64_t due_ns =
        rebuild->started_ns +
        static_cast<std::int64_t>(1e9 * static_cast<double>(slot->copied_bytes) /
                                  static_cast<double>(options_.resync_bytes_per_second));
    while (health_.ok() && !closing_ && Alive(*slot, rebuild->session) &&
           reactor_->NowNanos() < due_ns) {
      co_await WaitUntil(due_ns);
    }
  }
  co_return absl::OkStatus();
}

}  // namespace keelson::engine
