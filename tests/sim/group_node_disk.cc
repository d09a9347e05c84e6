// GroupNode: what is judged at the moment a write goes to a pool's disk, by what a loss of power
// just then would leave.

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_node.h"

namespace keelson::sim {
namespace {

// What a loss of power now would leave of the checksums of a pool extent: the record, with the
// blocks of its owner that it still speaks for. Nothing when there is none, or a note voids it.
std::optional<pool::SumRecord> RecordInForce(const GroupNode::PoolSlot& slot,
                                             std::uint32_t pool_extent) {
  const std::string* const stored =
      slot.meta->Durable(pool::Table::kSums, pool::EncodeSumKey(pool_extent));
  pool::SumRecord record;
  if (stored == nullptr || !pool::DecodeSumRecord(*stored, &record).ok()) return std::nullopt;
  const std::uint32_t region = record.owner.extent / pool::kExtentsPerRegion;
  const std::string* const note =
      slot.meta->Durable(pool::Table::kNotes, pool::EncodeNoteKey(record.owner.layer, region));
  if (note != nullptr && record.generation < *pool::DecodeGeneration(*note)) return std::nullopt;
  const std::string* const mapped =
      slot.meta->Durable(pool::Table::kMap, pool::EncodeMapKey(record.owner));
  if (mapped == nullptr) return std::nullopt;
  const absl::StatusOr<pool::ExtentState> state = pool::DecodeExtentState(*mapped);
  if (!state.ok() || state->pool_extent != pool_extent) return std::nullopt;
  record.known = record.known & state->present;
  return record;
}

}  // namespace

void GroupNode::CheckChecksums(const PoolSlot& slot, std::uint64_t offset,
                               std::span<const std::byte> bytes) {
  std::uint64_t block = (offset - pool::kDataStart) / pool::kBlockBytes;  // of all extents
  while (!bytes.empty()) {
    const auto pool_extent = static_cast<std::uint32_t>(block / pool::kBlocksPerExtent);
    const auto first = static_cast<std::uint32_t>(block % pool::kBlocksPerExtent);
    const std::uint64_t count =
        std::min<std::uint64_t>(pool::kBlocksPerExtent - first, bytes.size() / pool::kBlockBytes);
    const std::optional<pool::SumRecord> record = RecordInForce(slot, pool_extent);
    for (std::uint32_t i = 0; record.has_value() && i < count; ++i) {
      const std::span<const std::byte> written =
          bytes.subspan(i * pool::kBlockBytes, pool::kBlockBytes);
      if (!record->known.Test(first + i)) continue;
      if (record->crc32c[first + i] == pool::Crc32c(written)) continue;  // mended, as it was
      watch_->Violate("checksum-of-its-generation",
                      absl::StrCat(name(), " writes block ", first + i, " of pool extent ",
                                   pool_extent, " while the stored checksum of it is in force"));
    }
    bytes = bytes.subspan(count * pool::kBlockBytes);
    block += count;
  }
}

void GroupNode::CheckNoted(const PoolSlot& slot, std::span<const std::byte> bytes) {
  std::uint64_t checked[2] = {};  // version and region of the block before
  for (; bytes.size() >= kModelBlockBytes; bytes = bytes.subspan(kModelBlockBytes)) {
    std::uint64_t stamp[2];  // with its version; the block (Versions)
    std::memcpy(stamp, bytes.data(), sizeof(stamp));
    const auto version = static_cast<Version>(stamp[0]);
    const std::uint64_t region = stamp[1] * kModelBlockBytes / pool::kRegionBytes;
    if (version == kZeroes || (checked[0] == version && checked[1] == region)) continue;
    checked[0] = version;
    checked[1] = region;
    for (const pool::ReplicaId& member : slot.members) {
      const std::optional<pool::Generation> generation =
          watch_->GenerationOf(member, version, stamp[1], bytes);
      const replica::Replica* const replica = slot.store->Find(member);
      if (!generation.has_value() || replica == nullptr) continue;
      if (MayBeMerged(*replica, stamp[1])) continue;
      if (NotedAt(slot, *replica, static_cast<std::uint32_t>(region)) >= *generation) continue;
      watch_->Violate("noted-first", absl::StrCat(name(), " writes block ", stamp[1],
                                                  " before its region is noted"));
    }
  }
}

// A merge moves what a sealed layer has up to the next one, and needs no note for that; a repair of
// the block, which waits for it, is to write the same bytes.
bool GroupNode::MayBeMerged(const replica::Replica& replica, std::uint64_t block) {
  const auto extent = static_cast<std::uint32_t>(block / pool::kBlocksPerExtent);
  for (const auto* layer = replica.head(); layer != nullptr; layer = layer->parent()) {
    pool::ExtentState state;
    if (layer->referenced() || !layer->Find(extent, &state)) continue;
    if (state.present.Test(static_cast<std::uint32_t>(block % pool::kBlocksPerExtent))) return true;
  }
  return false;
}

pool::Generation GroupNode::NotedAt(const PoolSlot& slot, const replica::Replica& replica,
                                    std::uint32_t region) {
  pool::Generation noted;
  for (const auto* layer = replica.head(); layer != nullptr; layer = layer->parent()) {
    const std::string* const note =
        slot.meta->Durable(pool::Table::kNotes, pool::EncodeNoteKey(layer->number(), region));
    if (note != nullptr) noted = std::max(noted, *pool::DecodeGeneration(*note));
  }
  return noted;
}

void GroupNode::CheckFreed(const PoolSlot& slot, std::uint64_t offset, std::uint64_t size_bytes) {
  const std::uint64_t first = (offset - pool::kDataStart) / pool::kExtentBytes;
  const std::uint64_t end = first + size_bytes / pool::kExtentBytes;
  for (const auto& [key, value] : slot.meta->DurableEntries(pool::Table::kMap)) {
    const absl::StatusOr<pool::ExtentState> state = pool::DecodeExtentState(value);
    const absl::StatusOr<pool::MapKey> owner = pool::DecodeMapKey(key);
    if (!state.ok() || !owner.ok() || state->pool_extent < first || state->pool_extent >= end) {
      continue;
    }
    watch_->Violate(
        "freed-after-durable",
        absl::StrCat(name(), " gives back pool extent ", state->pool_extent,
                     ", but a loss of power now would leave it to layer ", owner->layer.value));
  }
}

void GroupNode::CheckChange(const PoolSlot& slot, const io::IoOp& op) {
  if (slot.store == nullptr || op.offset < pool::kDataStart) return;
  if (op.kind == io::IoOp::Kind::kDiscard) return CheckFreed(slot, op.offset, op.size_bytes);
  const std::span<const std::byte> bytes(op.data, op.size_bytes);
  CheckNoted(slot, bytes);
  CheckChecksums(slot, op.offset, bytes);
}

}  // namespace keelson::sim
