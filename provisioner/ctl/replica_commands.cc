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

const PlacedMember* WitnessOf(const VolumeView& volume) {
  for (const PlacedMember& placed : volume.members) {
    if (placed.member.witness()) return &placed;
  }
  return nullptr;
}

// The member on the node; one that does not answer is known by being the only one not found.
absl::StatusOr<PlacedMember> MemberOn(const VolumeView& volume, const std::string& node) {
  if (const PlacedMember* placed = volume.OnNode(node); placed != nullptr) return *placed;
  std::vector<PlacedMember> lost;
  for (const PlacedMember& placed : volume.members) {
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

const PlacedMember* LeftoverOn(const VolumeView& volume, const std::string& node) {
  for (const PlacedMember& placed : volume.leftovers) {
    if (placed.node == node) return &placed;
  }
  return nullptr;
}

// Makes the replica, with the members that there are as what it knows of the volume.
absl::Status MakeReplica(const Cluster& cluster, const VolumeView& volume, const std::string& node,
                         const v1::Member& member) {
  const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(node);
  if (!client.ok()) return client.status();
  v1::CreateReplicaRequest request;
  request.set_volume_id(volume.volume_id);
  request.set_volume(volume.name);
  request.set_replica_id(member.replica_id());
  request.set_pool(member.pool_id());
  request.set_size_bytes(volume.configuration.size_bytes());
  request.set_witness(member.witness());
  *request.mutable_members() = volume.configuration.members();
  request.set_min_in_sync(volume.configuration.min_in_sync());
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

absl::Status AddMember(const Cluster& cluster, const VolumeView& volume, const v1::Member& member,
                       const v1::Member* witness) {
  const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(volume.serving_node);
  if (!client.ok()) return client.status();
  v1::AddReplicaRequest request;
  request.set_volume(volume.name);
  *request.mutable_member() = member;
  if (witness != nullptr) *request.mutable_witness() = *witness;
  return (*client)->AddReplica(request).status();
}

// `witness` goes with it when it is a member, and else comes.
absl::Status RemoveMember(const Cluster& cluster, const VolumeView& volume,
                          const v1::Member& member, const v1::Member* witness) {
  const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(volume.serving_node);
  if (!client.ok()) return client.status();
  v1::RemoveReplicaRequest request;
  request.set_volume(volume.name);
  request.set_replica_id(member.replica_id());
  if (witness != nullptr) *request.mutable_witness() = *witness;
  return (*client)->RemoveReplica(request).status();
}

// Removes the witness, and what it keeps.
absl::Status DropWitness(const Cluster& cluster, const VolumeView& volume,
                         const PlacedMember& witness) {
  if (absl::Status gone = RemoveMember(cluster, volume, witness.member, nullptr); !gone.ok()) {
    return gone;
  }
  return DeleteReplicaOn(cluster, witness);
}

// A witness's replica on a node that has nothing of the volume, and is not `but_not`; nothing when
// there is no such node.
absl::StatusOr<std::optional<v1::Member>> MakeWitness(const Cluster& cluster,
                                                      const std::string& name,
                                                      const std::string& but_not) {
  const std::vector<NodeAnswer> nodes = cluster.Ask(name);
  const absl::StatusOr<VolumeView> volume = FindVolume(nodes, name);
  if (!volume.ok()) return volume.status();
  const std::optional<Place> where = WitnessPlace(nodes, *volume, but_not);
  if (!where) return std::optional<v1::Member>();
  v1::Member witness = MemberAt(*where, RandomId(), /*witness=*/true);
  const absl::Status made = MakeReplica(cluster, *volume, where->node, witness);
  if (!made.ok()) return made;
  return std::optional<v1::Member>(std::move(witness));
}

// Adds a copy on `node`. `balance`: the witness follows the number of copies; otherwise only a
// single copy gets one beside it (R13).
absl::Status AddCopy(const Cluster& cluster, const std::string& name, const std::string& node,
                     bool balance) {
  absl::StatusOr<VolumeView> volume = AttachedVolume(cluster, name);
  if (!volume.ok()) return volume.status();
  const PlacedMember* present = volume->OnNode(node);
  if (present != nullptr && !present->member.witness()) return absl::OkStatus();
  if (volume->copies() >= kCopiesMax && balance) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume '", name, "' has ", volume->copies(), " copies, which is the most"));
  }
  if (LeftoverOn(*volume, node) != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("node ", node, " still has a replica of volume '", name,
                     "' that is no member any more; delete it with `keelctl replica remove ", name,
                     " --on ", node, "`"));
  }
  if (present != nullptr) {
    // The copy takes the witness's place: two votes on one node would be one failure.
    const PlacedMember witness = *present;
    if (absl::Status gone = DropWitness(cluster, *volume, witness); !gone.ok()) return gone;
    volume = AttachedVolume(cluster, name);
    if (!volume.ok()) return volume.status();
  }
  const std::vector<NodeAnswer> nodes = cluster.Ask(name);
  std::optional<Place> place;
  for (const NodeAnswer& one : nodes) {
    if (one.name != node) continue;
    absl::StatusOr<Place> found = PlaceOn(one, /*remote=*/true);
    if (!found.ok()) return found.status();
    place = *std::move(found);
  }
  if (!place) return cluster.SocketOf(node).status();  // which is that there is no such node
  const v1::Member member = MemberAt(*place, RandomId(), /*witness=*/false);
  if (absl::Status made = MakeReplica(cluster, *volume, node, member); !made.ok()) return made;
  const bool even = (volume->copies() + 1) % 2 == 0;
  const PlacedMember* const old_witness = WitnessOf(*volume);
  std::optional<v1::Member> witness;
  std::optional<PlacedMember> dropped;
  if (old_witness != nullptr && !even && balance) {
    dropped = *old_witness;
    witness = old_witness->member;
  } else if (old_witness == nullptr && even && (balance || volume->copies() == 1)) {
    const absl::StatusOr<std::optional<v1::Member>> made = MakeWitness(cluster, name, node);
    if (!made.ok()) return made.status();
    witness = *made;
  }
  if (absl::Status added = AddMember(cluster, *volume, member, witness ? &*witness : nullptr);
      !added.ok()) {
    return added;
  }
  return dropped ? DeleteReplicaOn(cluster, *dropped) : absl::OkStatus();
}

// Removes the copy on `node`. `balance`: the witness follows the number of copies; otherwise it
// goes with the last but one.
absl::Status RemoveCopy(const Cluster& cluster, const std::string& name, const std::string& node,
                        bool balance) {
  absl::StatusOr<VolumeView> volume = AttachedVolume(cluster, name);
  if (!volume.ok()) return volume.status();
  const PlacedMember* const leftover = LeftoverOn(*volume, node);
  if (leftover != nullptr && volume->OnNode(node) == nullptr) {
    return DeleteReplicaOn(cluster, *leftover);
  }
  const absl::StatusOr<PlacedMember> leaving = MemberOn(*volume, node);
  if (!leaving.ok()) return leaving.status();
  const PlacedMember* const witness = WitnessOf(*volume);
  const std::size_t left = volume->copies() - 1;
  const bool copy_goes = !leaving->member.witness();
  const bool drops = witness != nullptr && copy_goes && left % 2 == 1 && (balance || left == 1);
  // An even number of copies needs a witness, where there is a further node for it.
  const bool needs = witness == nullptr && copy_goes && left % 2 == 0 && left > 0 && balance;
  std::optional<v1::Member> added;
  if (needs) {
    const absl::StatusOr<std::optional<v1::Member>> made = MakeWitness(cluster, name, "");
    if (!made.ok()) return made.status();
    added = *made;
  }
  const v1::Member* const beside = drops ? &witness->member : added ? &*added : nullptr;
  if (absl::Status gone = RemoveMember(cluster, *volume, leaving->member, beside); !gone.ok()) {
    return gone;
  }
  if (absl::Status gone = DeleteReplicaOn(cluster, *leaving); !gone.ok()) return gone;
  if (drops) return DeleteReplicaOn(cluster, *witness);
  if (!needs || added) return absl::OkStatus();
  // The only node for it is the one that the copy has left.
  const absl::StatusOr<std::optional<v1::Member>> made = MakeWitness(cluster, name, "");
  if (!made.ok() || !*made) return made.status();
  return AddMember(cluster, *volume, **made, nullptr);
}

// Until the copy on `node` has everything. Prints when something changed.
absl::Status WaitInSync(const Cluster& cluster, const std::string& name, const std::string& node,
                        Output output, std::ostream* out) {
  std::string last;
  while (true) {
    const absl::StatusOr<VolumeView> volume = AttachedVolume(cluster, name);
    if (!volume.ok()) return volume.status();
    const PlacedMember* placed = volume->OnNode(node);
    if (placed == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("the copy on node ", node, " is no member any more"));
    }
    std::string progress;
    for (const v1::MemberStatus& member : volume->status->segments(0).members()) {
      if (member.member().replica_id() != placed->member.replica_id()) continue;
      if (member.member().state() == v1::MEMBER_STATE_IN_SYNC) return absl::OkStatus();
      progress = FormatProgress(node, member);
    }
    if (output == Output::kTable && progress != last) *out << progress << std::endl;
    last = progress;
    std::this_thread::sleep_for(kPollInterval);
  }
}

}  // namespace

