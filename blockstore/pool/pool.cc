#include "blockstore/pool/pool.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/records.pb.h"

namespace keelson::pool {
namespace {

// A file system that punches a hole holds up all other requests of the file until it is done, and
// the next flush until the disk has dropped the blocks: a gibibyte at once stopped a pool for ten
// seconds (ext4 mounted with discard). A discard is of so many extents at most, and one that took
// this long is followed by a pause as long.
constexpr std::size_t kDiscardExtentsMax = 8;
constexpr std::int64_t kDiscardNoticedNanos = 5'000'000;
constexpr std::int64_t kDiscardPauseNanosMax = 1'000'000'000;

absl::Status Refuse(const io::File& data, const absl::Status& why) {
  return {why.code(),
          absl::StrCat("pool ", std::string(data.path()), " is not opened: ", why.message())};
}

bool AllZero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

// The whole header, in one read; the buffer is the pool's.
io::Task<absl::Status> ReadHeader(io::File* data, std::span<std::byte> header) {
  if (data->size_bytes() < kDataStart + kExtentBytes) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("pool ", std::string(data->path()), " is not opened: its data holds only ",
                     data->size_bytes(), " bytes; it is truncated or not a pool"));
  }
  co_return co_await data->Read(0, header);
}

absl::StatusOr<Superblock> FindSuperblock(const io::File& data, std::span<std::byte> header) {
  absl::Status first_error;
  for (std::uint64_t offset : kSuperblockOffsets) {
    absl::StatusOr<Superblock> superblock =
        DecodeSuperblock(header.subspan(offset, kHeaderBlockBytes));
    if (superblock.ok()) {
      if (!first_error.ok()) {
        KEEL_LOG_WARN("event=superblock_copy_used path={} reason=\"{}\"", std::string(data.path()),
                      std::string(first_error.message()));
      }
      return superblock;
    }
    // A damaged copy of ours says more than a foreign one; a refusal by version says most.
    if (first_error.ok() || superblock.status().code() == absl::StatusCode::kFailedPrecondition) {
      first_error = superblock.status();
    }
  }
  return Refuse(data, first_error);
}

// The newest readable mark's stamp; 0 when none was written. A torn mark is one whose write the
// power cut interrupted: the other one then counts.
std::uint64_t NewestMark(const PoolId& id, std::span<std::byte> header) {
  std::uint64_t stamp = 0;
  for (std::uint64_t offset : kMarkOffsets) {
    absl::StatusOr<Mark> mark = DecodeMark(header.subspan(offset, kHeaderBlockBytes));
    if (mark.ok() && mark->pool_id == id) stamp = std::max(stamp, mark->stamp);
  }
  return stamp;
}

constexpr std::size_t kHeaderBytes = 16384;

}  // namespace

Pool::Pool(PoolDeps deps)
    : deps_(std::move(deps)),
      changes_(std::make_unique<ChangeLog>(this)),
      checksums_(std::make_unique<ChecksumTable>(this)) {}

Pool::~Pool() = default;

io::Task<absl::Status> Pool::Format(io::File* data, MetaStore* meta, PoolId id, bool force) {
  const std::uint64_t size_bytes = data->size_bytes();
  if (size_bytes < kDataStart + kExtentBytes) {
    co_return absl::InvalidArgumentError(absl::StrCat(std::string(data->path()), " has ",
                                                      size_bytes, " bytes; a pool needs at least ",
                                                      kDataStart + kExtentBytes));
  }
  HeaderBlock header(kHeaderBytes);
  CO_RETURN_IF_ERROR(co_await data->Read(0, header.span()));
  if (!force && !AllZero(header.span())) {
    co_return absl::FailedPreconditionError(absl::StrCat(
        std::string(data->path()), " already holds something; use --force to overwrite it"));
  }
  absl::StatusOr<std::vector<MetaEntry>> present =
      co_await meta->Scan(Table::kObjects, std::string(), std::string(), 1);
  if (!present.ok()) co_return present.status();
  if (!present->empty()) {
    co_return absl::FailedPreconditionError("the metadata store of the new pool is not empty");
  }
  PoolRecord record;
  record.set_pool_id(std::string(id.view()));
  record.set_next_number(1);
  MetaBatch batch;
  batch.Put(Table::kObjects, kPoolKey, record.SerializeAsString());
  batch.Put(Table::kObjects, kStampKey, EncodeU64(0));
  CO_RETURN_IF_ERROR(co_await meta->Commit(&batch, /*synced=*/true));
  // The superblock last: a pool half made has none, and can be made again.
  Superblock superblock;
  superblock.pool_id = id;
  superblock.extent_count =
      std::min<std::uint64_t>((size_bytes - kDataStart) / kExtentBytes, UINT32_MAX - 1);
  std::fill(header.span().begin(), header.span().end(), std::byte{0});
  for (std::uint64_t offset : kSuperblockOffsets) {
    EncodeSuperblock(superblock, header.span().subspan(offset, kHeaderBlockBytes));
  }
  CO_RETURN_IF_ERROR(co_await data->Write(0, header.span()));
  co_return co_await data->Flush();
}

