#pragma once
// Whether segments find room together. Pure functions of values; any thread; nothing can fail.

#include <cstdint>
#include <vector>

#include "provisioner/placement/room.h"

namespace keelson::provisioner::placement {

// What is still to be placed, while a volume's segments are placed one after the other.
struct Remainder {
  std::vector<bool> taken;          // groups that have a copy of the present segment
  std::size_t present_copies = 0;   // of the present segment, still to be placed
  std::uint64_t present_bytes = 0;  // at most full_bytes
  std::uint64_t full_segments = 0;  // those that follow, all of one size
  std::uint64_t full_bytes = 0;
  std::size_t copies = 0;  // of each of those
};

// Exact: true if and only if every copy finds a pool with room such that no group has two copies of
// a segment.
bool Packs(const Rooms& rooms, const Remainder& remainder);

}  // namespace keelson::provisioner::placement
