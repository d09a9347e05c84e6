#pragma once
// ReplicaStore: all replicas and layers of one pool: creates, deletes, snapshots, clones and grows
// them, loads their maps when the pool is opened, and merges away the layers of deleted snapshots
// in the background. It keeps what makes a replica a member of its segment (promise, configuration,
// resync progress) and hands out ports to it. Owns the Pool. One owner reactor.
//
// Every change here is atomic and durable when the call completes. A call that returns an error has
// changed nothing, but for UNAVAILABLE (the pool failed), where only reopening the pool tells.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/pool/pool.h"
#include "blockstore/replica/configuration.h"
#include "blockstore/replica/copied_extents.h"
#include "blockstore/replica/layer_table.h"
#include "blockstore/replica/replica.h"
#include "blockstore/replica/replica_port.h"

namespace keelson::replica {

inline constexpr std::uint64_t kVolumeSizeMin = std::uint64_t{1} << 20;  // 1 MiB
inline constexpr std::uint64_t kVolumeSizeMax = std::uint64_t{1} << 50;  // 1 PiB

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
  std::uint32_t segment = 0;
  bool witness = false;  // has a vote and no data; its size and space are 0
  pool::Epoch promised;
  // Absent: not a member of a replicated segment, or its record is unreadable (R2).
  std::optional<Configuration> configuration;
  bool in_session = false;  // an engine uses it through a port
};

// A member to be: a replica, or a witness, of one segment.
struct NewMember {
  pool::VolumeId volume;
  pool::ReplicaId replica;  // chosen by the caller, never used before
  std::string name;         // the volume's; with `segment` unique in the pool
  std::uint32_t segment = 0;
  std::uint64_t size_bytes = 0;  // of the segment; ignored for a witness
  std::int64_t created_unix_ns = 0;
  bool witness = false;
  // The first one it has (R2). Names the volume and the segment, and may or may not name it.
  Configuration configuration;
  // When not nil: its first content is this snapshot of this replica of the pool, shared. The
  // source has all of it: the snapshot is complete and the replica InSync, by its own record.
  pool::ReplicaId clone_of;
  pool::SnapshotId clone_snapshot;
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

  // A volume with this one copy: it is the only member of its configuration. `name` is 1..253
  // characters of [A-Za-z0-9._-] (not . or ..), unique in the pool; size a multiple of 4096 within
  // the limits above. INVALID_ARGUMENT, ALREADY_EXISTS.
  io::Task<absl::StatusOr<pool::ReplicaId>> Create(std::string name, std::uint64_t size_bytes,
                                                   std::int64_t created_unix_ns);
  // A new volume whose first content is snapshot `snapshot` of `source`; shares its data. size 0:
  // the snapshot's size; a smaller one is OUT_OF_RANGE. NOT_FOUND for an unknown source or
  // snapshot.
  io::Task<absl::StatusOr<pool::ReplicaId>> Clone(pool::ReplicaId source, pool::SnapshotId snapshot,
                                                  std::string name, std::uint64_t size_bytes,
                                                  std::int64_t created_unix_ns);
  // Makes a replica or witness durable together with its first configuration. OK without effect
  // when it is there already, of the same ids, name and kind. INVALID_ARGUMENT; ALREADY_EXISTS:
  // another replica has the id or the name; NOT_FOUND: what it is to be a clone of;
  // FAILED_PRECONDITION: that may lack some of the snapshot.
  io::Task<absl::Status> CreateMember(NewMember member);
  // The data is unreachable when this completes; the space comes back in the background. Snapshots
  // go with it; clones stay. FAILED_PRECONDITION while in a session.
  io::Task<absl::Status> Delete(pool::ReplicaId id);
  // Whether a daemon that starts is to serve the volume of this replica; durable.
  io::Task<absl::Status> SetAttached(pool::ReplicaId id, bool attached);

  // A port to the replica `id`, which need not exist yet. Closed and destroyed before the store.
  std::unique_ptr<ReplicaPort> MakePort(pool::ReplicaId id);

  // By name and segment.
  std::vector<ReplicaInfo> List() const;
  // nullptr when unknown. Valid until Delete or Close.
  Replica* Find(pool::ReplicaId id);
  // Of segment 0. nullptr when the pool has none, or a witness only.
  Replica* FindByName(std::string_view name);

  // The replica whose head or snapshot it is, or nullptr.
  Replica* User(const Layer* layer) const;

  // Held by whoever changes what layers and replicas there are, or must not see that change.
  io::AsyncMutex& structure() { return structure_; }

