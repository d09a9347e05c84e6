#include "provisioner/placement/capacity.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/size_text.h"
#include "provisioner/placement/place.h"
#include "provisioner/placement/room.h"

namespace keelson::provisioner::placement {
namespace {

absl::Status CheckVolume(const Volume& volume) {
  if (volume.copies < 1 || volume.copies > kCopiesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(volume.copies, " copies: a segment has 1 to ", kCopiesMax));
  }
  if (volume.segment_bytes == 0 || volume.segment_bytes % kUnitBytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("segments of ", volume.segment_bytes,
                                                   " bytes: their size is a multiple of 4 MiB"));
  }
  return absl::OkStatus();
}

// By `value` of each of its pools, and what `sum` makes of them, from the largest; one for each
// group.
template <typename Value, typename Sum>
std::vector<std::uint64_t> OfGroups(const Rooms& rooms, Value value, Sum sum) {
  std::vector<std::uint64_t> groups(rooms.group_count, 0);
  for (const NodeRoom& node : rooms.usable) {
    for (const PoolRoom& pool : node.pools) {
      groups[node.group] = sum(groups[node.group], value(pool));
    }
  }
  std::sort(groups.begin(), groups.end(), std::greater<>());
  return groups;
}

std::vector<std::uint64_t> SegmentSizes(std::uint64_t size_bytes, std::uint64_t segment_bytes) {
  const std::uint64_t full = (size_bytes - 1) / segment_bytes;
  std::vector<std::uint64_t> sizes(full, segment_bytes);
  sizes.push_back(size_bytes - full * segment_bytes);
  return sizes;
}

// The half, in whole units; at least one.
std::uint64_t HalfOf(std::uint64_t segment_bytes) {
  return std::max(segment_bytes / 2 / kUnitBytes * kUnitBytes, kUnitBytes);
}

// The sizes of segments to try, from the largest: those that the pools could take when they were
// empty, so that a volume can also grow in them.
std::vector<std::uint64_t> SegmentBytesToTry(const Rooms& rooms, const Volume& volume) {
  const std::vector<std::uint64_t> largest = OfGroups(
      rooms, [](const PoolRoom& pool) { return pool.segment_bytes_max; },
      [](std::uint64_t a, std::uint64_t b) { return std::max(a, b); });
  const std::uint64_t fits_bytes = largest.size() < volume.copies ? 0 : largest[volume.copies - 1];
  std::vector<std::uint64_t> tries;
  std::uint64_t segment_bytes = volume.segment_bytes;
  while (segment_bytes > fits_bytes && HalfOf(segment_bytes) >= kSegmentBytesMin) {
    segment_bytes = HalfOf(segment_bytes);
  }
  tries.push_back(segment_bytes);
  while (HalfOf(segment_bytes) >= kSegmentBytesMin) {
    segment_bytes = HalfOf(segment_bytes);
    tries.push_back(segment_bytes);
  }
  return tries;
}

}  // namespace

absl::StatusOr<Cut> CutVolume(absl::Span<const NodeState> nodes, const Volume& volume,
                              std::uint64_t size_bytes) {
  if (absl::Status status = CheckVolume(volume); !status.ok()) return status;
  if (size_bytes == 0) return absl::OutOfRangeError("a volume of 0 bytes cannot be made");
  if ((size_bytes - 1) / volume.segment_bytes >= kSegmentsMax) {
    return absl::OutOfRangeError(absl::StrCat(
        rpc::HumanSize(size_bytes), " are more than the ", kSegmentsMax, " segments of up to ",
        rpc::HumanSize(volume.segment_bytes), " that a volume can have"));
  }
  absl::Status witness = CheckWitness(nodes, volume.copies, volume.constraints);
  if (!witness.ok()) return witness;
  absl::Status first_error;
  const Rooms rooms = FindRooms(nodes, volume.constraints);
  for (const std::uint64_t segment_bytes : SegmentBytesToTry(rooms, volume)) {
    if ((size_bytes - 1) / segment_bytes >= kSegmentsMax) break;
    Request request{SegmentSizes(size_bytes, segment_bytes), volume.copies, volume.constraints};
    absl::Status fits = CheckFits(nodes, request);
    if (fits.ok()) return Cut{segment_bytes, std::move(request.segment_sizes)};
    if (first_error.ok()) first_error = std::move(fits);
  }
  if (first_error.ok()) {  // not even the largest segments that pools can take are few enough
    return absl::ResourceExhaustedError(
        absl::StrCat(rpc::HumanSize(size_bytes), " would be more than ", kSegmentsMax,
                     " segments of a size that the pools can take: add larger pools"));
  }
  return first_error;
}

Capacity FindCapacity(absl::Span<const NodeState> nodes, const Volume& volume) {
  Capacity capacity;
  if (!CutVolume(nodes, volume, kUnitBytes).ok()) return capacity;
  const std::vector<std::uint64_t> rooms = OfGroups(
      FindRooms(nodes, volume.constraints),
      [](const PoolRoom& pool) { return std::min(pool.room_bytes, UINT64_MAX / 2); },
      [](std::uint64_t a, std::uint64_t b) { return std::min(a + b, UINT64_MAX / 2); });
  // n groups hold that much of volumes with c copies, no two of them in one group: the j largest
  // groups may have a copy of everything, and the others then hold the other c - j copies.
  __extension__ unsigned __int128 rest = 0;
  for (const std::uint64_t room_bytes : rooms) rest += room_bytes;
  std::uint64_t units = UINT64_MAX / 2 / kUnitBytes;
  for (std::size_t j = 0; j < volume.copies; ++j) {
    units = static_cast<std::uint64_t>(
        std::min<unsigned __int128>(units, rest / (volume.copies - j) / kUnitBytes));
    rest -= rooms[j];
  }
  capacity.available_bytes = units * kUnitBytes;

  // In units: `fits` is taken, `beyond` is not.
  std::uint64_t fits = 1;
  std::uint64_t beyond = std::min(units, kSegmentsMax * (volume.segment_bytes / kUnitBytes)) + 1;
  while (beyond - fits > 1) {
    const std::uint64_t middle = fits + (beyond - fits) / 2;
    (CutVolume(nodes, volume, middle * kUnitBytes).ok() ? fits : beyond) = middle;
  }
  capacity.largest_volume_bytes = fits * kUnitBytes;
  return capacity;
}

}  // namespace keelson::provisioner::placement
