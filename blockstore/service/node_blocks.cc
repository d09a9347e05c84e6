// Node: lists of the blocks of a snapshot, or of those changed since an older one, for backups.
// They come from the maps of copies in this daemon's pools; the volume need not be attached.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/service/node.h"

namespace keelson::service {
namespace {

constexpr std::uint64_t kBlockBytes = 4096;
constexpr std::size_t kRangesPerPart = 4096;

}  // namespace

absl::Status Node::ListAllocated(const v1::ListAllocatedRequest& request, SendBlocks send) {
  BlockListing listing;
  listing.volume = request.volume();
  listing.snapshot = {request.snapshot(), request.snapshot_id()};
  if (request.has_segment()) listing.segment = request.segment();
  listing.from_offset = request.from_offset();
  listing.count_max = request.count_max();
  return ListBlocks(listing, send);
}

absl::Status Node::ListChanged(const v1::ListChangedRequest& request, SendBlocks send) {
  BlockListing listing;
  listing.volume = request.volume();
  listing.snapshot = {request.target_snapshot(), request.target_snapshot_id()};
  listing.base = {request.base_snapshot(), request.base_snapshot_id()};
  if (listing.base.empty()) {
    return absl::InvalidArgumentError("base_snapshot is to name an older snapshot");
  }
  if (request.has_segment()) listing.segment = request.segment();
  listing.from_offset = request.from_offset();
  listing.count_max = request.count_max();
  return ListBlocks(listing, send);
}

absl::StatusOr<PoolHost::SegmentBlocks> Node::ListSegment(const BlockListing& listing,
                                                          std::uint32_t segment,
                                                          std::uint64_t from_offset,
                                                          std::size_t ranges_max) {
  for (Slot* const slot : OpenSlots()) {
    ASSIGN_OR_RETURN(std::optional<PoolHost::SegmentBlocks> blocks,
                     slot->shard->thread().Run([&, slot] {
                       return slot->host->ListBlocks(listing.volume, segment, listing.snapshot,
                                                     listing.base, from_offset, ranges_max);
                     }));
    if (blocks.has_value()) return *std::move(blocks);
  }
  return absl::FailedPreconditionError(absl::StrCat("this node has no copy of segment ", segment,
                                                    " of volume '", listing.volume,
                                                    "' that has everything; ask a node that has"));
}

absl::Status Node::ListBlocks(const BlockListing& listing, SendBlocks send) {
  RETURN_IF_ERROR(Ready());
  if (listing.from_offset % kBlockBytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("from_offset is a multiple of ", kBlockBytes, ", not ", listing.from_offset));
  }
  // How large each segment was; those that came later do not have the snapshot.
  std::vector<std::uint64_t> sizes;
  const std::uint32_t first = listing.segment.value_or(0);
  std::uint64_t segment_bytes = 0, size_bytes = 0, end = first + std::uint64_t{1};
  for (std::uint64_t i = first; i < end; ++i) {
    const absl::StatusOr<PoolHost::SegmentBlocks> blocks =
        ListSegment(listing, static_cast<std::uint32_t>(i), UINT64_MAX, 1);
    if (i > first && absl::IsNotFound(blocks.status())) break;
    RETURN_IF_ERROR(blocks.status());
    if (!listing.segment.has_value()) end = blocks->segment_count;
    segment_bytes = blocks->segment_bytes;
    sizes.push_back(blocks->list.size_bytes);
    size_bytes = i * segment_bytes + blocks->list.size_bytes;
  }
  std::uint64_t left = listing.count_max == 0 ? UINT64_MAX : listing.count_max;
  v1::ListBlocksResponse part;
  part.set_volume_size_bytes(size_bytes);
  bool sent = false;
  for (std::size_t i = 0; i < sizes.size() && left > 0; ++i) {
    const auto segment = static_cast<std::uint32_t>(first + i);
    const std::uint64_t start = segment * segment_bytes;
    if (listing.from_offset >= start + sizes[i]) continue;
    std::uint64_t next = listing.from_offset > start ? listing.from_offset - start : 0;
    while (next < sizes[i] && left > 0) {
      const std::size_t ranges_max = std::min<std::uint64_t>(left, kRangesPerPart);
      ASSIGN_OR_RETURN(const PoolHost::SegmentBlocks blocks,
                       ListSegment(listing, segment, next, ranges_max));
      part.clear_ranges();
      for (const replica::BlockRange& range : blocks.list.ranges) {
        v1::BlockRange* const added = part.add_ranges();
        added->set_offset(start + range.offset);
        added->set_size_bytes(range.size_bytes);
      }
      left -= blocks.list.ranges.size();
      next = blocks.list.next_offset;
      if (part.ranges_size() == 0) continue;
      if (!send(part)) return absl::CancelledError("the client has gone");
      sent = true;
    }
  }
  // The size is an answer, too.
  part.clear_ranges();
  if (!sent && !send(part)) return absl::CancelledError("the client has gone");
  return absl::OkStatus();
}

}  // namespace keelson::service
