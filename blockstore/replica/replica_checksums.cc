// What a replica does to know the checksums of its blocks: before a note takes the stored ones out
// of force, after failed writes, and after a crash.

#include <algorithm>
#include <utility>

#include "blockstore/io/status.h"
#include "blockstore/replica/replica.h"

namespace keelson::replica {

using pool::BlockBits;
using pool::ExtentState;
using pool::kBlockBytes;
using pool::kBlocksPerExtent;
using pool::kExtentBytes;
using pool::kExtentsPerRegion;
using pool::kNoExtent;

io::Task<absl::StatusOr<pool::ChecksumRef>> Replica::Checksums(const Layer* layer,
                                                               std::uint32_t extent,
                                                               std::uint32_t pool_extent) {
  pool::ChecksumRef resident = pool_->checksums().Resident(pool_extent);
  if (resident) co_return std::move(resident);
  const pool::MapKey owner{layer->number(), extent};
  co_return co_await pool_->checksums().Load(pool_extent, owner, layer->ChecksumsValidFrom(extent));
}

io::Task<absl::Status> Replica::PinChecksums(const Layer* layer, std::uint32_t region) {
  for (std::uint32_t i = 0; i < kExtentsPerRegion; ++i) {
    const std::uint32_t extent = region * kExtentsPerRegion + i;
    const std::uint32_t pool_extent = layer->PoolExtent(extent);
    if (pool_extent == kNoExtent) continue;
    absl::StatusOr<pool::ChecksumRef> checksums = co_await Checksums(layer, extent, pool_extent);
    if (!checksums.ok()) co_return checksums.status();
    pool_->checksums().MarkDirty(checksums->get());
  }
  co_return absl::OkStatus();
}

void Replica::RedirtyChecksums(const Layer* layer, std::uint32_t region) {
  for (std::uint32_t i = 0; i < kExtentsPerRegion; ++i) {
    const std::uint32_t pool_extent = layer->PoolExtent(region * kExtentsPerRegion + i);
    if (pool_extent == kNoExtent) continue;
    pool::ChecksumRef checksums = pool_->checksums().Resident(pool_extent);
    if (checksums) pool_->checksums().MarkDirty(checksums.get());
  }
}

io::Task<absl::Status> Replica::NoteRegions(std::uint32_t first, std::uint32_t last,
                                            pool::Generation generation) {
  // The new note makes the stored checksums of the whole region count for nothing: take them into
  // memory first. Dirty, they stay there until they are stored again under the new generation.
  for (std::uint32_t region = first; region <= last; ++region) {
    CO_RETURN_IF_ERROR(co_await PinChecksums(head_, region));
  }
  CO_RETURN_IF_ERROR(co_await head_->notes().Ensure(first, last, generation));
  // Again: they may have been stored, under the old note, while this one was being written.
  for (std::uint32_t region = first; region <= last; ++region) RedirtyChecksums(head_, region);
  co_return absl::OkStatus();
}

io::Task<void> Replica::RecognizeBlocks(const FailedWrite* failed, pool::ChecksumBlock* checksums) {
  if (!failed->known.Any()) co_return;
  const std::size_t size_bytes = failed->data.size();
  // Not from the reactor's buffers: those who hold all of them may wait for this extent.
  pool::HeaderBlock buffer(size_bytes);
  const std::span<std::byte> there = buffer.span().first(size_bytes);
  absl::Status read = co_await pool_->data().Read(
      pool::Pool::DataOffset(failed->pool_extent, failed->first), there);
  if (!read.ok()) {
    ++pool_->counters().io_errors;
    co_return;
  }
  for (std::uint32_t i = 0; i < size_bytes / kBlockBytes; ++i) {
    const std::uint32_t block = failed->first + i;
    if (!failed->known.Test(block)) continue;
    const std::uint32_t found = pool::Crc32c(there.subspan(i * kBlockBytes, kBlockBytes));
    const std::uint32_t written = pool::Crc32c(failed->data.subspan(i * kBlockBytes, kBlockBytes));
    if (found == written) {
      checksums->crc32c[block] = written;
    } else if (found != checksums->crc32c[block] && failed->may_be_torn) {
      continue;
    }
    checksums->known = checksums->known | BlockBits::Range(block, 1);
  }
}

io::Task<absl::Status> Replica::SettleFailedWrites() {
  const std::set<std::uint32_t> failed = failed_extents_;
  for (const std::uint32_t extent : failed) {
    if (!pool_->health().ok()) co_return pool_->health();
    RangeLock::Hold hold(&extent_locks_, extent * kExtentBytes, (extent + 1) * kExtentBytes,
                         RangeLock::kExclusive);
    co_await hold;
    co_await SettleFailedWrite(extent);
  }
  co_return absl::OkStatus();
}

io::Task<void> Replica::SettleFailedWrite(std::uint32_t extent) {
  failed_extents_.erase(extent);
  ExtentState state;
  if (!head_->Find(extent, &state) || state.pool_extent == kNoExtent) co_return;
  if (!state.present.Any()) {
    PutState(head_, extent, state);
    co_return;
  }
  absl::Status read = co_await ResumExtent(head_, extent);
  if (!read.ok()) failed_extents_.insert(extent);
}

std::vector<std::uint32_t> Replica::UncleanRegions() const {
  std::vector<std::uint32_t> regions;
  for (const Layer* layer = head_; layer != nullptr; layer = layer->parent()) {
    if (layer->owner() != number_) continue;
    const std::vector<std::uint32_t> above = layer->notes().Above(clean_generation_);
    regions.insert(regions.end(), above.begin(), above.end());
  }
  std::sort(regions.begin(), regions.end());
  regions.erase(std::unique(regions.begin(), regions.end()), regions.end());
  return regions;
}

io::Task<absl::Status> Replica::Resum(std::uint32_t region) {
  pool::ReadFence::Pass pass(&pool_->read_fence());
  absl::Status first_error;
  for (const Layer* layer = head_; layer != nullptr; layer = layer->parent()) {
    if (layer->owner() != number_) continue;
    for (std::uint32_t i = 0; i < kExtentsPerRegion; ++i) {
      absl::Status status = co_await ResumExtent(layer, region * kExtentsPerRegion + i);
      if (first_error.ok()) first_error = std::move(status);
    }
  }
  co_return first_error;
}

io::Task<absl::Status> Replica::ResumExtent(const Layer* layer, std::uint32_t extent) {
  ExtentState state;
  if (!layer->Find(extent, &state) || state.pool_extent == kNoExtent) co_return absl::OkStatus();
  absl::StatusOr<pool::ChecksumRef> checksums =
      co_await Checksums(layer, extent, state.pool_extent);
  if (!checksums.ok()) co_return checksums.status();
  const BlockBits unknown = state.present & ~(*checksums)->known;
  if (!unknown.Any()) co_return absl::OkStatus();
  // Not from the reactor's buffers: those who hold all of them may wait for this extent.
  pool::HeaderBlock buffer(kExtentBytes);
  absl::Status first_error;
  for (std::uint32_t block = 0; block < kBlocksPerExtent;) {
    const std::uint32_t first = block;
    const std::uint32_t count = unknown.RunLength(block, kBlocksPerExtent - block);
    block += count;
    if (!unknown.Test(first)) continue;
    const std::span<std::byte> into = buffer.span().first(count * kBlockBytes);
    absl::Status read =
        co_await pool_->data().Read(pool::Pool::DataOffset(state.pool_extent, first), into);
    if (!read.ok()) {
      ++pool_->counters().io_errors;
      if (first_error.ok()) first_error = std::move(read);
      continue;
    }
    for (std::uint32_t i = 0; i < count; ++i) {
      (*checksums)->crc32c[first + i] = pool::Crc32c(into.subspan(i * kBlockBytes, kBlockBytes));
    }
    (*checksums)->known = (*checksums)->known | BlockBits::Range(first, count);
    pool_->checksums().MarkDirty(checksums->get());
  }
  co_return first_error;
}

}  // namespace keelson::replica
