#pragma once
// StoreLife: one life of a simulated storage process: a reactor and, once opened, the production
// Pool, ReplicaStore and Engines over simulated disks. Ends either by an orderly Close or by death,
// when everything of it is leaked (world.h).

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "blockstore/engine/engine.h"
#include "blockstore/replica/replica_store.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_meta_store.h"
#include "tests/sim/world.h"

namespace keelson::sim {

inline constexpr char kDataPath[] = "/pool/data";
inline constexpr char kMetaPath[] = "/pool/meta";

struct StoreLife {
  SimReactor* process = nullptr;
  std::unique_ptr<replica::ReplicaStore> store;
  std::map<std::string, std::unique_ptr<engine::Engine>> engines;  // by volume name

  // Its process died: nothing of it is destroyed.
  void Leak() {
    static_cast<void>(store.release());
    for (auto& [name, attached] : engines) static_cast<void>(attached.release());
    engines.clear();
    process = nullptr;
  }
};

// Writes an empty pool on the world's disks.
io::Task<absl::Status> FormatStore(World* world, SimReactor* process);

// Opens the pool in `process` and loads its replicas.
io::Task<absl::StatusOr<std::unique_ptr<replica::ReplicaStore>>> OpenStore(World* world,
                                                                           SimReactor* process);

}  // namespace keelson::sim
