// Controller: which blocks a snapshot has, or which changed since an older one, a page at a time.
//
// Each segment of a volume is asked for at a node that has a copy of it; when one does not answer,
// or its copy does not have everything, the next one is. Any copy will do whose own configuration
// says that it is InSync and has the snapshot complete: a snapshot never changes, so also a copy
// that has been away since has all of it. Block stores are asked by their own ids, because a
// group's snapshot may be cut anew under the same name, and such a copy still has the first one.

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/ids.h"
#include "provisioner/service/controller.h"
#include "provisioner/service/request_checks.h"

namespace keelson::provisioner {
namespace {

constexpr std::uint32_t kPageRangesMax = 16'384;  // some 300 KB of an answer
constexpr int kPageSegmentsMax = 32;              // so that a page of an empty volume ends soon

// What a node lists must lie in what it was asked for: not one that lies is the caller's to find.
absl::Status CheckRanges(const v1::ListBlocksResponse& listed, std::uint64_t from,
                         std::uint64_t end) {
  for (const v1::BlockRange& range : listed.ranges()) {
    const bool sound = range.offset() >= from && range.offset() < end && range.size_bytes() != 0 &&
                       range.size_bytes() <= end - range.offset() &&
                       range.offset() % kBlockBytes == 0 && range.size_bytes() % kBlockBytes == 0;
    if (!sound) {
      return absl::InternalError(absl::StrCat("it lists ", range.size_bytes(), " bytes at ",
                                              range.offset(), ", which is not in order between ",
                                              from, " and ", end));
    }
    from = range.offset() + range.size_bytes();
  }
  return absl::OkStatus();
}

}  // namespace

struct Controller::BlockListing {
  VolumeRow volume;
  rec::SnapshotRecord snapshot;
  std::optional<rec::SnapshotRecord> base;
};

absl::StatusOr<rec::SnapshotRecord> Controller::FindReadySnapshot(std::string_view id) {
  ASSIGN_OR_RETURN(const SnapshotRow row, FindSnapshot(id));
  bool ready = row.value.state() == rec::SnapshotRecord::READY;
  if (ready && !row.value.group_id().empty()) {
    // Those of a group that is not ready may be cut anew; one that is deleted takes them with it.
    ASSIGN_OR_RETURN(const GroupRow group, FindGroup(row.value.group_id()));
    ready = group.value.state() == rec::GroupRecord::READY;
  }
  if (ready) return row.value;
  return absl::UnavailableError(
      absl::StrCat("snapshot ", row.value.id(), " is not ready yet; try again"));
}

absl::StatusOr<Controller::BlockListing> Controller::FindListing(
    const api::ListSnapshotBlocksRequest& request) {
  BlockListing listing;
  ASSIGN_OR_RETURN(listing.snapshot, FindReadySnapshot(request.snapshot_id()));
  const std::string& volume_id = listing.snapshot.volume_id();
  if (!request.base_snapshot_id().empty()) {
    ASSIGN_OR_RETURN(listing.base, FindReadySnapshot(request.base_snapshot_id()));
    if (listing.base->volume_id() != volume_id) {
      return absl::InvalidArgumentError(absl::StrCat(
          "base_snapshot_id: ", listing.base->id(), " is of volume ", listing.base->volume_id(),
          ", and snapshot ", listing.snapshot.id(), " is of volume ", volume_id));
    }
    if (listing.base->id() == listing.snapshot.id()) {
      return absl::InvalidArgumentError(absl::StrCat("base_snapshot_id: ", listing.base->id(),
                                                     " is the same snapshot, and is to be older"));
    }
  }
  // It may be deleted itself, and kept for its snapshots.
  ASSIGN_OR_RETURN(listing.volume,
                   reconciler_->records().volumes().Find(KeyOfId(kVolumePrefix, volume_id)));
  if (listing.volume.value.id() == volume_id && listing.snapshot.size_bytes() != 0) return listing;
  return absl::InternalError(absl::StrCat("snapshot ", listing.snapshot.id(), " of volume ",
                                          volume_id, " has a record that cannot be"));
}

std::vector<std::string> Controller::NodesToAsk(const VolumeRow& volume, int segment) {
  const std::optional<VolumeSight> sight = reconciler_->volumes().SightOf(volume.key);
  const auto rank = [&](const rec::ReplicaRecord& replica) {
    if (!reconciler_->environment().Answers(replica.node())) return 2;
    return IsWell(replica, sight) ? 0 : 1;
  };
  std::vector<std::pair<int, std::string>> ranked;
  for (const rec::ReplicaRecord& replica : volume.value.segments(segment).replicas()) {
    if (replica.witness() || replica.life() == rec::ReplicaRecord::PLANNED) continue;
    ranked.emplace_back(rank(replica), replica.node());
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> nodes;
  for (auto& [of_node, node] : ranked) nodes.push_back(std::move(node));
  return nodes;
}

absl::StatusOr<v1::ListBlocksResponse> Controller::AskForBlocks(const std::string& node,
                                                                const BlockListing& listing,
                                                                std::uint32_t segment,
                                                                std::uint64_t from_offset,
                                                                std::uint32_t count_max) {
  ASSIGN_OR_RETURN(const BlockStore store, reconciler_->environment().StoreOf(node));
  if (!listing.base.has_value()) {
    v1::ListAllocatedRequest request;
    request.set_volume(listing.snapshot.volume_id());
    request.set_snapshot_id(listing.snapshot.block_store_id());
    request.set_segment(segment);
    request.set_from_offset(from_offset);
    request.set_count_max(count_max);
    return store.ListAllocated(request);
  }
  v1::ListChangedRequest request;
  request.set_volume(listing.snapshot.volume_id());
  request.set_base_snapshot_id(listing.base->block_store_id());
  request.set_target_snapshot_id(listing.snapshot.block_store_id());
  request.set_segment(segment);
  request.set_from_offset(from_offset);
  request.set_count_max(count_max);
  return store.ListChanged(request);
}

absl::Status Controller::ListSegment(const BlockListing& listing, std::uint32_t count_max,
                                     api::ListSnapshotBlocksResponse* response) {
  const std::uint64_t size_bytes = listing.snapshot.size_bytes();
  const std::uint64_t segment_bytes =
      listing.volume.value.segment_bytes() == 0 ? size_bytes : listing.volume.value.segment_bytes();
  const std::uint64_t from = response->next_offset();
  // At the very end there is nothing to list, but the order of the snapshots is still checked.
  const std::uint64_t index = std::min(from, size_bytes - 1) / segment_bytes;
  const std::uint64_t end = std::min((index + 1) * segment_bytes, size_bytes);
  if (index >= static_cast<std::uint64_t>(listing.volume.value.segments_size())) {
    return absl::InternalError(absl::StrCat("volume ", listing.snapshot.volume_id(),
                                            " has no segment ", index, ", which its snapshot ",
                                            listing.snapshot.id(), " has"));
  }
  std::vector<std::string> reasons;
  for (const std::string& node : NodesToAsk(listing.volume, static_cast<int>(index))) {
    const absl::StatusOr<v1::ListBlocksResponse> listed =
        AskForBlocks(node, listing, static_cast<std::uint32_t>(index), from, count_max);
    // So it is in every copy.
    if (absl::IsInvalidArgument(listed.status())) return listed.status();
    const absl::Status sound = listed.ok() ? CheckRanges(*listed, from, end) : listed.status();
    if (!sound.ok()) {
      reasons.push_back(listed.ok() ? absl::StrCat("node ", node, ": ", sound.ToString())
                                    : std::string(sound.message()));
      continue;
    }
    for (const v1::BlockRange& range : listed->ranges()) {
      api::BlockRange* const added = response->add_ranges();
      added->set_offset(range.offset());
      added->set_size_bytes(range.size_bytes());
    }
    response->set_next_offset(end);
    if (static_cast<std::uint32_t>(listed->ranges_size()) == count_max) {
      const v1::BlockRange& last = *listed->ranges().rbegin();
      response->set_next_offset(last.offset() + last.size_bytes());
    }
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat("snapshot ", listing.snapshot.id(), ": no copy of segment ", index,
                   " of its volume can be asked now; bring one of these nodes back, or wait until ",
                   "its copy has everything: ", absl::StrJoin(reasons, "; ")));
}

absl::StatusOr<api::ListSnapshotBlocksResponse> Controller::ListSnapshotBlocks(
    const api::ListSnapshotBlocksRequest& request) {
  ASSIGN_OR_RETURN(const BlockListing listing, FindListing(request));
  const std::uint64_t size_bytes = listing.snapshot.size_bytes();
  if (request.from_offset() > size_bytes) {
    return absl::OutOfRangeError(absl::StrCat("from_offset is ", request.from_offset(),
                                              ", and snapshot ", listing.snapshot.id(), " has ",
                                              size_bytes, " bytes"));
  }
  const std::uint32_t count_max =
      request.count_max() == 0 ? kPageRangesMax : std::min(request.count_max(), kPageRangesMax);
  api::ListSnapshotBlocksResponse response;
  response.set_volume_size_bytes(size_bytes);
  response.set_next_offset(request.from_offset() / kBlockBytes * kBlockBytes);
  for (int asked = 0; asked < kPageSegmentsMax; ++asked) {
    const auto listed = static_cast<std::uint32_t>(response.ranges_size());
    if (asked > 0 && (listed == count_max || response.next_offset() >= size_bytes)) break;
    RETURN_IF_ERROR(ListSegment(listing, count_max - listed, &response));
  }
  // One that was deleted meanwhile may have been gone from a segment: what was listed of it is
  // worth nothing. Deletion in the nodes begins after this is in the record.
  RETURN_IF_ERROR(FindListing(request).status());
  return response;
}

}  // namespace keelson::provisioner
