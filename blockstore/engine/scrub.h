#pragma once
// What a scrub of a segment is asked for, and what it has found so far. A scrub reads everything
// that every InSync member has, in every layer, verifies the checksums, compares the members with
// each other and puts right what one of them lost and another one has (docs/operations.md,
// "Scrubbing"). Value types: no I/O, any thread.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "blockstore/pool/ids.h"

namespace keelson::engine {

struct ScrubOptions {
  // Of all members together; 0: as fast as it goes beside the clients.
  std::uint64_t bytes_per_second = 0;
};

struct ScrubFinding {
  enum class Kind {
    kRepaired,      // it was bad, and has the right bytes again
    kUnrepairable,  // it is bad, and no other member has the bytes that its checksum asks for
    kDifferent,     // it matches its checksum, and is not what the first member has
  };
  Kind kind = Kind::kRepaired;
  std::uint64_t offset = 0;  // of the block, in the segment
  pool::SnapshotId layer;    // nil: the head
  pool::ReplicaId replica;
};

// The first ones are kept, the rest are only counted.
inline constexpr std::size_t kScrubFindingsMax = 100;

struct ScrubStatus {
  bool running = false;
  std::string ended_early;  // why the last one did not get to the end; empty: it did, or it runs
  std::uint64_t position_bytes = 0;   // everything before it has been looked at
  std::uint64_t size_bytes = 0;       // of the segment when it began
  std::uint64_t regions = 0;          // looked at; those that never were written are not counted
  std::uint64_t regions_skipped = 0;  // at least in part: not reconciled (R17), or not readable
  std::uint64_t read_bytes = 0;       // on all members
  std::uint64_t bad_blocks = 0;
  std::uint64_t repaired_blocks = 0;
  std::uint64_t unrepairable_blocks = 0;
  std::uint64_t different_blocks = 0;
  std::vector<ScrubFinding> findings;
};

}  // namespace keelson::engine
