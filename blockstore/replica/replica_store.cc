#include "blockstore/replica/replica_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/records.pb.h"
#include "blockstore/replica/layer_cleanup.h"
#include "blockstore/replica/records.h"
#include "blockstore/replica/store_loader.h"

namespace keelson::replica {
namespace {

using pool::MetaBatch;
using pool::Table;

absl::Status CheckName(std::string_view what, std::string_view name) {
  const bool good = !name.empty() && name.size() <= 253 && name != "." && name != ".." &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                             (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
                    });
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "a ", std::string(what), " name is 1 to 253 characters of [A-Za-z0-9._-], and not . or .."));
}

absl::Status CheckSize(std::uint64_t size_bytes) {
  if (size_bytes >= kVolumeSizeMin && size_bytes <= kVolumeSizeMax &&
      size_bytes % pool::kBlockBytes == 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("a volume's size is a multiple of 4096 bytes from 1 MiB to 1 PiB, not ",
                   size_bytes, " bytes"));
}

absl::Status NoSuchVolume(const pool::ReplicaId& id) {
  return absl::NotFoundError(absl::StrCat("there is no replica ", id.ToString(), " in this pool"));
}

}  // namespace

ReplicaStore::ReplicaStore(std::unique_ptr<pool::Pool> pool)
    : pool_(std::move(pool)), layers_(pool_.get()) {}

ReplicaStore::~ReplicaStore() = default;

io::Task<absl::StatusOr<std::unique_ptr<ReplicaStore>>> ReplicaStore::Open(
    std::unique_ptr<pool::Pool> pool) {
  std::unique_ptr<ReplicaStore> store(new ReplicaStore(std::move(pool)));
  StoreLoader loader(store.get());
  absl::Status loaded = co_await loader.Load();
  if (!loaded.ok()) {
    // Close what runs; its status says no more than `loaded` does.
    (void)co_await store->pool_->Close();
    co_return absl::Status(loaded.code(),
                           absl::StrCat("pool ", std::string(store->pool_->data().path()),
                                        " is not opened: ", std::string(loaded.message())));
  }
  store->StartCleanup();
  co_return std::move(store);
}

io::Task<absl::Status> ReplicaStore::Close() {
  closing_ = true;
  co_await gate_.Close();
  absl::Status stored = co_await StoreChecksums();
  for (const auto& [number, layer] : layers_.layers()) co_await layer->notes().Close();
  absl::Status closed = co_await pool_->Close();
  co_return stored.ok() ? closed : stored;
}

Replica* ReplicaStore::AddReplica(pool::ReplicaNumber number, pool::ReplicaId id) {
  auto replica = std::make_unique<Replica>(pool_.get(), number);
  replica->id_ = id;
  Replica* raw = replica.get();
  replicas_[id] = std::move(replica);
  return raw;
}

Replica* ReplicaStore::Find(pool::ReplicaId id) {
  auto it = replicas_.find(id);
  return it == replicas_.end() ? nullptr : it->second.get();
}

Replica* ReplicaStore::FindByName(std::string_view name) {
  for (auto& [id, replica] : replicas_) {
    if (replica->name_ == name) return replica.get();
  }
  return nullptr;
}

Replica* ReplicaStore::HeadOwner(const Layer* layer) const {
  for (const auto& [id, replica] : replicas_) {
    if (replica->head_ == layer) return replica.get();
  }
  return nullptr;
}

