#include "provisioner/placement/members.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "provisioner/placement/room.h"
#include "provisioner/placement/score.h"

namespace keelson::provisioner::placement {
namespace {

const NodeState* FindNode(absl::Span<const NodeState> nodes, std::string_view name) {
  for (const NodeState& node : nodes) {
    if (node.name == name) return &node;
  }
  return nullptr;
}

const PoolState* FindPool(const NodeState& node, std::string_view id) {
  for (const PoolState& pool : node.pools) {
    if (pool.id == id) return &pool;
  }
  return nullptr;
}

// How much a copy ought to go; the greatest goes.
using Urge = std::tuple<bool, bool, bool, std::uint64_t, std::uint64_t>;

Urge UrgeOf(absl::Span<const NodeState> nodes, const Member& member, const Constraints& constraints,
            const std::map<std::string_view, int>& copies_of_zones) {
  const NodeState* node = FindNode(nodes, member.place.node);
  const PoolState* pool = node == nullptr ? nullptr : FindPool(*node, member.place.pool_id);
  const bool is_near = member.place.node == constraints.near_node;
  const std::uint64_t tie_break =
      TieBreak(constraints.seed, member.place.node, member.place.pool_id);
  if (pool == nullptr || !pool->healthy || !WhyNoCopy(*node, constraints).empty()) {
    return {true, false, !is_near, 0, tie_break};
  }
  const auto zone = copies_of_zones.find(node->zone);
  const bool shares_zone =
      constraints.zone_spread && zone != copies_of_zones.end() && zone->second > 1;
  return {false, shares_zone, !is_near, Fullness(*pool, constraints.limits, 0), tie_break};
}

}  // namespace

absl::StatusOr<std::size_t> ChooseLeaving(absl::Span<const NodeState> nodes,
                                          const std::vector<Member>& members,
                                          const Constraints& constraints) {
  std::size_t copies = 0;
  std::size_t in_sync = 0;
  std::size_t staying_out_of_sync = 0;
  std::optional<std::size_t> leaving;
  std::map<std::string_view, int> copies_of_zones;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const Member& member = members[i];
    if (member.witness) continue;
    ++copies;
    if (member.in_sync) ++in_sync;
    const NodeState* node = FindNode(nodes, member.place.node);
    if (node != nullptr && !node->zone.empty()) ++copies_of_zones[node->zone];
    if (member.leaving && (!leaving || !member.in_sync)) leaving = i;
    if (!member.leaving && !member.in_sync) ++staying_out_of_sync;
  }
  if (copies < 2) {
    return absl::FailedPreconditionError("the last copy of a segment is not removed");
  }
  if (in_sync == 0) {
    return absl::FailedPreconditionError(
        "none of the segment's copies is in sync: one may be all "
        "there is");
  }
  if (leaving) {
    if (!members[*leaving].in_sync || staying_out_of_sync == 0) return *leaving;
    return absl::FailedPreconditionError(
        absl::StrCat("the copy on node ", members[*leaving].place.node, " is needed until ",
                     staying_out_of_sync, " of the others have everything"));
  }
  std::optional<std::pair<Urge, std::size_t>> best;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (members[i].witness || (staying_out_of_sync != 0 && members[i].in_sync)) continue;
    const std::pair candidate(UrgeOf(nodes, members[i], constraints, copies_of_zones), i);
    if (!best || candidate > *best) best = candidate;
  }
  return best->second;
}

absl::StatusOr<std::string> ChooseEngineNode(absl::Span<const NodeState> nodes,
                                             const std::vector<Member>& members,
                                             const Constraints& constraints) {
  using Order = std::tuple<bool, bool, std::uint32_t, std::uint64_t, std::string_view>;
  std::optional<Order> best;
  std::vector<std::string> reasons;
  for (const Member& member : members) {
    if (member.witness) continue;
    const std::string& name = member.place.node;
    const NodeState* node = FindNode(nodes, name);
    if (node == nullptr || !node->answers || !member.in_sync) {
      reasons.push_back(absl::StrCat("node ", name, ": ",
                                     node == nullptr  ? "is not known"
                                     : !node->answers ? "does not answer"
                                                      : "its copy is not in sync"));
      continue;
    }
    const Order order(name != constraints.near_node, !node->schedulable, node->attached_count,
                      TieBreak(constraints.seed, name, ""), name);
    if (!best || order < *best) best = order;
  }
  if (best) return std::string(std::get<4>(*best));
  return absl::UnavailableError(
      absl::StrCat("no node can run the volume's engine now; ",
                   reasons.empty() ? "it has no copy" : Enumerate(reasons, "; ")));
}

}  // namespace keelson::provisioner::placement
