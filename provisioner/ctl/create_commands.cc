// keelctl: what makes replicas of a volume that come to be all or none: creation, clones, growth by
// further segments.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "provisioner/ctl/cluster_commands.h"
#include "provisioner/ctl/cluster_format.h"
#include "provisioner/ctl/format.h"

namespace keelson::ctl {
namespace {

struct NewSegment {
  std::uint32_t segment = 0;
  std::uint64_t size_bytes = 0;
  std::vector<v1::Member> members;
  std::vector<std::string> nodes;    // where each of them is
  std::vector<std::string> sources;  // of a clone: the replica that each begins as; empty: none
  std::string snapshot_id;           // of those
};

struct NewVolume {
  std::string name;
  std::string id;
  std::uint32_t segment_count = 1;
  std::uint64_t segment_bytes = 0;
  std::uint32_t min_in_sync = 1;
  std::vector<NewSegment> segments;
};

// Writes wait while fewer copies have everything, so that one failure does not leave the only copy.
std::uint32_t MinInSync(std::size_t copies) { return copies >= 3 ? 2 : 1; }

void AddMember(const Place& place, bool witness, const std::string& source, NewSegment* segment) {
  segment->members.push_back(MemberAt(place, RandomId(), witness));
  segment->nodes.push_back(place.node);
  segment->sources.push_back(source);
}

NewSegment SegmentAt(const Placement& placement, std::uint32_t number, std::uint64_t size_bytes) {
  NewSegment segment;
  segment.segment = number;
  segment.size_bytes = size_bytes;
  for (const Place& place : placement.copies) AddMember(place, /*witness=*/false, "", &segment);
  if (placement.witness) AddMember(*placement.witness, /*witness=*/true, "", &segment);
  return segment;
}

v1::CreateReplicaRequest RequestFor(const NewVolume& volume, const NewSegment& segment,
                                    std::size_t index) {
  v1::CreateReplicaRequest request;
  request.set_volume_id(volume.id);
  request.set_volume(volume.name);
  request.set_segment(segment.segment);
  request.set_replica_id(segment.members[index].replica_id());
  request.set_pool(segment.members[index].pool_id());
  request.set_size_bytes(segment.size_bytes);
  request.set_witness(segment.members[index].witness());
  for (const v1::Member& member : segment.members) *request.add_members() = member;
  request.set_min_in_sync(volume.min_in_sync);
  request.set_segment_count(volume.segment_count);
  request.set_segment_bytes(volume.segment_bytes);
  if (segment.sources[index].empty()) return request;
  request.set_clone_of_replica_id(segment.sources[index]);
  request.set_clone_snapshot_id(segment.snapshot_id);
  return request;
}

// Deletes the replicas; a sentence about the nodes where that failed, or nothing.
std::string Unmake(const Cluster& cluster, const NewVolume& volume) {
  std::vector<std::string> left;
  for (const NewSegment& segment : volume.segments) {
    for (std::size_t i = 0; i < segment.members.size(); ++i) {
      v1::DeleteReplicaRequest request;
      request.set_pool(segment.members[i].pool_id());
      request.set_replica_id(segment.members[i].replica_id());
      const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(segment.nodes[i]);
      const absl::Status gone =
          client.ok() ? (*client)->DeleteReplica(request).status() : client.status();
      const bool named = std::find(left.begin(), left.end(), segment.nodes[i]) != left.end();
      if (!gone.ok() && !named) left.push_back(segment.nodes[i]);
    }
  }
  if (left.empty()) return "";
  return absl::StrCat("; replicas of it may be left on ", Enumerate(left));
}

// All or nothing: the first configuration is on every member before the segment is there (R2).
absl::Status Make(const Cluster& cluster, const NewVolume& volume) {
  for (const NewSegment& segment : volume.segments) {
    for (std::size_t i = 0; i < segment.members.size(); ++i) {
      const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(segment.nodes[i]);
      const absl::Status made =
          client.ok() ? (*client)->CreateReplica(RequestFor(volume, segment, i)).status()
                      : client.status();
      if (made.ok()) continue;
      return absl::Status(made.code(),
                          absl::StrCat(std::string(made.message()), "; volume '", volume.name,
                                       "' is as it was", Unmake(cluster, volume)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckNameIsFree(const std::vector<NodeAnswer>& nodes, const std::string& name) {
  const std::vector<std::string> names = VolumeNames(nodes);
  if (std::find(names.begin(), names.end(), name) == names.end()) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat("there is already a volume '", name, "'"));
}

absl::Status Show(const Cluster& cluster, const std::string& name, Output output,
                  std::ostream* out) {
  const absl::StatusOr<VolumeView> view = cluster.View(name);
  if (!view.ok()) return view.status();
  PrintStatus(output, *view, out);
  return absl::OkStatus();
}

// --- Clones ---

const v1::Snapshot* SnapshotIn(const PlacedMember& placed, const std::string& id) {
  if (!placed.replica) return nullptr;
  for (const v1::Snapshot& snapshot : placed.replica->configuration().snapshots()) {
    if (snapshot.id() == id) return &snapshot;
  }
  return nullptr;
}

absl::StatusOr<std::string> SnapshotId(const VolumeView& volume, const std::string& name) {
  for (const PlacedMember& placed : volume.segments[0].members) {
    if (!placed.replica) continue;
    for (const v1::Snapshot& snapshot : placed.replica->configuration().snapshots()) {
      if (snapshot.name() == name && snapshot.complete()) return snapshot.id();
    }
  }
  return absl::NotFoundError(
      absl::StrCat("volume '", volume.name, "' has no complete snapshot '", name, "'"));
}

// The segment's part of the clone: in the pool of each copy that is InSync, and so has all of the
// snapshot. Without members when the segment was added after the snapshot.
absl::StatusOr<NewSegment> CloneSegment(const std::vector<NodeAnswer>& nodes,
                                        const SegmentView& source, const std::string& snapshot_id) {
  NewSegment made;
  made.segment = source.segment;
  made.snapshot_id = snapshot_id;
  SegmentView placed_view;  // of the clone
  bool known = false;
  for (const PlacedMember& placed : source.members) {
    const v1::Snapshot* const snapshot = SnapshotIn(placed, snapshot_id);
    known = known || snapshot != nullptr;
    if (snapshot == nullptr || !snapshot->complete()) continue;
    if (placed.member.witness() || placed.member.state() != v1::MEMBER_STATE_IN_SYNC) continue;
    for (const NodeAnswer& node : nodes) {
      for (const v1::Pool& pool : node.node.pools()) {
        if (pool.id() != placed.member.pool_id() || !pool.error().empty()) continue;
        const Place place{node.name,          pool.id(),
                          pool.incarnation(), node.node.data_address(),
                          pool.free_bytes(),  pool.capacity_bytes()};
        AddMember(place, /*witness=*/false, placed.member.replica_id(), &made);
        made.size_bytes = snapshot->size_bytes();
        placed_view.members.push_back(placed);
      }
    }
  }
  if (!known && source.segment > 0) return made;
  if (made.members.empty()) {
    return absl::UnavailableError(
        absl::StrCat("no copy of segment ", source.segment,
                     " that has everything answers with this snapshot; bring one of them back"));
  }
  if (made.members.size() % 2 == 0) {
    const std::optional<Place> witness = WitnessPlace(nodes, placed_view, "");
    if (witness) AddMember(*witness, /*witness=*/true, "", &made);
  }
  return made;
}

// --- Growth ---

// What a growth that was ended half-way has made is of no use.
absl::Status DeleteStrays(const Cluster& cluster, const VolumeView& volume) {
  for (const PlacedMember& placed : volume.strays) {
    const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(placed.node);
    if (!client.ok()) return client.status();
    v1::DeleteReplicaRequest request;
    request.set_pool(placed.member.pool_id());
    request.set_replica_id(placed.member.replica_id());
    if (absl::Status gone = (*client)->DeleteReplica(request).status(); !gone.ok()) return gone;
  }
  return absl::OkStatus();
}

// The segments that follow those of the volume, made.
absl::StatusOr<NewVolume> MakeFurtherSegments(const Cluster& cluster,
                                              const std::vector<NodeAnswer>& nodes,
                                              const VolumeView& volume, std::uint64_t size_bytes) {
  const std::vector<std::uint64_t> sizes = SegmentSizes(size_bytes, volume.segment_bytes());
  const std::size_t before = volume.segments.size();
  absl::StatusOr<std::vector<Placement>> placements =
      PlaceSegments(nodes, volume.segments[0].copies(), {sizes.begin() + before, sizes.end()});
  if (!placements.ok()) return placements.status();
  NewVolume further;
  further.name = volume.name;
  further.id = volume.volume_id;
  further.segment_count = static_cast<std::uint32_t>(sizes.size());
  further.segment_bytes = volume.segment_bytes();
  further.min_in_sync = volume.segments[0].configuration.min_in_sync();
  for (std::size_t i = before; i < sizes.size(); ++i) {
    further.segments.push_back(
        SegmentAt((*placements)[i - before], static_cast<std::uint32_t>(i), sizes[i]));
  }
  if (absl::Status made = Make(cluster, further); !made.ok()) return made;
  return further;
}

}  // namespace

absl::Status CreateOnNodes(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                           std::ostream* out) {
  if (arguments.min_in_sync > arguments.replicas) {
    return absl::InvalidArgumentError(absl::StrCat("--min-in-sync ", arguments.min_in_sync,
                                                   " is more than the ", arguments.replicas,
                                                   " copies of --replicas"));
  }
  if (arguments.segment_bytes % kSegmentUnitBytes != 0) {
    return absl::InvalidArgumentError("--segment-size must be a multiple of 4 MiB");
  }
  const std::vector<NodeAnswer> nodes = cluster.Ask("");
  if (absl::Status free = CheckNameIsFree(nodes, arguments.name); !free.ok()) return free;
  NewVolume volume;
  volume.name = arguments.name;
  volume.id = RandomId();
  volume.segment_bytes = arguments.segment_bytes;
  volume.min_in_sync =
      arguments.min_in_sync != 0 ? arguments.min_in_sync : MinInSync(arguments.replicas);
  if (volume.segment_bytes == 0) {
    const absl::StatusOr<Placement> one = ChoosePlaces(nodes, arguments.replicas);
    if (!one.ok()) return one.status();
    volume.segment_bytes = ChooseSegmentBytes(*one, arguments.size_bytes);
  }
  const std::vector<std::uint64_t> sizes = SegmentSizes(arguments.size_bytes, volume.segment_bytes);
  volume.segment_count = static_cast<std::uint32_t>(sizes.size());
  const absl::StatusOr<std::vector<Placement>> placements =
      PlaceSegments(nodes, arguments.replicas, sizes);
  if (!placements.ok()) return placements.status();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    volume.segments.push_back(SegmentAt((*placements)[i], static_cast<std::uint32_t>(i), sizes[i]));
  }
  if (absl::Status made = Make(cluster, volume); !made.ok()) return made;
  return Show(cluster, arguments.name, output, out);
}

absl::Status CloneOnNodes(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                          std::ostream* out) {
  const std::size_t at = arguments.source.find('@');  // not a character of names
  if (at == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", arguments.source, "' must be VOLUME@SNAPSHOT"));
  }
  const std::string name = arguments.source.substr(0, at);
  const std::vector<NodeAnswer> nodes = cluster.Ask(name, {.snapshots = true});
  if (absl::Status free = CheckNameIsFree(nodes, arguments.name); !free.ok()) return free;
  const absl::StatusOr<VolumeView> source = FindVolume(nodes, name);
  if (!source.ok()) return source.status();
  // Without a majority it is not known who has everything.
  if (absl::Status known = CheckReachable(*source); !known.ok()) return known;
  const absl::StatusOr<std::string> snapshot = SnapshotId(*source, arguments.source.substr(at + 1));
  if (!snapshot.ok()) return snapshot.status();
  NewVolume clone;
  clone.name = arguments.name;
  clone.id = RandomId();
  clone.segment_bytes = source->segment_bytes();
  std::size_t copies = kCopiesMax;
  for (const SegmentView& segment : source->segments) {
    absl::StatusOr<NewSegment> made = CloneSegment(nodes, segment, *snapshot);
    if (!made.ok()) return made.status();
    if (made->members.empty()) break;
    const auto data = std::count_if(made->members.begin(), made->members.end(),
                                    [](const v1::Member& member) { return !member.witness(); });
    copies = std::min(copies, static_cast<std::size_t>(data));
    clone.segments.push_back(*std::move(made));
  }
  clone.segment_count = static_cast<std::uint32_t>(clone.segments.size());
  clone.min_in_sync = MinInSync(copies);
  if (arguments.size_bytes != 0) {
    NewSegment& last = clone.segments.back();
    const std::uint64_t before = (clone.segments.size() - 1) * clone.segment_bytes;
    if (arguments.size_bytes < before + last.size_bytes ||
        (clone.segment_bytes != 0 && arguments.size_bytes > before + clone.segment_bytes)) {
      return absl::InvalidArgumentError(
          absl::StrCat("a clone of this snapshot has at least its ", before + last.size_bytes,
                       " bytes, and at most what its last segment holds; grow it further when it "
                       "is attached"));
    }
    last.size_bytes = arguments.size_bytes - before;
  }
  if (absl::Status made = Make(cluster, clone); !made.ok()) return made;
  return Show(cluster, arguments.name, output, out);
}

absl::Status GrowOnNodes(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                         std::ostream* out) {
  const std::vector<NodeAnswer> nodes = cluster.Ask(arguments.name);
  const absl::StatusOr<VolumeView> volume = FindVolume(nodes, arguments.name);
  if (!volume.ok()) return volume.status();
  const absl::StatusOr<std::string> socket = ServingSocket(cluster, arguments.name);
  if (!socket.ok()) return socket.status();
  v1::GrowVolumeRequest request;
  request.set_name(arguments.name);
  request.set_size_bytes(arguments.size_bytes);
  const std::uint64_t full_bytes = volume->segment_bytes() * volume->segments.size();
  NewVolume further;
  if (volume->segment_bytes() != 0 && arguments.size_bytes > full_bytes) {
    if (absl::Status gone = DeleteStrays(cluster, *volume); !gone.ok()) return gone;
    absl::StatusOr<NewVolume> made =
        MakeFurtherSegments(cluster, nodes, *volume, arguments.size_bytes);
    if (!made.ok()) return made.status();
    further = *std::move(made);
    for (const NewSegment& segment : further.segments) {
      v1::SegmentHint* hint = request.add_new_segments();
      hint->set_segment(segment.segment);
      for (const v1::Member& member : segment.members) *hint->add_members() = member;
    }
  }
  const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(volume->serving_node);
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::GrowVolumeResponse> grown = (*client)->GrowVolume(request);
  // What was made for it is not deleted: the volume may have it, and a further try deletes what is
  // left over.
  if (!grown.ok()) return grown.status();
  Print(output, grown->volume(), out);
  return absl::OkStatus();
}

}  // namespace keelson::ctl
