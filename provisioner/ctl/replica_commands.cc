// keelctl: changes of a volume's members.

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "provisioner/ctl/cluster_commands.h"
#include "provisioner/ctl/cluster_format.h"

namespace keelson::ctl {
namespace {

constexpr std::chrono::milliseconds kPollInterval{300};

absl::StatusOr<VolumeView> AttachedVolume(const Cluster& cluster, const std::string& name) {
  absl::StatusOr<VolumeView> volume = cluster.View(name);
  if (!volume.ok()) return volume;
  if (!volume->serving_node.empty() && volume->status->error().empty()) return volume;
  return absl::FailedPreconditionError(
      absl::StrCat("members change while the volume is attached, and ", Explain(*volume)));
}

// The attached volume, and one segment of it.
struct Found {
  VolumeView volume;
  SegmentView segment;
};

absl::StatusOr<Found> AttachedSegment(const Cluster& cluster, const std::string& name,
                                      std::uint32_t number) {
  absl::StatusOr<VolumeView> volume = AttachedVolume(cluster, name);
  if (!volume.ok()) return volume.status();
  if (number >= volume->segments.size()) {
    return absl::NotFoundError(absl::StrCat("volume '", name, "' has ", volume->segments.size(),
                                            " segments, and none of number ", number));
  }
  SegmentView segment = volume->segments[number];
  return Found{*std::move(volume), std::move(segment)};
}

const PlacedMember* WitnessOf(const SegmentView& segment) {
  for (const PlacedMember& placed : segment.members) {
    if (placed.member.witness()) return &placed;
  }
  return nullptr;
}

// The member on the node; one that does not answer is known by being the only one not found.
absl::StatusOr<PlacedMember> MemberOn(const Found& found, const std::string& node) {
  const auto& [volume, segment] = found;
  if (const PlacedMember* placed = segment.OnNode(node); placed != nullptr) return *placed;
  std::vector<PlacedMember> lost;
  for (const PlacedMember& placed : segment.members) {
    if (placed.node.empty()) lost.push_back(placed);
  }
  const bool silent = std::find(volume.silent_nodes.begin(), volume.silent_nodes.end(), node) !=
                      volume.silent_nodes.end();
  if (silent && lost.size() == 1) return lost.front();
  if (silent && lost.size() > 1) {
    return absl::UnavailableError(
        absl::StrCat("node ", node, " does not answer, and ", lost.size(),
                     " members are on nodes that do not: which one is its is not known"));
  }
  return absl::NotFoundError(
      absl::StrCat("node ", node, " has no member of volume '", volume.name, "'"));
}

const PlacedMember* LeftoverOn(const SegmentView& segment, const std::string& node) {
  for (const PlacedMember& placed : segment.leftovers) {
    if (placed.node == node) return &placed;
  }
  return nullptr;
}

// Makes the replica, with the members that there are as what it knows of the volume.
absl::Status MakeReplica(const Cluster& cluster, const Found& found, const std::string& node,
                         const v1::Member& member) {
  const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(node);
  if (!client.ok()) return client.status();
  const v1::Configuration& configuration = found.segment.configuration;
  v1::CreateReplicaRequest request;
  request.set_volume_id(found.volume.volume_id);
  request.set_volume(found.volume.name);
  request.set_segment(found.segment.segment);
  request.set_replica_id(member.replica_id());
  request.set_pool(member.pool_id());
  request.set_size_bytes(configuration.size_bytes());
  request.set_witness(member.witness());
  *request.mutable_members() = configuration.members();
  request.set_min_in_sync(configuration.min_in_sync());
  request.set_segment_count(configuration.segment_count());
  request.set_segment_bytes(configuration.segment_bytes());
  return (*client)->CreateReplica(request).status();
}

absl::Status DeleteReplicaOn(const Cluster& cluster, const PlacedMember& placed) {
  if (!placed.replica) return absl::OkStatus();  // its node does not answer, or it is gone
  const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(placed.node);
  if (!client.ok()) return client.status();
  v1::DeleteReplicaRequest request;
  request.set_pool(placed.member.pool_id());
  request.set_replica_id(placed.member.replica_id());
  return (*client)->DeleteReplica(request).status();
}

absl::Status AddMember(const Cluster& cluster, const Found& found, const v1::Member& member,
                       const v1::Member* witness) {
  const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(found.volume.serving_node);
  if (!client.ok()) return client.status();
  v1::AddReplicaRequest request;
  request.set_volume(found.volume.name);
  request.set_segment(found.segment.segment);
  *request.mutable_member() = member;
  if (witness != nullptr) *request.mutable_witness() = *witness;
  return (*client)->AddReplica(request).status();
}

// `witness` goes with it when it is a member, and else comes.
absl::Status RemoveMember(const Cluster& cluster, const Found& found, const v1::Member& member,
                          const v1::Member* witness) {
  const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(found.volume.serving_node);
  if (!client.ok()) return client.status();
  v1::RemoveReplicaRequest request;
  request.set_volume(found.volume.name);
  request.set_segment(found.segment.segment);
  request.set_replica_id(member.replica_id());
  if (witness != nullptr) *request.mutable_witness() = *witness;
  return (*client)->RemoveReplica(request).status();
}

// Removes the witness, and what it keeps.
absl::Status DropWitness(const Cluster& cluster, const Found& found, const PlacedMember& witness) {
  if (absl::Status gone = RemoveMember(cluster, found, witness.member, nullptr); !gone.ok()) {
    return gone;
  }
  return DeleteReplicaOn(cluster, witness);
}

// A witness's replica on a node that has nothing of the segment, and is not `but_not`; nothing when
// there is no such node.
absl::StatusOr<std::optional<v1::Member>> MakeWitness(const Cluster& cluster,
                                                      const std::string& name, std::uint32_t number,
                                                      const std::string& but_not) {
  const absl::StatusOr<Found> found = AttachedSegment(cluster, name, number);
  if (!found.ok()) return found.status();
  const std::optional<Place> where = WitnessPlace(cluster.Ask(name), found->segment, but_not);
  if (!where) return std::optional<v1::Member>();
  v1::Member witness = MemberAt(*where, RandomId(), /*witness=*/true);
  const absl::Status made = MakeReplica(cluster, *found, where->node, witness);
  if (!made.ok()) return made;
  return std::optional<v1::Member>(std::move(witness));
}

absl::StatusOr<Place> PlaceOnNode(const Cluster& cluster, const std::string& name,
                                  const std::string& node) {
  for (const NodeAnswer& one : cluster.Ask(name)) {
    if (one.name == node) return PlaceOn(one, /*remote=*/true);
  }
  return cluster.SocketOf(node).status();  // which is that there is no such node
}

// Adds a copy on `node`. `balance`: the witness follows the number of copies; otherwise only a
// single copy gets one beside it (R13).
absl::Status AddCopy(const Cluster& cluster, const std::string& name, std::uint32_t number,
                     const std::string& node, bool balance) {
  absl::StatusOr<Found> found = AttachedSegment(cluster, name, number);
  if (!found.ok()) return found.status();
  const PlacedMember* present = found->segment.OnNode(node);
  if (present != nullptr && !present->member.witness()) return absl::OkStatus();
  if (found->segment.copies() >= kCopiesMax && balance) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume '", name, "' has ", found->segment.copies(), " copies, which is the most"));
  }
  if (LeftoverOn(found->segment, node) != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("node ", node, " still has a replica of volume '", name,
                     "' that is no member any more; delete it with `keelctl replica remove ", name,
                     " --on ", node, "`"));
  }
  if (present != nullptr) {
    // The copy takes the witness's place: two votes on one node would be one failure.
    const PlacedMember witness = *present;
    if (absl::Status gone = DropWitness(cluster, *found, witness); !gone.ok()) return gone;
    found = AttachedSegment(cluster, name, number);
    if (!found.ok()) return found.status();
  }
  const absl::StatusOr<Place> place = PlaceOnNode(cluster, name, node);
  if (!place.ok()) return place.status();
  const v1::Member member = MemberAt(*place, RandomId(), /*witness=*/false);
  if (absl::Status made = MakeReplica(cluster, *found, node, member); !made.ok()) return made;
  const bool even = (found->segment.copies() + 1) % 2 == 0;
  const PlacedMember* const old_witness = WitnessOf(found->segment);
  std::optional<v1::Member> witness;
  std::optional<PlacedMember> dropped;
  if (old_witness != nullptr && !even && balance) {
    dropped = *old_witness;
    witness = old_witness->member;
  } else if (old_witness == nullptr && even && (balance || found->segment.copies() == 1)) {
    const absl::StatusOr<std::optional<v1::Member>> made = MakeWitness(cluster, name, number, node);
    if (!made.ok()) return made.status();
    witness = *made;
  }
  if (absl::Status added = AddMember(cluster, *found, member, witness ? &*witness : nullptr);
      !added.ok()) {
    return added;
  }
  return dropped ? DeleteReplicaOn(cluster, *dropped) : absl::OkStatus();
}

