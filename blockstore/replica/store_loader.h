#pragma once
// StoreLoader: reads a pool's tables into a ReplicaStore when it is opened: objects, maps, notes,
// then the log of this incarnation (another one's is discarded: its data may be gone, R4). Runs
// once, before anything is served. DATA_LOSS, naming the object, for metadata that contradicts
// itself.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "blockstore/io/task.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::replica {

class StoreLoader {
 public:
  explicit StoreLoader(ReplicaStore* store) : store_(store), pool_(store->pool_.get()) {}
  io::Task<absl::Status> Load();

 private:
  // Judges one entry of a table.
  using Visit = absl::Status (StoreLoader::*)(const std::string& key, const std::string& value);
  io::Task<absl::Status> ForEach(pool::Table table, std::string_view prefix, Visit visit);
  absl::Status LoadLayer(const std::string& key, const std::string& value);
  absl::Status LinkLayers();
  absl::Status LoadReplica(const std::string& key, const std::string& value);
  // What a replica's record does not hold because it is written more often.
  io::Task<absl::Status> LoadMembers();
  io::Task<absl::Status> LoadMember(Replica* replica);
  io::Task<absl::StatusOr<std::optional<std::string>>> Get(std::string_view prefix,
                                                           const Replica* replica);
  absl::Status LoadMapEntry(const std::string& key_bytes, const std::string& value);
  absl::Status LoadNote(const std::string& key, const std::string& value);
  absl::Status ReplayRecord(const std::string& key, const std::string& value);
  absl::Status MarkUsedExtents();
  io::Task<absl::Status> Finish();

  ReplicaStore* store_;  // outlives the loader
  pool::Pool* pool_;
  std::vector<std::pair<Layer*, pool::LayerNumber>> parents_;  // by number, until all are loaded
  std::vector<std::uint32_t> orphan_extents_;    // of map entries whose layer does not exist
  std::vector<std::uint32_t> replaced_extents_;  // that a replayed change took out of a map
  std::uint64_t replayed_ = 0;
};

}  // namespace keelson::replica
