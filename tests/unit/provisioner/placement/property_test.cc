// Placement on random clusters. Environment: KEELSON_SEEDS, how many seeds; KEELSON_SEED, this one
// alone.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "provisioner/placement/capacity.h"
#include "provisioner/placement/packing.h"
#include "provisioner/placement/place.h"
#include "provisioner/placement/score.h"
#include "tests/unit/provisioner/placement/cluster.h"

namespace keelson::provisioner::placement {
namespace {

void ForEverySeed(const std::function<void(std::uint64_t)>& run) {
  if (const char* seed = std::getenv("KEELSON_SEED")) {
    return run(std::strtoull(seed, nullptr, 10));
  }
  const char* seeds = std::getenv("KEELSON_SEEDS");
  const std::uint64_t count = seeds == nullptr ? 2000 : std::strtoull(seeds, nullptr, 10);
  for (std::uint64_t seed = 1; seed <= count && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("repeat with KEELSON_SEED=" + std::to_string(seed));
    run(seed);
  }
}

const NodeState& Find(const std::vector<NodeState>& nodes, const std::string& name) {
  return *std::find_if(nodes.begin(), nodes.end(),
                       [&name](const NodeState& node) { return node.name == name; });
}

bool MatchesOne(const NodeState& node, const std::vector<TopologyMap>& wanted) {
  return wanted.empty() || std::any_of(wanted.begin(), wanted.end(), [&](const TopologyMap& map) {
           return std::all_of(map.begin(), map.end(), [&](const auto& pair) {
             return node.topology.contains(pair.first) &&
                    node.topology.at(pair.first) == pair.second;
           });
         });
}

bool MayBeUsed(const NodeState& node, const Constraints& rules) {
  const auto& excluded = rules.excluded_nodes;
  return node.schedulable && std::count(excluded.begin(), excluded.end(), node.name) == 0;
}

// The hard rules of the headers, written again from the other side.
void ExpectRules(const std::vector<NodeState>& nodes, const Request& request,
                 const std::vector<SegmentPlacement>& placed) {
  const Constraints& rules = request.constraints;
  std::map<std::string, std::uint64_t> promised;
  ASSERT_EQ(placed.size(), request.segment_sizes.size());
  for (std::size_t i = 0; i < placed.size(); ++i) {
    std::set<std::string> names;
    std::set<std::string> zones;
    ASSERT_EQ(placed[i].copies.size(), request.copies);
    for (const Place& place : placed[i].copies) {
      const NodeState& node = Find(nodes, place.node);
      EXPECT_TRUE(names.insert(node.name).second);
      EXPECT_TRUE(MayBeUsed(node, rules) && MatchesOne(node, rules.requisite));
      if (rules.zone_spread) {
        EXPECT_TRUE(!node.zone.empty() && zones.insert(node.zone).second);
      }
      const auto pool = std::find_if(
          node.pools.begin(), node.pools.end(),
          [&place](const PoolState& candidate) { return candidate.id == place.pool_id; });
      ASSERT_NE(pool, node.pools.end());
      EXPECT_TRUE(pool->healthy);
      const std::uint64_t reserve = pool->capacity_bytes * rules.limits.reserve_percent / 100;
      EXPECT_GE(pool->free_bytes, reserve);
      EXPECT_LE(request.segment_sizes[i], pool->capacity_bytes - reserve);
      std::uint64_t& sum = promised[place.node + pool->id];
      sum += request.segment_sizes[i];
      EXPECT_LE((pool->promised_bytes + sum) * 100,
                pool->capacity_bytes * rules.limits.overprovision_percent);
    }
    if (request.copies % 2 != 0) {
      EXPECT_TRUE(!placed[i].witness && placed[i].witness_absent.empty());
    } else if (placed[i].witness) {
      EXPECT_TRUE(names.insert(placed[i].witness->node).second);
      EXPECT_TRUE(MayBeUsed(Find(nodes, placed[i].witness->node), rules));
    } else {
      EXPECT_TRUE(!placed[i].witness_absent.empty() && nodes.size() == request.copies);
    }
  }
}

struct Case {
  explicit Case(std::uint64_t seed) : cluster(seed), nodes(cluster.Nodes()) {
    request.constraints = cluster.Rules();
    request.copies = 1 + cluster.Below(4);
    const std::uint64_t full = 4 * kMiB * (1 + cluster.Below(60));
    request.segment_sizes.assign(cluster.Below(6), full);
    request.segment_sizes.push_back(std::min(full, 4 * kMiB * (1 + cluster.Below(60))));
  }
  RandomCluster cluster;
  std::vector<NodeState> nodes;
  Request request{};
};

TEST(PlacementPropertyTest, EveryPlacementKeepsTheRules) {
  int placed_count = 0;
  ForEverySeed([&](std::uint64_t seed) {
    Case random(seed);
    const auto placed = PlaceSegments(random.nodes, random.request);
    if (!placed.ok()) {
      EXPECT_EQ(placed.status().code(), absl::StatusCode::kResourceExhausted) << placed.status();
      return;
    }
    ++placed_count;
    ExpectRules(random.nodes, random.request, *placed);
  });
  if (std::getenv("KEELSON_SEED") == nullptr) {
    EXPECT_GT(placed_count, 100);
  }
}

TEST(PlacementPropertyTest, TheOrderOfTheNodesDoesNotMatter) {
  ForEverySeed([](std::uint64_t seed) {
    Case random(seed);
    const auto placed = PlaceSegments(random.nodes, random.request);
    std::reverse(random.nodes.begin(), random.nodes.end());
    const auto again = PlaceSegments(random.nodes, random.request);
    ASSERT_EQ(placed.status(), again.status());
    for (std::size_t i = 0; placed.ok() && i < placed->size(); ++i) {
      EXPECT_EQ((*placed)[i].copies, (*again)[i].copies);
      EXPECT_EQ((*placed)[i].witness, (*again)[i].witness);
    }
  });
}

TEST(PlacementPropertyTest, AddedSpaceMakesNoPlacementImpossible) {
  ForEverySeed([](std::uint64_t seed) {
    Case random(seed);
    if (!PlaceSegments(random.nodes, random.request).ok()) return;
    for (NodeState& node : random.nodes) {
      for (PoolState& pool : node.pools) {
        const std::uint64_t more = random.cluster.Below(2) * kMiB * random.cluster.Below(500);
        pool.capacity_bytes += more;
        pool.free_bytes += more;
      }
    }
    random.nodes.push_back(Node("new", kGiB, "z9"));
    EXPECT_TRUE(PlaceSegments(random.nodes, random.request).ok());
  });
}

// Tries everything. The copies of the segments from `segment` on, those of this one from `group`
// on.
bool PacksByTrying(Rooms* rooms, const Request& request, std::size_t segment, std::size_t group,
                   std::size_t copies) {
  if (copies == request.copies) {
    return segment + 1 == request.segment_sizes.size() ||
           PacksByTrying(rooms, request, segment + 1, 0, 0);
  }
  for (; group < rooms->group_count; ++group) {
    for (NodeRoom& node : rooms->usable) {
      if (node.group != group) continue;
      for (PoolRoom& pool : node.pools) {
        const std::uint64_t bytes = request.segment_sizes[segment];
        if (!pool.Takes(bytes)) continue;
        pool.Take(bytes);
        const bool packs = PacksByTrying(rooms, request, segment, group + 1, copies + 1);
        pool.GiveBack(bytes);
        if (packs) return true;
      }
    }
  }
  return false;
}

TEST(PlacementPropertyTest, APlacementIsFoundWheneverThereIsOne) {
  int tight = 0;
  ForEverySeed([&tight](std::uint64_t seed) {
    Case random(seed);
    // Small enough to try everything: at most three segments on four nodes.
    Request& request = random.request;
    if (request.segment_sizes.size() > 3) {
      request.segment_sizes.erase(request.segment_sizes.begin(), request.segment_sizes.end() - 3);
    }
    random.nodes.resize(std::min<std::size_t>(random.nodes.size(), 4));
    if (!CheckWitness(random.nodes, request.copies, request.constraints).ok()) return;
    for (NodeState& node : random.nodes) {  // so little room that it is not always enough
      for (PoolState& pool : node.pools) {
        pool.capacity_bytes = 4 * kMiB * (10 + random.cluster.Below(60));
        pool.free_bytes = pool.capacity_bytes;
        pool.promised_bytes = 0;
      }
    }
    request.constraints.limits = {.overprovision_percent = 100, .reserve_percent = 0};
    Rooms rooms = FindRooms(random.nodes, request.constraints);
    const bool packs = PacksByTrying(&rooms, request, 0, 0, 0);
    const auto placed = PlaceSegments(random.nodes, request);
    EXPECT_EQ(placed.ok(), packs) << placed.status();
    if (packs && request.segment_sizes.size() > 1) ++tight;
  });
  if (std::getenv("KEELSON_SEED") == nullptr) {
    EXPECT_GT(tight, 20);
  }
}

TEST(PlacementPropertyTest, TheLargestVolumeFitsAndALargerOneDoesNot) {
  int found = 0;
  ForEverySeed([&found](std::uint64_t seed) {
    Case random(seed);
    const Volume volume{.copies = random.request.copies,
                        .constraints = random.request.constraints,
                        .segment_bytes = 64 * kMiB << random.cluster.Below(5)};
    const Capacity capacity = FindCapacity(random.nodes, volume);
    EXPECT_LE(capacity.largest_volume_bytes, capacity.available_bytes);
    EXPECT_FALSE(CutVolume(random.nodes, volume, capacity.largest_volume_bytes + kUnitBytes).ok());
    EXPECT_FALSE(CutVolume(random.nodes, volume, capacity.available_bytes + kUnitBytes).ok());
    if (capacity.largest_volume_bytes == 0) return;
    ++found;
    const auto cut = CutVolume(random.nodes, volume, capacity.largest_volume_bytes);
    ASSERT_TRUE(cut.ok()) << cut.status();
    std::uint64_t sum_bytes = 0;
    for (const std::uint64_t size : cut->segment_sizes) sum_bytes += size;
    EXPECT_EQ(sum_bytes, capacity.largest_volume_bytes);
    const Request request{cut->segment_sizes, volume.copies, volume.constraints};
    const auto placed = PlaceSegments(random.nodes, request);
    ASSERT_TRUE(placed.ok()) << placed.status();
    ExpectRules(random.nodes, request, *placed);
    // And every smaller one.
    const std::uint64_t units = capacity.largest_volume_bytes / kUnitBytes;
    EXPECT_TRUE(
        CutVolume(random.nodes, volume, kUnitBytes * (1 + random.cluster.Below(units))).ok());
  });
  if (std::getenv("KEELSON_SEED") == nullptr) {
    EXPECT_GT(found, 100);
  }
}

TEST(PlacementPropertyTest, FullnessAndGainAreMonotone) {
  ForEverySeed([](std::uint64_t seed) {
    Case random(seed);
    const Limits& limits = random.request.constraints.limits;
    std::vector<PoolState> pools;
    for (const NodeState& node : random.nodes) {
      pools.insert(pools.end(), node.pools.begin(), node.pools.end());
    }
    const std::uint64_t bytes = kMiB * (1 + random.cluster.Below(100));
    for (const PoolState& pool : pools) {
      const std::uint64_t before = Fullness(pool, limits, bytes);
      PoolState other = pool;
      other.promised_bytes += bytes;
      EXPECT_GE(Fullness(other, limits, bytes), before);
      other = pool;
      other.free_bytes /= 2;
      EXPECT_GE(Fullness(other, limits, bytes), before);
      other = pool;
      other.capacity_bytes += bytes;
      other.free_bytes += bytes;
      EXPECT_LE(Fullness(other, limits, bytes), before);
      EXPECT_GE(Cost(random.nodes[0], pool, limits, {.replica_count = 10}, 2 * bytes),
                Cost(random.nodes[0], pool, limits, {.replica_count = 10}, bytes));
    }
    for (PoolState from : pools) {
      from.promised_bytes += bytes;  // it has the copy
      for (const PoolState& to : pools) {
        PoolState left = from;
        PoolState taken = to;
        left.promised_bytes -= bytes;
        taken.promised_bytes += bytes;
        const std::int64_t gain = MoveGain(from, to, limits, bytes);
        if (gain > 0) {
          EXPECT_LT(MoveGain(taken, left, limits, bytes), 0);
        }
        PoolState fuller = to;
        fuller.promised_bytes += bytes;
        if (Fullness(fuller, limits, 0) <= Fullness(from, limits, 0)) {
          EXPECT_LE(MoveGain(from, fuller, limits, bytes), gain);
        }
      }
    }
  });
}

}  // namespace
}  // namespace keelson::provisioner::placement