// Removes the copy on `node`. `balance`: the witness follows the number of copies; otherwise it
// goes with the last but one.
absl::Status RemoveCopy(const Cluster& cluster, const std::string& name, std::uint32_t number,
                        const std::string& node, bool balance) {
  const absl::StatusOr<Found> found = AttachedSegment(cluster, name, number);
  if (!found.ok()) return found.status();
  const SegmentView& segment = found->segment;
  const PlacedMember* const leftover = LeftoverOn(segment, node);
  if (leftover != nullptr && segment.OnNode(node) == nullptr) {
    return DeleteReplicaOn(cluster, *leftover);
  }
  const absl::StatusOr<PlacedMember> leaving = MemberOn(*found, node);
  if (!leaving.ok()) return leaving.status();
  const PlacedMember* const witness = WitnessOf(segment);
  const std::size_t left = segment.copies() - 1;
  const bool copy_goes = !leaving->member.witness();
  const bool drops = witness != nullptr && copy_goes && left % 2 == 1 && (balance || left == 1);
  // An even number of copies needs a witness, where there is a further node for it.
  const bool needs = witness == nullptr && copy_goes && left % 2 == 0 && left > 0 && balance;
  std::optional<v1::Member> added;
  if (needs) {
    const absl::StatusOr<std::optional<v1::Member>> made = MakeWitness(cluster, name, number, "");
    if (!made.ok()) return made.status();
    added = *made;
  }
  const v1::Member* const beside = drops ? &witness->member : added ? &*added : nullptr;
  if (absl::Status gone = RemoveMember(cluster, *found, leaving->member, beside); !gone.ok()) {
    return gone;
  }
  if (absl::Status gone = DeleteReplicaOn(cluster, *leaving); !gone.ok()) return gone;
  if (drops) return DeleteReplicaOn(cluster, *witness);
  if (!needs || added) return absl::OkStatus();
  // The only node for it is the one that the copy has left.
  const absl::StatusOr<std::optional<v1::Member>> made = MakeWitness(cluster, name, number, "");
  if (!made.ok() || !*made) return made.status();
  return AddMember(cluster, *found, **made, nullptr);
}

