#pragma once
// GroupWatch: what the members of one segment have really done, seen from outside the product: who
// promised which epoch, accepted which configuration, applied which write. It judges the protocol's
// invariants that need that view (docs/protocol.md names them); the first one broken is kept.
// WatchPort tells it; it survives every process. One thread.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "blockstore/replica/configuration.h"
#include "blockstore/replica/replica_port.h"
#include "tests/sim/block_model.h"
#include "tests/sim/world.h"

namespace keelson::sim {

class SimDisk;

class GroupWatch {
 public:
  GroupWatch(World* world, const Versions* versions) : world_(world), versions_(versions) {}
  GroupWatch(const GroupWatch&) = delete;
  GroupWatch& operator=(const GroupWatch&) = delete;

  // --- From the members ---
  void Made(const pool::ReplicaId& member, const replica::Configuration& first);
  void Prepared(const pool::ReplicaId& member, const pool::Epoch& epoch,
                const replica::PrepareAnswer& answer);
  void Accepted(const pool::ReplicaId& member, const replica::Configuration& configuration);
  // An engine of `epoch` changed the member just now.
  void Changed(const pool::ReplicaId& member, const pool::Epoch& epoch, std::string_view what);
  // The member holds these blocks: of a write, or of a copy. Stamps name their versions.
  void Holds(const pool::ReplicaId& member, std::uint64_t first_block,
             std::span<const std::byte> bytes);
  void Trimmed(const pool::ReplicaId& member, std::uint64_t first, std::uint64_t count,
               std::uint64_t began);

  // --- From the members and their disks (group_watch_durable.cc) ---
  void SetDisk(const pool::ReplicaId& member, const SimDisk* disk) { traces_[member].disk = disk; }
  // The write is about to be done at the member; it has ended, well or badly; all have, with their
  // process.
  void WriteBegins(const pool::ReplicaId& member, const pool::Generation& generation,
                   std::span<const std::byte> bytes);
  void WriteEnds(const pool::ReplicaId& member, std::span<const std::byte> bytes);
  void ProcessDied(const pool::ReplicaId& member) { traces_[member].writing.clear(); }
  // The generation that is writing this block there; nothing: no engine's write is.
  std::optional<pool::Generation> GenerationOf(const pool::ReplicaId& member, Version version,
                                               std::uint64_t block,
                                               std::span<const std::byte> bytes) const;
  // The member has accepted a configuration, and with it dropped these snapshots.
  void Dropped(const pool::ReplicaId& member, const std::vector<pool::SnapshotId>& snapshots);
  // A write or trim of the generation has just been applied at a member that has these snapshots.
  void CheckSealed(const pool::ReplicaId& member, const pool::Generation& generation,
                   const std::vector<pool::SnapshotId>& snapshots);
  // A write or trim of the generation has just been applied there.
  void Applied(const pool::ReplicaId& member, const pool::Generation& generation);
  // `generation`: what the copy's region was noted with.
  void Copied(const pool::ReplicaId& member, const pool::Epoch& epoch,
              const pool::Generation& generation, std::uint32_t region);
  // A change that was asked for at `began_ns` has ended, well or badly.
  void ChangeEnded(const pool::ReplicaId& member, std::int64_t began_ns);
  void ProgressRecorded(const pool::ReplicaId& member, std::int64_t began_ns);
  // The member answered a heartbeat that the engine of `epoch` had sent then.
  void Beat(const pool::ReplicaId& member, const pool::Epoch& epoch, std::int64_t sent_ns) {
    beats_[epoch][member] = std::max(beats_[epoch][member], sent_ns);
  }
  // What a read of a client returns has arrived from a member.
  void Arrived(const std::byte* into) { arrived_ns_[into] = world_->now_ns(); }
  // The client has been answered, through an engine of `epoch` for which `configuration` is in
  // force (R9, R11), a read that it began at `began_ns`.
  void ReadAnswered(const std::byte* into, std::uint64_t first, std::uint64_t count,
                    const pool::Epoch& epoch, const replica::Configuration& configuration,
                    std::int64_t lease_ns, std::int64_t began_ns);
  // A write was answered: there is no space. Each copy may have done another part of it.
  void Refused(const pool::Epoch& epoch, std::uint64_t first, std::uint64_t count, Version version);
  // The write belongs to a client that was told that none of its requests runs any more (R16).
  void MayNotLand(Version version) {
    if (version != kZeroes) unpublished_.insert(version);
  }
  // Until when that engine has a lease, and a member to read from, for all that is known here.
  std::int64_t MayReadUntil(const pool::Epoch& epoch, const replica::Configuration& configuration,
                            std::int64_t lease_ns) const;
  // A client's flush through the engine of `epoch` that began then was acknowledged.
  void Flushed(const pool::Epoch& epoch, std::int64_t began_ns);

