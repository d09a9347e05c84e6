#include "provisioner/placement/place.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/size_text.h"
#include "provisioner/placement/packing.h"
#include "provisioner/placement/room.h"
#include "provisioner/placement/score.h"

namespace keelson::provisioner::placement {
namespace {

bool NeedsWitness(std::size_t copies) { return copies % 2 == 0; }

std::string CopiesText(std::size_t copies) {
  return absl::StrCat(copies, copies == 1 ? " copy" : " copies");
}

Busiest FindBusiest(absl::Span<const NodeState> nodes) {
  Busiest busiest;
  for (const NodeState& node : nodes) {
    busiest.attached_count = std::max(busiest.attached_count, node.attached_count);
    for (const PoolState& pool : node.pools) {
      busiest.replica_count = std::max(busiest.replica_count, pool.replica_count);
    }
  }
  return busiest;
}

// A pool that may be taken, and its order among others; lower is better.
struct Candidate {
  NodeRoom* node = nullptr;
  PoolRoom* pool = nullptr;
  bool is_far = false;         // not the node that is asked for
  std::size_t first_rank = 0;  // among the preferred topologies, where they come before the cost
  std::uint64_t cost = 0;
  std::size_t rank = 0;
  std::uint64_t tie_break = 0;

  auto Order() const {
    return std::tuple(is_far, first_rank, cost, rank, tie_break, std::string_view(node->node->name),
                      std::string_view(pool->pool.id));
  }
};

absl::Status CheckRequest(const Request& request) {
  const auto& sizes = request.segment_sizes;
  if (request.copies < 1 || request.copies > kCopiesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(CopiesText(request.copies), ": a segment has 1 to ", kCopiesMax));
  }
  if (sizes.empty() || sizes.size() > kSegmentsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(sizes.size(), " segments: a volume has 1 to ", kSegmentsMax));
  }
  const bool equal = std::all_of(sizes.begin(), sizes.end() - 1,
                                 [&sizes](std::uint64_t size) { return size == sizes.front(); });
  if (sizes.back() == 0 || sizes.back() > sizes.front() || !equal) {
    return absl::InvalidArgumentError(
        "segments have one size but for the last, which may be smaller, and none is empty");
  }
  return absl::OkStatus();
}

// Of the last segment; the others are the full ones.
Remainder AllOf(const Request& request, std::size_t group_count) {
  return {.taken = std::vector<bool>(group_count, false),
          .present_copies = request.copies,
          .present_bytes = request.segment_sizes.back(),
          .full_segments = request.segment_sizes.size() - 1,
          .full_bytes = request.segment_sizes.front(),
          .copies = request.copies};
}

// "node b: cordoned; node c: 3 GiB promised of 10 GiB x 2, 18 GiB asked"
void AddReasons(const Rooms& rooms, std::uint64_t bytes, const Limits& limits,
                std::vector<std::string>* reasons) {
  for (const NodeRoom& node : rooms.usable) {
    const bool takes = std::any_of(node.pools.begin(), node.pools.end(),
                                   [bytes](const PoolRoom& pool) { return pool.Takes(bytes); });
    if (takes) continue;
    reasons->push_back(
        absl::StrCat("node ", node.node->name, ": ", WhyNoRoom(node, bytes, limits)));
  }
  for (const Unusable& node : rooms.unusable) {
    reasons->push_back(absl::StrCat("node ", node.node->name, ": ", node.reason));
  }
}

// "a, b" or "a, b in zone x; c in zone y": who could take one copy.
std::string Takers(const Rooms& rooms, std::uint64_t bytes, bool zone_spread) {
  std::vector<std::string> takers;
  for (const NodeRoom& node : rooms.usable) {
    const bool takes = std::any_of(node.pools.begin(), node.pools.end(),
                                   [bytes](const PoolRoom& pool) { return pool.Takes(bytes); });
    if (!takes) continue;
    takers.push_back(zone_spread ? absl::StrCat(node.node->name, " in zone ", node.node->zone)
                                 : node.node->name);
  }
  return takers.empty() ? "none" : Enumerate(takers, ", ");
}

absl::Status NoRoom(const Rooms& rooms, const Request& request) {
  const Constraints& constraints = request.constraints;
  const auto& sizes = request.segment_sizes;
  std::string text = absl::StrCat(CopiesText(request.copies), " of ");
  if (sizes.size() == 1) {
    absl::StrAppend(&text, rpc::HumanSize(sizes.front()), " need");
  } else {
    absl::StrAppend(&text, sizes.size(), " segments of up to ", rpc::HumanSize(sizes.front()),
                    " each need");
  }
  absl::StrAppend(
      &text, request.copies == 1 ? "s " : " ", request.copies,
      constraints.zone_spread ? " zone" : " node", request.copies == 1 ? "" : "s",
      sizes.size() == 1 ? " with room" : " with room for each of them",
      "; there is room for one copy on: ", Takers(rooms, sizes.front(), constraints.zone_spread));
  std::vector<std::string> reasons;
  AddReasons(rooms, sizes.front(), constraints.limits, &reasons);
  if (!reasons.empty()) absl::StrAppend(&text, "; ", Enumerate(reasons, "; "));
  return absl::ResourceExhaustedError(text);
}

