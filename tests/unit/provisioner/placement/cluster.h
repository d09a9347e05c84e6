#pragma once
// Nodes for the tests of placement: by hand, and random ones by a seed.

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "provisioner/placement/types.h"

namespace keelson::provisioner::placement {

inline constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// A node with one empty pool, "pool-NAME".
inline NodeState Node(const std::string& name, std::uint64_t capacity_bytes = 100 * kGiB,
                      const std::string& zone = "") {
  NodeState node;
  node.name = name;
  node.zone = zone;
  node.topology["host"] = name;
  if (!zone.empty()) node.topology["zone"] = zone;
  node.pools.push_back({.id = "pool-" + name,
                        .healthy = true,
                        .capacity_bytes = capacity_bytes,
                        .free_bytes = capacity_bytes,
                        .promised_bytes = 0,
                        .replica_count = 0});
  return node;
}

inline NodeState Cordoned(const std::string& name) {
  NodeState node = Node(name);
  node.schedulable = false;
  node.reason = "cordoned";
  return node;
}

// Up to eight nodes in up to four zones, with up to three pools of a few segments each; some
// cordoned, unhealthy, nearly full or nearly promised.
class RandomCluster {
 public:
  explicit RandomCluster(std::uint64_t seed) : random_(seed) {}

  std::vector<NodeState> Nodes() {
    std::vector<NodeState> nodes;
    const std::uint64_t count = Below(9);
    const std::uint64_t zones = 1 + Below(4);
    for (std::uint64_t i = 0; i < count; ++i) {
      NodeState node = Node(std::string(1, static_cast<char>('a' + i)), kGiB,
                            Below(10) == 0 ? "" : "z" + std::to_string(Below(zones)));
      node.schedulable = Below(8) != 0;
      node.attached_count = static_cast<std::uint32_t>(Below(5));
      node.pools.resize(Below(12) == 0 ? 0 : 1 + Below(3), node.pools.front());
      for (std::size_t j = 0; j < node.pools.size(); ++j) {
        Fill(&node.pools[j]);
        node.pools[j].id += "-" + std::to_string(j);
      }
      nodes.push_back(std::move(node));
    }
    std::shuffle(nodes.begin(), nodes.end(), random_);
    return nodes;
  }

  Constraints Rules() {
    Constraints rules;
    rules.zone_spread = Below(3) == 0;
    if (Below(5) == 0) rules.requisite = {{{"zone", "z0"}}, {{"zone", "z1"}}};
    if (Below(3) == 0) rules.preferred = {{{"zone", "z1"}}, {{"host", "b"}}};
    if (Below(3) == 0) rules.near_node = "c";
    if (Below(6) == 0) rules.excluded_nodes = {"a"};
    rules.limits.overprovision_percent = static_cast<std::uint32_t>(50 * (1 + Below(5)));
    rules.limits.reserve_percent = static_cast<std::uint32_t>(10 * Below(4));
    rules.seed = random_();
    return rules;
  }

  // 0 to count - 1.
  std::uint64_t Below(std::uint64_t count) { return random_() % count; }

 private:
  void Fill(PoolState* pool) {
    pool->healthy = Below(10) != 0;
    pool->capacity_bytes = 16 * kMiB * Below(64) + 4 * kMiB * Below(4);
    pool->free_bytes = pool->capacity_bytes / 4 * (Below(4) == 0 ? Below(4) : 4);
    pool->promised_bytes = Below(2) == 0 ? 0 : kMiB * Below(800);
    pool->replica_count = static_cast<std::uint32_t>(Below(10));
  }

  std::mt19937_64 random_;
};

}  // namespace keelson::provisioner::placement
