#pragma once
// What a pool, a node and a zone can take. Pure functions of values; any thread; nothing can fail.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "provisioner/placement/types.h"

namespace keelson::provisioner::placement {

// A healthy pool of a node that may take copies, while a volume is being placed.
struct PoolRoom {
  PoolState pool;                   // with what is being placed
  std::uint64_t room_bytes;         // can still be promised
  std::uint64_t segment_bytes_max;  // that one segment can have

  bool Takes(std::uint64_t bytes) const {
    return bytes <= room_bytes && bytes <= segment_bytes_max;
  }
  void Take(std::uint64_t bytes) {
    room_bytes -= bytes;
    pool.promised_bytes += bytes;
    ++pool.replica_count;
  }
  void GiveBack(std::uint64_t bytes) {
    room_bytes += bytes;
    pool.promised_bytes -= bytes;
    --pool.replica_count;
  }
  // How many segments of that size; `bytes` is not 0.
  std::uint64_t Slots(std::uint64_t bytes) const {
    return bytes <= segment_bytes_max ? room_bytes / bytes : 0;
  }
};

// A node that may take copies.
struct NodeRoom {
  const NodeState* node;
  std::size_t group;  // of the nodes of which one may have a copy of a segment: itself, or its zone
  std::vector<PoolRoom> pools;
};

// A node that may not, and why not, in a few words.
struct Unusable {
  const NodeState* node;
  std::string reason;
};

struct Rooms {
  std::vector<NodeRoom> usable;  // by name
  std::vector<Unusable> unusable;
  std::size_t group_count = 0;
};

// The nodes outlive the result, and have distinct names.
Rooms FindRooms(absl::Span<const NodeState> nodes, const Constraints& constraints);

PoolRoom RoomOf(const PoolState& pool, const Limits& limits);

// Why the node cannot take a segment of that size: "3 GiB promised of 10 GiB x 2.0, 18 GiB asked".
// Of several pools the one with the most room is told. REQUIRES: none of them takes it.
std::string WhyNoRoom(const NodeRoom& node, std::uint64_t bytes, const Limits& limits);

// Empty: the node may have copies, as far as it is not a matter of room; otherwise why not.
std::string WhyNoCopy(const NodeState& node, const Constraints& constraints);

// Empty: the node could have a vote without data; otherwise why not.
std::string WhyNoWitness(const NodeState& node, const Constraints& constraints);

// Whether a pair of every one of `wanted` is on the node.
bool Matches(const NodeState& node, const TopologyMap& wanted);

// "a; b; c" for the separator "; "; at most sixteen of them, then "and 3 more".
std::string Enumerate(const std::vector<std::string>& parts, std::string_view separator);

}  // namespace keelson::provisioner::placement
