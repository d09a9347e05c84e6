#pragma once
// MemberPorts: which way leads to a replica. For an engine of this daemon: straight to the pool
// when it is open on the same reactor, else over the network. For engines of other daemons
// (ReplicaServer): to the pools of this reactor.
//
// Owned by a Shard; one reactor. The stores outlive every port made here.

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "blockstore/engine/replica_server.h"
#include "blockstore/engine/segment_engine.h"
#include "blockstore/io/reactor.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::service {

class MemberPorts final : public engine::PortFactory, public engine::PortSource {
 public:
  // `reactor` outlives this.
  explicit MemberPorts(io::Reactor* reactor) : reactor_(reactor) {}

  // Ports lead straight to this pool from now on.
  void Add(replica::ReplicaStore* store) { stores_.push_back(store); }

  std::unique_ptr<replica::ReplicaPort> MakePort(const replica::Member& member) override;
  bool IsLocal(const replica::Member& member) const override;
  // NOT_FOUND, also for a replica that the pool does not have.
  absl::StatusOr<std::unique_ptr<replica::ReplicaPort>> OpenPort(pool::PoolId pool,
                                                                 pool::ReplicaId replica) override;

 private:
  replica::ReplicaStore* Find(const pool::PoolId& pool) const;  // nullptr: not here

  io::Reactor* reactor_;
  std::vector<replica::ReplicaStore*> stores_;
};

}  // namespace keelson::service
