#pragma once
// PoolHost: an open pool with the engines of its attached volumes: what the daemon does to a
// volume with one copy, and to the replicas of volumes with more, as coroutines. No locks and no
// threads; knows nothing of other pools.
//
// Owned by a Shard, used on its reactor's thread only. The Node sees to it that one call that
// changes something runs at a time (and none beside Check); the others may come at any moment
// between two awaits of it. Lifecycle: Open, Resume for each volume that was attached, calls,
// DetachAll, Close.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/engine.h"
#include "blockstore/replica/block_lists.h"
#include "blockstore/replica/check.h"
#include "blockstore/replica/replica_store.h"
#include "blockstore/service/nbd_frontend.h"
#include "blockstore/service/scrub_schedule.h"
#include "blockstore/service/volume_counters.h"
#include "proto/keelson/v1/blockstore.pb.h"

namespace keelson::service {

class PoolHost {
 public:
  // `reactor` and `frontend` outlive this. Errors as OpenPool.
  static io::Task<absl::StatusOr<std::unique_ptr<PoolHost>>> Open(io::Reactor* reactor,
                                                                  NbdFrontend* frontend,
                                                                  std::string directory,
                                                                  std::int64_t lock_patience_ns);
  // Before the frontend's clients are waited for: see Engine.
  void LetGo();
  // Ends the attachments so that the next start resumes them. The frontend is closed before.
  io::Task<void> DetachAll();
  // Closes the pool. No port to it is left.
  io::Task<absl::Status> Close();

  // Attaches a volume that an earlier daemon served. A failure is logged and shown by Volumes().
  io::Task<void> Resume(std::string name, bool read_only, engine::QosLimits qos);
  // The names of the volumes to resume.
  std::vector<std::string> ToResume() const;
  // Shows `error` with the volume until it is attached.
  void SetError(const std::string& name, std::string error) { errors_[name] = std::move(error); }

  io::Task<absl::StatusOr<v1::Volume>> CreateVolume(std::string name, std::uint64_t size_bytes);
  io::Task<absl::Status> DeleteVolume(std::string name);
  io::Task<absl::StatusOr<v1::Volume>> GrowVolume(std::string name, std::uint64_t size_bytes);
  io::Task<absl::StatusOr<v1::Volume>> CloneVolume(std::string source, std::string snapshot,
                                                   std::string name, std::uint64_t size_bytes);
  io::Task<absl::StatusOr<v1::Snapshot>> CreateSnapshot(std::string volume, std::string name,
                                                        std::optional<pool::Uuid> hold);
  // NOT_FOUND when it is not attached here; see Engine.
  io::Task<absl::Status> HoldWrites(std::string name, pool::Uuid hold, std::int64_t duration_ns);
  absl::Status ReleaseWrites(const std::string& name, pool::Uuid hold);
  io::Task<absl::Status> DeleteSnapshot(std::string volume, std::string name);
  absl::StatusOr<std::vector<v1::Snapshot>> Snapshots(std::string_view volume) const;
  // Which snapshot is meant: by its id, or by its name when that is empty.
  struct SnapshotRef {
    std::string name, id;
    bool empty() const { return name.empty() && id.empty(); }
  };
  struct SegmentBlocks {
    replica::BlockList list;
    std::uint32_t segment_count = 0;
    std::uint64_t segment_bytes = 0;  // of all but the last; 0: there is one
  };
  // The blocks of a snapshot in a segment of any volume with a copy here that has everything, or
  // those changed since `base` if that is not empty. Empty: no such copy. NOT_FOUND: no such
  // snapshot. See replica::ListBlocks.
  absl::StatusOr<std::optional<SegmentBlocks>> ListBlocks(
      std::string_view volume, std::uint32_t segment, const SnapshotRef& snapshot,
      const SnapshotRef& base, std::uint64_t from_offset, std::size_t ranges_max) const;
  // The URI. Idempotent; FAILED_PRECONDITION when attached in the other mode.
  io::Task<absl::StatusOr<std::string>> Attach(std::string name, bool read_only,
                                               engine::QosLimits qos);
  // Without effect when it is not attached here.
  void SetQos(const std::string& name, const engine::QosLimits& limits);
  io::Task<absl::Status> Detach(std::string name);
  // NOT_FOUND when it is not attached here.
  absl::StatusOr<v1::GetVolumeStatusResponse> Status(const std::string& name) const;
  absl::Status StartScrub(const std::string& name, const engine::ScrubOptions& options);
  // Adds those that are attached, and serve.
  void AddScrubbable(std::vector<ScrubSchedule::Volume>* volumes) const;

  // Idempotent.
  io::Task<absl::StatusOr<v1::Replica>> CreateReplica(replica::NewMember member);
  io::Task<absl::Status> DeleteReplica(pool::ReplicaId id);
  // Those of the volume `snapshots_of` with their snapshots.
  std::vector<v1::Replica> Replicas(std::string_view snapshots_of = {}) const;

  io::Task<absl::StatusOr<replica::CheckReport>> Check(replica::CheckOptions options);
  io::Task<absl::StatusOr<std::vector<std::string>>> Dump();

  v1::Pool Describe() const;
  // Those with this one copy.
  std::vector<v1::Volume> Volumes() const;
  std::vector<VolumeCounters> AttachedCounters() const;
  const pool::PoolCounters& counters() const { return store_->pool().counters(); }
  pool::PoolSpace space() const { return store_->pool().space(); }
  bool healthy() const { return store_->pool().health().ok(); }
  const std::string& directory() const { return directory_; }
  // For ports of engines that are not of this host. Lives until Close.
  replica::ReplicaStore* store() { return store_.get(); }

 private:
  using EngineChange = absl::AnyInvocable<io::Task<absl::Status>(engine::Engine*)>;
  struct Attachment {
    std::unique_ptr<engine::Engine> engine;
    bool read_only = false;
  };

  PoolHost(NbdFrontend* frontend, std::string directory,
           std::unique_ptr<replica::ReplicaStore> store);
  absl::StatusOr<replica::ReplicaInfo> Info(std::string_view name) const;
  absl::StatusOr<replica::SnapshotInfo> FindSnapshot(std::string_view volume,
                                                     std::string_view name) const;
  absl::StatusOr<v1::Volume> Describe(std::string_view name) const;
  v1::Volume Describe(const replica::ReplicaInfo& info) const;
  engine::Engine* FindEngine(std::string_view name) const;
  // Runs `change` with the engine that serves the volume or, while none does, with one of its own.
  io::Task<absl::Status> Change(std::string name, pool::ReplicaId id,
                                absl::AnyInvocable<io::Task<absl::Status>(engine::Engine*)> change);

  NbdFrontend* frontend_;
  const std::string directory_;
  std::unique_ptr<replica::ReplicaStore> store_;
  std::map<std::string, Attachment, std::less<>> attachments_;
  std::map<std::string, std::string, std::less<>> errors_;  // of volumes not served, by name
};

}  // namespace keelson::service
