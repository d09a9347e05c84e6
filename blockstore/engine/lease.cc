#include "blockstore/engine/lease.h"

#include <algorithm>
#include <limits>

namespace keelson::engine {

void ReadLease::OnAnswered(const pool::ReplicaId& replica, std::int64_t sent_ns) {
  for (auto& [member, last_ns] : last_sent_) {
    if (member != replica) continue;
    last_ns = std::max(last_ns, sent_ns);
    return;
  }
  last_sent_.emplace_back(replica, sent_ns);
}

std::int64_t ReadLease::ValidUntil(const replica::Configuration& in_force) const {
  // The latest t such that a majority answered what was sent at t or later.
  std::int64_t best_ns = std::numeric_limits<std::int64_t>::min();
  for (const auto& candidate : last_sent_) {
    const std::int64_t from_ns = candidate.second;
    if (from_ns <= best_ns) continue;
    const bool majority =
        replica::HasMajority(in_force, [this, from_ns](const replica::Member& member) {
          return std::any_of(last_sent_.begin(), last_sent_.end(), [&](const auto& answered) {
            return answered.first == member.replica && answered.second >= from_ns;
          });
        });
    if (majority) best_ns = from_ns;
  }
  if (best_ns == std::numeric_limits<std::int64_t>::min()) return best_ns;
  return best_ns + lease_ns_;
}

}  // namespace keelson::engine
