#pragma once
// Replica: one copy of one volume in one pool: reads, writes and trims against its layers. It knows
// which blocks lie where and that they are what was written (checksums); it does not order
// overlapping requests: that is the engine's work, and the engine's range lock is held around every
// call.
//
// One reactor: the pool's. Owned by ReplicaStore. Offsets and sizes are multiples of 4 KiB, buffers
// are aligned to 4 KiB. A write or trim is complete when its call returns OK: it survives the death
// of the process (R4), and that of the machine once a later Pool flush completed.

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "blockstore/pool/pool.h"
#include "blockstore/replica/layer_table.h"
#include "blockstore/replica/range_lock.h"

namespace keelson::replica {

struct SnapshotState {
  pool::SnapshotId id;
  std::string name;
  Layer* layer = nullptr;
  std::int64_t created_unix_ns = 0;
  std::uint64_t size_bytes = 0;
};

class Replica {
 public:
  Replica(pool::Pool* pool, pool::ReplicaNumber number) : pool_(pool), number_(number) {}
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  // DATA_LOSS: a block does not match its checksum (counted). INTERNAL: the disk failed the read.
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into);
  // `generation` is the write interval the engine assigned; its regions are noted first (R5).
  // RESOURCE_EXHAUSTED: the pool is full; blocks before the failing extent may have been written.
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               pool::Generation generation);
  // The range reads as zeroes; blocks and whole extents are freed. Never touches the data area.
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes,
                              pool::Generation generation);

  // Settles what failed writes left behind: an extent none of whose blocks came to be is freed, and
  // blocks that were not changed after all are read again for their checksums. The caller holds off
  // snapshots; writers of the extents in hand wait.
  io::Task<absl::Status> SettleFailedWrites();

  // A run of equal blocks from `offset` on, at most `size_bytes` long: data, or a hole.
  struct DataRun {
    std::uint64_t size_bytes = 0;
    bool hole = false;
  };
  DataRun FindData(std::uint64_t offset, std::uint64_t size_bytes) const;

  // The regions whose checksums may not be known, because something changed there after the clean
  // generation and the process that knew is gone.
  std::vector<std::uint32_t> UncleanRegions() const;
  // Reads the present blocks of a region whose checksums are not known and computes them, in every
  // layer this replica wrote. The caller holds off writes to the region and holds the store's
  // structure lock. A block that cannot be read stays unknown.
  io::Task<absl::Status> Resum(std::uint32_t region);

  pool::ReplicaNumber number() const { return number_; }
  Layer* head() const { return head_; }
  RangeLock& extent_locks() { return extent_locks_; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  const pool::Generation& clean_generation() const { return clean_generation_; }
  // The write interval that is open now; a snapshot starts a new one.
  const pool::Generation& generation() const { return generation_; }
  void set_generation(const pool::Generation& generation) { generation_ = generation; }
  bool has_engine() const { return has_engine_; }
  void set_has_engine(bool has_engine) { has_engine_ = has_engine; }
  const pool::Epoch& promised() const { return promised_; }
  const pool::ReplicaId& id() const { return id_; }
  const std::string& name() const { return name_; }

 private:
  friend class ReplicaStore;
  friend class StoreLoader;

  struct Source {
    const Layer* layer = nullptr;  // whose extent it is; null: zeroes
    std::uint32_t pool_extent = pool::kNoExtent;
    std::uint32_t count = 0;
  };
  Source FindSource(std::uint32_t extent, std::uint32_t block, std::uint32_t limit) const;
  io::Task<absl::Status> WriteExtent(std::uint32_t extent, std::uint32_t first,
                                     std::span<const std::byte> from, bool* allocated);
  io::Task<absl::Status> TrimExtent(std::uint32_t extent, std::uint32_t first, std::uint32_t count,
                                    pool::Generation generation, bool* changed);
  io::Task<absl::StatusOr<std::uint32_t>> ExtentForWrite(std::uint32_t extent);
  io::Task<absl::StatusOr<pool::ChecksumRef>> Checksums(const Layer* layer, std::uint32_t extent,
                                                        std::uint32_t pool_extent);
  io::Task<absl::Status> ResumExtent(const Layer* layer, std::uint32_t extent);
  io::Task<absl::Status> NoteRegions(std::uint32_t first, std::uint32_t last,
                                     pool::Generation generation);

  pool::Pool* pool_;  // outlives the replica
  pool::ReplicaNumber number_;
  pool::ReplicaId id_;
  pool::VolumeId volume_id_;
  std::string name_;
  std::uint64_t size_bytes_ = 0;
  std::int64_t created_unix_ns_ = 0;
  Layer* head_ = nullptr;
  std::vector<SnapshotState> snapshots_;  // oldest first
  pool::Epoch promised_;
  pool::Generation clean_generation_;
  pool::Generation generation_;
  bool attached_ = false;    // durable: see ReplicaRecord
  bool has_engine_ = false;  // in this process
  // Writers share an extent; a trim or a merge has it alone.
  RangeLock extent_locks_;
  std::set<std::uint32_t> failed_extents_;  // of the head, where a write failed
  io::AsyncMutex allocation_;
};

}  // namespace keelson::replica
