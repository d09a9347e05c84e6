#include "provisioner/reconcile/plan.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/placement/capacity.h"
#include "provisioner/placement/place.h"
#include "provisioner/reconcile/ids.h"

namespace keelson::provisioner {
namespace {

constexpr std::size_t kIdDigits = 32;

rec::ReplicaRecord ReplicaAt(const placement::Place& place, bool witness,
                             const Environment& environment) {
  rec::ReplicaRecord replica;
  replica.set_replica_id(RandomHex(kIdDigits));
  replica.set_node(place.node);
  replica.set_pool_id(place.pool_id);
  replica.set_witness(witness);
  replica.set_data_address(environment.stores->View(place.node).node.data_address());
  return replica;
}

rec::SegmentRecord SegmentAt(const placement::SegmentPlacement& placement, std::uint64_t size_bytes,
                             const Environment& environment) {
  rec::SegmentRecord segment;
  segment.set_size_bytes(size_bytes);
  for (const placement::Place& place : placement.copies) {
    *segment.add_replicas() = ReplicaAt(place, /*witness=*/false, environment);
  }
  if (placement.witness) {
    *segment.add_replicas() = ReplicaAt(*placement.witness, /*witness=*/true, environment);
  }
  return segment;
}

placement::TopologyMap MapOf(const control::v1::Topology& topology) {
  return {topology.segments().begin(), topology.segments().end()};
}

std::vector<placement::Member> MembersOf(const rec::SegmentRecord& segment) {
  std::vector<placement::Member> members;
  for (const rec::ReplicaRecord& replica : segment.replicas()) {
    members.push_back({.place = {replica.node(), replica.pool_id()},
                       .witness = replica.witness(),
                       .in_sync = true,
                       .leaving = replica.life() == rec::ReplicaRecord::LEAVING});
  }
  return members;
}

}  // namespace

placement::Constraints ConstraintsOf(const rec::VolumeRecord& volume,
                                     const Environment& environment) {
  placement::Constraints constraints;
  constraints.zone_spread = volume.settings().zone_spread();
  const bool local = volume.settings().data_locality() == "strictLocal";
  for (const control::v1::Topology& topology : volume.requisite()) {
    (local ? constraints.requisite : constraints.preferred).push_back(MapOf(topology));
  }
  for (const control::v1::Topology& topology : volume.preferred()) {
    constraints.preferred.push_back(MapOf(topology));
  }
  constraints.limits = environment.options.limits;
  constraints.seed = std::hash<std::string>()(volume.uuid());
  return constraints;
}

absl::StatusOr<std::vector<rec::SegmentRecord>> PlanSegments(
    const std::vector<placement::NodeState>& nodes, const rec::VolumeRecord& volume,
    std::uint64_t* segment_bytes, const Environment& environment) {
  placement::Volume like;
  like.copies = volume.settings().replicas();
  like.constraints = ConstraintsOf(volume, environment);
  like.segment_bytes = environment.options.segment_bytes_max;
  // The requisite topologies are where the volume is to be used, which for one with copies is
  // everywhere. Its copies go there if they can (allowedTopologies), and else anywhere.
  const placement::Constraints anywhere = like.constraints;
  if (like.constraints.requisite.empty()) {
    for (const control::v1::Topology& topology : volume.requisite()) {
      like.constraints.requisite.push_back(MapOf(topology));
    }
  }
  absl::StatusOr<placement::Cut> cut_there = placement::CutVolume(nodes, like, volume.size_bytes());
  if (absl::IsResourceExhausted(cut_there.status())) {
    like.constraints = anywhere;
    cut_there = placement::CutVolume(nodes, like, volume.size_bytes());
  }
  ASSIGN_OR_RETURN(const placement::Cut cut, std::move(cut_there));
  *segment_bytes = cut.segment_bytes;
  placement::Request request;
  request.copies = like.copies;
  request.constraints = like.constraints;
  request.segment_sizes = cut.segment_sizes;
  ASSIGN_OR_RETURN(const std::vector<placement::SegmentPlacement> placed,
                   placement::PlaceSegments(nodes, request));
  std::vector<rec::SegmentRecord> segments;
  for (std::size_t i = 0; i < placed.size(); ++i) {
    segments.push_back(SegmentAt(placed[i], request.segment_sizes[i], environment));
  }
  return segments;
}

absl::StatusOr<rec::SegmentRecord> PlanSegment(const std::vector<placement::NodeState>& nodes,
                                               const rec::VolumeRecord& volume,
                                               std::uint64_t size_bytes,
                                               const Environment& environment) {
  placement::Request request;
  request.copies = volume.settings().replicas();
  request.constraints = ConstraintsOf(volume, environment);
  request.segment_sizes = {size_bytes};
  ASSIGN_OR_RETURN(const std::vector<placement::SegmentPlacement> placed,
                   placement::PlaceSegments(nodes, request));
  return SegmentAt(placed.front(), size_bytes, environment);
}

absl::StatusOr<std::vector<rec::SegmentRecord>> PlanCloneSegments(
    const rec::VolumeRecord& source, const v1::GetVolumeStatusResponse& status,
    const rec::SnapshotRecord& snapshot, const Environment& environment) {
  std::vector<rec::SegmentRecord> segments;
  std::uint64_t left_bytes = snapshot.size_bytes();
  for (int i = 0; i < source.segments_size() && left_bytes > 0; ++i) {
    rec::SegmentRecord segment;
    const bool last = source.segment_bytes() == 0 || left_bytes <= source.segment_bytes();
    segment.set_size_bytes(last ? left_bytes : source.segment_bytes());
    left_bytes -= segment.size_bytes();
    std::vector<placement::Member> taken;
    for (const rec::ReplicaRecord& replica : source.segments(i).replicas()) {
      const auto has_everything = [&](const v1::MemberStatus& member) {
        return member.member().replica_id() == replica.replica_id() &&
               member.member().state() == v1::MEMBER_STATE_IN_SYNC && member.connected();
      };
      const bool in_sync = i < status.segments_size() &&
                           std::any_of(status.segments(i).members().begin(),
                                       status.segments(i).members().end(), has_everything);
      if (replica.witness() || !in_sync) continue;
      const placement::Place place{replica.node(), replica.pool_id()};
      rec::ReplicaRecord copy = ReplicaAt(place, /*witness=*/false, environment);
      copy.set_clone_of_replica_id(replica.replica_id());
      copy.set_clone_snapshot_id(snapshot.block_store_id());
      *segment.add_replicas() = std::move(copy);
      taken.push_back({.place = place});
    }
    if (taken.empty()) {
      return absl::UnavailableError(
          absl::StrCat("no copy of segment ", i, " of volume ", source.id(),
                       " has everything and answers; bring one of its nodes back"));
    }
    if (taken.size() % 2 == 0) {
      placement::OneRequest witness;
      witness.segment_bytes = segment.size_bytes();
      witness.members = taken;
      witness.witness = true;
      witness.constraints.limits = environment.options.limits;
      const absl::StatusOr<placement::Place> place =
          placement::PlaceOne(environment.NodeStates(""), witness);
      // Without one it is as with two nodes only; healing adds it when there is a place.
      if (place.ok()) *segment.add_replicas() = ReplicaAt(*place, /*witness=*/true, environment);
    }
    segments.push_back(std::move(segment));
  }
  return segments;
}

absl::StatusOr<rec::ReplicaRecord> PlanReplica(const rec::VolumeRecord& volume, int segment,
                                               bool witness, const std::string& near_node,
                                               const Environment& environment) {
  placement::OneRequest request;
  request.segment_bytes = volume.segments(segment).size_bytes();
  request.members = MembersOf(volume.segments(segment));
  request.witness = witness;
  request.constraints = ConstraintsOf(volume, environment);
  request.constraints.near_node = near_node;
  ASSIGN_OR_RETURN(const placement::Place place,
                   placement::PlaceOne(environment.NodeStates(""), request));
  return ReplicaAt(place, witness, environment);
}

int CopiesOf(const rec::SegmentRecord& segment) {
  return static_cast<int>(std::count_if(
      segment.replicas().begin(), segment.replicas().end(), [](const rec::ReplicaRecord& replica) {
        return !replica.witness() && replica.life() != rec::ReplicaRecord::LEAVING;
      }));
}

std::uint32_t MinInSyncNow(const rec::VolumeRecord& volume, int segment) {
  const auto copies = static_cast<std::uint32_t>(CopiesOf(volume.segments(segment)));
  const std::uint32_t wanted = std::max<std::uint32_t>(1, volume.settings().min_in_sync());
  if (copies >= volume.settings().replicas()) return std::min(wanted, std::max(1u, copies));
  return std::clamp<std::uint32_t>(wanted, 1, std::max(2u, copies) - 1);
}

v1::Qos QosOf(const control::v1::Settings& settings) {
  v1::Qos qos;
  qos.set_iops(settings.iops());
  qos.set_bandwidth_bytes_per_second(settings.bandwidth_bytes_per_second());
  return qos;
}

void AddOrphan(const rec::ReplicaRecord& replica, rec::VolumeRecord* volume) {
  rec::OrphanRecord* const orphan = volume->add_orphans();
  orphan->set_node(replica.node());
  orphan->set_pool_id(replica.pool_id());
  orphan->set_replica_id(replica.replica_id());
}

}  // namespace keelson::provisioner
