#include "blockstore/replica/check.h"

#include <map>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/meta_scan.h"
#include "blockstore/pool/records.pb.h"

namespace keelson::replica {
namespace {

using pool::BlockBits;
using pool::ExtentState;
using pool::kBlockBytes;
using pool::kBlocksPerExtent;
using pool::kNoExtent;
using pool::Table;

// One run of the check over one pool.
class Checker {
 public:
  Checker(ReplicaStore* store, CheckOptions options)
      : store_(store), pool_(&store->pool()), options_(options) {}
  io::Task<absl::StatusOr<CheckReport>> Run();

 private:
  using Judge = void (Checker::*)(const std::string& key, const std::string& value);
  io::Task<absl::Status> ForEach(Table table, std::string_view prefix, Judge judge);
  void JudgeReplica(const std::string& key, const std::string& value);
  void JudgeMemberKey(const std::string& key, const std::string& value);
  void JudgeMapEntry(const std::string& key_bytes, const std::string& value);
  void JudgeNote(const std::string& key_bytes, const std::string& value);
  void JudgeSum(const std::string& key_bytes, const std::string& value);
  void JudgeLayers();
  static bool Same(const ExtentState& stored, const ExtentState& memory);
  void JudgeMemory();
  void JudgeAllocator();
  absl::Status CheckCancelled() const {
    if (options_.cancel == nullptr || !options_.cancel->load()) return absl::OkStatus();
    return absl::CancelledError("the check of the pool was cancelled");
  }
  io::Task<absl::Status> VerifyData();
  io::Task<absl::Status> VerifyExtent(Layer* layer, std::uint32_t extent);
  void Problem(std::string what) { report_.problems.push_back(std::move(what)); }
  // A problem whose record can go without losing anything.
  void Orphan(Table table, const std::string& key, std::string what) {
    if (options_.repair) {
      repairs_.Delete(table, key);
      report_.repaired.push_back(absl::StrCat("removed: ", what));
    }
    Problem(std::move(what));
  }
  Replica* HeadOwner(const Layer* layer) {
    for (const ReplicaInfo& info : infos_) {
      Replica* replica = store_->Find(info.id);
      if (replica != nullptr && replica->head() == layer) return replica;
    }
    return nullptr;
  }

