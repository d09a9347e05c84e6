#include "provisioner/ctl/placement.h"

#include <algorithm>
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
    best = Place{node.name, pool.id(), pool.incarnation(), node.node.data_address(),
                 pool.free_bytes()};
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

std::optional<Place> WitnessPlace(const std::vector<NodeAnswer>& nodes, const VolumeView& volume,
                                  const std::string& but_not) {
  std::optional<Place> best;
  for (const NodeAnswer& node : nodes) {
    if (node.name == but_not || volume.OnNode(node.name) != nullptr) continue;
    const bool has_leftover =
        std::any_of(volume.leftovers.begin(), volume.leftovers.end(),
                    [&node](const PlacedMember& left) { return left.node == node.name; });
    absl::StatusOr<Place> place = PlaceOn(node, /*remote=*/true);
    if (has_leftover || !place.ok()) continue;
    if (!best || place->free_bytes > best->free_bytes) best = *std::move(place);
  }
  return best;
}

}  // namespace keelson::ctl
