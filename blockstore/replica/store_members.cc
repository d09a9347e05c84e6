// ReplicaStore: what makes a replica a member of its segment: its first configuration, what it
// promised and accepted, and how far its resync came.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/records.pb.h"
#include "blockstore/replica/records.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::replica {
namespace {

using pool::MetaBatch;
using pool::Table;

absl::Status CheckBelongs(const Configuration& configuration, const pool::VolumeId& volume,
                          std::uint32_t segment) {
  RETURN_IF_ERROR(Validate(configuration));
  if (configuration.volume == volume && configuration.segment == segment) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "a configuration of volume ", configuration.volume.ToString(), " segment ",
      configuration.segment, " is not one of volume ", volume.ToString(), " segment ", segment));
}

bool NamesInSync(const Configuration& configuration, const pool::PoolId& pool,
                 const pool::ReplicaId& replica) {
  const Member* member = configuration.Find(pool, replica);
  return member != nullptr && member->state == MemberState::kInSync;
}

// The configuration's snapshots that the replica has not, oldest first. Its own must be the older
// ones: INVALID_ARGUMENT otherwise.
absl::StatusOr<std::vector<ConfiguredSnapshot>> NewSnapshots(const Replica& replica,
                                                             const Configuration& configuration) {
  std::vector<ConfiguredSnapshot> fresh;
  for (const ConfiguredSnapshot& snapshot : configuration.snapshots) {
    const bool known =
        std::any_of(replica.snapshots().begin(), replica.snapshots().end(),
                    [&](const SnapshotState& state) { return state.id == snapshot.id; });
    if (!known) {
      fresh.push_back(snapshot);
    } else if (!fresh.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("snapshot ", fresh.back().name, " of volume ", replica.name(),
                       " is new but older than snapshot ", snapshot.name));
    }
  }
  return fresh;
}

bool Names(const std::vector<Member>& members, const pool::PoolId& pool,
           const pool::ReplicaId& replica) {
  return std::any_of(members.begin(), members.end(), [&](const Member& member) {
    return member.pool == pool && member.replica == replica;
  });
}

// R14: the record of a replica that an operator went on without, in `next`. What it has stays as it
// is: an operator may still choose to go on from it.
Configuration Quarantined(const Configuration& own, const Configuration& next) {
  Configuration marked = own;
  marked.succeeded_by = next.forced;
  marked.successors = next.members;
  return marked;
}

// The replica's snapshots that no configuration in force can still have: neither the one it has
// accepted names them, nor the next of the same engine. An engine has one configuration under way
// at a time, so the accepted one was in force before `next` was made; a single configuration
// without a snapshot may never come into force, and then the snapshot is still wanted (R15).
std::vector<pool::SnapshotId> Droppable(const Replica& replica, const Configuration& accepted,
                                        const Configuration& next) {
  std::vector<pool::SnapshotId> ids;
  // The only member's acceptance is the majority.
  const bool alone =
      (next.members.size() == 1 && next.predecessor.empty()) || SeededBug(kDropSnapshotAtOnce);
  if (!alone && accepted.version.epoch != next.version.epoch) return ids;
  for (const SnapshotState& snapshot : replica.snapshots()) {
    if (next.Has(snapshot.id) || (!alone && accepted.Has(snapshot.id))) continue;
    ids.push_back(snapshot.id);
  }
  return ids;
}

pool::Generation After(pool::Generation generation) {
  ++generation.counter;
  return generation;
}

}  // namespace

// --- Creation ---

