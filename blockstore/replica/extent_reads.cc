#include "blockstore/replica/extent_reads.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/seeded_bug.h"

namespace keelson::replica {
namespace {

using pool::kBlockBytes;

void FetchDone(io::IoOp* op) { static_cast<io::Latch*>(op->owner)->Done(); }

}  // namespace

BlockSource FindSource(LayerSpan span, std::uint32_t extent, std::uint32_t block,
                       std::uint32_t limit) {
  for (const Layer* layer = span.top; layer != span.end; layer = layer->parent()) {
    const Layer::Run run = layer->FindRun(extent, block, limit);
    if (run.where != Layer::Where::kAbsent) {
      return {run.where, layer, run.pool_extent, run.count};
    }
    limit = run.count;
  }
  return {Layer::Where::kAbsent, nullptr, pool::kNoExtent, limit};
}

io::Task<absl::StatusOr<pool::ChecksumRef>> LoadChecksums(pool::Pool* pool, BlockSource source,
                                                          std::uint32_t extent) {
  const pool::MapKey owner{source.layer->number(), extent};
  co_return co_await pool->checksums().Load(source.pool_extent, owner,
                                            source.layer->ChecksumsValidFrom(extent));
}

void ExtentReads::Add(const BlockSource& source, std::uint32_t block, std::byte* into,
                      pool::ChecksumRef checksums) {
  Fetch& fetch = fetches_[count_++];
  fetch.checksums = std::move(checksums);
  fetch.first = block;
  fetch.count = source.count;
  fetch.op = {};
  fetch.op.kind = io::IoOp::Kind::kRead;
  fetch.op.offset = pool::Pool::DataOffset(source.pool_extent, block);
  fetch.op.data = into;
  fetch.op.size_bytes = source.count * kBlockBytes;
  fetch.op.done = FetchDone;
}

io::Task<absl::Status> ExtentReads::Run() {
  const std::size_t count = std::exchange(count_, 0);
  io::Latch latch(count);
  for (std::size_t i = 0; i < count; ++i) {
    fetches_[i].op.owner = &latch;
    pool_->data().Submit(&fetches_[i].op);
  }
  co_await latch;
  for (std::size_t i = 0; i < count; ++i) {
    Fetch& fetch = fetches_[i];
    if (fetch.op.result != 0) {
      ++pool_->counters().io_errors;
      co_return pool_->data().OpStatus(fetch.op);
    }
    const std::uint32_t bad = FirstMismatch(fetch);
    if (bad < fetch.count) co_return Mismatch(fetch, bad);
    fetch.checksums.Reset();
  }
  co_return absl::OkStatus();
}

// The first block of the fetch that does not match its checksum, or `count` when all do.
std::uint32_t ExtentReads::FirstMismatch(const Fetch& fetch) {
  for (std::uint32_t i = 0; i < fetch.count; ++i) {
    const std::uint32_t block = fetch.first + i;
    if (!fetch.checksums->known.Test(block) || SeededBug(kReadUnverified)) continue;
    const std::span<const std::byte> bytes(fetch.op.data + i * kBlockBytes, kBlockBytes);
    if (pool::Crc32c(bytes) != fetch.checksums->crc32c[block]) return i;
  }
  return fetch.count;
}

absl::Status ExtentReads::Mismatch(const Fetch& fetch, std::uint32_t bad) const {
  ++pool_->counters().checksum_errors;
  const std::uint64_t at = fetch.op.offset + bad * kBlockBytes;
  KEEL_LOG_WARN("event=checksum_mismatch volume={} path={} data_offset={}", std::string(volume_),
                pool_->data().path(), at);
  return absl::DataLossError(absl::StrCat("volume ", std::string(volume_), ": the block at byte ",
                                          at, " of ", std::string(pool_->data().path()),
                                          " does not match its checksum"));
}

}  // namespace keelson::replica
