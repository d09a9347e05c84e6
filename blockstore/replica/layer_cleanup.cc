#include "blockstore/replica/layer_cleanup.h"

#include <algorithm>
#include <utility>

#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/records.h"
#include "blockstore/replica/sum_records.h"

namespace keelson::replica {
namespace {

using pool::BlockBits;
using pool::ExtentState;
using pool::kBlockBytes;
using pool::kBlocksPerExtent;
using pool::kNoExtent;
using pool::MetaBatch;
using pool::Table;

constexpr std::size_t kFreedPerStep = 4096;
constexpr std::size_t kMergedPerStep = 32;  // at most 32 MiB copied

}  // namespace

Layer* LayerCleanup::Next() {
  Layer* mergeable = nullptr;
  for (const auto& [number, layer] : layers_->layers()) {
    if (layer->referenced() || skipped_.contains(number)) continue;
    if (layer->child_count() == 0) return layer.get();
    if (layer->child_count() == 1 && mergeable == nullptr) mergeable = layer.get();
  }
  return mergeable;
}

io::Task<bool> LayerCleanup::Step(Layer* layer, Replica* writer) {
  const pool::LayerNumber number = layer->number();
  if (cursor_layer_ != number) {
    cursor_layer_ = number;
    cursor_ = layer->Extents();
    std::reverse(cursor_.begin(), cursor_.end());
    notes_carried_ = false;
  }
  absl::Status status;
  if (layer->child_count() == 0) {
    status = co_await Free(layer);
  } else {
    status = co_await Merge(layer, layer->children().front(), writer);
  }
  if (!status.ok() && pool_->health().ok()) {
    KEEL_LOG_ERROR("event=layer_cleanup_failed pool={} layer={} reason=\"{}\"",
                   pool_->id().ToString(), number.value, std::string(status.message()));
    skipped_.insert(number);
  }
  co_return pool_->health().ok();
}

std::vector<std::uint32_t> LayerCleanup::NextExtents(const Layer* layer, std::size_t count_max) {
  std::vector<std::uint32_t> extents;
  while (!cursor_.empty() && extents.size() < count_max) {
    ExtentState state;
    if (layer->Find(cursor_.back(), &state)) extents.push_back(cursor_.back());
    cursor_.pop_back();
  }
  return extents;
}

void LayerCleanup::RemoveLayer(Layer* layer, MetaBatch* batch) {
  for (std::uint32_t region : layer->notes().Regions()) {
    batch->Delete(Table::kNotes, pool::EncodeNoteKey(layer->number(), region));
  }
  batch->Delete(Table::kObjects, pool::ObjectKey(pool::kLayerPrefix, layer->number().value));
  cursor_layer_ = {};
  copied_->Forget(layer->number());
  layers_->Remove(layer);
}

io::Task<absl::Status> LayerCleanup::Free(Layer* layer) {
  const std::vector<std::uint32_t> extents = NextExtents(layer, kFreedPerStep);
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    for (std::uint32_t extent : extents) {
      const std::uint32_t pool_extent = layer->PoolExtent(extent);
      if (pool_extent != kNoExtent) {
        pool_->changes().Freed(pool_extent);
        pool_->checksums().Drop(pool_extent);
      }
      layer->Erase(extent);
      pool_->changes().Changed({layer->number(), extent});
    }
    if (layer->extent_count() == 0) RemoveLayer(layer, batch);
  };
  co_return co_await pool_->changes().FlushWith(std::move(at_cut));
}

io::Task<absl::Status> LayerCleanup::CarryNotes(const Layer* layer, Layer* child) {
  // The child takes over data that the layer's notes describe, so it takes over the notes; before
  // the data, so that nothing is ever without one.
  MetaBatch batch;
  std::vector<std::pair<std::uint32_t, pool::Generation>> carried;
  for (std::uint32_t region : layer->notes().Regions()) {
    const pool::Generation note = layer->notes().Get(region);
    if (child->notes().Get(region) >= note) continue;
    carried.emplace_back(region, child->notes().Want(region, note));
    batch.Put(Table::kNotes, pool::EncodeNoteKey(child->number(), region),
              pool::EncodeGeneration(carried.back().second));
  }
  if (carried.empty()) co_return absl::OkStatus();
  absl::Status committed = co_await pool_->meta().Commit(&batch, /*synced=*/true);
  if (!committed.ok()) {
    pool_->Fail(committed);
    co_return committed;
  }
  for (const auto& [region, note] : carried) child->notes().Set(region, note);
  co_return absl::OkStatus();
}

io::Task<absl::Status> LayerCleanup::Merge(Layer* layer, Layer* child, Replica* writer) {
  // Holding the extents, from before the child is looked at until the batch is durable.
  std::list<RangeLock::Hold> holds;
  if (!notes_carried_) {
    if (writer != nullptr) {
      // All of it, for a moment: no write may be between its note and its change.
      RangeLock::Hold& hold = holds.emplace_back(&writer->extent_locks(), std::uint64_t{0},
                                                 UINT64_MAX, RangeLock::kExclusive);
      co_await hold;
    }
    CO_RETURN_IF_ERROR(co_await CarryNotes(layer, child));
    notes_carried_ = true;
    holds.clear();
  }
  const std::vector<std::uint32_t> extents = NextExtents(layer, kMergedPerStep);
  std::vector<Move> moves(extents.size());
  if (writer != nullptr) {
    // All asked for at once. One after the other would deadlock: a write over two of the extents
    // waits for the first, which is held here, and the second, asked for later, waits for that
    // write.
    for (std::uint32_t extent : extents) {
      holds.emplace_back(&writer->extent_locks(), extent * pool::kExtentBytes,
                         (extent + 1) * pool::kExtentBytes, RangeLock::kExclusive);
    }
    for (RangeLock::Hold& hold : holds) co_await hold;
  }
  for (std::size_t i = 0; i < extents.size(); ++i) {
    CO_RETURN_IF_ERROR(co_await Prepare(layer, child, extents[i], &moves[i]));
  }
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    for (Move& move : moves) {
      Apply(layer, child, &move);
      StoreChecksums(child, writer, move, batch);
    }
    if (layer->extent_count() > 0) return;
    LayerTable::SetParent(child, layer->parent());
    RemoveLayer(layer, batch);
    PutLayer(*child, batch);
  };
  co_return co_await pool_->changes().FlushWith(std::move(at_cut));
}

