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
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "blockstore/pool/pool.h"
#include "blockstore/replica/configuration.h"
#include "blockstore/replica/layer_table.h"
#include "blockstore/replica/range_lock.h"
#include "blockstore/replica/replica_port.h"

namespace keelson::replica {

class Session;

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
  // The pool's health: see CheckLogged.
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into);
  // `generation` is the write interval the engine assigned; its regions are noted first (R5).
  // RESOURCE_EXHAUSTED: the pool is full; blocks before the failing extent may have been written.
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               pool::Generation generation);
  // The range reads as zeroes; blocks and whole extents are freed. Never touches the data area.
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes,
                              pool::Generation generation);

  // Settles what failed writes left behind: an extent none of whose blocks came to be is freed, and
  // blocks that were not changed after all are read again for their checksums; what cannot be read
  // is tried again next time. The caller holds off snapshots; writers of the extents in hand wait.
  io::Task<absl::Status> SettleFailedWrites();

  // A run of equal blocks from `offset` on, at most `size_bytes` long: data, or a hole.
  struct DataRun {
    std::uint64_t size_bytes = 0;
    bool hole = false;
  };
  DataRun FindData(std::uint64_t offset, std::uint64_t size_bytes) const;

  // The pool's health when a failed change of the range is in memory and may not be in the log: it
  // may be gone when the pool is opened again, as the same incarnation, so nobody may see it (R4).
  absl::Status CheckLogged(std::uint64_t offset, std::uint64_t size_bytes) const;

  // The regions whose checksums may not be known, because something changed there after the clean
  // generation and the process that knew is gone.
  std::vector<std::uint32_t> UncleanRegions() const;
  // Reads the present blocks of a region whose checksums are not known and computes them, in every
  // layer this replica wrote. The caller holds off writes to the region and holds the store's
  // structure lock. An error when a block could not be read: it stays unknown.
  io::Task<absl::Status> Resum(std::uint32_t region);

  pool::ReplicaNumber number() const { return number_; }
  Layer* head() const { return head_; }
  RangeLock& extent_locks() { return extent_locks_; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  const pool::Generation& clean_generation() const { return clean_generation_; }
  // The write interval that is open now; a snapshot starts a new one.
  const pool::Generation& generation() const { return generation_; }
  const pool::Epoch& promised() const { return promised_; }
  const pool::ReplicaId& id() const { return id_; }
  const std::string& name() const { return name_; }
  const pool::VolumeId& volume_id() const { return volume_id_; }
  std::uint32_t segment() const { return segment_; }
  // A vote without data: no layers, and nothing of the above is called.
  bool witness() const { return witness_; }
  // Absent: not a member of a replicated segment, or its record is unreadable.
  const std::optional<Configuration>& configuration() const { return configuration_; }
  const ResyncProgress& progress() const { return progress_; }
  // Oldest first.
  const std::vector<SnapshotState>& snapshots() const { return snapshots_; }

 private:
  friend class LayerCopy;
  friend class ReplicaStore;
  friend class Session;
  friend class StoreLoader;

  io::Task<absl::Status> WriteExtent(std::uint32_t extent, std::uint32_t first,
                                     std::span<const std::byte> from, bool* allocated);
  io::Task<absl::Status> TrimExtent(std::uint32_t extent, std::uint32_t first, std::uint32_t count,
                                    pool::Generation generation, bool* changed);
  // Completes when the change of the range is in the log.
  io::Task<absl::Status> LogChange(std::uint64_t offset, std::uint64_t size_bytes);
  // The pool extent of the layer's `extent`, taken from the pool when it has none.
  io::Task<absl::StatusOr<std::uint32_t>> ExtentForWrite(Layer* layer, std::uint32_t extent);
  // Makes `state` the extent's in the layer, which it has alone: the pool extent is freed when none
  // of its blocks is present, and the entry goes when nothing is left of it.
  void PutState(Layer* layer, std::uint32_t extent, pool::ExtentState state);

  // --- replica_checksums.cc ---
  io::Task<absl::StatusOr<pool::ChecksumRef>> Checksums(const Layer* layer, std::uint32_t extent,
                                                        std::uint32_t pool_extent);
  // Takes the checksums of the region's extents into memory, to be stored again.
  io::Task<absl::Status> PinChecksums(const Layer* layer, std::uint32_t region);
  // Those that are in memory are to be stored again.
  void RedirtyChecksums(const Layer* layer, std::uint32_t region);
  io::Task<absl::Status> NoteRegions(std::uint32_t first, std::uint32_t last,
                                     pool::Generation generation);
  struct FailedWrite {
    std::uint32_t pool_extent = pool::kNoExtent;
    std::uint32_t first = 0;  // block in the extent
    std::span<const std::byte> data;
    pool::BlockBits known;  // those whose checksums were known before
    bool may_be_torn = false;
  };
  // Reads again what a failed write was to change, so that the checksums of what is there stay in
  // force: a block that is neither as before nor as written is rotten, unless it may be torn.
  // REQUIRES: no other change of the blocks is under way.
  io::Task<void> RecognizeBlocks(const FailedWrite* failed, pool::ChecksumBlock* checksums);
  // REQUIRES: the caller has the extent alone.
  io::Task<void> SettleFailedWrite(std::uint32_t extent);
  io::Task<absl::Status> ResumExtent(const Layer* layer, std::uint32_t extent);

  pool::Pool* pool_;  // outlives the replica
  pool::ReplicaNumber number_;
  pool::ReplicaId id_;
  pool::VolumeId volume_id_;
  std::string name_;
  std::uint32_t segment_ = 0;
  bool witness_ = false;
  std::uint64_t size_bytes_ = 0;
  std::int64_t created_unix_ns_ = 0;
  Layer* head_ = nullptr;                 // null only in a witness
  std::vector<SnapshotState> snapshots_;  // oldest first
  pool::Epoch promised_;
  pool::Generation clean_generation_;
  pool::Generation generation_;
  bool attached_ = false;  // durable: see ReplicaRecord
  // Writers share an extent; a trim or a merge has it alone.
  RangeLock extent_locks_;
  std::set<std::uint32_t> failed_extents_;  // of the head, where a write failed
  // Of the head, where a change took effect in memory and the pool failed before it was in the log.
  std::set<std::uint32_t> unlogged_extents_;
  io::AsyncMutex allocation_;

  // --- As a member: Session and ReplicaStore ---
  std::optional<Configuration> configuration_;  // as stored
  ResyncProgress progress_;
  Session* session_ = nullptr;  // the open one, or the last until its calls have ended
  std::uint64_t session_calls_ = 0;
  io::WaitList session_drained_;
  std::uint64_t prepares_ = 0;  // in progress: the replica is not deleted under them
  bool deleting_ = false;
  io::AsyncMutex preparing_;
  io::AsyncMutex accepting_;
  // Held while a generation ends, or begins in the notes, and while the head is sealed.
  io::AsyncMutex rolling_;
  // What a crash left unknown and is yet to be read; empty before the first session.
  std::optional<std::vector<std::uint32_t>> regions_to_resum_;
  bool resumming_ = false;
};

}  // namespace keelson::replica
