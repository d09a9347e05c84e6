#include "tests/sim/store_life.h"

#include <utility>

#include "blockstore/io/status.h"

namespace keelson::sim {

io::Task<absl::Status> FormatStore(World* world, SimReactor* process) {
  CO_ASSIGN_OR_RETURN(std::unique_ptr<io::File> data, process->OpenFile(kDataPath, {}));
  CO_ASSIGN_OR_RETURN(std::unique_ptr<pool::MetaStore> meta,
                      world->AddMetaDisk(kMetaPath)->Open(process));
  const pool::PoolId id(world->MakeId());
  absl::Status status = co_await pool::Pool::Format(data.get(), meta.get(), id, false);
  co_return status;
}

io::Task<absl::StatusOr<std::unique_ptr<replica::ReplicaStore>>> OpenStore(World* world,
                                                                           SimReactor* process) {
  pool::PoolDeps deps;
  deps.reactor = process;
  CO_ASSIGN_OR_RETURN(deps.data, process->OpenFile(kDataPath, {}));
  CO_ASSIGN_OR_RETURN(deps.meta, world->AddMetaDisk(kMetaPath)->Open(process));
  deps.boot = world->boot();
  deps.make_id = [world] { return world->MakeId(); };
  absl::StatusOr<std::unique_ptr<pool::Pool>> opened = co_await pool::Pool::Open(std::move(deps));
  if (!opened.ok()) co_return opened.status();
  std::unique_ptr<pool::Pool> pool = *std::move(opened);
  co_return co_await replica::ReplicaStore::Open(std::move(pool));
}

}  // namespace keelson::sim
