#include "tests/sim/copy_view.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "blockstore/replica/extent_reads.h"
#include "tests/sim/block_model.h"

namespace keelson::sim {
namespace {

using pool::kBlocksPerExtent;
using pool::kExtentsPerRegion;
using replica::Layer;

pool::Generation NoteOf(const Layer* top, std::uint32_t region) {
  pool::Generation note;
  for (const Layer* layer = top; layer != nullptr; layer = layer->parent()) {
    note = std::max(note, layer->notes().Get(region));
  }
  return note;
}

// By the stamps of the first and the last sector, which say who wrote them.
bool Same(std::span<const std::byte> a, std::span<const std::byte> b) {
  static constexpr std::byte kZero[2 * sizeof(std::uint64_t)] = {};
  for (const std::size_t at : {std::size_t{0}, kModelBlockBytes - kModelSectorBytes}) {
    const std::byte* const left = a.empty() ? kZero : a.data() + at;
    const std::byte* const right = b.empty() ? kZero : b.data() + at;
    if (std::memcmp(left, right, sizeof(kZero)) != 0) return false;
  }
  return true;
}

}  // namespace

const Layer* CopyView::Top(const pool::SnapshotId& layer) const {
  if (layer.is_nil()) return replica_->head();
  for (const replica::SnapshotState& snapshot : replica_->snapshots()) {
    if (snapshot.id == layer) return snapshot.layer;
  }
  return nullptr;
}

std::span<const std::byte> CopyView::Show(const Layer* top, std::uint32_t extent,
                                          std::uint32_t block) const {
  const replica::BlockSource source = replica::FindSource({top, nullptr}, extent, block, 1);
  if (source.where != Layer::Where::kPresent) return {};
  return disk_->Current(pool::Pool::DataOffset(source.pool_extent, block) / pool::kBlockBytes);
}

std::span<const std::byte> CopyView::Block(const pool::SnapshotId& layer,
                                           std::uint64_t block) const {
  return Show(Top(layer), static_cast<std::uint32_t>(block / kBlocksPerExtent),
              static_cast<std::uint32_t>(block % kBlocksPerExtent));
}

std::string CopyView::Describe(std::uint64_t block) const {
  std::string text;
  const auto region = static_cast<std::uint32_t>(block / kBlocksPerExtent / kExtentsPerRegion);
  const auto add = [&](const std::string& name, const pool::SnapshotId& layer) {
    const std::span<const std::byte> bytes = Block(layer, block);
    const pool::Generation note = NoteOf(Top(layer), region);
    absl::StrAppend(&text, " ", name, "=");
    for (const std::size_t at : {std::size_t{0}, kModelBlockBytes - kModelSectorBytes}) {
      if (bytes.empty()) continue;
      Version version = kZeroes;
      std::memcpy(&version, bytes.data() + at, sizeof(version));
      absl::StrAppend(&text, at == 0 ? "" : "/", version);
    }
    absl::StrAppend(&text, bytes.empty() ? "hole" : "", " noted ", note.epoch.attachment, ".",
                    note.epoch.restart, "/", note.counter);
  };
  add("head", pool::SnapshotId());
  for (const replica::SnapshotState& snapshot : replica_->snapshots()) {
    add(snapshot.name, snapshot.id);
  }
  return text;
}

std::optional<std::uint64_t> CopyView::Differs(const Layer* own, const CopyView& other,
                                               const Layer* others,
                                               const pool::Generation& through) const {
  const std::uint64_t blocks = std::min(size_blocks(), other.size_blocks());
  const auto extents =
      static_cast<std::uint32_t>((blocks + kBlocksPerExtent - 1) / kBlocksPerExtent);
  for (std::uint32_t extent = 0; extent < extents; ++extent) {
    const std::uint32_t region = extent / kExtentsPerRegion;
    if (extent % kExtentsPerRegion == 0 &&
        (NoteOf(own, region) > through || NoteOf(others, region) > through)) {
      extent += kExtentsPerRegion - 1;
      continue;
    }
    const pool::BlockBits data =
        replica::VisibleData(own, extent) | replica::VisibleData(others, extent);
    for (std::uint32_t block = 0; block < kBlocksPerExtent; ++block) {
      if (!data.Test(block)) {
        block += data.RunLength(block, kBlocksPerExtent - block) - 1;
      } else if (!Same(Show(own, extent, block), other.Show(others, extent, block))) {
        return std::uint64_t{extent} * kBlocksPerExtent + block;
      }
    }
  }
  return std::nullopt;
}

std::optional<std::uint64_t> CopyView::Differs(const CopyView& other,
                                               const pool::Generation& through) const {
  for (const replica::SnapshotState& snapshot : replica_->snapshots()) {
    const Layer* const others = other.Top(snapshot.id);
    if (others == nullptr) continue;
    const auto found = Differs(snapshot.layer, other, others, through);
    if (found.has_value()) return found;
  }
  return Differs(replica_->head(), other, other.replica_->head(), through);
}

}  // namespace keelson::sim
