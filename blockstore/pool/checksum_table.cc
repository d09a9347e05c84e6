#include "blockstore/pool/checksum_table.h"

#include <algorithm>
#include <optional>
#include <string>

#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/pool.h"

namespace keelson::pool {

ChecksumRef::ChecksumRef(ChecksumTable* table, ChecksumBlock* block)
    : table_(table), block_(block) {
  if (block_->pins++ == 0 && !block_->dirty && !block_->dropped) table_->Unlink(block_);
}

void ChecksumRef::Reset() {
  if (block_ != nullptr) table_->Unpin(std::exchange(block_, nullptr));
}

ChecksumTable::~ChecksumTable() = default;

ChecksumRef ChecksumTable::Resident(std::uint32_t pool_extent) {
  auto it = blocks_.find(pool_extent);
  if (it == blocks_.end() || it->second->loading) return {};
  return {this, it->second.get()};
}

io::Task<absl::StatusOr<ChecksumRef>> ChecksumTable::Load(std::uint32_t pool_extent, MapKey owner,
                                                          Generation valid_from) {
  while (true) {
    auto it = blocks_.find(pool_extent);
    if (it == blocks_.end()) break;
    ChecksumBlock* block = it->second.get();
    if (!block->loading) co_return ChecksumRef(this, block);
    co_await block->loaded.Wait();  // then look again: the load may have failed and left
  }
  ChecksumBlock* block = Insert(pool_extent, owner);
  block->loading = true;
  ChecksumRef ref(this, block);
  absl::StatusOr<std::optional<std::string>> stored =
      co_await pool_->meta().Get(Table::kSums, EncodeSumKey(pool_extent));
  absl::Status status = stored.status();
  if (stored.ok() && stored->has_value()) {
    SumRecord record;
    status = DecodeSumRecord(**stored, &record);
    if (status.ok() && record.owner == owner &&
        (record.generation >= valid_from || SeededBug(kStaleChecksumsCount))) {
      block->known = record.known;
      block->crc32c = record.crc32c;
    }
  }
  block->loading = false;
  io::WaitList waiters;
  waiters.TakeFrom(&block->loaded);
  if (!status.ok()) Drop(pool_extent);
  waiters.WakeAll();
  if (!status.ok()) co_return status;
  co_return std::move(ref);
}

ChecksumRef ChecksumTable::Fresh(std::uint32_t pool_extent, MapKey owner) {
  Drop(pool_extent);
  return {this, Insert(pool_extent, owner)};
}

ChecksumBlock* ChecksumTable::Insert(std::uint32_t pool_extent, MapKey owner) {
  auto block = std::make_unique<ChecksumBlock>();
  block->pool_extent = pool_extent;
  block->owner = owner;
  ChecksumBlock* raw = block.get();
  blocks_[pool_extent] = std::move(block);
  PushNewest(raw);
  return raw;
}

void ChecksumTable::MarkDirty(ChecksumBlock* block) {
  if (block->dirty || block->dropped) return;
  if (block->pins == 0) Unlink(block);
  block->dirty = true;
  ++dirty_count_;
}

void ChecksumTable::MarkClean(ChecksumBlock* block) {
  if (!block->dirty) return;
  block->dirty = false;
  --dirty_count_;
  if (block->pins == 0) PushNewest(block);
  EvictOld();
}

void ChecksumTable::Drop(std::uint32_t pool_extent) {
  auto it = blocks_.find(pool_extent);
  if (it == blocks_.end()) return;
  ChecksumBlock* block = it->second.get();
  if (block->dirty) {
    block->dirty = false;
    --dirty_count_;
  } else if (block->pins == 0) {
    Unlink(block);
  }
  block->dropped = true;
  if (block->pins > 0) dropped_.push_back(std::move(it->second));
  blocks_.erase(it);
}

std::vector<ChecksumBlock*> ChecksumTable::Dirty() const {
  std::vector<ChecksumBlock*> dirty;
  dirty.reserve(dirty_count_);
  for (const auto& [extent, block] : blocks_) {
    if (block->dirty) dirty.push_back(block.get());
  }
  std::sort(dirty.begin(), dirty.end(), [](const ChecksumBlock* a, const ChecksumBlock* b) {
    return a->pool_extent < b->pool_extent;
  });
  return dirty;
}

void ChecksumTable::Unpin(ChecksumBlock* block) {
  if (--block->pins > 0) return;
  if (block->dropped) {
    std::erase_if(dropped_, [block](const auto& owned) { return owned.get() == block; });
  } else if (!block->dirty) {
    PushNewest(block);
    EvictOld();
  }
}

void ChecksumTable::PushNewest(ChecksumBlock* block) {
  block->older = newest_;
  block->newer = nullptr;
  (newest_ != nullptr ? newest_->newer : oldest_) = block;
  newest_ = block;
  ++clean_count_;
}

void ChecksumTable::Unlink(ChecksumBlock* block) {
  (block->newer != nullptr ? block->newer->older : newest_) = block->older;
  (block->older != nullptr ? block->older->newer : oldest_) = block->newer;
  block->newer = block->older = nullptr;
  --clean_count_;
}

void ChecksumTable::EvictOld() {
  while (clean_count_ > kCleanBlocksMax) {
    ChecksumBlock* block = oldest_;
    Unlink(block);
    blocks_.erase(block->pool_extent);
  }
}

}  // namespace keelson::pool
