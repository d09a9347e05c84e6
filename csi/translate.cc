#include "csi/translate.h"

#include <google/protobuf/timestamp.pb.h>

#include <cstdint>
#include <limits>

namespace keelson::csi {
namespace {

constexpr std::int64_t kNanosPerSecond = 1'000'000'000;

std::int64_t Signed(std::uint64_t bytes) {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  return static_cast<std::int64_t>(bytes < kMax ? bytes : kMax);
}

void SetTime(std::int64_t unix_ns, google::protobuf::Timestamp* time) {
  std::int64_t seconds = unix_ns / kNanosPerSecond;
  std::int64_t nanos = unix_ns % kNanosPerSecond;
  if (nanos < 0) {
    nanos += kNanosPerSecond;
    --seconds;
  }
  time->set_seconds(seconds);
  time->set_nanos(static_cast<std::int32_t>(nanos));
}

}  // namespace

control::Capability ToControl(const pb::VolumeCapability& capability) {
  control::Capability result;
  result.set_block(capability.has_block());
  if (capability.has_mount()) {
    result.set_fs_type(capability.mount().fs_type());
    *result.mutable_mount_flags() = capability.mount().mount_flags();
  }
  // The provisioner's numbers are those of the specification.
  result.set_access_mode(static_cast<control::AccessMode>(capability.access_mode().mode()));
  return result;
}

void ToControl(const google::protobuf::RepeatedPtrField<pb::VolumeCapability>& from,
               google::protobuf::RepeatedPtrField<control::Capability>* to) {
  for (const pb::VolumeCapability& capability : from) *to->Add() = ToControl(capability);
}

void ToControl(const google::protobuf::RepeatedPtrField<pb::Topology>& from,
               google::protobuf::RepeatedPtrField<control::Topology>* to) {
  for (const pb::Topology& topology : from) *to->Add()->mutable_segments() = topology.segments();
}

void CopyParameters(const StringMap& from, StringMap* to) {
  for (const auto& [key, value] : from) {
    if (!IsReserved(key)) (*to)[key] = value;
  }
}

pb::Volume FromControl(const control::Volume& volume) {
  pb::Volume result;
  result.set_volume_id(volume.id());
  result.set_capacity_bytes(Signed(volume.capacity_bytes()));
  // Without it, external-provisioner takes the volume for an empty one and deletes it.
  if (!volume.source_snapshot_id().empty()) {
    result.mutable_content_source()->mutable_snapshot()->set_snapshot_id(
        volume.source_snapshot_id());
  } else if (!volume.source_volume_id().empty()) {
    result.mutable_content_source()->mutable_volume()->set_volume_id(volume.source_volume_id());
  }
  for (const control::Topology& topology : volume.accessible()) {
    *result.add_accessible_topology()->mutable_segments() = topology.segments();
  }
  return result;
}

pb::Snapshot FromControl(const control::Snapshot& snapshot) {
  pb::Snapshot result;
  result.set_snapshot_id(snapshot.id());
  result.set_source_volume_id(snapshot.source_volume_id());
  result.set_size_bytes(Signed(snapshot.size_bytes()));
  result.set_ready_to_use(snapshot.ready());
  result.set_group_snapshot_id(snapshot.group_snapshot_id());
  SetTime(snapshot.created_unix_ns(), result.mutable_creation_time());
  return result;
}

pb::VolumeGroupSnapshot FromControl(const control::GroupSnapshot& group) {
  pb::VolumeGroupSnapshot result;
  result.set_group_snapshot_id(group.id());
  result.set_ready_to_use(group.ready());
  SetTime(group.created_unix_ns(), result.mutable_creation_time());
  for (const control::Snapshot& snapshot : group.snapshots()) {
    *result.add_snapshots() = FromControl(snapshot);
    result.mutable_snapshots()->rbegin()->set_group_snapshot_id(group.id());
  }
  return result;
}

pb::VolumeHealth HealthOf(const control::Volume& volume) {
  pb::VolumeHealth result;
  result.set_volume_id(volume.id());
  if (volume.problem().empty()) return result;
  pb::VolumeHealth::HealthStatus& status = *result.add_health_statuses();
  status.set_message(volume.problem());
  switch (volume.severity()) {
    case control::DATA_LOSS:
      status.set_status(pb::DATA_LOSS);
      status.set_reason("NoCompleteCopy");
      break;
    case control::INACCESSIBLE:
      status.set_status(pb::INACCESSIBLE);
      status.set_reason("NotServed");
      break;
    default:
      status.set_status(pb::DEGRADED);
      status.set_reason("CopiesMissing");
      break;
  }
  return result;
}

}  // namespace keelson::csi