void ReplicaStore::PutReplica(const Replica& replica, MetaBatch* batch) const {
  pool::ReplicaRecord record;
  record.set_replica_id(std::string(replica.id_.view()));
  record.set_volume_id(std::string(replica.volume_id_.view()));
  record.set_volume_name(replica.name_);
  record.set_size_bytes(replica.size_bytes_);
  record.set_head_layer(replica.head_->number().value);
  record.set_attached(replica.attached_);
  record.set_created_unix_ns(replica.created_unix_ns_);
  ToRecord(replica.promised_, record.mutable_promised());
  for (const SnapshotState& snapshot : replica.snapshots_) {
    pool::SnapshotRecord* out = record.add_snapshots();
    out->set_snapshot_id(std::string(snapshot.id.view()));
    out->set_name(snapshot.name);
    out->set_layer_number(snapshot.layer->number().value);
    out->set_created_unix_ns(snapshot.created_unix_ns);
    out->set_size_bytes(snapshot.size_bytes);
  }
  batch->Put(Table::kObjects, pool::ObjectKey(pool::kReplicaPrefix, replica.number_.value),
             record.SerializeAsString());
}

absl::Status ReplicaStore::CheckNewVolume(std::string_view name, std::uint64_t size_bytes) const {
  RETURN_IF_ERROR(CheckName("volume", name));
  RETURN_IF_ERROR(CheckSize(size_bytes));
  for (const auto& [id, replica] : replicas_) {
    if (replica->name_ == name) {
      return absl::AlreadyExistsError(
          absl::StrCat("there is already a volume ", std::string(name)));
    }
  }
  return absl::OkStatus();
}

io::Task<absl::StatusOr<pool::ReplicaId>> ReplicaStore::Create(std::string name,
                                                               std::uint64_t size_bytes,
                                                               std::int64_t created_unix_ns) {
  io::AsyncMutex::Guard guard = co_await structure_.Lock();
  CO_RETURN_IF_ERROR(CheckNewVolume(name, size_bytes));
  const pool::ReplicaId id(pool_->MakeId());
  const pool::VolumeId volume_id(pool_->MakeId());
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    Replica* replica = AddReplica({pool_->TakeNumber()}, id);
    replica->volume_id_ = volume_id;
    replica->name_ = name;
    replica->size_bytes_ = size_bytes;
    replica->created_unix_ns_ = created_unix_ns;
    replica->head_ = layers_.Add({pool_->TakeNumber()}, replica->number_);
    replica->head_->set_referenced(true);
    PutLayer(*replica->head_, batch);
    PutReplica(*replica, batch);
    pool_->PutPoolRecord(batch);
  };
  CO_RETURN_IF_ERROR(co_await pool_->changes().FlushWith(std::move(at_cut)));
  co_return id;
}

io::Task<absl::StatusOr<pool::ReplicaId>> ReplicaStore::Clone(pool::ReplicaId source,
                                                              pool::SnapshotId snapshot,
                                                              std::string name,
                                                              std::uint64_t size_bytes,
                                                              std::int64_t created_unix_ns) {
  io::AsyncMutex::Guard guard = co_await structure_.Lock();
  Replica* from = Find(source);
  if (from == nullptr) co_return NoSuchVolume(source);
  auto found = std::find_if(from->snapshots_.begin(), from->snapshots_.end(),
                            [&](const SnapshotState& state) { return state.id == snapshot; });
  if (found == from->snapshots_.end()) {
    co_return absl::NotFoundError(
        absl::StrCat("volume ", from->name_, " has no snapshot ", snapshot.ToString()));
  }
  const SnapshotState state = *found;
  if (size_bytes == 0) size_bytes = state.size_bytes;
  if (size_bytes < state.size_bytes) {
    co_return absl::OutOfRangeError(absl::StrCat("a clone of snapshot ", state.name,
                                                 " has at least its ", state.size_bytes,
                                                 " bytes, not ", size_bytes));
  }
  CO_RETURN_IF_ERROR(CheckNewVolume(name, size_bytes));
  const pool::ReplicaId id(pool_->MakeId());
  const pool::VolumeId volume_id(pool_->MakeId());
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    Replica* replica = AddReplica({pool_->TakeNumber()}, id);
    replica->volume_id_ = volume_id;
    replica->name_ = name;
    replica->size_bytes_ = size_bytes;
    replica->created_unix_ns_ = created_unix_ns;
    // The clone's generations are above those of the layers it shares, so that notes of both
    // compare.
    replica->promised_.attachment = from->promised_.attachment;
    replica->head_ = layers_.Add({pool_->TakeNumber()}, replica->number_);
    replica->head_->set_referenced(true);
    LayerTable::SetParent(replica->head_, state.layer);
    PutLayer(*replica->head_, batch);
    PutReplica(*replica, batch);
    pool_->PutPoolRecord(batch);
  };
  CO_RETURN_IF_ERROR(co_await pool_->changes().FlushWith(std::move(at_cut)));
  co_return id;
}