  ReplicaStore* store_;
  pool::Pool* pool_;
  CheckOptions options_;
  CheckReport report_;
  pool::MetaBatch repairs_;
  std::vector<ReplicaInfo> infos_;
  std::map<pool::MapKey, ExtentState> stored_;                      // table kMap
  absl::flat_hash_map<std::uint32_t, pool::MapKey> extent_owners_;  // by pool extent
};

io::Task<absl::StatusOr<CheckReport>> Checker::Run() {
  // What is in memory is now in the tables too.
  CO_RETURN_IF_ERROR(co_await pool_->changes().Flush());
  infos_ = store_->List();
  JudgeLayers();
  CO_RETURN_IF_ERROR(
      co_await ForEach(Table::kObjects, pool::kReplicaPrefix, &Checker::JudgeReplica));
  for (const std::string_view prefix : {pool::kCleanPrefix, pool::kPromisePrefix,
                                        pool::kConfigurationPrefix, pool::kProgressPrefix}) {
    CO_RETURN_IF_ERROR(co_await ForEach(Table::kObjects, prefix, &Checker::JudgeMemberKey));
  }
  CO_RETURN_IF_ERROR(co_await ForEach(Table::kMap, "", &Checker::JudgeMapEntry));
  // The rest is judged in one go with the map's last page: under writes it may have moved on.
  if (!pool_->changes().has_unflushed()) {
    JudgeMemory();
    JudgeAllocator();
  }
  CO_RETURN_IF_ERROR(co_await ForEach(Table::kNotes, "", &Checker::JudgeNote));
  CO_RETURN_IF_ERROR(co_await ForEach(Table::kSums, "", &Checker::JudgeSum));
  if (options_.verify_data) {
    CO_RETURN_IF_ERROR(co_await VerifyData());
  }
  if (!repairs_.empty()) {
    CO_RETURN_IF_ERROR(co_await pool_->meta().Commit(&repairs_, /*synced=*/true));
  }
  co_return std::move(report_);
}

io::Task<absl::Status> Checker::ForEach(Table table, std::string_view prefix, Judge judge) {
  const auto visit = [this, judge](const std::string& key, const std::string& value) {
    (this->*judge)(key, value);
    return CheckCancelled();
  };
  co_return co_await pool::ForEachEntry(&pool_->meta(), table, std::string(prefix), visit);
}

void Checker::JudgeLayers() {
  for (const auto& [number, layer] : store_->layers().layers()) {
    ++report_.layers;
    if (layer->child_count() > 0 && !layer->sealed().has_value()) {
      Problem(absl::StrCat("layer ", number.value, " has children but is not sealed"));
    }
  }
}

void Checker::JudgeReplica(const std::string& /*key*/, const std::string& value) {
  ++report_.replicas;
  pool::ReplicaRecord record;
  if (!record.ParseFromString(value)) return Problem("a replica record does not parse");
  if (!record.witness() && store_->layers().Find({record.head_layer()}) == nullptr) {
    Problem(absl::StrCat("volume ", record.volume_name(), " has no head layer"));
  }
  for (const pool::SnapshotRecord& snapshot : record.snapshots()) {
    if (store_->layers().Find({snapshot.layer_number()}) == nullptr) {
      Problem(absl::StrCat("snapshot ", snapshot.name(), " of volume ", record.volume_name(),
                           " has no layer"));
    }
  }
}

void Checker::JudgeMemberKey(const std::string& key, const std::string& value) {
  const std::string prefix = key.substr(0, key.find('/') + 1);
  const absl::StatusOr<std::uint64_t> number = pool::DecodeObjectKey(prefix, key);
  const Replica* of = nullptr;
  for (const ReplicaInfo& info : infos_) {
    const Replica* replica = store_->Find(info.id);
    if (number.ok() && replica != nullptr && replica->number().value == *number) of = replica;
  }
  if (of == nullptr) {
    Orphan(Table::kObjects, key, absl::StrCat("a record ", prefix, " of no replica"));
  } else if (prefix == pool::kConfigurationPrefix && !ParseConfiguration(value).ok()) {
    Problem(absl::StrCat("the configuration of replica ", of->id().ToString(), " of volume ",
                         of->name(), " does not parse; remove the replica and add another"));
  }
}

void Checker::JudgeMapEntry(const std::string& key_bytes, const std::string& value) {
  const absl::StatusOr<pool::MapKey> key = pool::DecodeMapKey(key_bytes);
  const absl::StatusOr<ExtentState> state = pool::DecodeExtentState(value);
  if (!key.ok() || !state.ok()) {
    Problem("a map entry does not parse");
    return;
  }
  const std::string what = absl::StrCat("extent ", key->extent, " of layer ", key->layer.value);
  Layer* layer = store_->layers().Find(key->layer);
  if (layer == nullptr) {
    Orphan(Table::kMap, key_bytes, absl::StrCat(what, ", a layer that does not exist"));
    return;
  }
  const Replica* owner = HeadOwner(layer);
  if (owner != nullptr && key->extent * pool::kExtentBytes >= owner->size_bytes()) {
    Problem(absl::StrCat(what, " lies past the end of volume ", owner->name()));
  }
  stored_[*key] = *state;
  if (state->pool_extent == kNoExtent) return;
  ++report_.extents;
  report_.blocks_present += state->present.Count();
  if (state->pool_extent >= pool_->allocator().extent_count()) {
    Problem(absl::StrCat(what, " lies at pool extent ", state->pool_extent,
                         ", past the end of the pool"));
  }
  auto [it, inserted] = extent_owners_.try_emplace(state->pool_extent, *key);
  if (!inserted) {
    Problem(absl::StrCat(what, " and extent ", it->second.extent, " of layer ",
                         it->second.layer.value, " both lie at pool extent ", state->pool_extent));
  }
}

// A pool extent taken for a write that is still in flight, or failed, may be in the map or not.
bool Checker::Same(const ExtentState& stored, const ExtentState& memory) {
  if (memory.present.Any()) return stored == memory;
  return !stored.present.Any() && stored.zeroed == memory.zeroed;
}

void Checker::JudgeMemory() {
  std::size_t in_memory = 0;
  for (const auto& [number, layer] : store_->layers().layers()) {
    for (std::uint32_t extent : layer->Extents()) {
      ++in_memory;
      ExtentState state;
      layer->Find(extent, &state);
      auto it = stored_.find({number, extent});
      const bool empty = !state.present.Any() && !state.zeroed.Any();
      if (it == stored_.end() && empty) {
        --in_memory;
      } else if (it == stored_.end() || !Same(it->second, state)) {
        Problem(absl::StrCat("extent ", extent, " of layer ", number.value,
                             " differs between memory and the metadata store"));
      }
    }
  }
  if (in_memory < stored_.size()) {
    Problem(
        absl::StrCat("the metadata store maps ", stored_.size(), " extents, memory ", in_memory));
  }
}

void Checker::JudgeAllocator() {
  std::uint64_t used = 0;
  for (const auto& [number, layer] : store_->layers().layers()) used += layer->allocated_extents();
  if (used != pool_->allocator().used_count()) {
    Problem(absl::StrCat("the allocator counts ", pool_->allocator().used_count(),
                         " used extents, the maps ", used));
  }
}

void Checker::JudgeNote(const std::string& key_bytes, const std::string& value) {
  const auto key = pool::DecodeNoteKey(key_bytes);
  const absl::StatusOr<pool::Generation> generation = pool::DecodeGeneration(value);
  if (!key.ok() || !generation.ok()) return Problem("a region note does not parse");
  const std::string what =
      absl::StrCat("the note of region ", key->second, " of layer ", key->first.value);
  Layer* layer = store_->layers().Find(key->first);
  if (layer == nullptr) {
    Orphan(Table::kNotes, key_bytes, absl::StrCat(what, ", which does not exist"));
  } else if (layer->notes().Get(key->second) < *generation) {
    Problem(absl::StrCat(what, " is newer in the metadata store than in memory"));
  }
}

void Checker::JudgeSum(const std::string& key_bytes, const std::string& value) {
  const absl::StatusOr<std::uint32_t> pool_extent = pool::DecodeSumKey(key_bytes);
  pool::SumRecord record;
  const absl::Status decoded = pool::DecodeSumRecord(value, &record);
  if (!pool_extent.ok() || !decoded.ok()) {
    Problem("a checksum record does not parse");
    return;
  }
  auto owner = extent_owners_.find(*pool_extent);
  if (owner == extent_owners_.end()) {
    if (pool_->changes().has_unflushed()) return;  // its extent may be new
    Orphan(Table::kSums, key_bytes,
           absl::StrCat("checksums of pool extent ", *pool_extent, ", which no layer uses"));
    return;
  }
  const Layer* layer = store_->layers().Find(record.owner.layer);
  const bool holds = owner->second == record.owner && layer != nullptr &&
                     record.generation >= layer->ChecksumsValidFrom(record.owner.extent);
  if (!holds) return;  // stale: superseded by a write or a merge (R17)
  report_.checksums += record.known.Count();
  if (!stored_[record.owner].present.Contains(record.known) && !pool_->changes().has_unflushed()) {
    Problem(absl::StrCat("pool extent ", *pool_extent,
                         " has checksums of blocks that are not present"));
  }
}

io::Task<absl::Status> Checker::VerifyData() {
  std::vector<std::pair<Layer*, std::vector<std::uint32_t>>> work;
  for (const auto& [number, layer] : store_->layers().layers()) {
    work.emplace_back(layer.get(), layer->Extents());
  }
  for (const auto& [layer, extents] : work) {
    for (std::uint32_t extent : extents) {
      CO_RETURN_IF_ERROR(CheckCancelled());
      CO_RETURN_IF_ERROR(co_await VerifyExtent(layer, extent));
    }
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Checker::VerifyExtent(Layer* layer, std::uint32_t extent) {
  // Writers of the extent wait; so do copies, trims and merges, which would give it away.
  RangeLock unshared;
  Replica* writer = store_->User(layer);
  RangeLock::Hold hold(writer != nullptr ? &writer->extent_locks() : &unshared,
                       extent * pool::kExtentBytes, (extent + 1) * pool::kExtentBytes,
                       RangeLock::kExclusive);
  co_await hold;
  pool::ReadFence::Pass pass(&pool_->read_fence());
  ExtentState state;
  if (!layer->Find(extent, &state) || !state.present.Any()) co_return absl::OkStatus();
  const pool::MapKey owner{layer->number(), extent};
  absl::StatusOr<pool::ChecksumRef> checksums =
      co_await pool_->checksums().Load(state.pool_extent, owner, layer->ChecksumsValidFrom(extent));
  if (!checksums.ok()) co_return checksums.status();
  io::Buffer buffer = co_await pool_->reactor().buffers().Take(pool::kExtentBytes);
  for (std::uint32_t block = 0; block < kBlocksPerExtent;) {
    const std::uint32_t count = state.present.RunLength(block, kBlocksPerExtent - block);
    const std::uint32_t first = block;
    block += count;
    if (!state.present.Test(first)) continue;
    const std::span<std::byte> bytes = buffer.span().first(count * kBlockBytes);
    absl::Status read =
        co_await pool_->data().Read(pool::Pool::DataOffset(state.pool_extent, first), bytes);
    if (!read.ok()) {
      ++pool_->counters().io_errors;
      Problem(std::string(read.message()));
      continue;
    }
    for (std::uint32_t i = 0; i < count; ++i) {
      if (!(*checksums)->known.Test(first + i)) continue;
      ++report_.blocks_verified;
      if (pool::Crc32c(bytes.subspan(i * kBlockBytes, kBlockBytes)) ==
          (*checksums)->crc32c[first + i]) {
        continue;
      }
      ++pool_->counters().checksum_errors;
      Problem(absl::StrCat("block ", first + i, " of extent ", extent, " of layer ",
                           layer->number().value, " (data offset ",
                           pool::Pool::DataOffset(state.pool_extent, first + i),
                           ") does not match its checksum"));
    }
  }
  co_return absl::OkStatus();
}

std::string DumpReplica(const ReplicaInfo& info, const Replica& replica) {
  const pool::Generation& clean = replica.clean_generation();
  const pool::Epoch& promised = replica.promised();
  return absl::StrCat(
      "volume ", info.name, " segment ", info.segment, info.witness ? " witness " : " replica ",
      info.id.ToString(), " size ", info.size_bytes, " allocated ", info.allocated_bytes, " head ",
      replica.head() == nullptr ? 0 : replica.head()->number().value, " attached ", info.attached,
      " clean ", clean.epoch.attachment, ".", clean.epoch.restart, ".", clean.counter, " promised ",
      promised.attachment, ".", promised.restart, " configuration ",
      info.configuration.has_value() ? ToString(*info.configuration) : std::string("none"));
}

std::string ShowBits(const BlockBits& bits) {
  return bits.IsAll() ? std::string("all") : absl::StrCat(bits.Count());
}

}  // namespace

io::Task<absl::StatusOr<CheckReport>> CheckPool(ReplicaStore* store, CheckOptions options) {
  // Layers do not come or go meanwhile.
  io::AsyncMutex::Guard guard = co_await store->structure().Lock();
  Checker checker(store, options);
  co_return co_await checker.Run();
}

io::Task<absl::StatusOr<std::vector<std::string>>> DumpPool(ReplicaStore* store) {
  io::AsyncMutex::Guard guard = co_await store->structure().Lock();
  pool::Pool& pool = store->pool();
  std::vector<std::string> lines;
  const pool::PoolSpace space = pool.space();
  lines.push_back(absl::StrCat("pool ", pool.id().ToString(), " incarnation ",
                               pool.incarnation().ToString(), " capacity ", space.capacity_bytes,
                               " used ", space.used_bytes, " reclaiming ", space.reclaiming_bytes,
                               " free ", space.free_bytes));
  for (const ReplicaInfo& info : store->List()) {
    const Replica* replica = store->Find(info.id);
    lines.push_back(DumpReplica(info, *replica));
    for (const SnapshotInfo& snapshot : info.snapshots) {
      lines.push_back(absl::StrCat("  snapshot ", snapshot.name, " id ", snapshot.id.ToString(),
                                   " size ", snapshot.size_bytes));
    }
  }
  for (const auto& [number, layer] : store->layers().layers()) {
    lines.push_back(absl::StrCat("layer ", number.value, " parent ",
                                 layer->parent() == nullptr ? 0 : layer->parent()->number().value,
                                 " sealed ", layer->sealed().has_value(), " referenced ",
                                 layer->referenced(), " extents ", layer->extent_count()));
    for (std::uint32_t extent : layer->Extents()) {
      ExtentState state;
      layer->Find(extent, &state);
      lines.push_back(absl::StrCat(
          "  extent ", extent, " at ",
          state.pool_extent == kNoExtent ? std::string("-") : absl::StrCat(state.pool_extent),
          " present ", ShowBits(state.present), " zeroed ", ShowBits(state.zeroed)));
    }
    co_await pool.reactor().Yield();
  }
  co_return std::move(lines);
}

}  // namespace keelson::replica
