#pragma once
// Pool: one disk's worth of storage: a data file (or block device) and a metadata store, opened
// together and checked against each other. It hands out extents, carries changes of the extent maps
// into the log and the maps (ChangeLog), keeps block checksums (ChecksumTable), and returns freed
// extents to the file system. What the extents mean (layers, replicas) is replica/'s business.
//
// One owner reactor. Lifecycle: Open (by pool_directory.h, or by a test with its own File and
// MetaStore), Start with the map's owner, then I/O; Close before destruction. After a failed flush,
// a failed commit or Fail() the pool is failed: reads go on, everything else is UNAVAILABLE until
// it is opened again, as a new incarnation.
//
// Formats: docs/on-disk-format.md. Rules R4, R8, R17, R18: docs/architecture.md.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/pool/allocator.h"
#include "blockstore/pool/change_log.h"
#include "blockstore/pool/checksum_table.h"
#include "blockstore/pool/ids.h"
#include "blockstore/pool/meta_store.h"
#include "blockstore/pool/read_fence.h"
#include "blockstore/pool/superblock.h"

namespace keelson::pool {

// Zeroed memory aligned for I/O.
class HeaderBlock {
 public:
  explicit HeaderBlock(std::size_t size_bytes)
      : size_bytes_(size_bytes),
        data_(static_cast<std::byte*>(
            ::operator new(size_bytes, std::align_val_t{io::kIoAlignment}))) {
    std::fill_n(data_.get(), size_bytes_, std::byte{0});
  }
  std::span<std::byte> span() { return {data_.get(), size_bytes_}; }

 private:
  struct Delete {
    void operator()(std::byte* data) const {
      ::operator delete(data, std::align_val_t{io::kIoAlignment});
    }
  };
  std::size_t size_bytes_;
  std::unique_ptr<std::byte, Delete> data_;
};

// The world a pool lives in; everything a simulation replaces.
struct PoolDeps {
  io::Reactor* reactor = nullptr;  // outlives the pool
  std::unique_ptr<io::File> data;
  std::unique_ptr<MetaStore> meta;
  BootId boot;                    // of this boot of the machine
  std::function<Uuid()> make_id;  // Uuid::Random in production
  bool discard = true;            // return freed extents to the file system or device
};

struct PoolSpace {
  std::uint64_t capacity_bytes = 0;    // of all extents
  std::uint64_t used_bytes = 0;        // extents that a layer refers to
  std::uint64_t reclaiming_bytes = 0;  // freed, not yet given out again
  std::uint64_t free_bytes = 0;
};

struct PoolCounters {
  std::uint64_t flushes = 0;  // data flushes issued
  std::uint64_t log_commits = 0;
  std::uint64_t checksum_errors = 0;
  std::uint64_t io_errors = 0;
  std::uint64_t discarded_bytes = 0;
};

class Pool {
 public:
  // Reads and checks the superblock and the pool record. Refuses, naming what to do:
  //   FAILED_PRECONDITION: not a Keelson pool; a format or an incompatible feature this program
  //   does
  //     not know; data file shorter than the superblock says; metadata store of another pool,
  //     empty, or older than the data (a restored or lost metadata directory).
  //   DATA_LOSS: both copies of the superblock are damaged.
  static io::Task<absl::StatusOr<std::unique_ptr<Pool>>> Open(PoolDeps deps);
  // Writes an empty pool over `deps.data` and `deps.meta` (which must be empty). `size_bytes` of
  // data area is what the file holds. FAILED_PRECONDITION if either already holds something, unless
  // `force`.
  static io::Task<absl::Status> Format(io::File* data, MetaStore* meta, PoolId id, bool force);

  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Ends background work and flushes. No I/O may be in flight. OK also when the pool has failed.
  io::Task<absl::Status> Close();

  // --- For the owner of the maps (replica::ReplicaStore) ---
  io::Reactor& reactor() { return *deps_.reactor; }
  io::File& data() { return *deps_.data; }
  MetaStore& meta() { return *deps_.meta; }
  Allocator& allocator() { return allocator_; }
  ChangeLog& changes() { return *changes_; }
  ChecksumTable& checksums() { return *checksums_; }
  ReadFence& read_fence() { return read_fence_; }
  PoolCounters& counters() { return counters_; }
  Uuid MakeId() { return deps_.make_id(); }
  // The next number of a layer or replica; durable with the next batch that PutPoolRecord went
  // into.
  std::uint64_t TakeNumber() { return next_number_++; }
  void PutPoolRecord(MetaBatch* batch) const;

  // A free extent, used from now on. Waits for space that is being reclaimed; RESOURCE_EXHAUSTED at
  // once when there is none.
  io::Task<absl::StatusOr<std::uint32_t>> TakeExtent();

  // Called once, after the maps are loaded and every used extent is marked in the allocator.
  void Start(MapSource* maps);

  // Byte offset in the data file of `block` (0..255) of `extent`.
  static std::uint64_t DataOffset(std::uint32_t extent, std::uint32_t block) {
    return kDataStart + extent * kExtentBytes + block * kBlockBytes;
  }

  const PoolId& id() const { return superblock_.pool_id; }
  const Uuid& incarnation() const { return incarnation_; }
  // True when acknowledged writes of an earlier run may be gone (another boot, or a failed flush).
  bool restarted() const { return restarted_; }
  PoolSpace space() const;

  // OK, or why the pool has failed.
  const absl::Status& health() const { return health_; }
  void Fail(absl::Status why);

 private:
  friend class ChangeLog;
  explicit Pool(PoolDeps deps);
  io::Task<absl::Status> LoadRecords();
  // Extents freed by a durable batch: unseen by reads, discarded, then free again (R18).
  void ReleaseExtents(std::vector<std::uint32_t> extents);
  io::Task<void> Reclaim(std::vector<std::uint32_t> extents);
  io::Task<absl::Status> ReserveSpace(std::uint32_t extent);
  // Makes durable, if the metadata store still can, that the next open is of a new incarnation.
  io::Task<void> RecordFailure();
  io::Task<absl::Status> WriteMark(std::uint64_t stamp);

  PoolDeps deps_;
  Superblock superblock_;
  Uuid incarnation_;
  bool restarted_ = false;
  std::uint64_t next_number_ = 1;
  absl::Status health_;
  Allocator allocator_;
  ReadFence read_fence_;
  PoolCounters counters_;
  std::unique_ptr<ChangeLog> changes_;
  std::unique_ptr<ChecksumTable> checksums_;
  bool discard_failed_ = false;
  io::WaitList reclaimed_;
  HeaderBlock mark_block_{kHeaderBlockBytes};
  io::Gate gate_;
};

}  // namespace keelson::pool