io::Task<absl::Status> ReplicaStore::Delete(pool::ReplicaId id) {
  io::AsyncMutex::Guard guard = co_await structure_.Lock();
  Replica* replica = Find(id);
  if (replica == nullptr) co_return NoSuchVolume(id);
  if (replica->has_engine_) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("volume ", replica->name_, " is attached; detach it first"));
  }
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    batch->Delete(Table::kObjects, pool::ObjectKey(pool::kReplicaPrefix, replica->number_.value));
    batch->Delete(Table::kObjects, pool::ObjectKey(pool::kCleanPrefix, replica->number_.value));
    replica->head_->set_referenced(false);
    for (const SnapshotState& snapshot : replica->snapshots_) {
      snapshot.layer->set_referenced(false);
    }
    replicas_.erase(id);
  };
  CO_RETURN_IF_ERROR(co_await pool_->changes().FlushWith(std::move(at_cut)));
  StartCleanup();
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<pool::SnapshotId>> ReplicaStore::Snapshot(pool::ReplicaId id,
                                                                  std::string name,
                                                                  std::int64_t created_unix_ns) {
  io::AsyncMutex::Guard guard = co_await structure_.Lock();
  Replica* replica = Find(id);
  if (replica == nullptr) co_return NoSuchVolume(id);
  CO_RETURN_IF_ERROR(CheckName("snapshot", name));
  for (const SnapshotState& snapshot : replica->snapshots_) {
    if (snapshot.name == name) {
      co_return absl::AlreadyExistsError(
          absl::StrCat("volume ", replica->name_, " already has a snapshot ", name));
    }
  }
  if (replica->snapshots_.size() >= kSnapshotsMax) {
    co_return absl::ResourceExhaustedError(absl::StrCat(
        "volume ", replica->name_, " has ", kSnapshotsMax, " snapshots, the most: delete some"));
  }
  const pool::SnapshotId snapshot_id(pool_->MakeId());
  const pool::Generation sealed = replica->generation_;
  pool::Generation next = sealed;
  ++next.counter;
  std::vector<std::uint32_t> carried;
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    Layer* old_head = replica->head_;
    old_head->Seal(sealed);
    replica->head_ = layers_.Add({pool_->TakeNumber()}, replica->number_);
    replica->head_->set_referenced(true);
    replica->generation_ = next;
    LayerTable::SetParent(replica->head_, old_head);
    replica->snapshots_.push_back(
        {snapshot_id, name, old_head, created_unix_ns, replica->size_bytes_});
    // Where writes went just now they will go on: noted here, they need not wait for it then.
    carried = old_head->notes().Touched(sealed);
    for (std::uint32_t region : carried) {
      batch->Put(Table::kNotes, pool::EncodeNoteKey(replica->head_->number(), region),
                 pool::EncodeGeneration(next));
    }
    PutLayer(*old_head, batch);
    PutLayer(*replica->head_, batch);
    PutReplica(*replica, batch);
    pool_->PutPoolRecord(batch);
  };
  CO_RETURN_IF_ERROR(co_await pool_->changes().FlushWith(std::move(at_cut)));
  for (std::uint32_t region : carried) replica->head_->notes().Set(region, next);
  co_return snapshot_id;
}

