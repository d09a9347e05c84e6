#include "provisioner/placement/score.h"

#include <algorithm>

#include "provisioner/placement/room.h"

namespace keelson::provisioner::placement {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kWhole = 1000;
constexpr std::uint64_t kCopiesWeight = kWhole / 10;
constexpr std::uint64_t kEnginesWeight = kWhole / 20;
constexpr std::uint64_t kFullnessMax = 1000 * kWhole;  // also of a pool that may not be used at all

// In thousandths, rounded up, so that what is not empty is not 0.
std::uint64_t Share(Wide part, Wide whole) {
  if (part == 0) return 0;
  if (whole == 0) return kFullnessMax;
  const Wide share = (part * kWhole + whole - 1) / whole;
  return static_cast<std::uint64_t>(std::min<Wide>(share, kFullnessMax));
}

void HashIn(std::string_view bytes, std::uint64_t* hash) {  // FNV-1a
  for (const char byte : bytes) {
    *hash = (*hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  }
  *hash = (*hash ^ 0xff) * 0x100000001b3;  // no byte of a name: "a" + "bc" is not "ab" + "c"
}

}  // namespace

std::uint64_t Fullness(const PoolState& pool, const Limits& limits, std::uint64_t more_bytes) {
  const std::uint64_t used_bytes =
      pool.capacity_bytes - std::min(pool.capacity_bytes, pool.free_bytes);
  const Wide limit_bytes =
      static_cast<Wide>(pool.capacity_bytes) * limits.overprovision_percent / 100;
  return std::max(Share(used_bytes, pool.capacity_bytes),
                  Share(static_cast<Wide>(pool.promised_bytes) + more_bytes, limit_bytes));
}

std::int64_t MoveGain(const PoolState& from, const PoolState& to, const Limits& limits,
                      std::uint64_t bytes) {
  PoolState left = from;
  left.promised_bytes -= std::min(left.promised_bytes, bytes);
  const std::uint64_t before = std::max(Fullness(from, limits, 0), Fullness(to, limits, 0));
  const std::uint64_t after = std::max(Fullness(left, limits, 0), Fullness(to, limits, bytes));
  return static_cast<std::int64_t>(before) - static_cast<std::int64_t>(after);
}

std::uint64_t Cost(const NodeState& node, const PoolState& pool, const Limits& limits,
                   const Busiest& busiest, std::uint64_t bytes) {
  return Fullness(pool, limits, bytes) +
         kCopiesWeight * pool.replica_count / std::max(busiest.replica_count, 1U) +
         kEnginesWeight * node.attached_count / std::max(busiest.attached_count, 1U);
}

std::uint64_t TieBreak(std::uint64_t seed, std::string_view node, std::string_view pool_id) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (int shift = 0; shift < 64; shift += 8) {
    hash = (hash ^ ((seed >> shift) & 0xff)) * 0x100000001b3;
  }
  HashIn(node, &hash);
  HashIn(pool_id, &hash);
  // Names that differ in their last byte only differ in few bits until here (murmur3's finalizer).
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccd;
  hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53;
  return hash ^ (hash >> 33);
}

std::size_t PreferredRank(const NodeState& node, const Constraints& constraints) {
  const auto found =
      std::find_if(constraints.preferred.begin(), constraints.preferred.end(),
                   [&node](const TopologyMap& topology) { return Matches(node, topology); });
  return static_cast<std::size_t>(found - constraints.preferred.begin());
}

}  // namespace keelson::provisioner::placement
