#pragma once
// Which of a segment's members goes, which one an engine runs beside. Pure functions of values; any
// thread.

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "provisioner/placement/types.h"

namespace keelson::provisioner::placement {

// The position in `members` of the copy to remove when there is one too many. One that is not in
// sync goes before all that are; a leaving one goes when everything else is in sync. Otherwise, in
// this order: the copy on a node or pool that may not be used (unknown, cordoned, unhealthy,
// excluded, outside of the topology), one of two in a zone when zones are to be distinct, one that
// is not on `near_node`, the one in the fullest pool.
//   FAILED_PRECONDITION  there are fewer than two copies, or what should go is needed until the
//   others
//                        are in sync
absl::StatusOr<std::size_t> ChooseLeaving(absl::Span<const NodeState> nodes,
                                          const std::vector<Member>& members,
                                          const Constraints& constraints);

// The node of an attachment without a user (snapshot, growth, filling a copy): one with a copy in
// sync that answers; `near_node` before others, then those that are schedulable, then the one with
// the fewest engines.
//   UNAVAILABLE  there is none now; the message says why of each
absl::StatusOr<std::string> ChooseEngineNode(absl::Span<const NodeState> nodes,
                                             const std::vector<Member>& members,
                                             const Constraints& constraints);

}  // namespace keelson::provisioner::placement