io::Task<absl::StatusOr<std::unique_ptr<Pool>>> Pool::Open(PoolDeps deps) {
  std::unique_ptr<Pool> pool(new Pool(std::move(deps)));
  io::File& data = pool->data();
  HeaderBlock header(kHeaderBytes);
  CO_RETURN_IF_ERROR(co_await ReadHeader(&data, header.span()));
  CO_ASSIGN_OR_RETURN(pool->superblock_, FindSuperblock(data, header.span()));
  const std::uint64_t needed = kDataStart + pool->superblock_.extent_count * kExtentBytes;
  if (data.size_bytes() < needed) {
    co_return Refuse(
        data, absl::FailedPreconditionError(absl::StrCat(
                  "its superblock says ", needed, " bytes, the data holds ", data.size_bytes(),
                  ": it is truncated; put the missing part back before opening it")));
  }
  absl::Status loaded = co_await pool->LoadRecords();
  if (!loaded.ok()) co_return Refuse(data, loaded);
  const std::uint64_t mark = NewestMark(pool->id(), header.span());
  if (pool->changes_->durable_stamp() < mark) {
    co_return Refuse(data, absl::FailedPreconditionError(absl::StrCat(
                               "the metadata store is older than the data (batch ",
                               pool->changes_->durable_stamp(), ", the data has seen ", mark,
                               "): it was lost, damaged or restored from a copy; put the right one "
                               "back, or remove this replica and let it be rebuilt")));
  }
  pool->allocator_.Reset(static_cast<std::uint32_t>(pool->superblock_.extent_count));
  co_return std::move(pool);
}

io::Task<absl::Status> Pool::LoadRecords() {
  absl::StatusOr<std::optional<std::string>> stored =
      co_await meta().Get(Table::kObjects, std::string(kPoolKey));
  if (!stored.ok()) co_return stored.status();
  if (!stored->has_value()) {
    co_return absl::FailedPreconditionError(
        "its metadata store is empty: it was lost or replaced; put the right one back");
  }
  PoolRecord record;
  if (!record.ParseFromString(**stored)) {
    co_return absl::DataLossError("the pool record does not parse: the metadata store is damaged");
  }
  if (record.pool_id() != id().view()) {
    co_return absl::FailedPreconditionError(
        "its metadata store belongs to another pool; put the right one back");
  }
  next_number_ = std::max<std::uint64_t>(1, record.next_number());
  absl::StatusOr<std::optional<std::string>> stamp =
      co_await meta().Get(Table::kObjects, std::string(kStampKey));
  if (!stamp.ok()) co_return stamp.status();
  if (!stamp->has_value()) co_return absl::DataLossError("the metadata store has no stamp");
  CO_ASSIGN_OR_RETURN(const std::uint64_t stamp_value, DecodeU64(**stamp));
  changes_->set_stamp(stamp_value);

  // Another boot than the last opener's: acknowledged but unflushed writes may be gone.
  const bool rebooted =
      record.boot_id() != deps_.boot.view() && !SeededBug(kSameIncarnationAfterBoot);
  restarted_ = rebooted || record.incarnation().empty();
  incarnation_ = restarted_ ? MakeId() : Uuid::FromBytes(record.incarnation()).value_or(MakeId());
  MetaBatch batch;
  PutPoolRecord(&batch);
  co_return co_await meta().Commit(&batch, /*synced=*/true);
}

void Pool::PutPoolRecord(MetaBatch* batch) const {
  PoolRecord record;
  record.set_pool_id(std::string(id().view()));
  record.set_next_number(next_number_);
  record.set_boot_id(std::string(deps_.boot.view()));
  // A failed pool gets a new incarnation when it is opened again.
  if (health_.ok() || SeededBug(kSameIncarnationAfterError)) {
    record.set_incarnation(std::string(incarnation_.view()));
  }
  batch->Put(Table::kObjects, kPoolKey, record.SerializeAsString());
}

void Pool::Start(MapSource* maps) { changes_->set_maps(maps); }

io::Task<absl::Status> Pool::Close() {
  absl::Status flushed = co_await changes_->Flush();
  co_await changes_->Close();
  co_await gate_.Close();
  co_return flushed;
}

void Pool::Fail(absl::Status why) {
  if (!health_.ok()) return;
  health_ = absl::UnavailableError(absl::StrCat(
      "pool ", std::string(data().path()),
      " has failed and takes no more writes until it is opened again: ", why.message()));
  KEEL_LOG_ERROR("event=pool_failed pool={} path={} reason=\"{}\"", id().ToString(),
                 std::string(data().path()), std::string(why.message()));
}

