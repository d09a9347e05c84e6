#pragma once
// Environment: what every reconciler works with, and what it is asked about nodes and volumes most.
// The pointers are owned by the program's main thread and outlive all reconcilers. Any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "provisioner/placement/types.h"
#include "provisioner/reconcile/block_stores.h"
#include "provisioner/reconcile/clock.h"
#include "provisioner/reconcile/rebuilds.h"
#include "provisioner/reconcile/records.h"
#include "provisioner/reconcile/work_queue.h"

namespace keelson::provisioner {

struct ReconcileOptions {
  std::int64_t ask_interval_ns = 2'000'000'000;    // each node
  std::int64_t lost_after_ns = 10'000'000'000;     // of silence
  std::int64_t heal_after_ns = 600'000'000'000;    // of a copy's absence
  std::int64_t look_interval_ns = 30'000'000'000;  // at a published volume
  std::size_t rebuilds_max = 8;                    // new copies that are filled at once
  std::uint64_t segment_bytes_max = placement::kSegmentBytesDefault;
  placement::Limits limits;
};

struct Environment {
  Clock* clock = nullptr;
  Records* records = nullptr;
  BlockStores* stores = nullptr;
  WorkQueue* queue = nullptr;
  Rebuilds* rebuilds = nullptr;
  ReconcileOptions options;

  // The node's block store. NOT_FOUND: no such node. UNAVAILABLE: nobody listens there.
  absl::StatusOr<BlockStore> StoreOf(const std::string& node) const;
  // It has been silent for long enough to go on without it, or is no node any more.
  bool Lost(const std::string& node) const;
  bool Answers(const std::string& node) const;
  std::string IntentOf(const std::string& node) const;
  // The pool is there, and is healthy. False also when it is not known.
  bool PoolHealthy(const std::string& node, const std::string& pool_id) const;
  // The replica as block stores are told of it: at the address where its node's block store is
  // today, or was when it was planned, in the pool as that is open today.
  v1::Member MemberOf(const rec::ReplicaRecord& replica) const;
  // The volumes that are being made from the snapshot: their keys.
  std::vector<std::string> ClonesUnderWay(const std::string& snapshot_id) const;
  // The nodes for placement; what `without` (a key; may be empty) was promised is not counted.
  std::vector<placement::NodeState> NodeStates(const std::string& without) const;

  // What the queue's keys mean.
  static std::string QueueKey(Kind kind, const std::string& key);
  void Poke(Kind kind, const std::string& key, std::int64_t delay_ns = 0) const {
    queue->Add(QueueKey(kind, key), delay_ns);
  }
};

inline constexpr char kTopologyNode[] = "topology.keelson.io/node";
inline constexpr char kTopologyZone[] = "topology.keelson.io/zone";

// A reconciler's answer about its key.
struct Outcome {
  absl::Status status;        // not OK: it is tried again after a pause
  std::int64_t again_ns = 0;  // OK: looked at again after this; 0: when something changes
};

}  // namespace keelson::provisioner
