#include "provisioner/reconcile/environment.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"

namespace keelson::provisioner {
namespace {

struct Promised {
  std::uint64_t bytes = 0;
  std::uint32_t replicas = 0;
};

}  // namespace

absl::StatusOr<BlockStore> Environment::StoreOf(const std::string& node) const {
  ASSIGN_OR_RETURN(const Stored<rec::NodeRecord> record, records->nodes().Find(node));
  return stores->To(node, record.value.address());
}

bool Environment::Lost(const std::string& node) const {
  if (!records->nodes().Find(node).ok()) return true;
  const NodeView view = stores->View(node);
  if (!view.heard || view.answers) return false;
  return clock->SteadyNanos() - view.silent_since_ns >= options.lost_after_ns;
}

bool Environment::Answers(const std::string& node) const { return stores->View(node).answers; }

std::string Environment::IntentOf(const std::string& node) const {
  const absl::StatusOr<Stored<rec::NodeRecord>> record = records->nodes().Find(node);
  return record.ok() ? record->value.intent() : "";
}

bool Environment::PoolHealthy(const std::string& node, const std::string& pool_id) const {
  const NodeView view = stores->View(node);
  return std::any_of(view.node.pools().begin(), view.node.pools().end(), [&](const v1::Pool& pool) {
    return pool.id() == pool_id && pool.error().empty();
  });
}

v1::Member Environment::MemberOf(const rec::ReplicaRecord& replica) const {
  const NodeView view = stores->View(replica.node());
  v1::Member member;
  member.set_pool_id(replica.pool_id());
  member.set_replica_id(replica.replica_id());
  member.set_witness(replica.witness());
  member.set_address(view.node.data_address().empty() ? replica.data_address()
                                                      : view.node.data_address());
  for (const v1::Pool& pool : view.node.pools()) {
    if (pool.id() == replica.pool_id()) member.set_incarnation(pool.incarnation());
  }
  return member;
}

std::vector<std::string> Environment::ClonesUnderWay(const std::string& snapshot_id) const {
  std::vector<std::string> keys;
  for (const Stored<rec::VolumeRecord>& volume : records->volumes().All()) {
    if (volume.value.state() == rec::VolumeRecord::MAKING &&
        volume.value.clone_of_snapshot_id() == snapshot_id) {
      keys.push_back(volume.key);
    }
  }
  return keys;
}

std::vector<placement::NodeState> Environment::NodeStates(const std::string& without) const {
  std::map<std::string, Promised> promised;  // by pool
  std::map<std::string, std::uint32_t> engines;
  for (const Stored<rec::VolumeRecord>& volume : records->volumes().All()) {
    if (volume.key == without) continue;
    if (!volume.value.attachment().node().empty()) ++engines[volume.value.attachment().node()];
    for (const rec::SegmentRecord& segment : volume.value.segments()) {
      for (const rec::ReplicaRecord& replica : segment.replicas()) {
        if (replica.witness()) continue;
        Promised& pool = promised[replica.pool_id()];
        pool.bytes += segment.size_bytes();
        ++pool.replicas;
      }
    }
  }
  std::vector<placement::NodeState> nodes;
  for (const Stored<rec::NodeRecord>& record : records->nodes().All()) {
    const NodeView view = stores->View(record.key);
    placement::NodeState node;
    node.name = record.key;
    node.topology = {record.value.topology().begin(), record.value.topology().end()};
    const auto zone = node.topology.find(kTopologyZone);
    if (zone != node.topology.end()) node.zone = zone->second;
    node.answers = view.answers;
    node.attached_count = engines[record.key];
    if (record.value.intent() != "active") {
      node.schedulable = false;
      node.reason = record.value.intent();
    } else if (!view.answers) {
      node.schedulable = false;
      node.reason = view.heard ? absl::StrCat("does not answer: ", view.error) : "not heard of yet";
    } else if (view.node.data_address().empty()) {
      node.schedulable = false;
      node.reason = "its block store has no --data-listen";
    }
    for (const v1::Pool& pool : view.node.pools()) {
      if (pool.id().empty()) continue;
      const Promised& known = promised[pool.id()];
      node.pools.push_back({.id = pool.id(),
                            .healthy = pool.error().empty(),
                            .capacity_bytes = pool.capacity_bytes(),
                            .free_bytes = pool.free_bytes() + pool.reclaiming_bytes(),
                            .promised_bytes = known.bytes,
                            .replica_count = known.replicas});
    }
    nodes.push_back(std::move(node));
  }
  return nodes;
}

std::string Environment::QueueKey(Kind kind, const std::string& key) {
  return absl::StrCat(std::string(KindName(kind)), "/", key);
}

}  // namespace keelson::provisioner
