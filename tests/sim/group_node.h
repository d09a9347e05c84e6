#pragma once
// GroupNode: one machine of a replication group and the life of its block store process: pools on
// simulated disks, the server of the data protocol, and the ports through which an engine in that
// process reaches members here (directly) and elsewhere (over the network). The process may die at
// any moment and be started again; what it held is leaked (world.h). Owned by the harness; lives as
// long as the World.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blockstore/engine/replica_server.h"
#include "blockstore/engine/segment_engine.h"
#include "blockstore/replica/replica_store.h"
#include "tests/sim/copy_view.h"
#include "tests/sim/group_watch.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_meta_store.h"
#include "tests/sim/world.h"

namespace keelson::sim {

class GroupNode final : public engine::PortSource, public engine::PortFactory {
 public:
  // What a pool of the node is; its disks outlive the process.
  struct PoolSlot {
    pool::PoolId id;
    std::uint64_t size_bytes = 0;
    SimDisk* disk = nullptr;
    SimMetaDisk* meta = nullptr;
    std::string data_path, meta_path;
    std::unique_ptr<replica::ReplicaStore> store;  // null while it is not open
    pool::Uuid incarnation;
    // Writes that began before this tick may be gone: since then it is what it is.
    std::uint64_t incarnation_since = 0;
    std::uint64_t cut_at = 0;  // the last loss of power not yet seen by an open
    // A flush failed, the pool recorded that and its process has died; no open has seen it yet.
    bool flush_failed = false;
    std::uint64_t flush_failures = 0;      // of the disk, when the pool was opened
    std::vector<pool::ReplicaId> members;  // that have been used
  };

  GroupNode(World* world, GroupWatch* watch, std::size_t number);

  // A formatted pool of `size_bytes` on new disks. Before Start.
  void AddPool(std::uint64_t size_bytes);
  // An empty pool under the same name; what was there is gone. While the process is down.
  void Reformat(std::size_t pool);

  // Starts the process; opening its pools takes its time.
  void Start();
  // The process, or the machine with it, is gone.
  void Kill();
  void PowerCut();
  // For a loss of power of all machines, which the World cuts together.
  void OnPowerLost();

  bool running() const { return process_ != nullptr; }
  // All pools are open and healthy, and the server listens.
  bool Healthy() const;
  // Why it is not.
  const absl::Status& trouble() const { return trouble_; }
  SimReactor* process() const { return process_; }
  Machine* machine() const { return machine_; }
  std::vector<PoolSlot>& pools() { return pools_; }
  PoolSlot* FindPool(const pool::PoolId& id);
  // A replica as it is now; nothing while its pool is not open and healthy, or it has no data.
  std::optional<CopyView> View(const pool::PoolId& pool, const pool::ReplicaId& replica);
  // Where members of its pools are reached.
  std::string address() const;
  std::string name() const { return machine_->host(); }

  absl::StatusOr<std::unique_ptr<replica::ReplicaPort>> OpenPort(pool::PoolId pool,
                                                                 pool::ReplicaId replica) override;
  std::unique_ptr<replica::ReplicaPort> MakePort(const replica::Member& member) override;
  bool IsLocal(const replica::Member& member) const override;

 private:
  static io::internal::Detached RunLife(GroupNode* node);
  io::Task<absl::Status> OpenPool(std::size_t pool);
  io::Task<absl::Status> Format(std::size_t pool);
  // --- group_node_disk.cc: a write or a discard goes to a pool's disk. Were power lost just then,
  // what would be left? ---
  void CheckChange(const PoolSlot& slot, const io::IoOp& op);
  // R5: the region's note.
  void CheckNoted(const PoolSlot& slot, std::span<const std::byte> bytes);
  // R17: no checksum record that speaks of what was there before.
  void CheckChecksums(const PoolSlot& slot, std::uint64_t offset, std::span<const std::byte> bytes);
  // R18: nobody who still has the extents that are given back.
  void CheckFreed(const PoolSlot& slot, std::uint64_t offset, std::uint64_t size_bytes);
  static bool MayBeMerged(const replica::Replica& replica, std::uint64_t block);
  // The durable note of the region in the newest of the replica's layers that has one.
  static pool::Generation NotedAt(const PoolSlot& slot, const replica::Replica& replica,
                                  std::uint32_t region);
  void Leak();

  World* world_;
  GroupWatch* watch_;
  Machine* machine_;
  std::vector<PoolSlot> pools_;
  std::vector<std::size_t> to_format_;
  SimReactor* process_ = nullptr;
  std::unique_ptr<engine::ReplicaServer> server_;
  bool opened_ = false;
  absl::Status trouble_;
};

}  // namespace keelson::sim