// Until the segment's copy on `node` has everything. Prints when something changed.
absl::Status WaitInSync(const Cluster& cluster, const std::string& name, std::uint32_t number,
                        const std::string& node, Output output, std::ostream* out) {
  std::string last;
  while (true) {
    const absl::StatusOr<Found> found = AttachedSegment(cluster, name, number);
    if (!found.ok()) return found.status();
    const PlacedMember* placed = found->segment.OnNode(node);
    if (placed == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("the copy on node ", node, " is no member any more"));
    }
    std::string progress;
    for (const v1::SegmentStatus& segment : found->volume.status->segments()) {
      for (const v1::MemberStatus& member : segment.members()) {
        if (member.member().replica_id() != placed->member.replica_id()) continue;
        if (member.member().state() == v1::MEMBER_STATE_IN_SYNC) return absl::OkStatus();
        progress = FormatProgress(node, member);
      }
    }
    if (output == Output::kTable && progress != last) *out << progress << std::endl;
    last = progress;
    std::this_thread::sleep_for(kPollInterval);
  }
}

absl::Status ReplaceCopy(const Cluster& cluster, const ClusterArguments& arguments,
                         std::uint32_t number, Output output, std::ostream* out) {
  const std::string& name = arguments.name;
  const absl::StatusOr<Found> found = AttachedSegment(cluster, name, number);
  if (!found.ok()) return found.status();
  const absl::StatusOr<PlacedMember> leaving = MemberOn(*found, arguments.from);
  if (!leaving.ok()) return leaving.status();
  if (leaving->member.witness()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "node ", arguments.from, " has the witness of volume '", name, "', not a copy"));
  }
  const PlacedMember* taken = found->segment.OnNode(arguments.to);
  if (taken != nullptr && taken->member.witness()) {
    return absl::FailedPreconditionError(
        absl::StrCat("node ", arguments.to, " has the witness of volume '", name,
                     "'; a copy there would give one node two votes"));
  }
  absl::Status status = AddCopy(cluster, name, number, arguments.to, /*balance=*/false);
  if (!status.ok()) return status;
  status = WaitInSync(cluster, name, number, arguments.to, output, out);
  if (!status.ok()) return status;
  return RemoveCopy(cluster, name, number, arguments.from, /*balance=*/false);
}

// Calls `change` for the segment that is named, or for all. NOT_FOUND of some of all means that
// they have nothing there.
template <typename Change>
absl::Status ForSegments(const Cluster& cluster, const ClusterArguments& arguments, Change change) {
  if (arguments.segment) return change(*arguments.segment);
  const absl::StatusOr<VolumeView> volume = AttachedVolume(cluster, arguments.name);
  if (!volume.ok()) return volume.status();
  absl::Status nothing;
  bool any = false;
  for (const SegmentView& segment : volume->segments) {
    const absl::Status status = change(segment.segment);
    if (!status.ok() && !absl::IsNotFound(status)) return status;
    any = any || status.ok();
    if (!status.ok()) nothing = status;
  }
  return any ? absl::OkStatus() : nothing;
}

}  // namespace

absl::Status AddReplicaOnNode(const Cluster& cluster, const ClusterArguments& arguments) {
  return ForSegments(cluster, arguments, [&](std::uint32_t segment) {
    return AddCopy(cluster, arguments.name, segment, arguments.on, /*balance=*/true);
  });
}

absl::Status RemoveReplicaFromNode(const Cluster& cluster, const ClusterArguments& arguments) {
  return ForSegments(cluster, arguments, [&](std::uint32_t segment) {
    return RemoveCopy(cluster, arguments.name, segment, arguments.on, /*balance=*/true);
  });
}

absl::Status ReplaceReplica(const Cluster& cluster, const ClusterArguments& arguments,
                            Output output, std::ostream* out) {
  return ForSegments(cluster, arguments, [&](std::uint32_t segment) {
    return ReplaceCopy(cluster, arguments, segment, output, out);
  });
}

}  // namespace keelson::ctl
