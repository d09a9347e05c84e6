#pragma once
// Which blocks a snapshot has, and which of them changed since an older snapshot of the same
// replica: read from the layers' maps, exact to a block of 4 KiB; no data is read. A block that was
// written with the same bytes counts as changed, and one that was trimmed, too.
//
// A part at a time, each a plain call on the pool's reactor: snapshots do not change, and what a
// merge of deleted ones between them moves stays between them, so the parts fit together.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "blockstore/replica/replica.h"

namespace keelson::replica {

struct BlockListQuery {
  pool::SnapshotId snapshot;
  // The blocks that changed since it; absent: those that the snapshot has, and that are no holes.
  std::optional<pool::SnapshotId> base;
  std::uint64_t from_offset = 0;
  std::size_t ranges_max = 1024;  // at least 1
};

struct BlockRange {
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
  bool operator==(const BlockRange&) const = default;
};

struct BlockList {
  std::uint64_t size_bytes = 0;    // of the snapshot
  std::vector<BlockRange> ranges;  // ascending, none touches the next
  // All ranges before it are listed; the next part begins here. size_bytes: that was all.
  std::uint64_t next_offset = 0;
};

// NOT_FOUND: the replica does not have one of the snapshots. INVALID_ARGUMENT: the base is not
// older than the snapshot.
absl::StatusOr<BlockList> ListBlocks(const Replica& replica, const BlockListQuery& query);

}  // namespace keelson::replica
