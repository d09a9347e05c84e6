#include "blockstore/replica/replica.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"

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

// One read of the data file in flight, with what is needed to check what arrives.
struct Fetch {
  io::IoOp op;
  pool::ChecksumRef checksums;
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};
constexpr std::size_t kFetchesMax = 8;

void FetchDone(io::IoOp* op) { static_cast<io::Latch*>(op->owner)->Done(); }

// The first block of the fetch that does not match its checksum, or `count` when all do.
std::uint32_t FirstMismatch(const Fetch& fetch) {
  for (std::uint32_t i = 0; i < fetch.count; ++i) {
    const std::uint32_t block = fetch.first + i;
    if (!fetch.checksums->known.Test(block)) continue;
    const std::span<const std::byte> bytes(fetch.op.data + i * kBlockBytes, kBlockBytes);
    if (pool::Crc32c(bytes) != fetch.checksums->crc32c[block]) return i;
  }
  return fetch.count;
}

}  // namespace

Replica::Source Replica::FindSource(std::uint32_t extent, std::uint32_t block,
                                    std::uint32_t limit) const {
  for (const Layer* layer = head_; layer != nullptr; layer = layer->parent()) {
    const Layer::Run run = layer->FindRun(extent, block, limit);
    switch (run.where) {
      case Layer::Where::kPresent:
        return {layer, run.pool_extent, run.count};
      case Layer::Where::kZeroed:
        return {nullptr, kNoExtent, run.count};
      case Layer::Where::kAbsent:
        limit = run.count;
        break;
    }
  }
  return {nullptr, kNoExtent, limit};
}

io::Task<absl::StatusOr<pool::ChecksumRef>> Replica::Checksums(const Layer* layer,
                                                               std::uint32_t extent,
                                                               std::uint32_t pool_extent) {
  pool::ChecksumRef resident = pool_->checksums().Resident(pool_extent);
  if (resident) co_return std::move(resident);
  const pool::MapKey owner{layer->number(), extent};
  co_return co_await pool_->checksums().Load(pool_extent, owner, layer->ChecksumsValidFrom(extent));
}