io::Task<absl::Status> ReplicaStore::DeleteSnapshot(pool::ReplicaId id, pool::SnapshotId snapshot) {
  io::AsyncMutex::Guard guard = co_await structure_.Lock();
  Replica* replica = Find(id);
  if (replica == nullptr) co_return NoSuchVolume(id);
  const auto is_it = [&](const SnapshotState& state) { return state.id == snapshot; };
  if (std::none_of(replica->snapshots_.begin(), replica->snapshots_.end(), is_it)) {
    co_return absl::NotFoundError(
        absl::StrCat("volume ", replica->name_, " has no snapshot ", snapshot.ToString()));
  }
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    auto found = std::find_if(replica->snapshots_.begin(), replica->snapshots_.end(), is_it);
    found->layer->set_referenced(false);
    replica->snapshots_.erase(found);
    PutReplica(*replica, batch);
  };
  CO_RETURN_IF_ERROR(co_await pool_->changes().FlushWith(std::move(at_cut)));
  StartCleanup();
  co_return absl::OkStatus();
}

io::Task<absl::Status> ReplicaStore::Grow(pool::ReplicaId id, std::uint64_t size_bytes) {
  io::AsyncMutex::Guard guard = co_await structure_.Lock();
  Replica* replica = Find(id);
  if (replica == nullptr) co_return NoSuchVolume(id);
  CO_RETURN_IF_ERROR(CheckSize(size_bytes));
  if (size_bytes < replica->size_bytes_) {
    co_return absl::OutOfRangeError(absl::StrCat("volume ", replica->name_, " has ",
                                                 replica->size_bytes_,
                                                 " bytes and cannot shrink to ", size_bytes));
  }
  if (size_bytes == replica->size_bytes_) co_return absl::OkStatus();
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    replica->size_bytes_ = size_bytes;
    PutReplica(*replica, batch);
  };
  co_return co_await pool_->changes().FlushWith(std::move(at_cut));
}

io::Task<absl::StatusOr<pool::Epoch>> ReplicaStore::BeginAttachment(pool::ReplicaId id,
                                                                    pool::EngineId engine) {
  io::AsyncMutex::Guard guard = co_await structure_.Lock();
  Replica* replica = Find(id);
  if (replica == nullptr) co_return NoSuchVolume(id);
  if (replica->has_engine_) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("volume ", replica->name_, " is already attached"));
  }
  const pool::Epoch epoch{replica->promised_.attachment + 1, 0, engine};
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    replica->promised_ = epoch;
    replica->generation_ = {epoch, 1};
    replica->attached_ = true;
    replica->has_engine_ = true;
    PutReplica(*replica, batch);
  };
  CO_RETURN_IF_ERROR(co_await pool_->changes().FlushWith(std::move(at_cut)));
  co_return epoch;
}

io::Task<absl::Status> ReplicaStore::EndAttachment(pool::ReplicaId id) {
  io::AsyncMutex::Guard guard = co_await structure_.Lock();
  Replica* replica = Find(id);
  if (replica == nullptr) co_return NoSuchVolume(id);
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    replica->attached_ = false;
    PutReplica(*replica, batch);
  };
  co_return co_await pool_->changes().FlushWith(std::move(at_cut));
}

io::Task<absl::Status> ReplicaStore::CommitClean(pool::ReplicaId id, pool::Generation generation) {
  Replica* replica = Find(id);
  if (replica == nullptr) co_return NoSuchVolume(id);
  replica->clean_generation_ = std::max(replica->clean_generation_, generation);
  CO_RETURN_IF_ERROR(co_await StoreChecksums());
  MetaBatch batch;
  batch.Put(Table::kObjects, pool::ObjectKey(pool::kCleanPrefix, replica->number_.value),
            pool::EncodeGeneration(replica->clean_generation_));
  absl::Status committed = co_await pool_->meta().Commit(&batch, /*synced=*/true);
  if (!committed.ok()) pool_->Fail(committed);
  co_return committed;
}