  pool::Pool& pool() { return *pool_; }
  LayerTable& layers() { return layers_; }
  // Completes when the background merges and frees asked for so far have ended.
  io::Task<void> WaitForCleanup();
  // True while they run.
  bool cleaning() const { return cleanup_running_; }
  // Completes when they are a step further, or have ended. REQUIRES: cleaning().
  io::WaitList::Awaiter CleanupStep() { return cleanup_step_.Wait(); }

  // --- For Session, which keeps `replica` alive and serialises with nothing else. Errors of the
  // pool are UNAVAILABLE here. ---
  // Durable when it completes. REQUIRES: not below what is promised.
  io::Task<absl::Status> Promise(Replica* replica, pool::Epoch epoch);
  io::Task<absl::Status> Accept(Replica* replica, Configuration configuration);
  io::Task<absl::Status> RecordProgress(Replica* replica, ResyncProgress progress);
  // Flushes; then the local clean generation is at least `generation`, unless what a crash left
  // unknown has not all been read yet. REQUIRES: the writes of `generation` have completed.
  io::Task<absl::Status> EndGeneration(Replica* replica, pool::Generation generation);
  // Records that every write of `generation` and before is flushed, and stores the checksums of the
  // regions that are clean by that. REQUIRES: it is so.
  io::Task<absl::Status> CommitClean(pool::ReplicaId id, pool::Generation generation);
  // Begins to read, in the background, the regions whose checksums an earlier crash left unknown.
  void StartResum(Replica* replica);
  // What a crash left unknown has been read. False before the first session.
  static bool Resummed(const Replica& replica) {
    return replica.regions_to_resum_.has_value() && replica.regions_to_resum_->empty();
  }
  CopiedExtents& copied_extents() { return copied_extents_; }

 private:
  friend class StoreLoader;
  explicit ReplicaStore(std::unique_ptr<pool::Pool> pool);
  absl::Status CheckNewVolume(std::string_view name, std::uint32_t segment,
                              std::uint64_t size_bytes) const;
  absl::StatusOr<SnapshotState> FindSnapshot(pool::ReplicaId replica, pool::SnapshotId id);
  absl::Status CheckCloneSource(const Replica& source, const SnapshotState& snapshot) const;
  absl::StatusOr<SnapshotState> CheckNewMember(const NewMember& member);
  NewMember OnlyMember(std::string name, std::uint64_t size_bytes, std::int64_t created_unix_ns);
  void AddMember(const NewMember& member, const SnapshotState& base, pool::MetaBatch* batch);
  Replica* AddReplica(pool::ReplicaNumber number, pool::ReplicaId id);
  Replica* HeadOwner(const Layer* layer) const;  // the replica whose head it is, or nullptr
  void PutReplica(const Replica& replica, pool::MetaBatch* batch) const;
  // The writable layer on top of `parent` (may be null).
  Layer* AddHead(Replica* replica, Layer* parent);
  // The head becomes a snapshot, and a new head stands on it.
  void SealHead(Replica* replica, SnapshotState snapshot, const pool::Generation& sealed,
                pool::MetaBatch* batch);
  // Notes in the head, for the generation after `closing`, the regions that `closing` wrote in
  // `old_head`; returns them.
  std::vector<std::uint32_t> CarryTouched(const Layer* old_head, const pool::Generation& closing,
                                          const Replica& replica, pool::MetaBatch* batch) const;
  io::Task<absl::Status> AcceptStructure(Replica* replica, Configuration configuration);
  void ApplyStructure(Replica* replica, const Configuration& configuration,
                      std::vector<std::uint32_t>* carried, pool::MetaBatch* batch);
  void PutConfiguration(const Replica& replica, const Configuration& configuration,
                        pool::MetaBatch* batch) const;
  // Flushes, and lets the checksums of what was copied before be stored.
  io::Task<absl::Status> FlushCopies();
  io::Task<void> ResumRegions(pool::ReplicaId id);
  io::Task<absl::Status> CommitSynced(pool::MetaBatch* batch);
  io::Task<absl::Status> StoreChecksums();
  void StartCleanup();
  io::Task<void> Cleanup();

  std::unique_ptr<pool::Pool> pool_;
  LayerTable layers_;
  CopiedExtents copied_extents_;
  std::map<pool::ReplicaId, std::unique_ptr<Replica>> replicas_;  // ordered: deterministic
  io::AsyncMutex structure_;                                      // one structural change at a time
  io::Gate gate_;
  bool cleanup_running_ = false;
  bool cleanup_wanted_ = false;
  bool closing_ = false;
  io::WaitList cleanup_idle_;
  io::WaitList cleanup_step_;
};

}  // namespace keelson::replica