io::Task<absl::Status> Replica::Read(std::uint64_t offset, std::span<std::byte> into) {
  pool::ReadFence::Pass pass(&pool_->read_fence());
  const std::uint64_t end = offset + into.size();
  std::byte* target = into.data();
  std::array<Fetch, kFetchesMax> fetches;
  while (offset < end) {
    std::size_t fetch_count = 0;
    while (offset < end && fetch_count < kFetchesMax) {
      const Piece piece = PieceAt(offset, end);
      const Source source = FindSource(piece.extent, piece.first, piece.count);
      const std::uint64_t run_bytes = source.count * kBlockBytes;
      if (source.layer == nullptr) {
        std::memset(target, 0, run_bytes);
      } else {
        Fetch& fetch = fetches[fetch_count];
        fetch.checksums = pool_->checksums().Resident(source.pool_extent);
        if (!fetch.checksums) {
          absl::StatusOr<pool::ChecksumRef> loaded =
              co_await Checksums(source.layer, piece.extent, source.pool_extent);
          if (!loaded.ok()) co_return loaded.status();
          fetch.checksums = std::move(*loaded);
        }
        fetch.first = piece.first;
        fetch.count = source.count;
        fetch.op = {};
        fetch.op.offset = pool::Pool::DataOffset(source.pool_extent, piece.first);
        fetch.op.data = target;
        fetch.op.size_bytes = run_bytes;
        ++fetch_count;
      }
      offset += run_bytes;
      target += run_bytes;
    }
    io::Latch latch(fetch_count);
    for (std::size_t i = 0; i < fetch_count; ++i) {
      fetches[i].op.kind = io::IoOp::Kind::kRead;
      fetches[i].op.owner = &latch;
      fetches[i].op.done = FetchDone;
      pool_->data().Submit(&fetches[i].op);
    }
    co_await latch;
    for (std::size_t i = 0; i < fetch_count; ++i) {
      Fetch& fetch = fetches[i];
      if (fetch.op.result != 0) {
        ++pool_->counters().io_errors;
        co_return pool_->data().OpStatus(fetch.op);
      }
      const std::uint32_t bad = FirstMismatch(fetch);
      if (bad < fetch.count) {
        ++pool_->counters().checksum_errors;
        const std::uint64_t at = fetch.op.offset + bad * kBlockBytes;
        KEEL_LOG_WARN("event=checksum_mismatch volume={} path={} data_offset={}", name_,
                      pool_->data().path(), at);
        co_return absl::DataLossError(absl::StrCat("volume ", name_, ": the block at byte ", at,
                                                   " of ", std::string(pool_->data().path()),
                                                   " does not match its checksum"));
      }
      fetch.checksums.Reset();
    }
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Replica::Write(std::uint64_t offset, std::span<const std::byte> from,
                                      pool::Generation generation) {
  if (!pool_->health().ok()) co_return pool_->health();
  const std::uint64_t end = offset + from.size();
  const auto first_region = static_cast<std::uint32_t>(offset / kRegionBytes);
  const auto last_region = static_cast<std::uint32_t>((end - 1) / kRegionBytes);
  if (!head_->notes().Touch(first_region, last_region, generation)) {
    CO_RETURN_IF_ERROR(co_await NoteRegions(first_region, last_region, generation));
  }
  RangeLock::Hold hold(&extent_locks_, offset, end, RangeLock::kShared);
  co_await hold;
  // Again: a merge that held the extents may have failed, and the maps in memory are ahead of the
  // stored ones. An overwrite now would change blocks that belong to a sealed layer after the next
  // opening.
  if (!pool_->health().ok()) co_return pool_->health();
  bool allocated = false;
  absl::Status status;
  while (offset < end && status.ok()) {
    const Piece piece = PieceAt(offset, end);
    status =
        co_await WriteExtent(piece.extent, piece.first, from.first(piece.size_bytes()), &allocated);
    offset += piece.size_bytes();
    from = from.subspan(piece.size_bytes());
  }
  if (allocated) {
    absl::Status logged = co_await pool_->changes().Logged();
    if (status.ok()) status = std::move(logged);
  }
  co_return status;
}

io::Task<absl::Status> Replica::NoteRegions(std::uint32_t first, std::uint32_t last,
                                            pool::Generation generation) {
  // The new note makes the stored checksums of the whole region count for nothing: take them into
  // memory first. Dirty, they stay there until they are stored again under the new generation.
  for (std::uint32_t region = first; region <= last; ++region) {
    for (std::uint32_t i = 0; i < kExtentsPerRegion; ++i) {
      const std::uint32_t extent = region * kExtentsPerRegion + i;
      const std::uint32_t pool_extent = head_->PoolExtent(extent);
      if (pool_extent == kNoExtent) continue;
      absl::StatusOr<pool::ChecksumRef> checksums = co_await Checksums(head_, extent, pool_extent);
      if (!checksums.ok()) co_return checksums.status();
      pool_->checksums().MarkDirty(checksums->get());
    }
  }
  CO_RETURN_IF_ERROR(co_await head_->notes().Ensure(first, last, generation));
  // Again: they may have been stored, under the old note, while this one was being written.
  for (std::uint32_t extent = first * kExtentsPerRegion; extent < (last + 1) * kExtentsPerRegion;
       ++extent) {
    const std::uint32_t pool_extent = head_->PoolExtent(extent);
    if (pool_extent == kNoExtent) continue;
    pool::ChecksumRef checksums = pool_->checksums().Resident(pool_extent);
    if (checksums) pool_->checksums().MarkDirty(checksums.get());
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Replica::WriteExtent(std::uint32_t extent, std::uint32_t first,
                                            std::span<const std::byte> from, bool* allocated) {
  const auto count = static_cast<std::uint32_t>(from.size() / kBlockBytes);
  std::uint32_t pool_extent = head_->PoolExtent(extent);
  if (pool_extent == kNoExtent) {
    CO_ASSIGN_OR_RETURN(pool_extent, co_await ExtentForWrite(extent));
  }
  pool::ChecksumRef checksums = pool_->checksums().Resident(pool_extent);
  if (!checksums) {
    CO_ASSIGN_OR_RETURN(checksums, co_await Checksums(head_, extent, pool_extent));
  }
  const BlockBits range = BlockBits::Range(first, count);
  // Until the write has completed, nothing is known about these blocks.
  checksums->known = checksums->known & ~range;
  pool_->checksums().MarkDirty(checksums.get());
  absl::Status written =
      co_await pool_->data().Write(pool::Pool::DataOffset(pool_extent, first), from);
  if (!written.ok()) {
    if (!absl::IsResourceExhausted(written)) ++pool_->counters().io_errors;
    failed_extents_.insert(extent);
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

io::Task<absl::StatusOr<std::uint32_t>> Replica::ExtentForWrite(std::uint32_t extent) {
  // One allocation at a time, so that two writers to a new extent share one.
  io::AsyncMutex::Guard guard = co_await allocation_.Lock();
  const std::uint32_t present = head_->PoolExtent(extent);
  if (present != kNoExtent) co_return present;
  absl::StatusOr<std::uint32_t> taken = co_await pool_->TakeExtent();
  if (!taken.ok()) co_return taken.status();
  ExtentState state;  // an entry with zeroed blocks only may be there
  head_->Find(extent, &state);
  state.pool_extent = *taken;
  head_->Put(extent, state);
  const pool::MapKey owner{head_->number(), extent};
  pool::ChecksumRef fresh = pool_->checksums().Fresh(*taken, owner);
  pool_->checksums().MarkDirty(fresh.get());
  co_return *taken;
}

io::Task<absl::Status> Replica::Trim(std::uint64_t offset, std::uint64_t size_bytes,
                                     pool::Generation generation) {
  if (!pool_->health().ok()) co_return pool_->health();
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
    absl::Status logged = co_await pool_->changes().Logged();
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
  if (!head_->notes().Touch(region, region, generation)) {
    CO_RETURN_IF_ERROR(co_await NoteRegions(region, region, generation));
  }
  state.present = state.present & ~range;
  state.zeroed = (state.zeroed | range) & below;
  if (state.pool_extent != kNoExtent) {
    if (state.present.Any()) {
      absl::StatusOr<pool::ChecksumRef> checksums =
          co_await Checksums(head_, extent, state.pool_extent);
      if (!checksums.ok()) co_return checksums.status();
      (*checksums)->known = (*checksums)->known & ~range;
      pool_->checksums().MarkDirty(checksums->get());
    } else {
      pool_->changes().Freed(state.pool_extent);
      pool_->checksums().Drop(state.pool_extent);
      state.pool_extent = kNoExtent;
    }
  }
  if (state.pool_extent == kNoExtent && !state.zeroed.Any()) {
    head_->Erase(extent);
  } else {
    head_->Put(extent, state);
  }
  pool_->changes().Changed({head_->number(), extent});
  *changed = true;
  co_return absl::OkStatus();
}

Replica::DataRun Replica::FindData(std::uint64_t offset, std::uint64_t size_bytes) const {
  const std::uint64_t end = offset + size_bytes;
  DataRun run;
  bool begun = false;
  while (offset < end) {
    const Piece piece = PieceAt(offset, end);
    const Source source = FindSource(piece.extent, piece.first, piece.count);
    const bool hole = source.layer == nullptr;
    if (begun && hole != run.hole) break;
    run.hole = hole;
    begun = true;
    run.size_bytes += source.count * kBlockBytes;
    offset += source.count * kBlockBytes;
  }
  return run;
}

io::Task<absl::Status> Replica::SettleFailedWrites() {
  while (!failed_extents_.empty()) {
    if (!pool_->health().ok()) co_return pool_->health();
    const std::uint32_t extent = *failed_extents_.begin();
    RangeLock::Hold hold(&extent_locks_, extent * kExtentBytes, (extent + 1) * kExtentBytes,
                         RangeLock::kExclusive);
    co_await hold;
    failed_extents_.erase(extent);
    ExtentState state;
    if (!head_->Find(extent, &state) || state.pool_extent == kNoExtent) continue;
    if (state.present.Any()) {
      CO_RETURN_IF_ERROR(co_await ResumExtent(head_, extent));
      continue;
    }
    pool_->changes().Freed(state.pool_extent);
    pool_->checksums().Drop(state.pool_extent);
    state.pool_extent = kNoExtent;
    if (state.zeroed.Any()) {
      head_->Put(extent, state);
    } else {
      head_->Erase(extent);
    }
    pool_->changes().Changed({head_->number(), extent});
  }
  co_return absl::OkStatus();
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
  for (const Layer* layer = head_; layer != nullptr; layer = layer->parent()) {
    if (layer->owner() != number_) continue;
    for (std::uint32_t i = 0; i < kExtentsPerRegion; ++i) {
      CO_RETURN_IF_ERROR(co_await ResumExtent(layer, region * kExtentsPerRegion + i));
    }
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Replica::ResumExtent(const Layer* layer, std::uint32_t extent) {
  ExtentState state;
  if (!layer->Find(extent, &state) || state.pool_extent == kNoExtent) co_return absl::OkStatus();
  absl::StatusOr<pool::ChecksumRef> checksums =
      co_await Checksums(layer, extent, state.pool_extent);
  if (!checksums.ok()) co_return checksums.status();
  BlockBits unknown = state.present & ~(*checksums)->known;
  if (!unknown.Any()) co_return absl::OkStatus();
  io::Buffer buffer = co_await pool_->reactor().buffers().Take(kExtentBytes);
  for (std::uint32_t block = 0; block < kBlocksPerExtent;) {
    const std::uint32_t count = unknown.RunLength(block, kBlocksPerExtent - block);
    if (unknown.Test(block)) {
      const std::span<std::byte> into = buffer.span().first(count * kBlockBytes);
      absl::Status read =
          co_await pool_->data().Read(pool::Pool::DataOffset(state.pool_extent, block), into);
      if (!read.ok()) {
        ++pool_->counters().io_errors;
      } else {
        for (std::uint32_t i = 0; i < count; ++i) {
          (*checksums)->crc32c[block + i] =
              pool::Crc32c(into.subspan(i * kBlockBytes, kBlockBytes));
        }
        (*checksums)->known = (*checksums)->known | BlockBits::Range(block, count);
        pool_->checksums().MarkDirty(checksums->get());
      }
    }
    block += count;
  }
  co_return absl::OkStatus();
}

}  // namespace keelson::replica
