#pragma once
// Replicas, configurations and attachments between their gRPC messages and what the block store
// works with. Requests come from anyone who may open the socket: everything is checked here.
// Pure functions; any thread. Errors are INVALID_ARGUMENT and name the field.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/engine.h"
#include "blockstore/replica/configuration.h"
#include "blockstore/replica/replica_store.h"
#include "proto/keelson/v1/blockstore.pb.h"

namespace keelson::service {

v1::Member ToMessage(const replica::Member& member);
v1::Configuration ToMessage(const replica::Configuration& configuration);
// `pool` is the one the replica is in.
v1::Replica ToMessage(const replica::ReplicaInfo& info, const pool::Pool& pool);
v1::SegmentStatus ToMessage(const engine::SegmentStatus& status);
v1::Snapshot ToMessage(const replica::ConfiguredSnapshot& snapshot);

// The status of an attached volume, but for its URI.
v1::GetVolumeStatusResponse DescribeEngine(const std::string& name, engine::Engine* engine);

// Absent without limits.
void SetQosMessage(const engine::QosLimits& limits, v1::GetVolumeStatusResponse* status);

absl::StatusOr<replica::Member> ParseMember(const v1::Member& message);
absl::StatusOr<pool::Uuid> ParseId(std::string_view field, const std::string& text);
absl::StatusOr<pool::ReplicaId> ParseReplicaId(std::string_view field, const std::string& text);
// The replica to make, with the first configuration that its members make up. Its pool is the
// caller's to find.
absl::StatusOr<replica::NewMember> ParseNewMember(const v1::CreateReplicaRequest& request);
// The epoch is of `restart` and a new engine.
absl::StatusOr<engine::AttachTarget> ParseTarget(const std::string& name,
                                                 const v1::AttachTarget& target,
                                                 std::uint32_t restart);
absl::StatusOr<std::vector<engine::SegmentHint>> ParseSegments(
    const google::protobuf::RepeatedPtrField<v1::SegmentHint>& messages,
    const pool::VolumeId& volume);
// The target with the members that the attached volume has now, and those before a change under
// way.
v1::AttachTarget PresentTarget(const v1::AttachTarget& target,
                               const v1::GetVolumeStatusResponse& status);

}  // namespace keelson::service
