#pragma once
// GroupWatch: what the members of one segment have really done, seen from outside the product: who
// promised which epoch, accepted which configuration, applied which write. It judges the protocol's
// invariants that need that view (docs/protocol.md names them); the first one broken is kept.
// WatchPort tells it; it survives every process. One thread.

#include <cstdint>
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

class GroupWatch {
 public:
  explicit GroupWatch(World* world) : world_(world) {}
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

  // --- From the engines ---
  // The member's answer has reached the engine of `epoch`.
  void Answered(const pool::ReplicaId& member, const pool::Epoch& epoch,
                const replica::PrepareAnswer& answer);
  // An engine is about to send it to a member.
  void Proposed(const replica::Configuration& configuration);

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
  struct Held {
    std::unordered_set<std::uint64_t> blocks;  // block << 32 | version
    std::vector<Trim> trims;
    // By block: the newest version, and when it came.
    std::map<std::uint64_t, std::pair<Version, std::uint64_t>> newest;
  };

  void CheckShape(const replica::Configuration& configuration);
  void CheckFirstOfEpoch(const replica::Configuration& first);
  void CheckRestarted(const replica::Configuration& first, const replica::Configuration& base);
  void CheckOneChange(const replica::Configuration& before, const replica::Configuration& after);
  bool Has(const pool::ReplicaId& member, std::uint64_t block, Version version,
           std::uint64_t began) const;

  World* world_;
  std::uint64_t tick_ = 0;
  std::map<pool::ReplicaId, Promise> promises_;
  std::map<pool::ReplicaId, replica::ConfigurationVersion> highest_;
  std::map<replica::ConfigurationVersion, Record> records_;
  std::map<pool::Epoch, std::map<pool::ReplicaId, replica::PrepareAnswer>> answers_;
  std::set<replica::ConfigurationVersion> proposed_;
  // What the first configuration of an epoch was made from: later answers in it may name that one.
  std::map<pool::Epoch, replica::Configuration> bases_;
  std::map<pool::ReplicaId, Held> held_;
  std::set<pool::ReplicaId> witnesses_;
  std::string violation_;
};

}  // namespace keelson::sim
