#pragma once
// How good a pool is for a copy, among those that may take it. Pure functions of values; any
// thread.

#include <cstdint>
#include <string_view>

#include "provisioner/placement/types.h"

namespace keelson::provisioner::placement {

// How full a pool would be with `more_bytes` promised, from 0, in thousandths: the greater of what
// is used of its capacity and what is promised of what may be. Above 1000 when more is promised
// than may be. Never falls when more is promised or used; never rises when space is added (to
// capacity and free space).
std::uint64_t Fullness(const PoolState& pool, const Limits& limits, std::uint64_t more_bytes);

// What rebalancing gains by moving a copy of `bytes`, in the same thousandths: by how much the
// fuller of both pools is less full then. 0 or less: it stays. When it is more than 0, moving it
// back gains nothing, so copies do not go to and fro.
std::int64_t MoveGain(const PoolState& from, const PoolState& to, const Limits& limits,
                      std::uint64_t bytes);

// The most that any node that is compared has; at least 1 each.
struct Busiest {
  std::uint32_t replica_count = 1;  // of a pool
  std::uint32_t attached_count = 1;
};

// Lower is better: fullness with the copy, and up to a tenth for the copies that the pool has and a
// twentieth for the engines that the node has, each as a part of the most that one of them has.
std::uint64_t Cost(const NodeState& node, const PoolState& pool, const Limits& limits,
                   const Busiest& busiest, std::uint64_t bytes);

// Which of equally good ones is taken: spread evenly over seeds and names, and the same each time.
std::uint64_t TieBreak(std::uint64_t seed, std::string_view node, std::string_view pool_id);

// The position of the first topology of `preferred` that the node matches; their number when none.
std::size_t PreferredRank(const NodeState& node, const Constraints& constraints);

}  // namespace keelson::provisioner::placement
