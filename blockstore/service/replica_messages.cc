#include "blockstore/service/replica_messages.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"

namespace keelson::service {
namespace {

v1::MemberState ToMessage(replica::MemberState state) {
  switch (state) {
    case replica::MemberState::kOut:
      return v1::MEMBER_STATE_OUT;
    case replica::MemberState::kSyncing:
      return v1::MEMBER_STATE_SYNCING;
    case replica::MemberState::kInSync:
      return v1::MEMBER_STATE_IN_SYNC;
  }
  return v1::MEMBER_STATE_UNSPECIFIED;
}

replica::MemberState ParseState(v1::MemberState state) {
  if (state == v1::MEMBER_STATE_IN_SYNC) return replica::MemberState::kInSync;
  if (state == v1::MEMBER_STATE_SYNCING) return replica::MemberState::kSyncing;
  return replica::MemberState::kOut;
}

v1::ScrubFinding::Kind ToMessage(engine::ScrubFinding::Kind kind) {
  switch (kind) {
    case engine::ScrubFinding::Kind::kRepaired:
      return v1::ScrubFinding::REPAIRED;
    case engine::ScrubFinding::Kind::kUnrepairable:
      return v1::ScrubFinding::UNREPAIRABLE;
    case engine::ScrubFinding::Kind::kDifferent:
      return v1::ScrubFinding::DIFFERENT;
  }
  return v1::ScrubFinding::KIND_UNSPECIFIED;
}

v1::Scrub ToMessage(const engine::ScrubStatus& scrub,
                    const std::vector<replica::ConfiguredSnapshot>& snapshots) {
  v1::Scrub message;
  message.set_running(scrub.running);
  message.set_ended_early(scrub.ended_early);
  message.set_position_bytes(scrub.position_bytes);
  message.set_size_bytes(scrub.size_bytes);
  message.set_regions(scrub.regions);
  message.set_regions_skipped(scrub.regions_skipped);
  message.set_read_bytes(scrub.read_bytes);
  message.set_bad_blocks(scrub.bad_blocks);
  message.set_repaired_blocks(scrub.repaired_blocks);
  message.set_unrepairable_blocks(scrub.unrepairable_blocks);
  message.set_different_blocks(scrub.different_blocks);
  for (const engine::ScrubFinding& finding : scrub.findings) {
    v1::ScrubFinding* one = message.add_findings();
    one->set_kind(ToMessage(finding.kind));
    one->set_offset(finding.offset);
    one->set_replica_id(finding.replica.ToString());
    if (finding.layer.is_nil()) continue;
    one->set_snapshot(finding.layer.ToString());  // when it has been deleted since
    for (const replica::ConfiguredSnapshot& snapshot : snapshots) {
      if (snapshot.id == finding.layer) one->set_snapshot(snapshot.name);
    }
  }
  return message;
}

absl::StatusOr<engine::SegmentHint> ParseHint(const v1::SegmentHint& message,
                                              const pool::VolumeId& volume) {
  engine::SegmentHint hint;
  hint.volume = volume;
  hint.segment = message.segment();
  if (message.members_size() == 0 ||
      static_cast<std::size_t>(message.members_size()) > 2 * replica::kMembersMax) {
    return absl::InvalidArgumentError(absl::StrCat("segment ", hint.segment, " names ",
                                                   message.members_size(), " members; 1 to ",
                                                   2 * replica::kMembersMax, " are possible"));
  }
  for (const v1::Member& member : message.members()) {
    ASSIGN_OR_RETURN(replica::Member parsed, ParseMember(member));
    hint.members.push_back(std::move(parsed));
  }
  if (!message.force_from_replica_id().empty()) {
    ASSIGN_OR_RETURN(hint.force_from,
                     ParseReplicaId("force_from_replica_id", message.force_from_replica_id()));
  }
  return hint;
}

}  // namespace

v1::Member ToMessage(const replica::Member& member) {
  v1::Member message;
  message.set_pool_id(member.pool.ToString());
  message.set_replica_id(member.replica.ToString());
  message.set_incarnation(member.incarnation.ToString());
  message.set_address(member.address);
  message.set_witness(member.witness);
  message.set_state(ToMessage(member.state));
  return message;
}

v1::Configuration ToMessage(const replica::Configuration& configuration) {
  v1::Configuration message;
  const pool::Epoch& epoch = configuration.version.epoch;
  message.set_attachment(epoch.attachment);
  message.set_restart(epoch.restart);
  message.set_engine_id(epoch.engine.ToString());
  message.set_counter(configuration.version.counter);
  for (const replica::Member& member : configuration.members) {
    *message.add_members() = ToMessage(member);
  }
  for (const replica::Member& member : configuration.predecessor) {
    *message.add_predecessor() = ToMessage(member);
  }
  message.set_size_bytes(configuration.size_bytes);
  message.set_snapshot_count(static_cast<std::uint32_t>(configuration.snapshots.size()));
  message.set_min_in_sync(configuration.min_in_sync);
  message.set_segment_count(configuration.segment_count);
  message.set_segment_bytes(configuration.segment_bytes);
  message.set_forced(configuration.was_forced());
  message.set_forced_attachment(configuration.forced.attachment);
  return message;
}

v1::Replica ToMessage(const replica::ReplicaInfo& info, const pool::Pool& pool) {
  v1::Replica message;
  message.set_replica_id(info.id.ToString());
  message.set_pool_id(pool.id().ToString());
  message.set_volume_id(info.volume_id.ToString());
  message.set_volume(info.name);
  message.set_segment(info.segment);
  message.set_witness(info.witness);
  message.set_size_bytes(info.size_bytes);
  message.set_allocated_bytes(info.allocated_bytes);
  message.set_created_unix_ns(info.created_unix_ns);
  message.set_promised_attachment(info.promised.attachment);
  message.set_in_session(info.in_session);
  if (!info.configuration.has_value()) return message;
  *message.mutable_configuration() = ToMessage(*info.configuration);
  message.set_succeeded_by_attachment(info.configuration->succeeded_by.attachment);
  const replica::Member* self = info.configuration->Find(pool.id(), info.id);
  message.set_restarted(self != nullptr && self->incarnation != pool.incarnation());
  return message;
}

v1::SegmentStatus ToMessage(const engine::SegmentStatus& status) {
  v1::SegmentStatus message;
  message.set_segment(status.configuration.segment);
  *message.mutable_configuration() = ToMessage(status.configuration);
  for (const engine::MemberStatus& member : status.members) {
    v1::MemberStatus* one = message.add_members();
    *one->mutable_member() = ToMessage(member.member);
    one->set_connected(member.connected);
    one->set_problem(member.problem);
    one->set_resync_regions_left(member.resync_regions_left);
    one->set_resync_copied_bytes(member.resync_copied_bytes);
  }
  message.set_regions_to_reconcile(status.regions_to_reconcile);
  message.set_waiting_for(status.waiting_for);
  message.set_error(std::string(status.health.message()));
  if (status.scrub) {
    *message.mutable_scrub() = ToMessage(*status.scrub, status.configuration.snapshots);
  }
  return message;
}

v1::Snapshot ToMessage(const replica::ConfiguredSnapshot& snapshot) {
  v1::Snapshot message;
  message.set_name(snapshot.name);
  message.set_size_bytes(snapshot.size_bytes);
  message.set_created_unix_ns(snapshot.created_unix_ns);
  message.set_id(snapshot.id.ToString());
  message.set_complete(snapshot.complete);
  return message;
}

v1::GetVolumeStatusResponse DescribeEngine(const std::string& name, engine::Engine* engine) {
  v1::GetVolumeStatusResponse response;
  response.set_name(name);
  response.set_attached(true);
  response.set_read_only(engine->read_only());
  response.set_size_bytes(engine->size_bytes());
  response.set_attachment(engine->epoch().attachment);
  response.set_restart(engine->epoch().restart);
  response.set_error(std::string(engine->health().message()));
  SetQosMessage(engine->limiter().limits(), &response);
  for (std::size_t i = 0; i < engine->segment_count(); ++i) {
    const engine::SegmentStatus status = engine->segment(i).Status();
    response.set_volume_id(status.configuration.volume.ToString());
    *response.add_segments() = ToMessage(status);
  }
  return response;
}

void SetQosMessage(const engine::QosLimits& limits, v1::GetVolumeStatusResponse* status) {
  if (limits == engine::QosLimits()) return;
  status->mutable_qos()->set_iops(limits.iops);
  status->mutable_qos()->set_bandwidth_bytes_per_second(limits.bytes_per_second);
}

absl::StatusOr<pool::Uuid> ParseId(std::string_view field, const std::string& text) {
  const absl::StatusOr<pool::Uuid> id = pool::Uuid::Parse(text);
  if (id.ok() && !id->is_nil()) return id;
  return absl::InvalidArgumentError(absl::StrCat(
      std::string(field), " '", text, "' must be 32 hexadecimal digits, not all of them 0"));
}

absl::StatusOr<replica::Member> ParseMember(const v1::Member& message) {
  replica::Member member;
  ASSIGN_OR_RETURN(const pool::Uuid pool, ParseId("a member's pool_id", message.pool_id()));
  ASSIGN_OR_RETURN(const pool::Uuid id, ParseId("a member's replica_id", message.replica_id()));
  member.pool = pool::PoolId(pool);
  member.replica = pool::ReplicaId(id);
  if (!message.incarnation().empty()) {
    ASSIGN_OR_RETURN(member.incarnation, ParseId("a member's incarnation", message.incarnation()));
  }
  member.address = message.address();
  member.witness = message.witness();
  member.state = ParseState(message.state());
  return member;
}

absl::StatusOr<pool::ReplicaId> ParseReplicaId(std::string_view field, const std::string& text) {
  ASSIGN_OR_RETURN(const pool::Uuid id, ParseId(field, text));
  return pool::ReplicaId(id);
}

absl::StatusOr<replica::NewMember> ParseNewMember(const v1::CreateReplicaRequest& request) {
  replica::NewMember made;
  ASSIGN_OR_RETURN(const pool::Uuid volume, ParseId("volume_id", request.volume_id()));
  ASSIGN_OR_RETURN(made.replica, ParseReplicaId("replica_id", request.replica_id()));
  made.volume = pool::VolumeId(volume);
  made.name = request.volume();
  made.segment = request.segment();
  made.size_bytes = request.size_bytes();
  made.witness = request.witness();
  replica::Configuration& configuration = made.configuration;
  configuration.volume = made.volume;
  configuration.volume_name = made.name;
  configuration.segment = made.segment;
  configuration.version.counter = 1;  // in no epoch: below every one that an engine makes
  configuration.size_bytes = request.size_bytes();
  configuration.min_in_sync = request.min_in_sync() == 0 ? 1 : request.min_in_sync();
  configuration.segment_count = std::max(request.segment_count(), 1U);
  configuration.segment_bytes = request.segment_bytes();
  for (const v1::Member& member : request.members()) {
    ASSIGN_OR_RETURN(replica::Member parsed, ParseMember(member));
    if (parsed.replica == made.replica && parsed.witness != made.witness) {
      return absl::InvalidArgumentError(
          absl::StrCat("replica ", request.replica_id(), " of volume ", made.name,
                       " is a witness in one place of the request and a copy in the other"));
    }
    configuration.members.push_back(std::move(parsed));
  }
  RETURN_IF_ERROR(replica::Validate(configuration));
  if (request.clone_of_replica_id().empty()) return made;
  ASSIGN_OR_RETURN(made.clone_of,
                   ParseReplicaId("clone_of_replica_id", request.clone_of_replica_id()));
  ASSIGN_OR_RETURN(const pool::Uuid snapshot,
                   ParseId("clone_snapshot_id", request.clone_snapshot_id()));
  made.clone_snapshot = pool::SnapshotId(snapshot);
  return made;
}

absl::StatusOr<engine::AttachTarget> ParseTarget(const std::string& name,
                                                 const v1::AttachTarget& target,
                                                 std::uint32_t restart) {
  ASSIGN_OR_RETURN(const pool::Uuid volume, ParseId("volume_id", target.volume_id()));
  if (target.attachment() == 0) {
    return absl::InvalidArgumentError(absl::StrCat("volume ", name, ": attachment 0 is none"));
  }
  if (target.segments_size() == 0 || (target.segments_size() > 1 && target.segment_bytes() == 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("volume ", name,
                     ": a target names its segments, and their size when there "
                     "are several"));
  }
  engine::AttachTarget parsed;
  parsed.name = name;
  parsed.epoch = {target.attachment(), restart, pool::EngineId(pool::Uuid::Random())};
  parsed.segment_bytes = target.segment_bytes();
  ASSIGN_OR_RETURN(parsed.segments, ParseSegments(target.segments(), pool::VolumeId(volume)));
  return parsed;
}

absl::StatusOr<std::vector<engine::SegmentHint>> ParseSegments(
    const google::protobuf::RepeatedPtrField<v1::SegmentHint>& messages,
    const pool::VolumeId& volume) {
  if (messages.size() > static_cast<int>(replica::kSegmentsMax)) {
    return absl::InvalidArgumentError(absl::StrCat(messages.size(), " segments are more than the ",
                                                   replica::kSegmentsMax, " of a volume"));
  }
  std::vector<engine::SegmentHint> segments;
  for (const v1::SegmentHint& message : messages) {
    ASSIGN_OR_RETURN(engine::SegmentHint hint, ParseHint(message, volume));
    segments.push_back(std::move(hint));
  }
  return segments;
}

v1::AttachTarget PresentTarget(const v1::AttachTarget& target,
                               const v1::GetVolumeStatusResponse& status) {
  v1::AttachTarget present = target;
  present.clear_segments();
  for (const v1::SegmentStatus& segment : status.segments()) {
    v1::SegmentHint* hint = present.add_segments();
    hint->set_segment(segment.segment());
    *hint->mutable_members() = segment.configuration().members();
    for (const v1::Member& before : segment.configuration().predecessor()) {
      const auto& members = hint->members();
      const bool known = std::any_of(members.begin(), members.end(), [&before](const auto& member) {
        return member.replica_id() == before.replica_id();
      });
      if (!known) *hint->add_members() = before;
    }
  }
  return present;
}

}  // namespace keelson::service
