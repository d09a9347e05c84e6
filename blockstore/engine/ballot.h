#pragma once
// Ballot: who has accepted one version of a configuration. The engine sends Accept to the members
// and to those before; when in_force() is true the version binds every later engine. A value type
// owned by the segment's engine; one thread, no I/O, nothing fails.

#include <algorithm>
#include <utility>
#include <vector>

#include "blockstore/io/seeded_bug.h"
#include "blockstore/pool/ids.h"
#include "blockstore/replica/configuration.h"

namespace keelson::engine {

class Ballot {
 public:
  explicit Ballot(replica::Configuration configuration)
      : configuration_(std::move(configuration)) {}

  // The member said that it has this version, or a higher one, durably. Said again it counts once.
  void OnAccepted(const pool::ReplicaId& replica) {
    if (!HasAccepted(replica)) accepted_.push_back(replica);
  }

  bool HasAccepted(const pool::ReplicaId& replica) const {
    return std::find(accepted_.begin(), accepted_.end(), replica) != accepted_.end();
  }

  bool in_force() const {
    const auto accepted = [this](const replica::Member& member) {
      return HasAccepted(member.replica);
    };
    if (SeededBug(kCommitWithoutMajority)) return !accepted_.empty();
    if (SeededBug(kChangeWithoutOldMajority)) {
      replica::Configuration alone = configuration_;
      alone.predecessor.clear();
      return replica::HasMajority(alone, accepted);
    }
    return replica::HasMajority(configuration_, accepted);
  }

  const replica::Configuration& configuration() const { return configuration_; }

 private:
  replica::Configuration configuration_;
  std::vector<pool::ReplicaId> accepted_;
};

}  // namespace keelson::engine