class Planner {
 public:
  Planner(absl::Span<const NodeState> nodes, const Constraints& constraints)
      : nodes_(nodes),
        constraints_(constraints),
        rooms_(FindRooms(nodes, constraints)),
        busiest_(FindBusiest(nodes)) {}

  Rooms& rooms() { return rooms_; }

  // Takes the best pool for a copy that leaves room for the rest.
  std::optional<Place> TakeOne(Remainder* rest, bool first);
  // A node without the copy of these places.
  std::optional<Place> Witness(const std::vector<std::string_view>& nodes_taken,
                               const std::set<std::string_view>& zones_taken);

 private:
  std::vector<Candidate> Candidates(const Remainder& rest, bool first);

  absl::Span<const NodeState> nodes_;
  const Constraints& constraints_;
  Rooms rooms_;
  Busiest busiest_;
};

std::vector<Candidate> Planner::Candidates(const Remainder& rest, bool first) {
  std::vector<Candidate> candidates;
  for (NodeRoom& node : rooms_.usable) {
    if (rest.taken[node.group]) continue;
    const std::size_t rank = PreferredRank(*node.node, constraints_);
    for (PoolRoom& pool : node.pools) {
      if (!pool.Takes(rest.present_bytes)) continue;
      candidates.push_back(
          {.node = &node,
           .pool = &pool,
           .is_far = first && node.node->name != constraints_.near_node,
           .first_rank = first ? rank : 0,
           .cost = Cost(*node.node, pool.pool, constraints_.limits, busiest_, rest.present_bytes),
           .rank = rank,
           .tie_break = TieBreak(constraints_.seed, node.node->name, pool.pool.id)});
    }
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.Order() < b.Order(); });
  return candidates;
}

std::optional<Place> Planner::TakeOne(Remainder* rest, bool first) {
  for (const Candidate& candidate : Candidates(*rest, first)) {
    candidate.pool->Take(rest->present_bytes);
    rest->taken[candidate.node->group] = true;
    --rest->present_copies;
    if (Packs(rooms_, *rest)) return Place{candidate.node->node->name, candidate.pool->pool.id};
    candidate.pool->GiveBack(rest->present_bytes);
    rest->taken[candidate.node->group] = false;
    ++rest->present_copies;
  }
  return std::nullopt;
}

std::optional<Place> Planner::Witness(const std::vector<std::string_view>& nodes_taken,
                                      const std::set<std::string_view>& zones_taken) {
  using Order = std::tuple<bool, std::uint64_t, std::uint64_t, std::string_view, std::string_view>;
  std::optional<Order> best;
  for (const NodeState& node : nodes_) {
    if (!WhyNoWitness(node, constraints_).empty()) continue;
    if (std::find(nodes_taken.begin(), nodes_taken.end(), node.name) != nodes_taken.end()) continue;
    for (const PoolState& pool : node.pools) {
      if (!pool.healthy) continue;
      const Order order(zones_taken.contains(node.zone),
                        Cost(node, pool, constraints_.limits, busiest_, 0),
                        TieBreak(constraints_.seed, node.name, pool.id), node.name, pool.id);
      if (!best || order < *best) best = order;
    }
  }
  if (!best) return std::nullopt;
  return Place{std::string(std::get<3>(*best)), std::string(std::get<4>(*best))};
}

std::string_view ZoneOf(absl::Span<const NodeState> nodes, std::string_view name) {
  for (const NodeState& node : nodes) {
    if (node.name == name) return node.zone;
  }
  return "";
}

constexpr char kCannotBe[] = "placement: room that was found is gone; this is a bug of keelson";

absl::StatusOr<SegmentPlacement> PlaceSegment(absl::Span<const NodeState> nodes, std::size_t copies,
                                              Planner* planner, Remainder rest) {
  SegmentPlacement placement;
  std::vector<std::string_view> nodes_taken;
  std::set<std::string_view> zones_taken;
  for (std::size_t i = 0; i < copies; ++i) {
    std::optional<Place> place = planner->TakeOne(&rest, /*first=*/i == 0);
    if (!place) return absl::InternalError(kCannotBe);
    placement.copies.push_back(*std::move(place));
  }
  if (!NeedsWitness(copies)) return placement;
  for (const Place& place : placement.copies) {
    nodes_taken.push_back(place.node);
    const std::string_view zone = ZoneOf(nodes, place.node);
    if (!zone.empty()) zones_taken.insert(zone);
  }
  placement.witness = planner->Witness(nodes_taken, zones_taken);
  if (!placement.witness) {
    placement.witness_absent =
        absl::StrCat("there is no further node for a witness: I/O waits when one of the ",
                     nodes.size(), " nodes is lost");
  }
  return placement;
}

}  // namespace

