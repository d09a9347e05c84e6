#pragma once
// What placement knows: the nodes as they were last seen, and what is asked for. Values without
// behaviour; whoever calls placement fills them. Sizes are in bytes.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace keelson::provisioner::placement {

inline constexpr std::uint64_t kUnitBytes = std::uint64_t{4}
                                            << 20;  // what sizes of segments round to
inline constexpr std::uint64_t kSegmentBytesDefault = std::uint64_t{256} << 30;
inline constexpr std::uint64_t kSegmentBytesMin = std::uint64_t{64}
                                                  << 20;  // of a volume that is cut
inline constexpr std::size_t kSegmentsMax = 1024;         // of a volume
inline constexpr std::size_t kCopiesMax = 5;              // of a segment

// Keys and values as a node has them; as in the CSI specification's Topology.
using TopologyMap = std::map<std::string, std::string>;

struct PoolState {
  std::string id{};
  bool healthy = true;
  std::uint64_t capacity_bytes = 0;
  std::uint64_t free_bytes = 0;      // can be allocated now; at most the capacity
  std::uint64_t promised_bytes = 0;  // the sizes of the segments whose copies it has or shall have
  std::uint32_t replica_count = 0;
};

struct NodeState {
  std::string name{};
  TopologyMap topology{};
  std::string zone{};       // empty: none is known
  bool schedulable = true;  // new copies may go there
  std::string reason{};     // why it is not schedulable: "cordoned", "does not answer since 12:01"
  bool answers = true;      // an engine could be started there now
  std::vector<PoolState> pools{};
  std::uint32_t attached_count = 0;  // engines
};

struct Limits {
  // Promised bytes of a pool are at most this part of its capacity.
  std::uint32_t overprovision_percent = 200;
  // A pool takes nothing new once less than this part of its capacity is free, and no single
  // segment that could not be filled without touching it. At most 100.
  std::uint32_t reserve_percent = 10;
};

// Which nodes copies may go to and which are the better ones; the same for a whole volume.
struct Constraints {
  bool zone_spread = false;  // no two copies of a segment in one zone
  // A node matches one of them at least; empty: every node does. This is where copies may be, not
  // where the volume may be used: that is everywhere, unless its only copy is bound to its user.
  std::vector<TopologyMap> requisite{};
  // For the first copy of a segment, earlier ones before later ones.
  std::vector<TopologyMap> preferred{};
  std::string pinned_node{};  // every copy is there (strictLocal); empty: anywhere
  std::string near_node{};    // one copy of a segment there if it can be (bestEffort)
  std::vector<std::string> excluded_nodes{};
  Limits limits{};
  std::uint64_t seed = 0;  // of the volume: among equally good nodes others for each
};

struct Place {
  std::string node{};
  std::string pool_id{};

  friend bool operator==(const Place&, const Place&) = default;
};

// A member of a segment as it is.
struct Member {
  Place place{};
  bool witness = false;
  bool in_sync = true;
  bool leaving = false;  // it is to be replaced: a new copy may be in its zone, not on its node
};

}  // namespace keelson::provisioner::placement