io::Task<void> Pool::RecordFailure() {
  MetaBatch batch;
  PutPoolRecord(&batch);
  absl::Status recorded = co_await meta().Commit(&batch, /*synced=*/true);
  if (!recorded.ok()) {
    KEEL_LOG_ERROR("event=pool_failure_not_recorded pool={} reason=\"{}\"", id().ToString(),
                   std::string(recorded.message()));
  }
}

void Pool::ReleaseExtents(std::vector<std::uint32_t> extents) {
  gate_.Spawn(Reclaim(std::move(extents)));
}

io::Task<void> Pool::Reclaim(std::vector<std::uint32_t> extents) {
  co_await read_fence_.Quiesce();
  std::sort(extents.begin(), extents.end());
  for (std::size_t i = 0; i < extents.size();) {
    std::size_t end = i + 1;  // one discard for a run of neighbours
    while (end < extents.size() && end - i < kDiscardExtentsMax &&
           extents[end] == extents[end - 1] + 1) {
      ++end;
    }
    const std::uint64_t size_bytes = (end - i) * kExtentBytes;
    std::int64_t pause_ns = 0;
    const bool discard = deps_.discard && !gate_.closed();  // a pool that closes does not wait
    if (discard) {
      // A discard that fails costs space underneath, not correctness.
      const std::int64_t began_ns = reactor().NowNanos();
      absl::Status discarded = co_await data().Discard(DataOffset(extents[i], 0), size_bytes);
      pause_ns = reactor().NowNanos() - began_ns;
      if (discarded.ok()) {
        counters_.discarded_bytes += size_bytes;
      } else if (!discard_failed_) {
        discard_failed_ = true;
        KEEL_LOG_WARN("event=discard_failed pool={} reason=\"{}\"", id().ToString(),
                      std::string(discarded.message()));
      }
    }
    for (; i < end; ++i) {
      allocator_.SetNeedsSpace(extents[i], discard);
      checksums_->Drop(extents[i]);
      allocator_.EndReclaim(extents[i]);
    }
    reclaimed_.WakeAll();
    // Half of the time is the clients': while a file system frees blocks their writes wait.
    if (pause_ns >= kDiscardNoticedNanos && i < extents.size() && !gate_.closed()) {
      co_await reactor().SleepFor(std::min(pause_ns, kDiscardPauseNanosMax));
    }
  }
}

io::Task<absl::StatusOr<std::uint32_t>> Pool::TakeExtent() {
  std::optional<std::uint32_t> extent = allocator_.Take();
  if (!extent.has_value() && allocator_.reclaiming_count() > 0) {
    // Freed space that only waits for its batch (or its discard) is worth waiting for.
    CO_RETURN_IF_ERROR(co_await changes_->Flush());
    while (!extent.has_value() && allocator_.reclaiming_count() > 0 && !changes_->has_freed()) {
      co_await reclaimed_.Wait();
      extent = allocator_.Take();
    }
    if (!extent.has_value()) extent = allocator_.Take();
  }
  if (!extent.has_value()) {
    co_return absl::ResourceExhaustedError(absl::StrCat(
        "pool ", std::string(data().path()), " is full: delete volumes or snapshots, or trim"));
  }
  const std::uint32_t taken = *extent;
  if (allocator_.NeedsSpace(taken)) {
    absl::Status reserved = co_await ReserveSpace(taken);
    if (!reserved.ok()) {
      allocator_.BeginReclaim(taken);
      allocator_.EndReclaim(taken);
      co_return reserved;
    }
  }
  co_return taken;
}

io::Task<absl::Status> Pool::ReserveSpace(std::uint32_t extent) {
  // With its neighbours: one call to the file system serves the next allocations too.
  constexpr std::uint32_t kExtentsMax = 32;
  std::uint32_t count = allocator_.NeedsSpaceRun(extent, kExtentsMax);
  absl::Status reserved = co_await data().Allocate(DataOffset(extent, 0), count * kExtentBytes);
  if (absl::IsResourceExhausted(reserved) && count > 1) {
    count = 1;
    reserved = co_await data().Allocate(DataOffset(extent, 0), kExtentBytes);
  }
  if (!reserved.ok()) co_return reserved;
  for (std::uint32_t i = 0; i < count; ++i) allocator_.SetNeedsSpace(extent + i, false);
  co_return absl::OkStatus();
}

io::Task<absl::Status> Pool::WriteMark(std::uint64_t stamp) {
  EncodeMark({id(), stamp}, mark_block_.span());
  absl::Status written = co_await data().Write(kMarkOffsets[stamp % 2], mark_block_.span());
  if (!written.ok()) ++counters_.io_errors;
  co_return written;
}

PoolSpace Pool::space() const {
  PoolSpace space;
  space.capacity_bytes = allocator_.extent_count() * kExtentBytes;
  space.used_bytes = allocator_.used_count() * kExtentBytes;
  space.reclaiming_bytes = allocator_.reclaiming_count() * kExtentBytes;
  space.free_bytes = allocator_.free_count() * kExtentBytes;
  return space;
}

}  // namespace keelson::pool