  // --- From the engines ---
  // An attachment begins, with this hint.
  void Attaching(const pool::Epoch& epoch, const std::vector<replica::Member>& hint,
                 std::int64_t grace_ns) {
    hints_[epoch] = {hint, grace_ns};
  }
  // The member's answer has reached the engine of `epoch`.
  void Answered(const pool::ReplicaId& member, const pool::Epoch& epoch,
                const replica::PrepareAnswer& answer, const replica::ReplicaPort* port);
  // An engine is about to send it to a member.
  void Proposed(const replica::Configuration& configuration);
  // Told of each configuration as it comes into force.
  using InForceObserver = std::function<void(const replica::Configuration&)>;
  void set_in_force_observer(InForceObserver observer) { on_in_force_ = std::move(observer); }

  // --- Force, R14 (group_watch_force.cc) ---
  // An operator asks the engine of `epoch` to go on from this replica alone.
  void ForceAsked(const pool::Epoch& epoch, const pool::ReplicaId& named) {
    forces_[epoch] = named;
  }
  // The highest configuration in force of the histories before this one.
  const replica::Configuration* InForceBefore(const pool::Epoch& forced) const;
  // The member has been told that an operator went on without it.
  bool IsSucceeded(const pool::ReplicaId& member) const { return succeeded_.contains(member); }
  // The engine's side of the port that answered is gone.
  void PortGone(const pool::ReplicaId& member, const pool::Epoch& epoch,
                const replica::ReplicaPort* port);

  // --- From the client ---
  // A write (kZeroes: a trim) of blocks first .. first + count - 1 that began at `began` was
  // acknowledged by the engine of `epoch`.
  void Acknowledged(const pool::Epoch& epoch, std::uint64_t first, std::uint64_t count,
                    Version version, std::uint64_t began);

  // The harness's counter.
  std::uint64_t Tick() { return ++tick_; }
  std::uint64_t now() const { return tick_; }

  // Null until the volume is made. The highest one that majorities accepted.
  const replica::Configuration* in_force() const;
  // Accepted by anyone, not below the one in force.
  std::vector<replica::Configuration> Candidates() const;
  // The highest one of earlier epochs among the answers that the engine of `epoch` got, when it
  // proposed its first.
  std::optional<replica::Configuration> BaseOf(const pool::Epoch& epoch) const;
  // Of whatever epoch, the one with this version; null when nobody accepted it.
  const replica::Configuration* Find(const replica::ConfigurationVersion& version) const;
  // The replica is a witness wherever it is named.
  // What a pool of this incarnation acknowledged and did not flush is gone, whatever it has
  // answered before.
  void MemoryLost(const pool::Uuid& incarnation) { lost_.insert(incarnation); }
  bool IsWitness(const pool::ReplicaId& member) const { return witnesses_.contains(member); }

  const std::string& violation() const { return violation_; }
  void Violate(std::string_view invariant, std::string_view what);

 private:
  struct Promise {
    pool::Epoch epoch;
    std::int64_t at_ns = 0;  // when it was answered
  };
  struct Record {
    replica::Configuration configuration;
    std::set<pool::ReplicaId> accepted_by;
    bool in_force = false;
  };
  struct Trim {
    std::uint64_t first, count, began;
  };
  // Of a member, in the world's time.
  struct Trace {
    const SimDisk* disk = nullptr;
    std::int64_t prepared_ns = 0;  // the last session was answered
    std::map<pool::Epoch, std::int64_t> promised_ns;
    std::map<pool::Generation, std::int64_t> copied_ns;
    // By region: when an engine copied to it there although it was InSync.
    std::map<std::uint64_t, std::pair<pool::Epoch, std::int64_t>> reconciled_ns;
    std::map<std::uint64_t, std::int64_t> region_copied_ns;  // the last time, by any engine
    std::map<pool::Generation, std::int64_t> applied_ns;
    std::map<Version, pool::Generation> writing;
    // What the engine of the last session had in force for certain when that was opened.
    replica::ConfigurationVersion opened_with;
  };
  // A write that every InSync member refused.
  struct Refusal {
    pool::Epoch epoch;
    pool::Generation generation;
    std::uint64_t first, count;  // blocks
    std::int64_t at_ns;
    std::set<pool::ReplicaId> members;  // that were InSync
  };
  struct Held {
    std::unordered_set<std::uint64_t> blocks;  // block << 32 | version
    std::vector<Trim> trims;
    // By block: the newest version, and when it came.
    std::map<std::uint64_t, std::pair<Version, std::uint64_t>> newest;
  };