io::Task<absl::Status> LayerCleanup::Prepare(Layer* layer, Layer* child, std::uint32_t extent,
                                             Move* move) {
  ExtentState from;
  layer->Find(extent, &from);
  ExtentState to;
  child->Find(extent, &to);
  move->extent = extent;
  const BlockBits taken = to.present | to.zeroed;
  const BlockBits data = from.present & ~taken;
  move->child = to;
  move->child.present = to.present | data;
  // A zeroed mark is needed only where something below would show through.
  move->child.zeroed = (to.zeroed | (from.zeroed & ~taken)) & VisibleData(layer->parent(), extent);
  if (from.pool_extent == kNoExtent) co_return absl::OkStatus();
  if (!data.Any()) {
    move->freed = from.pool_extent;
    co_return absl::OkStatus();
  }
  if (to.pool_extent == kNoExtent) {
    move->handed_over = true;
    move->child.pool_extent = from.pool_extent;
    const pool::MapKey owner{layer->number(), extent};
    absl::StatusOr<pool::ChecksumRef> checksums = co_await pool_->checksums().Load(
        from.pool_extent, owner, layer->ChecksumsValidFrom(extent));
    if (!checksums.ok()) co_return checksums.status();
    move->checksums = std::move(*checksums);
    co_return absl::OkStatus();
  }
  move->freed = from.pool_extent;
  move->copied = data;
  const pool::MapKey owner{child->number(), extent};
  absl::StatusOr<pool::ChecksumRef> checksums =
      co_await pool_->checksums().Load(to.pool_extent, owner, child->ChecksumsValidFrom(extent));
  if (!checksums.ok()) co_return checksums.status();
  move->checksums = std::move(*checksums);
  co_return co_await Copy(layer, from.pool_extent, to.pool_extent, move);
}

io::Task<absl::Status> LayerCleanup::Copy(const Layer* layer, std::uint32_t from, std::uint32_t to,
                                          Move* move) {
  const pool::MapKey owner{layer->number(), move->extent};
  absl::StatusOr<pool::ChecksumRef> source =
      co_await pool_->checksums().Load(from, owner, layer->ChecksumsValidFrom(move->extent));
  if (!source.ok()) co_return source.status();
  // Not from the reactor's buffers: those who hold all of them may wait for this extent.
  pool::HeaderBlock buffer(pool::kExtentBytes);
  for (std::uint32_t block = 0; block < kBlocksPerExtent;) {
    const std::uint32_t count = move->copied.RunLength(block, kBlocksPerExtent - block);
    if (move->copied.Test(block)) {
      const std::span<std::byte> bytes = buffer.span().first(count * kBlockBytes);
      CO_RETURN_IF_ERROR(co_await pool_->data().Read(pool::Pool::DataOffset(from, block), bytes));
      CO_RETURN_IF_ERROR(co_await pool_->data().Write(pool::Pool::DataOffset(to, block), bytes));
      for (std::uint32_t i = 0; i < count; ++i) {
        // A known checksum travels with its block: bytes that no longer match it are copied as they
        // are and stay detectable. An unknown one is computed from what was copied.
        move->crc32c[block + i] = (*source)->known.Test(block + i)
                                      ? (*source)->crc32c[block + i]
                                      : pool::Crc32c(bytes.subspan(i * kBlockBytes, kBlockBytes));
      }
    }
    block += count;
  }
  co_return absl::OkStatus();
}

void LayerCleanup::Apply(Layer* layer, Layer* child, Move* move) {
  const std::uint32_t extent = move->extent;
  if (move->child.pool_extent != kNoExtent || move->child.zeroed.Any()) {
    child->Put(extent, move->child);
  } else {
    child->Erase(extent);
  }
  layer->Erase(extent);
  if (move->checksums) {
    if (move->handed_over) {
      move->checksums->owner = {child->number(), extent};
      move->checksums->known = move->checksums->known & move->child.present;
    }
    for (std::uint32_t block = 0; block < kBlocksPerExtent; ++block) {
      if (move->copied.Test(block)) move->checksums->crc32c[block] = move->crc32c[block];
    }
    move->checksums->known = move->checksums->known | move->copied;
    pool_->checksums().MarkDirty(move->checksums.get());
  }
  if (move->freed != kNoExtent) {
    pool_->changes().Freed(move->freed);
    pool_->checksums().Drop(move->freed);
  }
  pool_->changes().Changed({layer->number(), extent});
  pool_->changes().Changed({child->number(), extent});
}

void LayerCleanup::StoreChecksums(const Layer* child, const Replica* writer, const Move& move,
                                  MetaBatch* batch) {
  if (!move.checksums) return;
  const Replica* head_writer = writer != nullptr && writer->head() == child ? writer : nullptr;
  if (PutChecksums(*child, head_writer, *move.checksums.get(), move.child.present, batch,
                   &scratch_)) {
    copied_->Stored({child->number(), move.extent});
  }
}

}  // namespace keelson::replica