absl::Status AddReplicaOnNode(const Cluster& cluster, const ClusterArguments& arguments) {
  return AddCopy(cluster, arguments.name, arguments.on, /*balance=*/true);
}

absl::Status RemoveReplicaFromNode(const Cluster& cluster, const ClusterArguments& arguments) {
  return RemoveCopy(cluster, arguments.name, arguments.on, /*balance=*/true);
}

absl::Status ReplaceReplica(const Cluster& cluster, const ClusterArguments& arguments,
                            Output output, std::ostream* out) {
  const absl::StatusOr<VolumeView> volume = AttachedVolume(cluster, arguments.name);
  if (!volume.ok()) return volume.status();
  const absl::StatusOr<PlacedMember> leaving = MemberOn(*volume, arguments.from);
  if (!leaving.ok()) return leaving.status();
  if (leaving->member.witness()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "node ", arguments.from, " has the witness of volume '", arguments.name, "', not a copy"));
  }
  const PlacedMember* taken = volume->OnNode(arguments.to);
  if (taken != nullptr && taken->member.witness()) {
    return absl::FailedPreconditionError(
        absl::StrCat("node ", arguments.to, " has the witness of volume '", arguments.name,
                     "'; a copy there would give one node two votes"));
  }
  absl::Status status = AddCopy(cluster, arguments.name, arguments.to, /*balance=*/false);
  if (!status.ok()) return status;
  status = WaitInSync(cluster, arguments.name, arguments.to, output, out);
  if (!status.ok()) return status;
  return RemoveCopy(cluster, arguments.name, arguments.from, /*balance=*/false);
}

}  // namespace keelson::ctl
