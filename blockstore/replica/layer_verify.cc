// LayerCopy: what a scrub asks of a replica: which blocks are bad, and putting them right.

#include <utility>

#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/layer_copy.h"

namespace keelson::replica {

using pool::BlockBits;
using pool::kBlockBytes;
using pool::kBlocksPerExtent;
using pool::kExtentBytes;

namespace {

io::Task<absl::StatusOr<pool::ChecksumRef>> ChecksumsOf(pool::Pool* pool, BlockSource source,
                                                        std::uint32_t extent) {
  pool::ChecksumRef resident = pool->checksums().Resident(source.pool_extent);
  if (resident) co_return std::move(resident);
  co_return co_await LoadChecksums(pool, source, extent);
}

}  // namespace

io::Task<absl::StatusOr<VerifyAnswer>> LayerCopy::Verify(pool::SnapshotId layer,
                                                         std::uint32_t extent, BlockBits offered,
                                                         std::span<const std::byte> packed) {
  if (packed.size() != offered.Count() * kBlockBytes) {
    co_return absl::InvalidArgumentError("the blocks offered to a scrub are not those it names");
  }
  RangeLock::Hold hold(&replica_->extent_locks_, extent * kExtentBytes, (extent + 1) * kExtentBytes,
                       offered.Any() ? RangeLock::kExclusive : RangeLock::kShared);
  co_await hold;
  if (offered.Any() && !pool_->health().ok()) co_return pool_->health();
  pool::ReadFence::Pass pass(&pool_->read_fence());
  CO_ASSIGN_OR_RETURN(const Target target, Find(layer));
  VerifyAnswer answer;
  answer.content = ContentOf(target.span(), extent);
  if (target.oldest()) answer.content.zeroed = BlockBits();
  if (!answer.content.data.Any()) co_return answer;
  // Not from the reactor's buffers: those who hold all of them may wait for this extent.
  pool::HeaderBlock buffer(kExtentBytes);
  for (std::uint32_t block = 0; block < kBlocksPerExtent;) {
    std::uint32_t count = answer.content.data.RunLength(block, kBlocksPerExtent - block);
    if (answer.content.data.Test(block)) {
      const BlockSource source = FindSource(target.span(), extent, block, count);
      count = source.count;
      CO_RETURN_IF_ERROR(co_await VerifyRun(source, extent, block, buffer.span(), &answer));
    }
    block += count;
  }
  for (std::uint32_t block = 0; block < kBlocksPerExtent; ++block) {
    if (!offered.Test(block)) continue;
    const std::span<const std::byte> bytes = packed.first(kBlockBytes);
    packed = packed.subspan(kBlockBytes);
    if (!answer.bad.Test(block)) continue;
    CO_RETURN_IF_ERROR(
        co_await MendBlock(target.span(), extent, block, bytes, buffer.span(), &answer));
  }
  co_return answer;
}

io::Task<absl::Status> LayerCopy::VerifyRun(BlockSource source, std::uint32_t extent,
                                            std::uint32_t first, std::span<std::byte> buffer,
                                            VerifyAnswer* answer) {
  absl::StatusOr<pool::ChecksumRef> checksums = co_await ChecksumsOf(pool_, source, extent);
  if (!checksums.ok()) co_return checksums.status();
  const std::uint64_t offset = pool::Pool::DataOffset(source.pool_extent, first);
  const absl::Status all =
      co_await pool_->data().Read(offset, buffer.first(source.count * kBlockBytes));
  for (std::uint32_t i = 0; i < source.count; ++i) {
    const std::uint32_t block = first + i;
    const std::span<std::byte> bytes = buffer.subspan(i * kBlockBytes, kBlockBytes);
    absl::Status read = all;
    // Which of them it is that cannot be read shows when each is read by itself.
    if (!all.ok()) read = co_await pool_->data().Read(offset + i * kBlockBytes, bytes);
    if (!read.ok()) {
      ++pool_->counters().io_errors;
      answer->bad = answer->bad | BlockBits::Range(block, 1);
      continue;
    }
    const std::uint32_t crc32c = pool::Crc32c(bytes);
    if ((*checksums)->known.Test(block) && (*checksums)->crc32c[block] != crc32c) {
      ++pool_->counters().checksum_errors;
      KEEL_LOG_WARN("event=checksum_mismatch volume={} path={} data_offset={}", replica_->name_,
                    pool_->data().path(), offset + i * kBlockBytes);
      answer->bad = answer->bad | BlockBits::Range(block, 1);
      continue;
    }
    answer->crc32c[block] = crc32c;
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> LayerCopy::MendBlock(LayerSpan span, std::uint32_t extent,
                                            std::uint32_t block, std::span<const std::byte> bytes,
                                            std::span<std::byte> buffer, VerifyAnswer* answer) {
  const BlockSource source = FindSource(span, extent, block, 1);
  if (source.where != Layer::Where::kPresent) co_return absl::OkStatus();
  absl::StatusOr<pool::ChecksumRef> checksums = co_await ChecksumsOf(pool_, source, extent);
  if (!checksums.ok()) co_return checksums.status();
  const std::uint32_t crc32c = pool::Crc32c(bytes);
  if (!(*checksums)->known.Test(block) || (*checksums)->crc32c[block] != crc32c) {
    co_return absl::OkStatus();  // other bytes than those that were lost
  }
  const std::uint64_t offset = pool::Pool::DataOffset(source.pool_extent, block);
  absl::Status mended = co_await pool_->data().Write(offset, bytes);
  // A disk that could not keep them once may not be able to now.
  const std::span<std::byte> again = buffer.first(kBlockBytes);
  if (mended.ok()) mended = co_await pool_->data().Read(offset, again);
  if (!mended.ok()) ++pool_->counters().io_errors;
  if (!mended.ok() || pool::Crc32c(again) != crc32c) co_return absl::OkStatus();
  KEEL_LOG_INFO("event=block_mended volume={} path={} data_offset={}", replica_->name_,
                pool_->data().path(), offset);
  answer->mended = answer->mended | BlockBits::Range(block, 1);
  answer->crc32c[block] = crc32c;
  co_return absl::OkStatus();
}

}  // namespace keelson::replica
