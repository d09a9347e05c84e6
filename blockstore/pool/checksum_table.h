#pragma once
// ChecksumTable: the CRC32C of every block whose checksum is known, by pool extent: a bounded cache
// over the metadata table kSums, plus the ones not yet durable. Rule R17: a stored record counts
// only if its owner is the layer that asks and its generation is not below `valid_from`, the
// generation of the last possible change; otherwise nothing is known until the blocks are read
// again (Replica::Resum) or written. Dirty entries are the only copy of what they hold and are
// never evicted. One reactor. Owned by Pool.

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "blockstore/io/sync.h"
#include "blockstore/pool/format.h"

namespace keelson::pool {

class Pool;
class ChecksumTable;

// The checksums of one pool extent in memory.
struct ChecksumBlock {
  std::uint32_t pool_extent = 0;
  MapKey owner;
  BlockBits known;
  std::array<std::uint32_t, kBlocksPerExtent> crc32c{};
  std::uint32_t pins = 0;
  bool dirty = false;  // differs from the stored record
  bool loading = false;
  bool dropped = false;            // its extent was freed; dies with the last pin
  ChecksumBlock* newer = nullptr;  // recency list of clean, unpinned blocks
  ChecksumBlock* older = nullptr;
  io::WaitList loaded;
};

// Keeps a ChecksumBlock in memory. Move-only.
class ChecksumRef {
 public:
  ChecksumRef() = default;
  ChecksumRef(ChecksumTable* table, ChecksumBlock* block);
  ChecksumRef(ChecksumRef&& other) noexcept
      : table_(other.table_), block_(std::exchange(other.block_, nullptr)) {}
  ChecksumRef& operator=(ChecksumRef&& other) noexcept {
    if (this != &other) {
      Reset();
      table_ = other.table_;
      block_ = std::exchange(other.block_, nullptr);
    }
    return *this;
  }
  ~ChecksumRef() { Reset(); }
  void Reset();
  ChecksumBlock* operator->() const { return block_; }
  ChecksumBlock* get() const { return block_; }
  explicit operator bool() const { return block_ != nullptr; }

 private:
  ChecksumTable* table_ = nullptr;
  ChecksumBlock* block_ = nullptr;
};

class ChecksumTable {
 public:
  static constexpr std::size_t kCleanBlocksMax = 32768;  // about 36 MiB

  explicit ChecksumTable(Pool* pool) : pool_(pool) {}
  ~ChecksumTable();

  // The block if it is in memory and loaded; an empty ref otherwise. Never waits.
  ChecksumRef Resident(std::uint32_t pool_extent);
  // The block, read from the store if need be. Errors are those of the store.
  io::Task<absl::StatusOr<ChecksumRef>> Load(std::uint32_t pool_extent, MapKey owner,
                                             Generation valid_from);
  // The block of an extent just allocated: nothing is known.
  ChecksumRef Fresh(std::uint32_t pool_extent, MapKey owner);

  void MarkDirty(ChecksumBlock* block);
  // The extent was freed.
  void Drop(std::uint32_t pool_extent);
  // The dirty blocks now, in the order of their extents. Pointers are valid until the next
  // co_await.
  std::vector<ChecksumBlock*> Dirty() const;
  std::size_t dirty_count() const { return dirty_count_; }
  // `block` was put into a batch that is now committed; it was not changed since.
  void MarkClean(ChecksumBlock* block);

 private:
  friend class ChecksumRef;
  ChecksumBlock* Insert(std::uint32_t pool_extent, MapKey owner);
  void Unpin(ChecksumBlock* block);
  void PushNewest(ChecksumBlock* block);
  void Unlink(ChecksumBlock* block);
  void EvictOld();

  Pool* pool_;
  absl::flat_hash_map<std::uint32_t, std::unique_ptr<ChecksumBlock>> blocks_;
  std::vector<std::unique_ptr<ChecksumBlock>> dropped_;  // dropped while pinned
  ChecksumBlock* newest_ = nullptr;
  ChecksumBlock* oldest_ = nullptr;
  std::size_t clean_count_ = 0;  // in the recency list
  std::size_t dirty_count_ = 0;
};

}  // namespace keelson::pool
