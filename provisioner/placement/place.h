#pragma once
// Where the copies of a volume's segments go. Pure functions of values: the same answer for the
// same arguments, in whatever order the nodes are given. Any thread.
//
// Hard rules: the copies of a segment are on distinct nodes that may take them, in distinct zones
// if asked; in a healthy pool that may promise so much more and has its reserve free; all within
// the requisite topologies, and on the pinned node if there is one. A placement is found whenever
// there is one. Among the possible: one copy of each segment near its user (`near_node`, else the
// earliest preferred topology); then the emptiest pools, and those with the fewest copies and
// engines; then, so that volumes spread, by the seed.
//
// Two or four copies have a witness on a further node, one in a zone without a copy if there is
// such. Without it, half of the copies gone is no majority of the votes and I/O waits (R1, R7 of
// the protocol); with it nothing is at risk either way. So it is required where any further node is
// known, and absent, which the result says, only where every node has a copy already.
//
// Errors: RESOURCE_EXHAUSTED, with the reason of each node that cannot take a copy;
// INVALID_ARGUMENT, a request that cannot be meant.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "provisioner/placement/types.h"

namespace keelson::provisioner::placement {

struct Request {
  // One of any size, or several that are of one size but for the last, which may be smaller.
  std::vector<std::uint64_t> segment_sizes{};
  std::size_t copies = 3;  // 1 to kCopiesMax
  Constraints constraints{};
};

struct SegmentPlacement {
  std::vector<Place> copies{};     // the one near its user first
  std::optional<Place> witness{};  // of two or four copies
  std::string witness_absent{};    // why there is none although the copies are even; else empty
};

// One for each segment. The nodes have distinct names.
absl::StatusOr<std::vector<SegmentPlacement>> PlaceSegments(absl::Span<const NodeState> nodes,
                                                            const Request& request);

// One more member of a segment.
struct OneRequest {
  std::uint64_t segment_bytes = 0;
  // The members that it has. A new one goes to another node than theirs (a leaving witness's is
  // free), and, if asked, a new copy to another zone than those of the copies that stay.
  std::vector<Member> members{};
  bool witness = false;  // what is added; a witness needs no room
  Constraints constraints{};
};

// For healing, drain, rebalancing, locality (`near_node`, or `pinned_node` when only that will do).
absl::StatusOr<Place> PlaceOne(absl::Span<const NodeState> nodes, const OneRequest& request);

// Whether segments of these sizes find room, apart from their witnesses: OK, or the error that
// PlaceSegments would give.
absl::Status CheckFits(absl::Span<const NodeState> nodes, const Request& request);

// Whether there will be a node for the witness, if the number of copies wants one.
absl::Status CheckWitness(absl::Span<const NodeState> nodes, std::size_t copies,
                          const Constraints& constraints);

}  // namespace keelson::provisioner::placement