// A clone is InSync from the beginning: only what has all of the snapshot can be its source.
absl::Status ReplicaStore::CheckCloneSource(const Replica& source,
                                            const SnapshotState& snapshot) const {
  const std::optional<Configuration>& record = source.configuration_;
  const ConfiguredSnapshot* named = record.has_value() ? record->Find(snapshot.id) : nullptr;
  if (named == nullptr || !named->complete) {
    return absl::FailedPreconditionError(absl::StrCat(
        "snapshot ", snapshot.name, " of volume ", source.name_, " is not complete on replica ",
        source.id_.ToString(), "; take it again, or clone another one"));
  }
  if (NamesInSync(*record, pool_->id(), source.id_)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("replica ", source.id_.ToString(), " of volume ", source.name_,
                   " is not InSync, and may lack some of snapshot ", snapshot.name,
                   "; clone from another copy, or when it is up to date"));
}

absl::StatusOr<SnapshotState> ReplicaStore::CheckNewMember(const NewMember& member) {
  RETURN_IF_ERROR(CheckBelongs(member.configuration, member.volume, member.segment));
  const std::uint64_t size_bytes = member.witness ? kVolumeSizeMin : member.size_bytes;
  RETURN_IF_ERROR(CheckNewVolume(member.name, member.segment, size_bytes));
  if (member.replica.is_nil()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the replica of volume ", member.name, " has no id"));
  }
  if (member.clone_of.is_nil()) return SnapshotState();
  ASSIGN_OR_RETURN(SnapshotState base, FindSnapshot(member.clone_of, member.clone_snapshot));
  RETURN_IF_ERROR(CheckCloneSource(*Find(member.clone_of), base));
  if (member.witness || member.size_bytes < base.size_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("a clone of snapshot ", base.name,
                                                   " has data, and at least its ", base.size_bytes,
                                                   " bytes"));
  }
  return base;
}

io::Task<absl::Status> ReplicaStore::CreateMember(NewMember member) {
  io::AsyncMutex::Guard guard = co_await structure_.Lock();
  if (const Replica* there = Find(member.replica); there != nullptr) {
    if (there->volume_id_ == member.volume && there->segment_ == member.segment &&
        there->witness_ == member.witness && there->name_ == member.name) {
      co_return absl::OkStatus();
    }
    co_return absl::AlreadyExistsError(absl::StrCat("replica ", member.replica.ToString(),
                                                    " is one of volume ", there->name_, " segment ",
                                                    there->segment_));
  }
  CO_ASSIGN_OR_RETURN(const SnapshotState base, CheckNewMember(member));
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    AddMember(member, base, batch);
  };
  co_return co_await pool_->changes().FlushWith(std::move(at_cut));
}

void ReplicaStore::AddMember(const NewMember& member, const SnapshotState& base, MetaBatch* batch) {
  Replica* replica = AddReplica({pool_->TakeNumber()}, member.replica);
  replica->volume_id_ = member.volume;
  replica->name_ = member.name;
  replica->segment_ = member.segment;
  replica->witness_ = member.witness;
  replica->size_bytes_ = member.witness ? 0 : member.size_bytes;
  replica->created_unix_ns_ = member.created_unix_ns;
  replica->configuration_ = member.configuration;
  if (!member.clone_of.is_nil()) {
    const Replica& source = *Find(member.clone_of);
    // The clone's generations are above those of the layers it shares, so that notes of both
    // compare, and those layers are equal on all its members. Not the same attachment: that has
    // other restarts, and an engine's id, above or below those that the clone will have.
    replica->promised_.attachment = source.promised_.attachment + 1;
    Configuration& configuration = *replica->configuration_;
    configuration.clean =
        std::max(configuration.clean, source.configuration_->Find(base.id)->sealed);
  }
  if (!member.witness) PutLayer(*AddHead(replica, base.layer), batch);
  PutReplica(*replica, batch);
  PutConfiguration(*replica, *replica->configuration_, batch);
  pool_->PutPoolRecord(batch);
}

void ReplicaStore::PutConfiguration(const Replica& replica, const Configuration& configuration,
                                    MetaBatch* batch) const {
  batch->Put(Table::kObjects, pool::ObjectKey(pool::kConfigurationPrefix, replica.number_.value),
             Serialize(configuration));
  if (NamesInSync(configuration, pool_->id(), replica.id_)) {
    batch->Delete(Table::kObjects, pool::ObjectKey(pool::kProgressPrefix, replica.number_.value));
  }
}