absl::Status CheckFits(absl::Span<const NodeState> nodes, const Request& request) {
  if (absl::Status status = CheckRequest(request); !status.ok()) return status;
  const Rooms rooms = FindRooms(nodes, request.constraints);
  if (Packs(rooms, AllOf(request, rooms.group_count))) return absl::OkStatus();
  return NoRoom(rooms, request);
}

absl::Status CheckWitness(absl::Span<const NodeState> nodes, std::size_t copies,
                          const Constraints& constraints) {
  if (!NeedsWitness(copies) || nodes.size() <= copies) return absl::OkStatus();
  std::size_t able = 0;
  std::vector<std::string> reasons;
  for (const NodeState& node : nodes) {
    const std::string why = WhyNoWitness(node, constraints);
    if (why.empty()) ++able;
    if (!why.empty()) reasons.push_back(absl::StrCat("node ", node.name, ": ", why));
  }
  if (able > copies) return absl::OkStatus();
  std::sort(reasons.begin(), reasons.end());
  return absl::ResourceExhaustedError(
      absl::StrCat(CopiesText(copies), " need a further node for a witness (a vote without data), ",
                   copies + 1, " in all, and ", able, " can be used; ", Enumerate(reasons, "; ")));
}

absl::StatusOr<std::vector<SegmentPlacement>> PlaceSegments(absl::Span<const NodeState> nodes,
                                                            const Request& request) {
  if (absl::Status status = CheckRequest(request); !status.ok()) return status;
  Planner planner(nodes, request.constraints);
  Remainder rest = AllOf(request, planner.rooms().group_count);
  if (!Packs(planner.rooms(), rest)) return NoRoom(planner.rooms(), request);
  absl::Status witness = CheckWitness(nodes, request.copies, request.constraints);
  if (!witness.ok()) return witness;

  // The smaller one first: with full ones alone left, Packs is exact (packing.h).
  std::vector<SegmentPlacement> placements(request.segment_sizes.size());
  absl::StatusOr<SegmentPlacement> last = PlaceSegment(nodes, request.copies, &planner, rest);
  if (!last.ok()) return last.status();
  placements.back() = *std::move(last);
  rest.present_bytes = request.segment_sizes.front();
  for (std::size_t i = 0; i + 1 < placements.size(); ++i) {
    --rest.full_segments;
    absl::StatusOr<SegmentPlacement> next = PlaceSegment(nodes, request.copies, &planner, rest);
    if (!next.ok()) return next.status();
    placements[i] = *std::move(next);
  }
  return placements;
}

absl::StatusOr<Place> PlaceOne(absl::Span<const NodeState> nodes, const OneRequest& request) {
  Constraints constraints = request.constraints;
  std::vector<std::string_view> nodes_taken;
  std::set<std::string_view> zones_taken;
  for (const Member& member : request.members) {
    if (member.witness && member.leaving) continue;
    nodes_taken.push_back(member.place.node);
    if (member.witness || member.leaving) continue;
    constraints.preferred.clear();  // they are for a segment's first copy
    const std::string_view zone = ZoneOf(nodes, member.place.node);
    if (!zone.empty()) zones_taken.insert(zone);
  }
  // What is taken becomes a node that may not be used, with that reason.
  std::vector<NodeState> others(nodes.begin(), nodes.end());
  for (NodeState& node : others) {
    const bool taken =
        std::find(nodes_taken.begin(), nodes_taken.end(), node.name) != nodes_taken.end();
    const bool zone_taken =
        !request.witness && constraints.zone_spread && zones_taken.contains(node.zone);
    if (!taken && !zone_taken) continue;
    node.schedulable = false;
    node.reason = taken ? "has a member of the segment already"
                        : absl::StrCat("a copy is in its zone ", node.zone, " already");
  }
  Planner planner(others, constraints);
  if (request.witness) {
    if (std::optional<Place> place = planner.Witness(nodes_taken, zones_taken)) return *place;
    std::vector<std::string> reasons;
    for (const NodeState& node : others) {
      reasons.push_back(absl::StrCat("node ", node.name, ": ", WhyNoWitness(node, constraints)));
    }
    std::sort(reasons.begin(), reasons.end());
    return absl::ResourceExhaustedError(
        absl::StrCat("no node for a witness; ", Enumerate(reasons, "; ")));
  }
  const Request one{{request.segment_bytes}, 1, constraints};
  if (absl::Status status = CheckRequest(one); !status.ok()) return status;
  Remainder rest = AllOf(one, planner.rooms().group_count);
  if (std::optional<Place> place = planner.TakeOne(&rest, /*first=*/true)) return *place;
  return NoRoom(planner.rooms(), one);
}

}  // namespace keelson::provisioner::placement
