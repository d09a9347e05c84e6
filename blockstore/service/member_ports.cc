#include "blockstore/service/member_ports.h"

#include "absl/strings/str_cat.h"
#include "blockstore/engine/remote_replica.h"

namespace keelson::service {

replica::ReplicaStore* MemberPorts::Find(const pool::PoolId& pool) const {
  for (replica::ReplicaStore* store : stores_) {
    if (store->pool().id() == pool) return store;
  }
  return nullptr;
}

std::unique_ptr<replica::ReplicaPort> MemberPorts::MakePort(const replica::Member& member) {
  replica::ReplicaStore* store = Find(member.pool);
  if (store != nullptr) return store->MakePort(member.replica);
  return std::make_unique<engine::RemoteReplica>(reactor_, member);
}

bool MemberPorts::IsLocal(const replica::Member& member) const {
  return Find(member.pool) != nullptr;
}

absl::StatusOr<std::unique_ptr<replica::ReplicaPort>> MemberPorts::OpenPort(
    pool::PoolId pool, pool::ReplicaId replica) {
  replica::ReplicaStore* store = Find(pool);
  if (store == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("pool ", pool.ToString(), " is not open in this daemon"));
  }
  if (store->Find(replica) == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("pool ", pool.ToString(), " has no replica ", replica.ToString()));
  }
  return store->MakePort(replica);
}

}  // namespace keelson::service
