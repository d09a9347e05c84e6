#pragma once
// Segment: the SegmentEngine. docs/protocol.md has the rules; this is where they meet the ports.
//
// What serialises what:
//   * ranges_: client requests on blocks; copying takes a region; barriers take everything.
//   * config_: one configuration under way at a time. Taken after ranges_, never the other way.
//   * changed_: woken whenever a member, a configuration or the health changes; whoever waits for a
//     condition waits here and asks again.
// Everything that has no caller runs in gate_.

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/engine/ballot.h"
#include "blockstore/engine/generation_window.h"
#include "blockstore/engine/lease.h"
#include "blockstore/engine/member_slot.h"
#include "blockstore/engine/segment_engine.h"
#include "blockstore/engine/slow_member.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/sync.h"
#include "blockstore/replica/range_lock.h"

namespace keelson::engine {

class AttachPlan;

class Segment final : public SegmentEngine {
 public:
  Segment(io::Reactor* reactor, PortFactory* ports, pool::Epoch epoch, SegmentOptions options);
  ~Segment() override;
  // The attach; after an error the segment is closed.
  io::Task<absl::Status> Start(SegmentHint hint);

  std::uint64_t size_bytes() const override { return in_force_.size_bytes; }
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into) override;
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from) override;
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes) override;
  io::Task<absl::Status> Flush() override;
  io::Task<absl::StatusOr<std::vector<replica::DataRun>>> Map(std::uint64_t offset,
                                                              std::uint64_t size_bytes,
                                                              std::size_t runs_max) override;
  io::Task<absl::Status> HoldWrites(std::int64_t limit_ns) override;
  io::Task<absl::Status> Seal(replica::ConfiguredSnapshot snapshot) override;
  void ReleaseWrites() override;
  io::Task<absl::Status> CompleteSnapshot(pool::SnapshotId id) override;
  io::Task<absl::Status> DeleteSnapshot(pool::SnapshotId id) override;
  io::Task<absl::Status> Grow(std::uint64_t size_bytes) override;
  io::Task<absl::Status> SetSegmentCount(std::uint32_t count) override;
  io::Task<absl::Status> AddMember(replica::Member member, const replica::Member* witness) override;
  io::Task<absl::Status> RemoveMember(pool::ReplicaId replica,
                                      const replica::Member* witness) override;
  io::Task<absl::Status> SetMinInSync(std::uint32_t copies) override;
  absl::Status StartScrub(ScrubOptions options) override;
  io::Task<absl::Status> RollGeneration() override;
  SegmentStatus Status() const override;
  const SegmentCounters& counters() const override { return counters_; }
  const absl::Status& health() const override { return health_.ok() ? frozen_ : health_; }
  io::Task<absl::Status> Close() override;

 private:
  class InFlight;
  struct Rebuild;
  // A write or trim on its way to the members.
  struct Change {
    bool trim = false;
    std::uint64_t offset = 0;
    std::uint64_t size_bytes = 0;
    const std::byte* data = nullptr;  // of a write
    pool::Generation generation;
    std::uint64_t applied = 0;  // masks of slots
    std::uint64_t refused = 0;
    absl::Status refusal;       // of the last that refused
    std::int64_t waits_ns = 0;  // since when it waits; 0: it does not
  };

  // --- segment.cc: requests ---
  io::Task<absl::Status> Apply(Change* change);
  io::Task<void> SendChange(Change* change, Legs* legs);
  absl::Status Detaching() const;  // what every call gets once it is closing
  io::Task<absl::Status> RunChange(Change* change);
  // Decides what the refusals of a change mean. True: it ends with change->refusal.
  bool SettleRefusals(Change* change);
  // Flush, in whose course fewer than min-in-sync copies may be left (R7). Without a pointer it
  // waits for more; with one, for a hold of writes, it says so there and fails: it would wait for
  // ever, because the resync that brings a copy needs the ranges. It ends with the hold, too.
  io::Task<absl::Status> FlushMembers(bool* short_of_copies);
  io::Task<absl::Status> ReadFrom(std::uint64_t offset, std::span<std::byte> into,
                                  std::uint64_t* bad_slots);
  io::Task<absl::Status> AwaitLease(std::int64_t arrived_ns);
  // Waits for changed_; ends the attachment when the backlog limit has passed since *since_ns (set
  // by the first call).
  io::Task<void> WaitForChange(std::int64_t* since_ns);
  // The same until `when_ns` at most, without a limit.
  io::Task<void> WaitUntil(std::int64_t when_ns);
  // Completes at `until_ns`, or when the attachment has ended.
  io::Task<void> Pause(std::int64_t until_ns);
  bool EnoughInSync() const;
  MemberSlot* PickReader(std::uint64_t not_these) const;

  // --- segment_members.cc: members and configurations ---
  // Makes `call(port)` to every leg at once and waits for all of them.
  template <typename Call>
  io::Task<void> FanOut(Legs* legs, Call call);
  template <typename Call>
  io::Task<void> RunLeg(Leg* leg, Call call, io::Latch* latch);
  // Of a request that the member's disk has a part in; of one that it answers from memory.
  std::int64_t Deadline() const { return reactor_->NowNanos() + options_.request_timeout_ns; }
  std::int64_t ShortDeadline() const { return reactor_->NowNanos() + options_.member_timeout_ns; }
  // A call to the member failed: its session is over, and it has to catch up or be degraded.
  void MemberFailed(MemberSlot* slot, std::uint64_t session, const absl::Status& status);
  void MemberFailed(const Leg& leg) { MemberFailed(leg.slot, leg.session, leg.status); }
  bool IsLastCopy(const MemberSlot& slot) const;
  // The attachment has ended: nothing is served any more.
  void Fail(absl::Status why);
  // The last copy failed: nothing is written or flushed any more (R8).
  void Freeze(const absl::Status& why);
  MemberSlot* SlotFor(const replica::Member& member);
  MemberSlot* FindSlot(const pool::ReplicaId& replica) const;
  const replica::Member* Record(const MemberSlot& slot) const;  // in force; nullptr: none
  // Also of one that is coming or going: a configuration may need its vote.
  const replica::Member* Voter(const MemberSlot& slot) const;
  void UpdateSlots();      // what the configurations say of them
  bool Degrading() const;  // an InSync member is not connected
  bool AnyInSyncConnected() const;
  void StartDegrade();
  io::Task<void> Degrade();
  // REQUIRES: config_ is held. Returns when `next` is in force, or the health of the segment.
  io::Task<absl::Status> Commit(replica::Configuration next);
  // The same configuration once more: members drop a snapshot when two in a row are without it.
  // REQUIRES: config_ is held.
  io::Task<absl::Status> Confirm();
  void StartKeeper(MemberSlot* slot);
  // Every member of the configuration, and of the one before, gets a slot and, if it is not there,
  // somebody who waits for it.
  void StartKeepers();
  io::Task<void> Keeper(MemberSlot* slot);
  io::Task<absl::Status> Connect(MemberSlot* slot);
  // It is InSync, and is to be marked out before it is used again: till then it only votes.
  bool HasToLeave(const MemberSlot& slot) const;
  void FailIfAllRestarted();
  // Opens the session of a member to be, and notes its incarnation in `next`.
  io::Task<absl::Status> PrepareNew(replica::Member member, replica::Configuration* next);
  // Commits a change of the members, and then that it is done. REQUIRES: config_ is held.
  io::Task<absl::Status> CommitMembership(replica::Configuration next);
  io::Task<void> FinishChange();
  std::string ProblemOf(const MemberSlot& slot) const;
  void StartResyncs();

  // --- segment_speed.cc: slow members (R7) ---
  // After a write, trim or flush: leaves out a member that has been slow for long enough.
  void WatchSpeed(Legs* legs);
  // What the volume asks for, and a rest beside it.
  std::size_t CopiesToKeep() const;
  // All the others are there, and they are enough without it.
  bool CanDoWithout(const MemberSlot& slot) const;
  // The copies that go on when this member does not.
  std::size_t CopiesBeside(const MemberSlot& slot) const;
  // OK when it may catch up: it is not on probation, or is needed, or has passed it.
  io::Task<absl::Status> ServeProbation(MemberSlot* slot, std::uint64_t session);
  std::string SpeedProblem(const MemberSlot& slot) const;

  // --- segment_repair.cc ---
  // Mends what the members of `bad_slots` cannot read of the range, with what another one has.
  io::Task<void> Repair(std::uint64_t offset, std::uint64_t size_bytes, std::uint64_t bad_slots);
  io::Task<void> RepairBlock(std::uint64_t offset, std::uint64_t bad_slots);
  // The same of one member, which answered `why`, with these bytes. REQUIRES: the block is held.
  io::Task<void> RepairAt(MemberSlot* slot, std::uint64_t offset, std::span<const std::byte> bytes,
                          absl::Status why);
  // Offers the block to the layer that shows it. True: it is good again.
  io::Task<absl::StatusOr<bool>> MendInPlace(MemberSlot* slot, std::uint64_t offset,
                                             std::span<const std::byte> bytes);

  // --- segment_scrub.cc ---
  struct ScrubRegion;
  struct ScrubView;
  io::Task<void> RunScrub(ScrubOptions options);
  io::Task<absl::Status> ScrubAll(ScrubOptions options);
  // OK while a scrub may go on.
  absl::Status ScrubHealth() const;
  // The first region from `first` on that any member has a note of; none: that was all.
  io::Task<absl::Status> FindScrubRegion(std::uint32_t first, ScrubRegion* found);
  io::Task<absl::Status> ScrubExtent(std::uint32_t extent, ScrubRegion* region);
  io::Task<void> ScrubLayer(pool::SnapshotId layer, std::uint32_t extent,
                            std::vector<ScrubView>* views, ScrubRegion* region);
  // Offers what one member has lost to it, from another one.
  io::Task<void> Mend(pool::SnapshotId layer, std::uint32_t extent, ScrubView* target,
                      ScrubView* source, std::span<std::byte> buffer);
  // The blocks `wanted` of the source, packed; those that it cannot give are taken out of them.
  io::Task<void> ReadWanted(pool::SnapshotId layer, std::uint32_t extent, ScrubView* source,
                            pool::BlockBits* wanted, std::span<std::byte> into);
  void CountBad(pool::SnapshotId layer, std::uint32_t extent, const ScrubView& view);
  void Compare(pool::SnapshotId layer, std::uint32_t extent, std::vector<ScrubView>* views);
  void AddFinding(ScrubFinding::Kind kind, pool::SnapshotId layer, std::uint32_t extent,
                  std::uint32_t block, const MemberSlot& slot);

  // --- segment_attach.cc ---
  io::Task<absl::Status> Attach(AttachPlan* plan);
  io::Task<void> PrepareForAttach(AttachPlan* plan, MemberSlot* slot);
  io::Task<absl::Status> CollectUnreconciled();
  // R14: replicas that the attach knows and that are members no more since an operator went on
  // without them are told so, until each has heard it or the attachment ends.
  void StartQuarantines();
  io::Task<void> Quarantine(MemberSlot* slot);
  io::Task<absl::Status> TellOfForce(MemberSlot* slot);

  // --- segment_copy.cc: reconcile and resync ---
  io::Task<absl::Status> EnsureReconciled(std::uint64_t offset, std::uint64_t size_bytes);
  bool AnyUnreconciled(std::uint64_t offset, std::uint64_t size_bytes) const;
  void Unsettle(std::uint64_t offset, std::uint64_t size_bytes);
  void StartReconcile();
  io::Task<void> ReconcileAll();
  io::Task<absl::Status> ReconcileRegion(std::uint32_t region);
  // REQUIRES: the region is held. `above` chooses the layers by their notes at either side.
  io::Task<absl::Status> CopyRegion(MemberSlot* source, MemberSlot* target, std::uint32_t region,
                                    pool::Generation above);
  io::Task<absl::Status> CopyExtent(MemberSlot* source, MemberSlot* target,
                                    const pool::SnapshotId& layer, std::uint32_t extent);
  // `count` extents from `first` on, at once.
  io::Task<absl::Status> CopyExtents(MemberSlot* source, MemberSlot* target,
                                     const pool::SnapshotId& layer, std::uint32_t first,
                                     std::uint32_t count);
  io::Task<void> RunCopyExtent(MemberSlot* source, MemberSlot* target,
                               const pool::SnapshotId* layer, std::uint32_t extent,
                               absl::Status* status, io::Latch* latch);
  io::Task<absl::Status> ListNotes(MemberSlot* slot, pool::Generation above, std::uint32_t first,
                                   std::uint32_t last, std::vector<replica::RegionNote>* notes);
  // The last generation all of whose writes have ended.
  pool::Generation LastEnded() const;
  // What a member that is being filled can say after a flush when every region below is copied.
  replica::ResyncProgress ProgressTo(std::uint32_t position) const;
  io::Task<void> Resync(MemberSlot* slot);
  // It could not be brought up to date: not again before a pause, which grows.
  void PostponeResync(MemberSlot* slot, const absl::Status& why);
  io::Task<absl::Status> RunResync(MemberSlot* slot, std::uint64_t session);
  // Copies the region from the first InSync member that can give all of it, which it names in
  // *source, to the targets. REQUIRES: the region is held.
  io::Task<absl::Status> CopyFromAny(Legs* targets, std::uint32_t region, pool::Generation above,
                                     MemberSlot** source);
  io::Task<absl::Status> CopyMissing(MemberSlot* slot, std::uint64_t session,
                                     pool::Generation through);
  io::Task<void> CopyRegions(Rebuild* rebuild, io::Latch* latch);
  io::Task<absl::Status> CopyMissingRegion(Rebuild* rebuild, std::uint32_t region);
  static bool Alive(const MemberSlot& slot, std::uint64_t session) {
    return slot.connected && slot.session == session;
  }

  // --- segment_generations.cc: generations, snapshots, the end ---
  void ArmRoll();
  io::Task<void> TimedRoll();
  // Enough copies have everything, and they are known to be equal.
  bool Settled() const;
  io::Task<absl::Status> AwaitSettled(std::int64_t limit_ns);
  io::Task<absl::Status> TakeBarrier(std::int64_t limit_ns);
  absl::Status HoldGivenUp() const;
  // Rolls; with `last`, when nothing is written any more.
  io::Task<absl::Status> EndGeneration();
  io::Task<absl::Status> LastGeneration(std::int64_t limit_ns);
  io::Task<void> RunLastGeneration(std::int64_t limit_ns, bool* done, absl::Status* status);
  void OnTick();
  void ArmTick();
  void SendHeartbeats();
  io::Task<void> Beat(MemberSlot* slot);

  io::Reactor* reactor_;  // outlives this
  PortFactory* ports_;    // outlives this
  const pool::Epoch epoch_;
  const SegmentOptions options_;

  replica::Configuration in_force_;
  std::optional<replica::Configuration> under_way_;
  io::AsyncMutex config_;
  // Never moves: a member may come while somebody who goes through them waits.
  std::vector<std::unique_ptr<MemberSlot>> slots_;
  ReadLease lease_;
  GenerationWindow generations_;
  SlowMembers speeds_;
  replica::RangeLock ranges_;
  std::optional<replica::RangeLock::Hold> barrier_;
  bool hold_under_way_ = false;
  bool hold_given_up_ = false;  // released while it was under way
  std::set<std::uint32_t> unreconciled_;
  std::optional<ScrubStatus> scrub_;
  io::WaitList changed_;
  io::Gate gate_;
  io::AsyncMutex rolling_;
  io::TimerNode roll_timer_;
  io::TimerNode tick_timer_;
  io::TimerNode wake_timer_;

  absl::Status health_;  // not OK: nothing is served any more
  absl::Status frozen_;  // not OK: the last copy failed; reads go on, nothing is changed
  // Preparing: the plan asks the members. First: its configuration is on its way into force, and
  // members that fail are asked again. Serving: what differs is known, and resyncs may run.
  enum class Phase { kPreparing, kFirst, kServing };
  Phase phase_ = Phase::kPreparing;
  bool closing_ = false;
  bool closed_ = false;
  bool degrade_running_ = false;
  bool reconcile_running_ = false;
  bool wrote_since_roll_ = false;
  bool asked_since_tick_ = false;
  std::uint64_t quiet_ticks_ = 0;
  std::uint64_t in_flight_ = 0;
  std::uint64_t waiting_ = 0;
  SegmentCounters counters_;
};

}  // namespace keelson::engine
