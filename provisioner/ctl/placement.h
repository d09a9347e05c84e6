#pragma once
// Which nodes a volume's segments and their copies go to. Pure functions of values; any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "provisioner/ctl/cluster_view.h"

namespace keelson::ctl {

inline constexpr std::size_t kCopiesMax = 5;
inline constexpr std::uint64_t kSegmentUnitBytes = std::uint64_t{4} << 20;  // what sizes round to

// A pool for a member: the healthy one of its node that has the most free space.
struct Place {
  std::string node;
  std::string pool_id;
  std::string incarnation;  // of the pool
  std::string address;      // of the node's data port; may be empty
  std::uint64_t free_bytes = 0;
  std::uint64_t capacity_bytes = 0;
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

// The same for one segment after the other, each where the most is left when those before it have
// become full.
absl::StatusOr<std::vector<Placement>> PlaceSegments(std::vector<NodeAnswer> nodes,
                                                     std::size_t copies,
                                                     const std::vector<std::uint64_t>& sizes);

// A volume of this size in segments of `segment_bytes`; one when that is 0.
std::vector<std::uint64_t> SegmentSizes(std::uint64_t size_bytes, std::uint64_t segment_bytes);
// 0 for a volume that fits into each pool of the placement, else a size of segments that lets the
// pools be filled evenly.
std::uint64_t ChooseSegmentBytes(const Placement& placement, std::uint64_t size_bytes);

// A further node for a witness of the segment; nothing when there is none.
std::optional<Place> WitnessPlace(const std::vector<NodeAnswer>& nodes, const SegmentView& segment,
                                  const std::string& but_not);

}  // namespace keelson::ctl
