#include "provisioner/ctl/placement.h"

#include <algorithm>
#include <bit>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

namespace keelson::ctl {

absl::StatusOr<Place> PlaceOn(const NodeAnswer& node, bool remote) {
  if (!node.status.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("node ", node.name, " does not answer"));
  }
  if (remote && node.node.data_address().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("node ", node.name, " has no data port (start it with --data-listen)"));
  }
  std::optional<Place> best;
  for (const v1::Pool& pool : node.node.pools()) {
    if (!pool.error().empty() || pool.id().empty()) continue;
    if (best && pool.free_bytes() <= best->free_bytes) continue;
    best = Place{node.name,          pool.id(),
                 pool.incarnation(), node.node.data_address(),
                 pool.free_bytes(),  pool.capacity_bytes()};
  }
  if (best) return *std::move(best);
  return absl::FailedPreconditionError(absl::StrCat("node ", node.name, " has no healthy pool"));
}

absl::StatusOr<Placement> ChoosePlaces(const std::vector<NodeAnswer>& nodes, std::size_t copies) {
  std::vector<Place> places;
  std::vector<std::string> problems;
  for (const NodeAnswer& node : nodes) {
    absl::StatusOr<Place> place = PlaceOn(node, /*remote=*/copies > 1);
    if (place.ok()) {
      places.push_back(*std::move(place));
    } else {
      problems.emplace_back(place.status().message());
    }
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return std::tuple(b.free_bytes, a.node) < std::tuple(a.free_bytes, b.node);
  });
  const bool needs_witness = copies % 2 == 0;
  const std::size_t needed = copies + (needs_witness ? 1 : 0);
  if (places.size() < needed) {
    std::string text =
        absl::StrCat(copies, copies == 1 ? " copy needs " : " copies need ", needed,
                     needed == 1 ? " node" : " nodes", needs_witness ? " (one for a witness)" : "",
                     ", and ", places.size(), " can take one");
    for (const std::string& problem : problems) absl::StrAppend(&text, "; ", problem);
    return absl::FailedPreconditionError(text);
  }
  Placement placement;
  if (needs_witness) placement.witness = places[copies];
  places.resize(copies);
  placement.copies = std::move(places);
  return placement;
}

absl::StatusOr<std::vector<Placement>> PlaceSegments(std::vector<NodeAnswer> nodes,
                                                     std::size_t copies,
                                                     const std::vector<std::uint64_t>& sizes) {
  std::vector<Placement> placements;
  for (const std::uint64_t size_bytes : sizes) {
    absl::StatusOr<Placement> placement = ChoosePlaces(nodes, copies);
    if (!placement.ok()) return placement.status();
    for (const Place& place : placement->copies) {
      for (NodeAnswer& node : nodes) {
        for (v1::Pool& pool : *node.node.mutable_pools()) {
          if (pool.id() != place.pool_id) continue;
          pool.set_free_bytes(pool.free_bytes() - std::min(pool.free_bytes(), size_bytes));
        }
      }
    }
    placements.push_back(*std::move(placement));
  }
  return placements;
}

std::vector<std::uint64_t> SegmentSizes(std::uint64_t size_bytes, std::uint64_t segment_bytes) {
  std::vector<std::uint64_t> sizes;
  while (segment_bytes != 0 && size_bytes > segment_bytes) {
    sizes.push_back(segment_bytes);
    size_bytes -= segment_bytes;
  }
  sizes.push_back(size_bytes);
  return sizes;
}

std::uint64_t ChooseSegmentBytes(const Placement& placement, std::uint64_t size_bytes) {
  std::uint64_t smallest_bytes = UINT64_MAX;
  for (const Place& place : placement.copies) {
    smallest_bytes = std::min(smallest_bytes, place.capacity_bytes);
  }
  if (size_bytes <= smallest_bytes) return 0;
  constexpr std::uint64_t kSegmentsPerPool = 4;
  return std::max(std::bit_floor(smallest_bytes / kSegmentsPerPool), kSegmentUnitBytes);
}

std::optional<Place> WitnessPlace(const std::vector<NodeAnswer>& nodes, const SegmentView& segment,
                                  const std::string& but_not) {
  std::optional<Place> best;
  for (const NodeAnswer& node : nodes) {
    if (node.name == but_not || segment.OnNode(node.name) != nullptr) continue;
    const bool has_leftover =
        std::any_of(segment.leftovers.begin(), segment.leftovers.end(),
                    [&node](const PlacedMember& left) { return left.node == node.name; });
    absl::StatusOr<Place> place = PlaceOn(node, /*remote=*/true);
    if (has_leftover || !place.ok()) continue;
    if (!best || place->free_bytes > best->free_bytes) best = *std::move(place);
  }
  return best;
}

}  // namespace keelson::ctl
