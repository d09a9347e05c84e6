#include "blockstore/replica/replica.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/extent_reads.h"

namespace keelson::replica {
namespace {

using pool::BlockBits;
using pool::ExtentState;
using pool::kBlockBytes;
using pool::kBlocksPerExtent;
using pool::kExtentBytes;
using pool::kExtentsPerRegion;
using pool::kNoExtent;
using pool::kRegionBytes;

// The part of [offset, end) that lies in the extent of `offset`.
struct Piece {
  std::uint32_t extent;
  std::uint32_t first;  // block in the extent
  std::uint32_t count;
  std::uint64_t size_bytes() const { return count * kBlockBytes; }
};
Piece PieceAt(std::uint64_t offset, std::uint64_t end) {
  const std::uint64_t extent = offset / kExtentBytes;
  const std::uint64_t stop = std::min(end, (extent + 1) * kExtentBytes);
  return {static_cast<std::uint32_t>(extent),
          static_cast<std::uint32_t>(offset % kExtentBytes / kBlockBytes),
          static_cast<std::uint32_t>((stop - offset) / kBlockBytes)};
}

}  // namespace

io::Task<absl::Status> Replica::Read(std::uint64_t offset, std::span<std::byte> into) {
  CO_RETURN_IF_ERROR(CheckLogged(offset, into.size()));
  pool::ReadFence::Pass pass(&pool_->read_fence());
  const std::uint64_t end = offset + into.size();
  std::byte* target = into.data();
  ExtentReads reads(pool_, name_);
  while (offset < end) {
    while (offset < end && !reads.full()) {
      const Piece piece = PieceAt(offset, end);
      const BlockSource source = FindSource({head_}, piece.extent, piece.first, piece.count);
      const std::uint64_t run_bytes = source.count * kBlockBytes;
      if (source.where != Layer::Where::kPresent) {
        std::memset(target, 0, run_bytes);
      } else {
        pool::ChecksumRef checksums = pool_->checksums().Resident(source.pool_extent);
        if (!checksums) {
          CO_ASSIGN_OR_RETURN(checksums, co_await LoadChecksums(pool_, source, piece.extent));
        }
        reads.Add(source, piece.first, target, std::move(checksums));
      }
      offset += run_bytes;
      target += run_bytes;
    }
    CO_RETURN_IF_ERROR(co_await reads.Run());
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Replica::Write(std::uint64_t offset, std::span<const std::byte> from,
                                      pool::Generation generation) {
  if (!pool_->health().ok()) co_return pool_->health();
  const std::uint64_t start = offset;
  const std::uint64_t size_bytes = from.size();
  const std::uint64_t end = offset + size_bytes;
  const auto first_region = static_cast<std::uint32_t>(offset / kRegionBytes);
  const auto last_region = static_cast<std::uint32_t>((end - 1) / kRegionBytes);
  RangeLock::Hold hold(&extent_locks_, offset, end, RangeLock::kShared);
  co_await hold;
  // Again: a merge that held the extents may have failed, and the maps in memory are ahead of the
  // stored ones. An overwrite now would change blocks that belong to a sealed layer after the next
  // opening.
  if (!pool_->health().ok()) co_return pool_->health();
  // Under the lock: it is the head's note, and whoever seals the head or merges into it has the
  // extents alone.
  const bool noted = head_->notes().Touch(first_region, last_region, generation);
  if (!noted && !SeededBug(kSkipRegionNote) && !SeededBug(kNoteAfterData)) {
    CO_RETURN_IF_ERROR(co_await NoteRegions(first_region, last_region, generation));
  }
  bool allocated = false;
  absl::Status status;
  while (offset < end && status.ok()) {
    const Piece piece = PieceAt(offset, end);
    status =
        co_await WriteExtent(piece.extent, piece.first, from.first(piece.size_bytes()), &allocated);
    offset += piece.size_bytes();
    from = from.subspan(piece.size_bytes());
  }
  if (!noted && SeededBug(kNoteAfterData)) {
    CO_RETURN_IF_ERROR(co_await NoteRegions(first_region, last_region, generation));
  }
  if (allocated && !SeededBug(kAckBeforeLog)) {
    absl::Status logged = co_await LogChange(start, size_bytes);
    if (status.ok()) status = std::move(logged);
  }
  co_return status;
}

io::Task<absl::Status> Replica::LogChange(std::uint64_t offset, std::uint64_t size_bytes) {
  absl::Status logged = co_await pool_->changes().Logged();
  if (!logged.ok()) {
    const std::uint64_t last = (offset + size_bytes - 1) / kExtentBytes;
    for (std::uint64_t extent = offset / kExtentBytes; extent <= last; ++extent) {
      unlogged_extents_.insert(static_cast<std::uint32_t>(extent));
    }
  }
  co_return logged;
}

absl::Status Replica::CheckLogged(std::uint64_t offset, std::uint64_t size_bytes) const {
  if (unlogged_extents_.empty()) [[likely]]
    return absl::OkStatus();
  const auto next =
      unlogged_extents_.lower_bound(static_cast<std::uint32_t>(offset / kExtentBytes));
  const std::uint64_t last = (offset + size_bytes - 1) / kExtentBytes;
  return next != unlogged_extents_.end() && *next <= last ? pool_->health() : absl::OkStatus();
}

io::Task<absl::Status> Replica::WriteExtent(std::uint32_t extent, std::uint32_t first,
                                            std::span<const std::byte> from, bool* allocated) {
  const auto count = static_cast<std::uint32_t>(from.size() / kBlockBytes);
  std::uint32_t pool_extent = head_->PoolExtent(extent);
  if (pool_extent == kNoExtent) {
    CO_ASSIGN_OR_RETURN(pool_extent, co_await ExtentForWrite(head_, extent));
  }
  pool::ChecksumRef checksums = pool_->checksums().Resident(pool_extent);
  if (!checksums) {
    CO_ASSIGN_OR_RETURN(checksums, co_await Checksums(head_, extent, pool_extent));
  }
  const BlockBits range = BlockBits::Range(first, count);
  const BlockBits known_before = checksums->known & range;
  // Until the write has completed, nothing is known about these blocks.
  checksums->known = checksums->known & ~range;
  pool_->checksums().MarkDirty(checksums.get());
  absl::Status written =
      co_await pool_->data().Write(pool::Pool::DataOffset(pool_extent, first), from);
  if (!written.ok()) {
    if (!absl::IsResourceExhausted(written)) ++pool_->counters().io_errors;
    failed_extents_.insert(extent);
    FailedWrite failed{pool_extent, first, from, known_before};
    // A device without space writes a block or leaves it; one that fails may tear it.
    failed.may_be_torn = !absl::IsResourceExhausted(written);
    co_await RecognizeBlocks(&failed, checksums.get());
    co_return written;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    checksums->crc32c[first + i] = pool::Crc32c(from.subspan(i * kBlockBytes, kBlockBytes));
  }
  checksums->known = checksums->known | range;
  if (!head_->AllPresent(extent, first, count)) {
    ExtentState state;
    head_->Find(extent, &state);
    state.present = state.present | range;
    state.zeroed = state.zeroed & ~range;
    head_->Put(extent, state);
    pool_->changes().Changed({head_->number(), extent});
    *allocated = true;
  }
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<std::uint32_t>> Replica::ExtentForWrite(Layer* layer,
                                                                std::uint32_t extent) {
  // One allocation at a time, so that two writers to a new extent share one.
  io::AsyncMutex::Guard guard = co_await allocation_.Lock();
  const std::uint32_t present = layer->PoolExtent(extent);
  if (present != kNoExtent) co_return present;
  absl::StatusOr<std::uint32_t> taken = co_await pool_->TakeExtent();
  if (!taken.ok()) co_return taken.status();
  ExtentState state;  // an entry with zeroed blocks only may be there
  layer->Find(extent, &state);
  state.pool_extent = *taken;
  layer->Put(extent, state);
  const pool::MapKey owner{layer->number(), extent};
  pool::ChecksumRef fresh = pool_->checksums().Fresh(*taken, owner);
  pool_->checksums().MarkDirty(fresh.get());
  co_return *taken;
}

io::Task<absl::Status> Replica::Trim(std::uint64_t offset, std::uint64_t size_bytes,
                                     pool::Generation generation) {
  if (!pool_->health().ok()) co_return pool_->health();
  const std::uint64_t start = offset;
  const std::uint64_t end = offset + size_bytes;
  bool changed = false;
  absl::Status status;
  while (offset < end && status.ok()) {
    const Piece piece = PieceAt(offset, end);
    // The whole extent alone: an extent is not freed under a writer of its other blocks.
    RangeLock::Hold hold(&extent_locks_, piece.extent * kExtentBytes,
                         (piece.extent + 1) * kExtentBytes, RangeLock::kExclusive);
    co_await hold;
    if (!pool_->health().ok()) co_return pool_->health();
    status = co_await TrimExtent(piece.extent, piece.first, piece.count, generation, &changed);
    offset += piece.size_bytes();
  }
  if (changed) {
    absl::Status logged = co_await LogChange(start, size_bytes);
    if (status.ok()) status = std::move(logged);
  }
  co_return status;
}

io::Task<absl::Status> Replica::TrimExtent(std::uint32_t extent, std::uint32_t first,
                                           std::uint32_t count, pool::Generation generation,
                                           bool* changed) {
  const BlockBits range = BlockBits::Range(first, count);
  ExtentState state;
  head_->Find(extent, &state);
  const BlockBits below = VisibleData(head_->parent(), extent);
  const BlockBits covered = range & below & ~state.zeroed;  // must be hidden by a zeroed mark
  const bool empty_extent = state.pool_extent != kNoExtent && !state.present.Any();
  if (!(range & state.present).Any() && !covered.Any() && !empty_extent) {
    co_return absl::OkStatus();
  }
  const std::uint32_t region = extent / kExtentsPerRegion;
  if (!head_->notes().Touch(region, region, generation) && !SeededBug(kTrimWithoutNote)) {
    CO_RETURN_IF_ERROR(co_await NoteRegions(region, region, generation));
  }
  state.present = state.present & ~range;
  state.zeroed = (state.zeroed | range) & below;
  if (state.present.Any()) {
    absl::StatusOr<pool::ChecksumRef> checksums =
        co_await Checksums(head_, extent, state.pool_extent);
    if (!checksums.ok()) co_return checksums.status();
    (*checksums)->known = (*checksums)->known & ~range;
    pool_->checksums().MarkDirty(checksums->get());
  }
  PutState(head_, extent, state);
  *changed = true;
  co_return absl::OkStatus();
}

void Replica::PutState(Layer* layer, std::uint32_t extent, ExtentState state) {
  if (state.pool_extent != kNoExtent && !state.present.Any()) {
    pool_->changes().Freed(state.pool_extent);
    pool_->checksums().Drop(state.pool_extent);
    state.pool_extent = kNoExtent;
  }
  if (state.pool_extent == kNoExtent && !state.zeroed.Any()) {
    layer->Erase(extent);
  } else {
    layer->Put(extent, state);
  }
  pool_->changes().Changed({layer->number(), extent});
}

Replica::DataRun Replica::FindData(std::uint64_t offset, std::uint64_t size_bytes) const {
  const std::uint64_t end = offset + size_bytes;
  DataRun run;
  bool begun = false;
  while (offset < end) {
    const Piece piece = PieceAt(offset, end);
    const BlockSource source = FindSource({head_}, piece.extent, piece.first, piece.count);
    const bool hole = source.where != Layer::Where::kPresent;
    if (begun && hole != run.hole) break;
    run.hole = hole;
    begun = true;
    run.size_bytes += source.count * kBlockBytes;
    offset += source.count * kBlockBytes;
  }
  return run;
}

}  // namespace keelson::replica
