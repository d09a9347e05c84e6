#pragma once
// How a volume is cut into segments, and how large one could be. Pure functions of values; any
// thread. What is said here holds for PlaceSegments with the same nodes, copies and constraints.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "provisioner/placement/types.h"

namespace keelson::provisioner::placement {

struct Cut {
  std::uint64_t segment_bytes =
      0;  // of every segment but the last, also of those of a later growth
  std::vector<std::uint64_t> segment_sizes{};
};

struct Volume {
  std::size_t copies = 3;
  Constraints constraints{};
  std::uint64_t segment_bytes = kSegmentBytesDefault;  // at most; a multiple of kUnitBytes
};

// The largest segments with which it finds room: those asked for, or a half of them, a quarter, ...
// when that is more than pools can take, down to kSegmentBytesMin.
//   RESOURCE_EXHAUSTED  it finds no room, or its witness no node; as from PlaceSegments
//   OUT_OF_RANGE        size_bytes is 0, or more than kSegmentsMax segments
//   INVALID_ARGUMENT    the copies or the size of segments
absl::StatusOr<Cut> CutVolume(absl::Span<const NodeState> nodes, const Volume& volume,
                              std::uint64_t size_bytes);

struct Capacity {
  std::uint64_t available_bytes = 0;       // of volumes, all together; nothing larger can be made
  std::uint64_t largest_volume_bytes = 0;  // CutVolume takes it, and nothing 4 MiB larger
};

// Both are multiples of kUnitBytes, and 0 where nothing can be placed. To be asked for a topology,
// put it into `constraints.requisite` if the copies have to be there; a volume whose copies may be
// anywhere can be used everywhere, and its capacity is the same for all topologies.
Capacity FindCapacity(absl::Span<const NodeState> nodes, const Volume& volume);

}  // namespace keelson::provisioner::placement
