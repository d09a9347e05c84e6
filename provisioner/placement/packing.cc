#include "provisioner/placement/packing.h"

#include <algorithm>
#include <limits>

namespace keelson::provisioner::placement {
namespace {

constexpr std::uint64_t kDoesNotTake = std::numeric_limits<std::uint64_t>::max();

struct Group {
  std::uint64_t slots = 0;                    // for full segments
  std::uint64_t present_cost = kDoesNotTake;  // slots that a copy of the present segment takes away
};

}  // namespace

// A group with c slots takes a copy of each of min(c, m) of the m full segments, and if those add
// up to m times the copies, a segment after the other goes to the groups with the most slots left.
// A copy of the present segment goes where it costs no slot that is needed, as far as there are
// such places.
bool Packs(const Rooms& rooms, const Remainder& remainder) {
  std::vector<Group> groups(rooms.group_count);
  for (const NodeRoom& node : rooms.usable) {
    Group& group = groups[node.group];
    for (const PoolRoom& pool : node.pools) {
      const std::uint64_t slots =
          remainder.full_segments == 0 ? 0 : pool.Slots(remainder.full_bytes);
      group.slots += slots;
      if (!pool.Takes(remainder.present_bytes)) continue;
      const std::uint64_t left_bytes = pool.room_bytes - remainder.present_bytes;
      const std::uint64_t cost = slots == 0 ? 0 : slots - left_bytes / remainder.full_bytes;
      group.present_cost = std::min(group.present_cost, cost);
    }
  }
  std::uint64_t found = 0;
  std::vector<std::uint64_t> costs;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const Group& group = groups[i];
    found += std::min(group.slots, remainder.full_segments);
    if (remainder.taken[i] || group.present_cost == kDoesNotTake) continue;
    costs.push_back(group.slots <= remainder.full_segments ? group.present_cost : 0);
  }
  if (costs.size() < remainder.present_copies) return false;
  std::sort(costs.begin(), costs.end());
  std::uint64_t needed = remainder.full_segments * remainder.copies;
  for (std::size_t i = 0; i < remainder.present_copies; ++i) needed += costs[i];
  return found >= needed;
}

}  // namespace keelson::provisioner::placement
