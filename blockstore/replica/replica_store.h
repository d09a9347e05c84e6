#pragma once
// ReplicaStore: all replicas and layers of one pool: creates, deletes, snapshots, clones and grows
// them, loads their maps when the pool is opened, and merges away the layers of deleted snapshots
// in the background. Owns the Pool. One owner reactor.
//
// Every change here is atomic and durable when the call completes. A call that returns an error has
// changed nothing, but for UNAVAILABLE (the pool failed), where only reopening the pool tells.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/pool/pool.h"
#include "blockstore/replica/layer_table.h"
#include "blockstore/replica/replica.h"

namespace keelson::replica {

inline constexpr std::uint64_t kVolumeSizeMin = std::uint64_t{1} << 20;  // 1 MiB
inline constexpr std::uint64_t kVolumeSizeMax = std::uint64_t{1} << 50;  // 1 PiB
inline constexpr std::size_t kSnapshotsMax = 1000;                       // of one replica

struct SnapshotInfo {
  pool::SnapshotId id;
  std::string name;
  std::uint64_t size_bytes = 0;
  std::int64_t created_unix_ns = 0;
};

struct ReplicaInfo {
  pool::ReplicaId id;
  pool::VolumeId volume_id;
  std::string name;
  std::uint64_t size_bytes = 0;
  std::uint64_t allocated_bytes = 0;  // extents of the head and of its own snapshots
  std::vector<SnapshotInfo> snapshots;
  std::int64_t created_unix_ns = 0;
  bool attached = false;  // was attached and not detached (also by an earlier process)
};

class ReplicaStore {
 public:
  // Loads every map, replays this boot's log or discards another boot's, and makes the result
  // durable.
  static io::Task<absl::StatusOr<std::unique_ptr<ReplicaStore>>> Open(
      std::unique_ptr<pool::Pool> pool);
  ~ReplicaStore();
  // Stops background work and closes the pool. No engine may be attached.
  io::Task<absl::Status> Close();

  // An empty volume's replica. `name` is 1..253 characters of [A-Za-z0-9._-] (not . or ..), unique
  // in the pool; size a multiple of 4096 within the limits above. INVALID_ARGUMENT, ALREADY_EXISTS.
  io::Task<absl::StatusOr<pool::ReplicaId>> Create(std::string name, std::uint64_t size_bytes,
                                                   std::int64_t created_unix_ns);
  // A new volume whose first content is snapshot `snapshot` of `source`; shares its data. size 0:
  // the snapshot's size; a smaller one is OUT_OF_RANGE. NOT_FOUND for an unknown source or
  // snapshot.
  io::Task<absl::StatusOr<pool::ReplicaId>> Clone(pool::ReplicaId source, pool::SnapshotId snapshot,
                                                  std::string name, std::uint64_t size_bytes,
                                                  std::int64_t created_unix_ns);
  // The data is unreachable when this completes; the space comes back in the background. Snapshots
  // go with it; clones stay. FAILED_PRECONDITION while attached.
  io::Task<absl::Status> Delete(pool::ReplicaId id);
  // Seals the head as snapshot `name` (unique in the replica). The caller holds off writes.
  io::Task<absl::StatusOr<pool::SnapshotId>> Snapshot(pool::ReplicaId id, std::string name,
                                                      std::int64_t created_unix_ns);
  io::Task<absl::Status> DeleteSnapshot(pool::ReplicaId id, pool::SnapshotId snapshot);
  // OUT_OF_RANGE when smaller than now; equal is OK.
  io::Task<absl::Status> Grow(pool::ReplicaId id, std::uint64_t size_bytes);

  // Takes the next epoch for an engine and makes it durable, with the mark that the replica is
  // attached.
  io::Task<absl::StatusOr<pool::Epoch>> BeginAttachment(pool::ReplicaId id, pool::EngineId engine);
  io::Task<absl::Status> EndAttachment(pool::ReplicaId id);
  // Records that every write of `generation` and before is flushed, and stores the checksums of the
  // regions that are clean by that. REQUIRES: it is so.
  io::Task<absl::Status> CommitClean(pool::ReplicaId id, pool::Generation generation);

  std::vector<ReplicaInfo> List() const;
  // nullptr when unknown. Valid until Delete or Close.
  Replica* Find(pool::ReplicaId id);
  Replica* FindByName(std::string_view name);

  // Held by whoever changes what layers and replicas there are, or must not see that change.
  io::AsyncMutex& structure() { return structure_; }

  pool::Pool& pool() { return *pool_; }
  LayerTable& layers() { return layers_; }
  // Completes when the background merges and frees asked for so far have ended.
  io::Task<void> WaitForCleanup();

 private:
  friend class StoreLoader;
  explicit ReplicaStore(std::unique_ptr<pool::Pool> pool);
  absl::Status CheckNewVolume(std::string_view name, std::uint64_t size_bytes) const;
  Replica* AddReplica(pool::ReplicaNumber number, pool::ReplicaId id);
  Replica* HeadOwner(const Layer* layer) const;  // the replica whose head it is, or nullptr
  void PutReplica(const Replica& replica, pool::MetaBatch* batch) const;
  io::Task<absl::Status> StoreChecksums();
  void StartCleanup();
  io::Task<void> Cleanup();

  std::unique_ptr<pool::Pool> pool_;
  LayerTable layers_;
  std::map<pool::ReplicaId, std::unique_ptr<Replica>> replicas_;  // ordered: deterministic
  io::AsyncMutex structure_;                                      // one structural change at a time
  io::Gate gate_;
  bool cleanup_running_ = false;
  bool cleanup_wanted_ = false;
  bool closing_ = false;
  io::WaitList cleanup_idle_;
};

}  // namespace keelson::replica
