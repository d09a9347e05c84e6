// Configurations to and from the bytes of records.proto.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/records.pb.h"
#include "blockstore/replica/configuration.h"
#include "blockstore/replica/records.h"

namespace keelson::replica {
namespace {

void PutGeneration(const pool::Generation& generation, pool::GenerationRecord* record) {
  ToRecord(generation.epoch, record->mutable_epoch());
  record->set_counter(generation.counter);
}

void PutMember(const Member& member, pool::MemberRecord* record) {
  record->set_pool_id(std::string(member.pool.view()));
  record->set_replica_id(std::string(member.replica.view()));
  record->set_incarnation(std::string(member.incarnation.view()));
  record->set_address(member.address);
  record->set_witness(member.witness);
  record->set_state(static_cast<std::uint32_t>(member.state));
  PutGeneration(member.in_sync_through, record->mutable_in_sync_through());
}

void PutSnapshot(const ConfiguredSnapshot& snapshot, pool::ConfiguredSnapshotRecord* record) {
  record->set_snapshot_id(std::string(snapshot.id.view()));
  record->set_name(snapshot.name);
  PutGeneration(snapshot.sealed, record->mutable_sealed());
  record->set_size_bytes(snapshot.size_bytes);
  record->set_created_unix_ns(snapshot.created_unix_ns);
  record->set_complete(snapshot.complete);
}

absl::StatusOr<pool::Epoch> ReadEpoch(const pool::EpochRecord& record) {
  ASSIGN_OR_RETURN(const pool::Uuid engine, pool::Uuid::FromBytes(record.engine_id()));
  return pool::Epoch{record.attachment(), record.restart(), pool::EngineId(engine)};
}

absl::StatusOr<pool::Epoch> ReadOptionalEpoch(bool present, const pool::EpochRecord& record) {
  if (!present) return pool::Epoch{};
  return ReadEpoch(record);
}

absl::StatusOr<pool::Generation> ReadGeneration(const pool::GenerationRecord& record) {
  ASSIGN_OR_RETURN(const pool::Epoch epoch, ReadEpoch(record.epoch()));
  return pool::Generation{epoch, record.counter()};
}

absl::StatusOr<Member> ReadMember(const pool::MemberRecord& record) {
  Member member;
  ASSIGN_OR_RETURN(const pool::Uuid pool_id, pool::Uuid::FromBytes(record.pool_id()));
  ASSIGN_OR_RETURN(const pool::Uuid replica_id, pool::Uuid::FromBytes(record.replica_id()));
  ASSIGN_OR_RETURN(member.incarnation, pool::Uuid::FromBytes(record.incarnation()));
  ASSIGN_OR_RETURN(member.in_sync_through, ReadGeneration(record.in_sync_through()));
  member.pool = pool::PoolId(pool_id);
  member.replica = pool::ReplicaId(replica_id);
  member.address = record.address();
  member.witness = record.witness();
  // A number that does not fit becomes 0, which Validate does not know either.
  member.state = static_cast<MemberState>(record.state() <= 0xff ? record.state() : 0);
  return member;
}

absl::StatusOr<ConfiguredSnapshot> ReadSnapshot(const pool::ConfiguredSnapshotRecord& record) {
  ConfiguredSnapshot snapshot;
  ASSIGN_OR_RETURN(const pool::Uuid id, pool::Uuid::FromBytes(record.snapshot_id()));
  ASSIGN_OR_RETURN(snapshot.sealed, ReadGeneration(record.sealed()));
  snapshot.id = pool::SnapshotId(id);
  snapshot.name = record.name();
  snapshot.size_bytes = record.size_bytes();
  snapshot.created_unix_ns = record.created_unix_ns();
  snapshot.complete = record.complete();
  return snapshot;
}

absl::StatusOr<Configuration> Read(const pool::ConfigurationRecord& record) {
  Configuration configuration;
  ASSIGN_OR_RETURN(const pool::Uuid volume, pool::Uuid::FromBytes(record.volume_id()));
  ASSIGN_OR_RETURN(configuration.version.epoch, ReadEpoch(record.epoch()));
  ASSIGN_OR_RETURN(configuration.clean, ReadGeneration(record.clean()));
  configuration.volume = pool::VolumeId(volume);
  configuration.volume_name = record.volume_name();
  configuration.segment = record.segment();
  configuration.version.counter = record.counter();
  configuration.size_bytes = record.size_bytes();
  configuration.min_in_sync = record.min_in_sync();
  configuration.min_in_sync_wanted = record.min_in_sync_wanted();
  ASSIGN_OR_RETURN(configuration.forced, ReadOptionalEpoch(record.has_forced(), record.forced()));
  ASSIGN_OR_RETURN(configuration.succeeded_by,
                   ReadOptionalEpoch(record.has_succeeded_by(), record.succeeded_by()));
  ASSIGN_OR_RETURN(configuration.lost, ReadOptionalEpoch(record.has_lost(), record.lost()));
  for (const pool::MemberRecord& item : record.successors()) {
    ASSIGN_OR_RETURN(Member member, ReadMember(item));
    configuration.successors.push_back(std::move(member));
  }
  configuration.segment_count = std::max(record.segment_count(), 1U);
  configuration.segment_bytes = record.segment_bytes();
  for (const pool::MemberRecord& item : record.members()) {
    ASSIGN_OR_RETURN(Member member, ReadMember(item));
    configuration.members.push_back(std::move(member));
  }
  for (const pool::MemberRecord& item : record.predecessor()) {
    ASSIGN_OR_RETURN(Member member, ReadMember(item));
    configuration.predecessor.push_back(std::move(member));
  }
  for (const pool::ConfiguredSnapshotRecord& item : record.snapshots()) {
    ASSIGN_OR_RETURN(ConfiguredSnapshot snapshot, ReadSnapshot(item));
    configuration.snapshots.push_back(std::move(snapshot));
  }
  return configuration;
}

}  // namespace

std::string Serialize(const Configuration& configuration) {
  pool::ConfigurationRecord record;
  record.set_volume_id(std::string(configuration.volume.view()));
  record.set_volume_name(configuration.volume_name);
  record.set_segment(configuration.segment);
  ToRecord(configuration.version.epoch, record.mutable_epoch());
  record.set_counter(configuration.version.counter);
  for (const Member& member : configuration.members) PutMember(member, record.add_members());
  for (const Member& member : configuration.predecessor) {
    PutMember(member, record.add_predecessor());
  }
  for (const ConfiguredSnapshot& snapshot : configuration.snapshots) {
    PutSnapshot(snapshot, record.add_snapshots());
  }
  record.set_size_bytes(configuration.size_bytes);
  PutGeneration(configuration.clean, record.mutable_clean());
  record.set_min_in_sync(configuration.min_in_sync);
  record.set_min_in_sync_wanted(configuration.min_in_sync_wanted);
  record.set_segment_count(configuration.segment_count);
  record.set_segment_bytes(configuration.segment_bytes);
  if (configuration.was_forced()) ToRecord(configuration.forced, record.mutable_forced());
  if (configuration.lost != pool::Epoch{}) ToRecord(configuration.lost, record.mutable_lost());
  if (configuration.quarantined()) {
    ToRecord(configuration.succeeded_by, record.mutable_succeeded_by());
  }
  for (const Member& member : configuration.successors) PutMember(member, record.add_successors());
  return record.SerializeAsString();
}

absl::StatusOr<Configuration> ParseConfiguration(std::string_view bytes) {
  pool::ConfigurationRecord record;
  if (bytes.size() > INT32_MAX ||
      !record.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", bytes.size(),
                     " bytes of a configuration do not parse; a replica "
                     "whose record they are has to be removed and added again"));
  }
  ASSIGN_OR_RETURN(Configuration configuration, Read(record));
  RETURN_IF_ERROR(Validate(configuration));
  return configuration;
}

}  // namespace keelson::replica