  // False: the member only learns from it that it was left behind.
  bool TakesPart(const pool::ReplicaId& member, const replica::Configuration& configuration);
  void CheckForced(const replica::Configuration& first);
  bool MajorityAnswers(const replica::Configuration& base, const pool::Epoch& epoch) const;
  bool HasVote(const pool::ReplicaId& member, const replica::PrepareAnswer& answer,
               const replica::Configuration& base) const;
  void CheckShape(const replica::Configuration& configuration);
  void CheckFirstOfEpoch(const replica::Configuration& first);
  void CheckRestarted(const replica::Configuration& first, const replica::Configuration& base);
  // `after` is what the engine that made `before`, or was attached from it, made of it.
  void CheckNext(const replica::Configuration& before, const replica::Configuration& after);
  void CheckNextMember(const replica::Configuration& before, const replica::Member& old,
                       const replica::Member& now);
  void CheckGrace(const replica::Configuration& first, const replica::Configuration& base);
  // When the member promised something higher; never: the end of time.
  std::int64_t LeftAt(const pool::ReplicaId& member, const pool::Epoch& epoch) const;
  bool MadeEqual(const Refusal& refusal) const;
  void CheckUnpublished(const pool::ReplicaId& member, Version version);
  void CheckReconciled(std::uint64_t first, std::uint64_t count, const pool::Epoch& epoch);
  void CheckClean(const replica::Configuration& configuration);
  void CheckOneChange(const replica::Configuration& before, const replica::Configuration& after);
  bool Has(const pool::ReplicaId& member, std::uint64_t block, Version version,
           std::uint64_t began) const;

  World* world_;
  const Versions* versions_;
  std::uint64_t tick_ = 0;
  std::map<pool::ReplicaId, Promise> promises_;
  std::map<pool::ReplicaId, replica::ConfigurationVersion> highest_;
  std::map<replica::ConfigurationVersion, Record> records_;
  std::map<pool::Epoch, std::map<pool::ReplicaId, replica::PrepareAnswer>> answers_;
  std::map<pool::Epoch, std::map<pool::ReplicaId, std::int64_t>> answered_ns_;  // the first time
  std::map<pool::Epoch, std::pair<std::vector<replica::Member>, std::int64_t>> hints_;
  std::set<replica::ConfigurationVersion> proposed_;
  // What the first configuration of an epoch was made from: later answers in it may name that one.
  std::map<pool::Epoch, replica::Configuration> bases_;
  std::map<pool::Epoch, replica::Configuration> last_proposed_;
  // The one before that: an engine has one on its way at a time.
  std::map<pool::Epoch, replica::ConfigurationVersion> before_last_;
  std::map<pool::ReplicaId, Held> held_;
  std::map<pool::ReplicaId, Trace> traces_;
  std::map<pool::Epoch, std::map<pool::ReplicaId, std::int64_t>> beats_;
  std::map<const std::byte*, std::int64_t> arrived_ns_;
  std::map<Version, pool::Generation> generations_;  // of writes
  std::vector<Refusal> refusals_;
  std::map<pool::Epoch, pool::ReplicaId> forces_;
  std::map<pool::Epoch, std::map<pool::ReplicaId, const replica::ReplicaPort*>> ports_;
  std::map<pool::ReplicaId, pool::Epoch> succeeded_;
  std::set<pool::Uuid> lost_;  // incarnations
  std::set<Version> unpublished_;
  std::set<pool::ReplicaId> witnesses_;
  InForceObserver on_in_force_;
  std::string violation_;
};

}  // namespace keelson::sim
