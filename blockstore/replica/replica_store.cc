#include "blockstore/replica/replica_store.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/records.pb.h"
#include "blockstore/replica/layer_cleanup.h"
#include "blockstore/replica/names.h"
#include "blockstore/replica/records.h"
#include "blockstore/replica/store_loader.h"

namespace keelson::replica {
namespace {

using pool::MetaBatch;
using pool::Table;

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
    if (replica->name_ == name && replica->segment_ == 0 && !replica->witness_) {
      return replica.get();
    }
  }
  return nullptr;
}

Replica* ReplicaStore::HeadOwner(const Layer* layer) const {
  for (const auto& [id, replica] : replicas_) {
    if (replica->head_ == layer) return replica.get();
  }
  return nullptr;
}

Replica* ReplicaStore::User(const Layer* layer) const {
  for (const auto& [id, replica] : replicas_) {
    if (replica->head_ == layer) return replica.get();
    for (const SnapshotState& snapshot : replica->snapshots_) {
      if (snapshot.layer == layer) return replica.get();
    }
  }
  return nullptr;
}

void ReplicaStore::PutReplica(const Replica& replica, MetaBatch* batch) const {
  pool::ReplicaRecord record;
  record.set_replica_id(std::string(replica.id_.view()));
  record.set_volume_id(std::string(replica.volume_id_.view()));
  record.set_volume_name(replica.name_);
  record.set_size_bytes(replica.size_bytes_);
  record.set_segment(replica.segment_);
  record.set_witness(replica.witness_);
  if (replica.head_ != nullptr) record.set_head_layer(replica.head_->number().value);
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

absl::Status ReplicaStore::CheckNewVolume(std::string_view name, std::uint32_t segment,
                                          std::uint64_t size_bytes) const {
  RETURN_IF_ERROR(CheckName("volume", name));
  RETURN_IF_ERROR(CheckSize(size_bytes));
  for (const auto& [id, replica] : replicas_) {
    if (replica->name_ == name && replica->segment_ == segment) {
      return absl::AlreadyExistsError(absl::StrCat("there is already a volume ", std::string(name),
                                                   segment == 0 ? "" : " with segment ",
                                                   segment == 0 ? "" : absl::StrCat(segment)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SnapshotState> ReplicaStore::FindSnapshot(pool::ReplicaId id,
                                                         pool::SnapshotId snapshot) {
  const Replica* replica = Find(id);
  if (replica == nullptr) return NoSuchVolume(id);
  for (const SnapshotState& state : replica->snapshots_) {
    if (state.id == snapshot) return state;
  }
  return absl::NotFoundError(
      absl::StrCat("volume ", replica->name_, " has no snapshot ", snapshot.ToString()));
}

Layer* ReplicaStore::AddHead(Replica* replica, Layer* parent) {
  replica->head_ = layers_.Add({pool_->TakeNumber()}, replica->number_);
  replica->head_->set_referenced(true);
  if (parent != nullptr) LayerTable::SetParent(replica->head_, parent);
  return replica->head_;
}

NewMember ReplicaStore::OnlyMember(std::string name, std::uint64_t size_bytes,
                                   std::int64_t created_unix_ns) {
  NewMember made;
  made.volume = pool::VolumeId(pool_->MakeId());
  made.replica = pool::ReplicaId(pool_->MakeId());
  made.name = std::move(name);
  made.size_bytes = size_bytes;
  made.created_unix_ns = created_unix_ns;
  Member member;
  member.pool = pool_->id();
  member.replica = made.replica;
  member.incarnation = pool_->incarnation();
  member.state = MemberState::kInSync;
  Configuration& configuration = made.configuration;
  configuration.volume = made.volume;
  configuration.volume_name = made.name;
  configuration.version.counter = 1;
  configuration.members.push_back(std::move(member));
  configuration.size_bytes = size_bytes;
  return made;
}

io::Task<absl::StatusOr<pool::ReplicaId>> ReplicaStore::Create(std::string name,
                                                               std::uint64_t size_bytes,
                                                               std::int64_t created_unix_ns) {
  CO_RETURN_IF_ERROR(CheckNewVolume(name, /*segment=*/0, size_bytes));
  NewMember made = OnlyMember(std::move(name), size_bytes, created_unix_ns);
  const pool::ReplicaId id = made.replica;
  CO_RETURN_IF_ERROR(co_await CreateMember(std::move(made)));
  co_return id;
}

io::Task<absl::StatusOr<pool::ReplicaId>> ReplicaStore::Clone(pool::ReplicaId source,
                                                              pool::SnapshotId snapshot,
                                                              std::string name,
                                                              std::uint64_t size_bytes,
                                                              std::int64_t created_unix_ns) {
  CO_ASSIGN_OR_RETURN(const SnapshotState state, FindSnapshot(source, snapshot));
  if (size_bytes == 0) size_bytes = state.size_bytes;
  if (size_bytes < state.size_bytes) {
    co_return absl::OutOfRangeError(absl::StrCat("a clone of snapshot ", state.name,
                                                 " has at least its ", state.size_bytes,
                                                 " bytes, not ", size_bytes));
  }
  CO_RETURN_IF_ERROR(CheckNewVolume(name, /*segment=*/0, size_bytes));
  NewMember made = OnlyMember(std::move(name), size_bytes, created_unix_ns);
  made.clone_of = source;
  made.clone_snapshot = snapshot;
  const pool::ReplicaId id = made.replica;
  CO_RETURN_IF_ERROR(co_await CreateMember(std::move(made)));
  co_return id;
}

io::Task<absl::Status> ReplicaStore::Delete(pool::ReplicaId id) {
  io::AsyncMutex::Guard guard = co_await structure_.Lock();
  Replica* replica = Find(id);
  if (replica == nullptr) co_return NoSuchVolume(id);
  if (replica->session_ != nullptr || replica->prepares_ > 0) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("replica ", id.ToString(), " of volume ", replica->name_,
                     " is in use by an engine; detach the volume or remove the replica from it"));
  }
  replica->deleting_ = true;
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    for (const std::string_view prefix :
         {pool::kReplicaPrefix, pool::kCleanPrefix, pool::kPromisePrefix,
          pool::kConfigurationPrefix, pool::kProgressPrefix}) {
      batch->Delete(Table::kObjects, pool::ObjectKey(prefix, replica->number_.value));
    }
    if (replica->head_ != nullptr) replica->head_->set_referenced(false);
    for (const SnapshotState& snapshot : replica->snapshots_) {
      snapshot.layer->set_referenced(false);
    }
    replicas_.erase(id);
  };
  CO_RETURN_IF_ERROR(co_await pool_->changes().FlushWith(std::move(at_cut)));
  StartCleanup();
  co_return absl::OkStatus();
}

void ReplicaStore::SealHead(Replica* replica, SnapshotState snapshot,
                            const pool::Generation& sealed, MetaBatch* batch) {
  snapshot.layer = replica->head_;
  snapshot.layer->Seal(sealed);
  PutLayer(*snapshot.layer, batch);
  PutLayer(*AddHead(replica, snapshot.layer), batch);
  replica->snapshots_.push_back(std::move(snapshot));
}

std::vector<std::uint32_t> ReplicaStore::CarryTouched(const Layer* old_head,
                                                      const pool::Generation& closing,
                                                      const Replica& replica,
                                                      MetaBatch* batch) const {
  // Where writes went just now they will go on: noted here, they need not wait for it then.
  pool::Generation next = closing;
  ++next.counter;
  std::vector<std::uint32_t> carried = old_head->notes().Touched(closing);
  for (std::uint32_t region : carried) {
    batch->Put(Table::kNotes, pool::EncodeNoteKey(replica.head_->number(), region),
               pool::EncodeGeneration(next));
  }
  return carried;
}

io::Task<absl::Status> ReplicaStore::SetAttached(pool::ReplicaId id, bool attached) {
  io::AsyncMutex::Guard guard = co_await structure_.Lock();
  Replica* replica = Find(id);
  if (replica == nullptr) co_return NoSuchVolume(id);
  if (replica->attached_ == attached) co_return absl::OkStatus();
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    replica->attached_ = attached;
    PutReplica(*replica, batch);
  };
  co_return co_await pool_->changes().FlushWith(std::move(at_cut));
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
    info.segment = replica->segment_;
    info.witness = replica->witness_;
    info.promised = replica->promised_;
    info.configuration = replica->configuration_;
    info.in_session = replica->session_ != nullptr;
    std::uint64_t extents = replica->witness_ ? 0 : replica->head_->allocated_extents();
    for (const SnapshotState& snapshot : replica->snapshots_) {
      extents += snapshot.layer->allocated_extents();
      // One that is on its way out is no snapshot of the volume any more.
      if (replica->configuration_.has_value() && !replica->configuration_->Has(snapshot.id)) {
        continue;
      }
      info.snapshots.push_back(
          {snapshot.id, snapshot.name, snapshot.size_bytes, snapshot.created_unix_ns});
    }
    info.allocated_bytes = extents * pool::kExtentBytes;
    infos.push_back(std::move(info));
  }
  std::sort(infos.begin(), infos.end(), [](const ReplicaInfo& a, const ReplicaInfo& b) {
    return std::tie(a.name, a.segment) < std::tie(b.name, b.segment);
  });
  return infos;
}

void ReplicaStore::StartCleanup() {
  cleanup_wanted_ = true;
  if (cleanup_running_ || closing_) return;
  cleanup_running_ = true;
  gate_.Spawn(Cleanup());
}

io::Task<void> ReplicaStore::Cleanup() {
  LayerCleanup cleanup(pool_.get(), &layers_, &copied_extents_);
  while (!closing_ && pool_->health().ok()) {
    bool more = false;
    {
      io::AsyncMutex::Guard guard = co_await structure_.Lock();
      cleanup_wanted_ = false;
      Layer* layer = cleanup.Next();
      if (layer != nullptr) {
        Replica* writer = layer->child_count() == 1 ? User(layer->children().front()) : nullptr;
        more = co_await cleanup.Step(layer, writer);
      }
    }
    cleanup_step_.WakeAll();
    if (!more && !cleanup_wanted_) break;
    co_await pool_->reactor().Yield();
  }
  cleanup_running_ = false;
  cleanup_step_.WakeAll();
  cleanup_idle_.WakeAll();
}

io::Task<void> ReplicaStore::WaitForCleanup() {
  while (cleanup_running_) co_await cleanup_idle_.Wait();
}

}  // namespace keelson::replica
