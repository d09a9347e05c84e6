#include "blockstore/replica/block_lists.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"

namespace keelson::replica {
namespace {

using pool::BlockBits;
using pool::kBlockBytes;
using pool::kBlocksPerExtent;
using pool::kExtentBytes;

// Looked up in one part, so that the reactor is not kept for long.
constexpr std::size_t kLookupsMax = 32'768;

absl::StatusOr<const SnapshotState*> Find(const Replica& replica, const pool::SnapshotId& id) {
  for (const SnapshotState& snapshot : replica.snapshots()) {
    if (snapshot.id == id) return &snapshot;
  }
  return absl::NotFoundError(absl::StrCat("replica ", replica.id().ToString(), " of volume ",
                                          replica.name(), " has no snapshot ", id.ToString()));
}

// The layers that make up the list, from the snapshot's down to but without the base's.
absl::StatusOr<std::vector<const Layer*>> LayersOf(const Replica& replica,
                                                   const SnapshotState& snapshot,
                                                   const SnapshotState* base) {
  const Layer* const end = base == nullptr ? nullptr : base->layer;
  std::vector<const Layer*> layers;
  const Layer* layer = snapshot.layer;
  for (; layer != end && layer != nullptr; layer = layer->parent()) layers.push_back(layer);
  if (layer == end) return layers;
  return absl::InvalidArgumentError(absl::StrCat("volume ", replica.name(), ": snapshot ",
                                                 base->name, " is not older than ", snapshot.name,
                                                 "; exchange them"));
}

BlockBits BlocksOf(const std::vector<const Layer*>& layers, std::uint32_t extent, bool changed) {
  BlockBits listed, decided;
  for (const Layer* layer : layers) {
    pool::ExtentState state;
    if (!layer->Find(extent, &state)) continue;
    listed = listed | (state.present & ~decided);
    if (changed) listed = listed | state.zeroed;
    decided = decided | state.present | state.zeroed;
  }
  return listed;
}

}  // namespace

absl::StatusOr<BlockList> ListBlocks(const Replica& replica, const BlockListQuery& query) {
  ASSIGN_OR_RETURN(const SnapshotState* const snapshot, Find(replica, query.snapshot));
  const SnapshotState* base = nullptr;
  if (query.base.has_value()) {
    ASSIGN_OR_RETURN(base, Find(replica, *query.base));
  }
  ASSIGN_OR_RETURN(const std::vector<const Layer*> layers, LayersOf(replica, *snapshot, base));
  BlockList list;
  list.size_bytes = snapshot->size_bytes;
  list.next_offset =
      layers.empty() ? list.size_bytes : query.from_offset / kBlockBytes * kBlockBytes;
  std::size_t lookups = 0;
  while (list.next_offset < list.size_bytes && lookups < kLookupsMax) {
    const auto extent = static_cast<std::uint32_t>(list.next_offset / kExtentBytes);
    const std::uint64_t start = extent * kExtentBytes;
    const BlockBits bits = BlocksOf(layers, extent, base != nullptr);
    lookups += layers.size();
    auto block = static_cast<std::uint32_t>((list.next_offset - start) / kBlockBytes);
    const auto end =
        static_cast<std::uint32_t>(std::min(list.size_bytes - start, kExtentBytes) / kBlockBytes);
    while (block < end) {
      const std::uint32_t count = bits.RunLength(block, end - block);
      const std::uint64_t offset = start + block * kBlockBytes;
      if (bits.Test(block)) {
        const bool touches = !list.ranges.empty() &&
                             list.ranges.back().offset + list.ranges.back().size_bytes == offset;
        if (!touches && list.ranges.size() == query.ranges_max) return list;
        if (!touches) list.ranges.push_back({offset, 0});
        list.ranges.back().size_bytes += count * kBlockBytes;
      }
      block += count;
      list.next_offset = start + block * kBlockBytes;
    }
  }
  return list;
}

}  // namespace keelson::replica
