#pragma once
// LocalPorts: ports to members in the pools of this process, for volumes whose copies are all here.
// Owned by whoever attaches; one reactor: the pools'.

#include <memory>

#include "absl/status/statusor.h"
#include "blockstore/engine/engine.h"
#include "blockstore/engine/segment_engine.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::engine {

class LocalPorts final : public PortFactory {
 public:
  // `store` outlives this.
  explicit LocalPorts(replica::ReplicaStore* store) : store_(store) {}

  std::unique_ptr<replica::ReplicaPort> MakePort(const replica::Member& member) override {
    return store_->MakePort(member.replica);
  }
  bool IsLocal(const replica::Member& /*member*/) const override { return true; }

 private:
  replica::ReplicaStore* store_;
};

// The attachment after the last one that the one-copy volume of this replica had. NOT_FOUND;
// FAILED_PRECONDITION when the volume has other copies, or an engine in this process.
absl::StatusOr<AttachTarget> LocalTarget(replica::ReplicaStore* store, pool::ReplicaId id);

}  // namespace keelson::engine
