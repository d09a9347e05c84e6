// ReplicaStore: what the end of a generation leaves behind: the clean record and stored checksums;
// and what a crash leaves to be read again before that.

#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/replica_store.h"
#include "blockstore/replica/sum_records.h"

namespace keelson::replica {

using pool::MetaBatch;
using pool::Table;

io::Task<absl::Status> ReplicaStore::CommitClean(pool::ReplicaId id, pool::Generation generation) {
  Replica* replica = Find(id);
  if (replica == nullptr) {
    co_return absl::NotFoundError(
        absl::StrCat("there is no replica ", id.ToString(), " in this pool"));
  }
  replica->clean_generation_ = std::max(replica->clean_generation_, generation);
  CO_RETURN_IF_ERROR(co_await StoreChecksums());
  MetaBatch batch;
  batch.Put(Table::kObjects, pool::ObjectKey(pool::kCleanPrefix, replica->number_.value),
            pool::EncodeGeneration(replica->clean_generation_));
  co_return co_await CommitSynced(&batch);
}

io::Task<absl::Status> ReplicaStore::CommitSynced(MetaBatch* batch) {
  absl::Status committed = co_await pool_->meta().Commit(batch, /*synced=*/true);
  if (!committed.ok()) pool_->Fail(committed);
  co_return committed;
}

io::Task<absl::Status> ReplicaStore::StoreChecksums() {
  constexpr std::size_t kBatchRecords = 256;
  std::vector<std::uint32_t> dirty;
  for (const pool::ChecksumBlock* block : pool_->checksums().Dirty()) {
    dirty.push_back(block->pool_extent);
  }
  std::string scratch;
  std::size_t next = 0;
  while (next < dirty.size()) {
    if (!pool_->health().ok()) co_return pool_->health();
    MetaBatch batch;
    for (; next < dirty.size() && batch.count() < kBatchRecords; ++next) {
      pool::ChecksumRef block = pool_->checksums().Resident(dirty[next]);
      if (!block || !block->dirty) continue;
      const Layer* layer = layers_.Find(block->owner.layer);
      pool::ExtentState state;
      const bool owned = layer != nullptr && layer->Find(block->owner.extent, &state) &&
                         state.pool_extent == block->pool_extent;
      if (!owned || !copied_extents_.MayStore(block->owner)) continue;
      if (!PutChecksums(*layer, HeadOwner(layer), *block.get(), state.present, &batch, &scratch)) {
        continue;
      }
      copied_extents_.Stored(block->owner);
      // Now, not after the commit: a change meanwhile makes it dirty again.
      pool_->checksums().MarkClean(block.get());
    }
    if (batch.empty()) continue;
    absl::Status committed = co_await pool_->meta().Commit(&batch, /*synced=*/false);
    if (!committed.ok()) {
      pool_->Fail(committed);
      co_return committed;
    }
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> ReplicaStore::FlushCopies() {
  std::uint64_t copies = 0;
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* /*batch*/) {
    copies = copied_extents_.Mark();
  };
  CO_RETURN_IF_ERROR(co_await pool_->changes().FlushWith(std::move(at_cut)));
  copied_extents_.Flushed(copies);
  co_return absl::OkStatus();
}

io::Task<absl::Status> ReplicaStore::EndGeneration(Replica* replica, pool::Generation generation) {
  io::AsyncMutex::Guard rolling = co_await replica->rolling_.Lock();
  CO_RETURN_IF_ERROR(co_await replica->SettleFailedWrites());
  if (!SeededBug(kCleanWithoutFlush)) CO_RETURN_IF_ERROR(co_await FlushCopies());
  if (!Resummed(*replica)) {
    // Regions above the clean generation are unknown yet: after the next crash they must be found
    // again (R10). What could not be read is tried once more.
    StartResum(replica);
    co_return absl::OkStatus();
  }
  co_return co_await CommitClean(replica->id_, generation);
}

void ReplicaStore::StartResum(Replica* replica) {
  if (!replica->regions_to_resum_.has_value()) {
    replica->regions_to_resum_ = replica->UncleanRegions();
  }
  if (replica->resumming_ || replica->regions_to_resum_->empty()) return;
  replica->resumming_ = true;
  if (!gate_.Spawn(ResumRegions(replica->id_))) replica->resumming_ = false;
}

io::Task<void> ReplicaStore::ResumRegions(pool::ReplicaId id) {
  const std::vector<std::uint32_t> regions = *Find(id)->regions_to_resum_;
  KEEL_LOG_INFO("event=resum_started volume={} regions={}", Find(id)->name(), regions.size());
  std::vector<std::uint32_t> left;
  for (const std::uint32_t region : regions) {
    // Layers must not be merged away under it, nor the replica be deleted.
    io::AsyncMutex::Guard structure = co_await structure_.Lock();
    Replica* replica = Find(id);
    if (replica == nullptr) co_return;
    if (closing_ || !pool_->health().ok()) {
      replica->resumming_ = false;
      co_return;
    }
    const std::uint64_t begin = region * pool::kRegionBytes;
    RangeLock::Hold hold(&replica->extent_locks_, begin, begin + pool::kRegionBytes,
                         RangeLock::kExclusive);
    co_await hold;
    absl::Status status = co_await replica->Resum(region);
    if (!status.ok()) {
      KEEL_LOG_WARN("event=resum_failed volume={} region={} reason=\"{}\"", replica->name(), region,
                    std::string(status.message()));
      left.push_back(region);
    }
  }
  Replica* replica = Find(id);
  if (replica == nullptr) co_return;
  replica->regions_to_resum_ = std::move(left);
  replica->resumming_ = false;
}

}  // namespace keelson::replica