// --- Promise, configuration, progress ---

io::Task<absl::Status> ReplicaStore::Promise(Replica* replica, pool::Epoch epoch) {
  if (!pool_->health().ok()) co_return pool_->health();
  if (epoch == replica->promised_) co_return absl::OkStatus();
  // In memory at once: what is refused too early does no harm.
  replica->promised_ = epoch;
  MetaBatch batch;
  batch.Put(Table::kObjects, pool::ObjectKey(pool::kPromisePrefix, replica->number_.value),
            pool::EncodeGeneration({epoch, 0}));
  if (SeededBug(kPromiseNotDurable)) co_return absl::OkStatus();
  co_return co_await CommitSynced(&batch);
}

io::Task<absl::Status> ReplicaStore::Accept(Replica* replica, Configuration configuration) {
  io::AsyncMutex::Guard accepting = co_await replica->accepting_.Lock();
  if (!pool_->health().ok()) co_return pool_->health();
  CO_RETURN_IF_ERROR(CheckBelongs(configuration, replica->volume_id_, replica->segment_));
  if (!replica->configuration_.has_value()) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("replica ", replica->id_.ToString(), " of volume ", replica->name_,
                     " has no readable configuration and takes none: remove it and add another"));
  }
  if (configuration.version <= replica->configuration_->version) co_return absl::OkStatus();
  if (configuration.forced < replica->configuration_->succeeded_by &&
      !SeededBug(kSucceededVotesAgain)) {
    co_return absl::FailedPreconditionError(
        absl::StrCat("replica ", replica->id_.ToString(), " of volume ", replica->name_,
                     " is quarantined: an operator went on without it under attachment ",
                     replica->configuration_->succeeded_by.attachment,
                     "; attach where the members of that are reached"));
  }
  const bool named = Names(configuration.members, pool_->id(), replica->id_) ||
                     Names(configuration.predecessor, pool_->id(), replica->id_);
  if (!named && configuration.forced > replica->configuration_->forced) {
    Configuration marked = Quarantined(*replica->configuration_, configuration);
    MetaBatch batch;
    PutConfiguration(*replica, marked, &batch);
    CO_RETURN_IF_ERROR(co_await CommitSynced(&batch));
    replica->configuration_ = std::move(marked);
    co_return absl::OkStatus();
  }
  CO_ASSIGN_OR_RETURN(const std::vector<ConfiguredSnapshot> fresh,
                      NewSnapshots(*replica, configuration));
  const bool structural = !fresh.empty() || configuration.size_bytes > replica->size_bytes_ ||
                          !Droppable(*replica, *replica->configuration_, configuration).empty();
  if (!replica->witness_ && structural) {
    CO_RETURN_IF_ERROR(co_await AcceptStructure(replica, configuration));
  } else {
    MetaBatch batch;
    PutConfiguration(*replica, configuration, &batch);
    if (!SeededBug(kConfigurationNotDurable)) CO_RETURN_IF_ERROR(co_await CommitSynced(&batch));
  }
  if (NamesInSync(configuration, pool_->id(), replica->id_)) replica->progress_ = {};
  replica->configuration_ = std::move(configuration);
  co_return absl::OkStatus();
}

