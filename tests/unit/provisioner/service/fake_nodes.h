#pragma once
// FakeNodes: block stores that keep everything in memory, behind real gRPC in this process, for
// tests of the provisioner: replicas, promised attachments, engines, snapshots. They hold the
// provisioner to what real ones refuse: a replica is made before it is used, an attachment must be
// higher than every one promised, a volume that is attached is not deleted. Copies are filled at
// once unless told otherwise.
//
// Calls arrive on gRPC's threads, one at a time (one mutex for all nodes).

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "proto/keelson/v1/blockstore.grpc.pb.h"
#include "provisioner/reconcile/block_stores.h"
#include "tests/unit/provisioner/service/fake_blocks.h"

namespace keelson::provisioner {

class FakeNodes {
 public:
  struct Replica {
    v1::CreateReplicaRequest made;
    std::uint64_t promised = 0;
    std::map<std::string, v1::Snapshot> snapshots;  // by name
    std::uint64_t size_bytes = 0;
    std::string content;                                   // what a test says is in it
    std::map<std::string, std::string> snapshot_contents;  // by the snapshot's id
  };
  struct Engine {
    v1::AttachTarget target;
    bool read_only = false;
    std::uint32_t min_in_sync = 1;
    v1::Qos qos;
    std::string hold;
    bool has_frontend = true;
    std::vector<v1::VolumeClient> clients;
    std::string device;  // "/dev/VOLUME"; empty: the frontend makes none
  };
  // What a node shows of an engine that is reached over the network.
  struct Shown {
    v1::RemoteEngine engine;
    std::uint64_t size_bytes = 0;
    bool read_only = false;
  };
  class Node;

  FakeNodes();
  ~FakeNodes();

  // A node with one pool. Its address is "unix:/fake/NAME".
  void Add(const std::string& name, std::uint64_t capacity_bytes);
  // It does not answer; what it has stays.
  void SetDown(const std::string& name, bool down);
  void SetPoolError(const std::string& name, const std::string& error);
  // New copies stay Syncing until this is called with true.
  void SetFilling(bool fills) { fills_ = fills; }
  // What copies list of snapshots; for tests, while no call runs.
  FakeBlocks& blocks() { return blocks_; }
  // Its copies do not have everything, and list nothing.
  void SetLacking(const std::string& name, bool lacking);
  // What its copies of the volume have of the snapshot is an earlier cut of the same name.
  void MakeStale(const std::string& name, const std::string& volume, const std::string& snapshot);
  // The next calls of `method` fail with this, so many times.
  void FailNext(const std::string& method, absl::Status status, int times = 1);
  // Asked first by every call of a node that is not down; an error is the call's. Under the lock.
  std::function<absl::Status(const std::string& method, const std::string& node)> before;
  // What is in a volume; it goes into its snapshots, and from them into clones.
  void SetContent(const std::string& volume, const std::string& content);
  std::string ContentOf(const std::string& volume) const;
  std::string ContentOfSnapshot(const std::string& name) const;

  static std::string AddressOf(const std::string& name) { return "unix:/fake/" + name; }
  static std::string PoolOf(const std::string& name);
  Dialer MakeDialer();

  // What there is, of one node or of all.
  std::size_t ReplicaCount() const;
  std::size_t ReplicaCount(const std::string& node) const;
  std::size_t SnapshotCount() const;
  std::size_t EngineCount() const;
  std::vector<std::string> EnginesOf(const std::string& volume) const;  // nodes
  // The nodes that show it and whose ticket the engine that they point to has on its list.
  std::vector<std::string> ClientsOf(const std::string& volume) const;
  // The nodes that show it, served or not.
  std::vector<std::string> ShownOn(const std::string& volume) const;
  std::uint64_t ShownBytes(const std::string& volume, const std::string& node) const;
  // What uses the volume on the node keeps it from being detached, or no more.
  void SetInUse(const std::string& node, const std::string& volume, bool in_use);
  std::uint64_t SizeOf(const std::string& volume) const;  // of segment 0, at any replica
  bool IsReadOnly(const std::string& volume) const;       // where it is attached
  v1::Qos QosOf(const std::string& volume) const;
  std::size_t HoldCount() const;
  std::uint32_t MinInSyncOf(const std::string& volume) const;
  std::vector<std::string> calls() const;  // "Method node"

 private:
  struct State;
  // OK, or the failure that was ordered.
  grpc::Status Enter(const std::string& method, const std::string& node);
  // Where the address says, with the ticket on its list; nullptr: nowhere.
  const Engine* EngineFor(const std::string& volume, const Shown& shown) const;
  Replica* FindReplica(const std::string& id, bool reachable);
  // REQUIRES: the lock is held.
  std::vector<Replica*> FirstSegmentOf(const std::string& volume) const;
  std::uint64_t SizeOfLocked(const std::string& volume) const;

  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<State>> nodes_;
  std::map<std::string, std::pair<absl::Status, int>> failures_;
  std::vector<std::string> calls_;
  FakeBlocks blocks_;
  // What the replicas' configurations say: members by volume uuid and segment.
  std::map<std::string, std::map<int, std::vector<v1::Member>>> configurations_;
  bool fills_ = true;
};

}  // namespace keelson::provisioner