io::Task<absl::Status> ReplicaStore::StoreChecksums() {
  constexpr std::size_t kBatchRecords = 256;
  std::vector<std::uint32_t> dirty;
  for (const pool::ChecksumBlock* block : pool_->checksums().Dirty()) {
    dirty.push_back(block->pool_extent);
  }
  std::string value;
  std::size_t next = 0;
  while (next < dirty.size()) {
    if (!pool_->health().ok()) co_return pool_->health();
    MetaBatch batch;
    for (; next < dirty.size() && batch.count() < kBatchRecords; ++next) {
      pool::ChecksumRef block = pool_->checksums().Resident(dirty[next]);
      if (!block || !block->dirty) continue;
      const Layer* layer = layers_.Find(block->owner.layer);
      pool::ExtentState state;
      const bool owned = layer != nullptr && layer->Find(block->owner.extent, &state) &&
                         state.pool_extent == block->pool_extent;
      if (!owned) continue;
      const pool::Generation note = layer->ChecksumsValidFrom(block->owner.extent);
      const Replica* writer = HeadOwner(layer);
      // A region that is written in an interval still open has no checksums on disk (R17).
      if (writer != nullptr && note > writer->clean_generation_) continue;
      pool::SumRecord record;
      record.owner = block->owner;
      record.generation = note;
      record.known = block->known & state.present;
      record.crc32c = block->crc32c;
      // An extent without blocks (its first write failed) is not in the stored map: no record
      // either.
      if (record.known.Any()) {
        pool::EncodeSumRecord(record, &value);
        batch.Put(Table::kSums, pool::EncodeSumKey(block->pool_extent), value);
      }
      // Now, not after the commit: a change meanwhile makes it dirty again.
      pool_->checksums().MarkClean(block.get());
    }
    if (batch.empty()) continue;
    absl::Status committed = co_await pool_->meta().Commit(&batch, /*synced=*/false);
    if (!committed.ok()) {
      pool_->Fail(committed);
      co_return committed;
    }
  }
  co_return absl::OkStatus();
}

std::vector<ReplicaInfo> ReplicaStore::List() const {
  std::vector<ReplicaInfo> infos;
  for (const auto& [id, replica] : replicas_) {
    ReplicaInfo info;
    info.id = id;
    info.volume_id = replica->volume_id_;
    info.name = replica->name_;
    info.size_bytes = replica->size_bytes_;
    info.created_unix_ns = replica->created_unix_ns_;
    info.attached = replica->attached_;
    std::uint64_t extents = replica->head_->allocated_extents();
    for (const SnapshotState& snapshot : replica->snapshots_) {
      extents += snapshot.layer->allocated_extents();
      info.snapshots.push_back(
          {snapshot.id, snapshot.name, snapshot.size_bytes, snapshot.created_unix_ns});
    }
    info.allocated_bytes = extents * pool::kExtentBytes;
    infos.push_back(std::move(info));
  }
  std::sort(infos.begin(), infos.end(),
            [](const ReplicaInfo& a, const ReplicaInfo& b) { return a.name < b.name; });
  return infos;
}

void ReplicaStore::StartCleanup() {
  cleanup_wanted_ = true;
  if (cleanup_running_ || closing_) return;
  cleanup_running_ = true;
  gate_.Spawn(Cleanup());
}

io::Task<void> ReplicaStore::Cleanup() {
  LayerCleanup cleanup(pool_.get(), &layers_);
  while (!closing_ && pool_->health().ok()) {
    bool more = false;
    {
      io::AsyncMutex::Guard guard = co_await structure_.Lock();
      cleanup_wanted_ = false;
      Layer* layer = cleanup.Next();
      if (layer != nullptr) {
        Replica* writer =
            layer->child_count() == 1 ? HeadOwner(layer->children().front()) : nullptr;
        more = co_await cleanup.Step(layer, writer);
      }
    }
    if (!more && !cleanup_wanted_) break;
    co_await pool_->reactor().Yield();
  }
  cleanup_running_ = false;
  cleanup_idle_.WakeAll();
}

io::Task<void> ReplicaStore::WaitForCleanup() {
  while (cleanup_running_) co_await cleanup_idle_.Wait();
}

}  // namespace keelson::replica
