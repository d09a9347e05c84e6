#pragma once
// Which nodes a volume's copies go to. Pure functions of values; any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "provisioner/ctl/cluster_view.h"

namespace keelson::ctl {

inline constexpr std::size_t kCopiesMax = 5;

// A pool for a member: the healthy one of its node that has the most free space.
struct Place {
  std::string node;
  std::string pool_id;
  std::string incarnation;  // of the pool
  std::string address;      // of the node's data port; may be empty
  std::uint64_t free_bytes = 0;
};

struct Placement {
  std::vector<Place> copies;
  std::optional<Place> witness;  // for an even number of copies
};

// FAILED_PRECONDITION when the node has no healthy pool, or no data port and `remote`.
absl::StatusOr<Place> PlaceOn(const NodeAnswer& node, bool remote);

// Distinct nodes, those with the most free space first. FAILED_PRECONDITION when there are not
// enough; the message says what is wrong with each of the others.
absl::StatusOr<Placement> ChoosePlaces(const std::vector<NodeAnswer>& nodes, std::size_t copies);

// A further node for a witness of the volume; nothing when there is none.
std::optional<Place> WitnessPlace(const std::vector<NodeAnswer>& nodes, const VolumeView& volume,
                                  const std::string& but_not);

}  // namespace keelson::ctl