io::Task<absl::Status> ReplicaStore::AcceptStructure(Replica* replica,
                                                     Configuration configuration) {
  // No generation ends or begins meanwhile, no layer comes or goes, and nothing is written or
  // copied: whatever comes later finds the new head.
  io::AsyncMutex::Guard rolling = co_await replica->rolling_.Lock();
  io::AsyncMutex::Guard structure = co_await structure_.Lock();
  CO_RETURN_IF_ERROR(NewSnapshots(*replica, configuration).status());
  RangeLock::Hold hold(&replica->extent_locks_, 0, UINT64_MAX, RangeLock::kExclusive);
  co_await hold;
  const std::set<std::uint32_t> failed = replica->failed_extents_;
  for (const std::uint32_t extent : failed) co_await replica->SettleFailedWrite(extent);
  std::vector<std::uint32_t> carried;
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    ApplyStructure(replica, configuration, &carried, batch);
  };
  CO_RETURN_IF_ERROR(co_await pool_->changes().FlushWith(std::move(at_cut)));
  if (!carried.empty()) {
    const pool::Generation noted = After(configuration.snapshots.back().sealed);
    for (std::uint32_t region : carried) replica->head_->notes().Set(region, noted);
  }
  StartCleanup();
  co_return absl::OkStatus();
}

void ReplicaStore::ApplyStructure(Replica* replica, const Configuration& configuration,
                                  std::vector<std::uint32_t>* carried, MetaBatch* batch) {
  const std::vector<ConfiguredSnapshot> fresh = *NewSnapshots(*replica, configuration);
  const std::vector<pool::SnapshotId> dropped =
      Droppable(*replica, *replica->configuration_, configuration);
  std::vector<SnapshotState> kept;
  for (SnapshotState& snapshot : replica->snapshots_) {
    if (std::find(dropped.begin(), dropped.end(), snapshot.id) == dropped.end()) {
      kept.push_back(std::move(snapshot));
    } else {
      snapshot.layer->set_referenced(false);
    }
  }
  replica->snapshots_ = std::move(kept);
  const Layer* old_head = replica->head_;
  for (const ConfiguredSnapshot& snapshot : fresh) {
    SealHead(replica,
             {snapshot.id, snapshot.name, nullptr, snapshot.created_unix_ns, snapshot.size_bytes},
             snapshot.sealed, batch);
  }
  if (!fresh.empty()) {
    *carried = CarryTouched(old_head, fresh.back().sealed, *replica, batch);
    replica->generation_ = std::max(replica->generation_, After(fresh.back().sealed));
  }
  // Never less than it is: what an engine grew that found no majority does no harm.
  replica->size_bytes_ = std::max(replica->size_bytes_, configuration.size_bytes);
  PutReplica(*replica, batch);
  PutConfiguration(*replica, configuration, batch);
  pool_->PutPoolRecord(batch);
}

io::Task<absl::Status> ReplicaStore::RecordProgress(Replica* replica, ResyncProgress progress) {
  io::AsyncMutex::Guard accepting = co_await replica->accepting_.Lock();
  pool::ProgressRecord record;
  record.set_position(progress.position);
  ToRecord(progress.generation.epoch, record.mutable_generation()->mutable_epoch());
  record.mutable_generation()->set_counter(progress.generation.counter);
  const std::string value = record.SerializeAsString();
  if (SeededBug(kProgressWithoutFlush)) {
    MetaBatch batch;
    batch.Put(Table::kObjects, pool::ObjectKey(pool::kProgressPrefix, replica->number_.value),
              value);
    co_return co_await CommitSynced(&batch);
  }
  std::uint64_t copies = 0;
  absl::AnyInvocable<void(MetaBatch*)> at_cut = [&](MetaBatch* batch) {
    copies = copied_extents_.Mark();
    batch->Put(Table::kObjects, pool::ObjectKey(pool::kProgressPrefix, replica->number_.value),
               value);
  };
  CO_RETURN_IF_ERROR(co_await pool_->changes().FlushWith(std::move(at_cut)));
  copied_extents_.Flushed(copies);
  replica->progress_ = progress;
  // The writes through that generation have ended and are flushed: their checksums, and those of
  // what was copied, need not stay in memory until the resync has ended.
  if (!Resummed(*replica)) co_return absl::OkStatus();
  co_return co_await CommitClean(replica->id_, progress.generation);
}

}  // namespace keelson::replica
