#include "blockstore/replica/store_loader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/meta_scan.h"
#include "blockstore/pool/records.pb.h"

namespace keelson::replica {
namespace {

using pool::Table;

absl::StatusOr<pool::Generation> FromRecord(const pool::GenerationRecord& record) {
  pool::Generation generation;
  generation.epoch.attachment = record.epoch().attachment();
  generation.epoch.restart = record.epoch().restart();
  if (!record.epoch().engine_id().empty()) {
    ASSIGN_OR_RETURN(const pool::Uuid engine, pool::Uuid::FromBytes(record.epoch().engine_id()));
    generation.epoch.engine = pool::EngineId(engine);
  }
  generation.counter = record.counter();
  return generation;
}

absl::Status Damaged(std::string what) {
  return absl::DataLossError(
      absl::StrCat("the metadata store is damaged: ", what, "; run `keelctl pool check`"));
}

}  // namespace

io::Task<absl::Status> StoreLoader::Load() {
  CO_RETURN_IF_ERROR(
      co_await ForEach(Table::kObjects, pool::kLayerPrefix, &StoreLoader::LoadLayer));
  CO_RETURN_IF_ERROR(LinkLayers());
  CO_RETURN_IF_ERROR(
      co_await ForEach(Table::kObjects, pool::kReplicaPrefix, &StoreLoader::LoadReplica));
  CO_RETURN_IF_ERROR(co_await LoadMembers());
  CO_RETURN_IF_ERROR(co_await ForEach(Table::kMap, "", &StoreLoader::LoadMapEntry));
  CO_RETURN_IF_ERROR(co_await ForEach(Table::kNotes, "", &StoreLoader::LoadNote));
  CO_RETURN_IF_ERROR(co_await ForEach(Table::kLog, "", &StoreLoader::ReplayRecord));
  CO_RETURN_IF_ERROR(MarkUsedExtents());
  co_return co_await Finish();
}

io::Task<absl::Status> StoreLoader::ForEach(Table table, std::string_view prefix, Visit visit) {
  const auto call = [this, visit](const std::string& key, const std::string& value) {
    return (this->*visit)(key, value);
  };
  co_return co_await pool::ForEachEntry(&pool_->meta(), table, std::string(prefix), call);
}

absl::Status StoreLoader::LoadLayer(const std::string& key, const std::string& value) {
  ASSIGN_OR_RETURN(const std::uint64_t number, pool::DecodeObjectKey(pool::kLayerPrefix, key));
  pool::LayerRecord record;
  if (!record.ParseFromString(value)) {
    return Damaged(absl::StrCat("the record of layer ", number, " does not parse"));
  }
  Layer* layer = store_->layers_.Add({number}, {record.owner_replica()});
  if (record.has_sealed()) {
    ASSIGN_OR_RETURN(const pool::Generation sealed, FromRecord(record.sealed()));
    layer->Seal(sealed);
  }
  if (record.parent() != 0) parents_.emplace_back(layer, pool::LayerNumber{record.parent()});
  return absl::OkStatus();
}

absl::Status StoreLoader::LinkLayers() {
  for (const auto& [layer, parent_number] : parents_) {
    Layer* parent = store_->layers_.Find(parent_number);
    if (parent == nullptr || parent == layer || parent_number > layer->number()) {
      return Damaged(absl::StrCat("layer ", layer->number().value, " has the parent ",
                                  parent_number.value, ", which cannot be"));
    }
    LayerTable::SetParent(layer, parent);
  }
  return absl::OkStatus();
}

absl::Status StoreLoader::LoadReplica(const std::string& key, const std::string& value) {
  ASSIGN_OR_RETURN(const std::uint64_t number, pool::DecodeObjectKey(pool::kReplicaPrefix, key));
  pool::ReplicaRecord record;
  if (!record.ParseFromString(value)) {
    return Damaged(absl::StrCat("the record of replica ", number, " does not parse"));
  }
  ASSIGN_OR_RETURN(const pool::Uuid replica_id, pool::Uuid::FromBytes(record.replica_id()));
  ASSIGN_OR_RETURN(const pool::Uuid volume_id, pool::Uuid::FromBytes(record.volume_id()));
  Layer* head = store_->layers_.Find({record.head_layer()});
  if (!record.witness() && (head == nullptr || head->sealed().has_value() || head->referenced())) {
    return Damaged(absl::StrCat("volume ", record.volume_name(), " has no head layer of its own"));
  }
  Replica* replica = store_->AddReplica({number}, pool::ReplicaId(replica_id));
  replica->volume_id_ = pool::VolumeId(volume_id);
  replica->name_ = record.volume_name();
  replica->size_bytes_ = record.size_bytes();
  replica->created_unix_ns_ = record.created_unix_ns();
  replica->attached_ = record.attached();
  replica->segment_ = record.segment();
  replica->witness_ = record.witness();
  if (!replica->witness_) {
    replica->head_ = head;
    head->set_referenced(true);
  }
  pool::GenerationRecord promised;
  *promised.mutable_epoch() = record.promised();
  ASSIGN_OR_RETURN(const pool::Generation promise, FromRecord(promised));
  replica->promised_ = promise.epoch;
  for (const pool::SnapshotRecord& snapshot : record.snapshots()) {
    ASSIGN_OR_RETURN(const pool::Uuid id, pool::Uuid::FromBytes(snapshot.snapshot_id()));
    Layer* layer = store_->layers_.Find({snapshot.layer_number()});
    if (layer == nullptr || !layer->sealed().has_value()) {
      return Damaged(absl::StrCat("snapshot ", snapshot.name(), " of volume ", record.volume_name(),
                                  " has no sealed layer"));
    }
    layer->set_referenced(true);
    replica->snapshots_.push_back({pool::SnapshotId(id), snapshot.name(), layer,
                                   snapshot.created_unix_ns(), snapshot.size_bytes()});
  }
  return absl::OkStatus();
}

io::Task<absl::Status> StoreLoader::LoadMembers() {
  for (auto& [id, replica] : store_->replicas_) {
    CO_RETURN_IF_ERROR(co_await LoadMember(replica.get()));
  }
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<std::optional<std::string>>> StoreLoader::Get(std::string_view prefix,
                                                                      const Replica* replica) {
  std::string key = pool::ObjectKey(prefix, replica->number().value);
  co_return co_await pool_->meta().Get(Table::kObjects, std::move(key));
}

io::Task<absl::Status> StoreLoader::LoadMember(Replica* replica) {
  CO_ASSIGN_OR_RETURN(const std::optional<std::string> clean,
                      co_await Get(pool::kCleanPrefix, replica));
  if (clean.has_value()) {
    CO_ASSIGN_OR_RETURN(replica->clean_generation_, pool::DecodeGeneration(*clean));
  }
  CO_ASSIGN_OR_RETURN(const std::optional<std::string> promise,
                      co_await Get(pool::kPromisePrefix, replica));
  if (promise.has_value()) {
    CO_ASSIGN_OR_RETURN(const pool::Generation promised, pool::DecodeGeneration(*promise));
    replica->promised_ = std::max(replica->promised_, promised.epoch);
  }
  CO_ASSIGN_OR_RETURN(const std::optional<std::string> stored,
                      co_await Get(pool::kConfigurationPrefix, replica));
  if (stored.has_value()) {
    absl::StatusOr<Configuration> configuration = ParseConfiguration(*stored);
    if (configuration.ok()) {
      replica->configuration_ = *std::move(configuration);
    } else {
      // It does not vote and is no source from now on (R2); the rest of the pool serves.
      KEEL_LOG_ERROR(
          "event=configuration_unreadable pool={} volume={} replica={} reason=\"{}\" "
          "action=\"remove the replica and add another\"",
          pool_->id().ToString(), replica->name(), replica->id().ToString(),
          std::string(configuration.status().message()));
    }
  }
  CO_ASSIGN_OR_RETURN(const std::optional<std::string> progress,
                      co_await Get(pool::kProgressPrefix, replica));
  if (progress.has_value()) {
    pool::ProgressRecord record;
    if (!record.ParseFromString(*progress)) {
      co_return Damaged(absl::StrCat("the resync progress of replica ", replica->id().ToString(),
                                     " does not parse"));
    }
    CO_ASSIGN_OR_RETURN(const pool::Generation generation, FromRecord(record.generation()));
    replica->progress_ = {record.position(), generation};
  }
  co_return absl::OkStatus();
}

absl::Status StoreLoader::LoadMapEntry(const std::string& key_bytes, const std::string& value) {
  ASSIGN_OR_RETURN(const pool::MapKey key, pool::DecodeMapKey(key_bytes));
  ASSIGN_OR_RETURN(const pool::ExtentState state, pool::DecodeExtentState(value));
  Layer* layer = store_->layers_.Find(key.layer);
  if (layer != nullptr) {
    layer->Put(key.extent, state);
    return absl::OkStatus();
  }
  KEEL_LOG_ERROR(
      "event=orphan_map_entry pool={} layer={} extent={} action=\"run keelctl pool check "
      "--repair\"",
      pool_->id().ToString(), key.layer.value, key.extent);
  if (state.pool_extent != pool::kNoExtent) orphan_extents_.push_back(state.pool_extent);
  return absl::OkStatus();
}

absl::Status StoreLoader::LoadNote(const std::string& key, const std::string& value) {
  ASSIGN_OR_RETURN(const auto layer_and_region, pool::DecodeNoteKey(key));
  ASSIGN_OR_RETURN(const pool::Generation generation, pool::DecodeGeneration(value));
  Layer* layer = store_->layers_.Find(layer_and_region.first);
  if (layer != nullptr) layer->notes().Set(layer_and_region.second, generation);
  return absl::OkStatus();
}

absl::Status StoreLoader::ReplayRecord(const std::string& key, const std::string& value) {
  ASSIGN_OR_RETURN(const std::uint64_t sequence, pool::DecodeLogKey(key));
  ASSIGN_OR_RETURN(const pool::LogRecord record, pool::DecodeLogRecord(value));
  // The first flush deletes it, whether it counted or not.
  pool_->changes().AdoptLogKey(sequence);
  if (record.incarnation != pool_->incarnation() && !SeededBug(kReplayOtherBootsLog)) {
    return absl::OkStatus();
  }
  for (const pool::LogEntry& entry : record.entries) {
    Layer* layer = store_->layers_.Find(entry.key.layer);
    // A layer that was merged away or deleted since leaves only "gone" entries behind.
    if (layer == nullptr && entry.gone) continue;
    if (layer == nullptr) {
      return Damaged(
          absl::StrCat("the log changes layer ", entry.key.layer.value, ", which does not exist"));
    }
    const std::uint32_t before = layer->PoolExtent(entry.key.extent);
    if (before != pool::kNoExtent) replaced_extents_.push_back(before);
    if (entry.gone) {
      layer->Erase(entry.key.extent);
    } else {
      layer->Put(entry.key.extent, entry.state);
    }
    pool_->changes().Changed(entry.key);
    ++replayed_;
  }
  return absl::OkStatus();
}

absl::Status StoreLoader::MarkUsedExtents() {
  for (std::uint32_t extent : orphan_extents_) {
    if (!pool_->allocator().MarkUsed(extent)) {
      return Damaged(absl::StrCat("extent ", extent,
                                  " of an orphan map entry is in use or out of "
                                  "range"));
    }
  }
  for (const auto& [number, layer] : store_->layers_.layers()) {
    for (std::uint32_t extent : layer->Extents()) {
      const std::uint32_t pool_extent = layer->PoolExtent(extent);
      if (pool_extent == pool::kNoExtent) continue;
      if (!pool_->allocator().MarkUsed(pool_extent)) {
        return Damaged(absl::StrCat("extent ", extent, " of layer ", number.value,
                                    " lies at pool extent ", pool_extent,
                                    ", which another one uses or which is out of range"));
      }
    }
  }
  // What the replayed changes freed is freed again: its checksums are still in the store.
  for (std::uint32_t extent : replaced_extents_) {
    if (pool_->allocator().MarkUsed(extent)) pool_->changes().Freed(extent);
  }
  return absl::OkStatus();
}

io::Task<absl::Status> StoreLoader::Finish() {
  pool_->Start(&store_->layers_);
  // What an earlier process of this boot acknowledged becomes durable before anything is served,
  // and before checksums are computed from it.
  CO_RETURN_IF_ERROR(co_await pool_->changes().Flush());
  const pool::PoolSpace space = pool_->space();
  KEEL_LOG_INFO(
      "event=pool_opened pool={} path={} volumes={} layers={} used_mib={} free_mib={} restarted={} "
      "replayed={}",
      pool_->id().ToString(), pool_->data().path(), store_->replicas_.size(),
      store_->layers_.layers().size(), space.used_bytes >> 20, space.free_bytes >> 20,
      pool_->restarted(), replayed_);
  co_return absl::OkStatus();
}

}  // namespace keelson::replica
