#include "provisioner/placement/room.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "proto/rpc/size_text.h"

namespace keelson::provisioner::placement {
namespace {

__extension__ using Wide = unsigned __int128;

std::uint64_t Percent(std::uint64_t bytes, std::uint32_t percent) {
  return static_cast<std::uint64_t>(
      std::min<Wide>(static_cast<Wide>(bytes) * percent / 100, UINT64_MAX));
}

// What shall stay free.
std::uint64_t ReserveBytes(const PoolState& pool, const Limits& limits) {
  return Percent(pool.capacity_bytes, std::min(limits.reserve_percent, 100U));
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Why the node may not be used at all; empty: it may.
std::string WhyNotThere(const NodeState& node, const Constraints& constraints) {
  if (Contains(constraints.excluded_nodes, node.name)) return "excluded";
  if (!node.schedulable) return node.reason.empty() ? "not schedulable" : node.reason;
  if (node.pools.empty()) return "no pool";
  const bool any_healthy = std::any_of(node.pools.begin(), node.pools.end(),
                                       [](const PoolState& pool) { return pool.healthy; });
  return any_healthy ? "" : "no healthy pool";
}

}  // namespace

bool Matches(const NodeState& node, const TopologyMap& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&node](const auto& pair) {
    const auto found = node.topology.find(pair.first);
    return found != node.topology.end() && found->second == pair.second;
  });
}

std::string WhyNoCopy(const NodeState& node, const Constraints& constraints) {
  if (std::string why = WhyNotThere(node, constraints); !why.empty()) return why;
  if (!constraints.pinned_node.empty() && node.name != constraints.pinned_node) {
    return absl::StrCat("the copies are bound to node ", constraints.pinned_node);
  }
  const auto& wanted = constraints.requisite;
  if (!wanted.empty() && std::none_of(wanted.begin(), wanted.end(), [&node](const auto& topology) {
        return Matches(node, topology);
      })) {
    return "outside of the topology asked for";
  }
  if (constraints.zone_spread && node.zone.empty()) return "no zone is known of it";
  return "";
}

std::string WhyNoWitness(const NodeState& node, const Constraints& constraints) {
  return WhyNotThere(node, constraints);
}

PoolRoom RoomOf(const PoolState& pool, const Limits& limits) {
  PoolRoom room{pool, 0, 0};
  const std::uint64_t reserve_bytes = ReserveBytes(pool, limits);
  if (!pool.healthy || pool.free_bytes < reserve_bytes) return room;
  const std::uint64_t limit_bytes = Percent(pool.capacity_bytes, limits.overprovision_percent);
  room.room_bytes = limit_bytes - std::min(limit_bytes, pool.promised_bytes);
  room.segment_bytes_max = pool.capacity_bytes - reserve_bytes;
  return room;
}

Rooms FindRooms(absl::Span<const NodeState> nodes, const Constraints& constraints) {
  std::vector<const NodeState*> by_name;
  for (const NodeState& node : nodes) by_name.push_back(&node);
  std::sort(by_name.begin(), by_name.end(),
            [](const NodeState* a, const NodeState* b) { return a->name < b->name; });
  Rooms rooms;
  std::map<std::string_view, std::size_t> zones;
  for (const NodeState* node : by_name) {
    if (std::string why = WhyNoCopy(*node, constraints); !why.empty()) {
      rooms.unusable.push_back({node, std::move(why)});
      continue;
    }
    std::size_t group = rooms.group_count;
    if (constraints.zone_spread) group = zones.emplace(node->zone, group).first->second;
    rooms.group_count = std::max(rooms.group_count, group + 1);
    NodeRoom room{node, group, {}};
    for (const PoolState& pool : node->pools) {
      if (pool.healthy) room.pools.push_back(RoomOf(pool, constraints.limits));
    }
    rooms.usable.push_back(std::move(room));
  }
  return rooms;
}

std::string WhyNoRoom(const NodeRoom& node, std::uint64_t bytes, const Limits& limits) {
  using rpc::HumanSize;
  const PoolRoom& best = *std::max_element(node.pools.begin(), node.pools.end(),
                                           [](const PoolRoom& a, const PoolRoom& b) {
                                             return std::min(a.room_bytes, a.segment_bytes_max) <
                                                    std::min(b.room_bytes, b.segment_bytes_max);
                                           });
  const PoolState& pool = best.pool;
  const std::string capacity = HumanSize(pool.capacity_bytes);
  if (pool.free_bytes < ReserveBytes(pool, limits)) {
    return absl::StrCat(HumanSize(pool.free_bytes), " free of ", capacity, ", and ",
                        limits.reserve_percent, "% stay free");
  }
  if (bytes > best.segment_bytes_max) {
    return absl::StrCat("a pool of ", capacity, " of which ", limits.reserve_percent,
                        "% stay free, ", HumanSize(bytes), " asked");
  }
  return absl::StrCat(HumanSize(pool.promised_bytes), " promised of ", capacity, " x ",
                      limits.overprovision_percent / 100.0, ", ", HumanSize(bytes), " asked");
}

std::string Enumerate(const std::vector<std::string>& parts, std::string_view separator) {
  constexpr std::size_t kShownMax = 16;
  std::string text;
  for (std::size_t i = 0; i < std::min(parts.size(), kShownMax); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : std::string(separator), parts[i]);
  }
  if (parts.size() > kShownMax) {
    absl::StrAppend(&text, std::string(separator), "and ", parts.size() - kShownMax, " more");
  }
  return text;
}

}  // namespace keelson::provisioner::placement
