#include "provisioner/ctl/cluster_commands.h"

#include <algorithm>
#include <map>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "provisioner/ctl/cluster_format.h"

namespace keelson::ctl {
namespace {

// Writes wait while fewer copies have everything, so that one failure does not leave the only copy.
std::uint32_t MinInSync(std::size_t copies) { return copies >= 3 ? 2 : 1; }

v1::CreateReplicaRequest NewReplica(const ClusterArguments& arguments,
                                    const std::vector<v1::Member>& members,
                                    const v1::Member& member, const std::string& volume_id) {
  v1::CreateReplicaRequest request;
  request.set_volume_id(volume_id);
  request.set_volume(arguments.name);
  request.set_replica_id(member.replica_id());
  request.set_pool(member.pool_id());
  request.set_size_bytes(arguments.size_bytes);
  request.set_witness(member.witness());
  for (const v1::Member& one : members) *request.add_members() = one;
  request.set_min_in_sync(arguments.min_in_sync != 0 ? arguments.min_in_sync
                                                     : MinInSync(arguments.replicas));
  return request;
}

// At the address that its node has now.
void AddToHint(const PlacedMember& placed, const std::vector<NodeAnswer>& nodes,
               v1::SegmentHint* hint) {
  v1::Member* member = hint->add_members();
  *member = placed.member;
  for (const NodeAnswer& node : nodes) {
    const bool here = node.name == placed.node && !node.node.data_address().empty();
    if (here) member->set_address(node.node.data_address());
  }
}

// The highest configuration's members. Once an operator went on from one copy, also those that are
// left over, so that they hear of it.
v1::AttachTarget TargetOf(const VolumeView& volume, const std::vector<NodeAnswer>& nodes,
                          std::uint64_t attachment, bool forces) {
  v1::AttachTarget target;
  target.set_volume_id(volume.volume_id);
  target.set_attachment(attachment);
  v1::SegmentHint* hint = target.add_segments();
  for (const PlacedMember& placed : volume.members) AddToHint(placed, nodes, hint);
  if (volume.forced_attachment == 0 && !forces) return target;
  for (const PlacedMember& placed : volume.leftovers) AddToHint(placed, nodes, hint);
  return target;
}

// The replica becomes the only member; the others that there are and were are told.
absl::Status ForceFrom(const VolumeView& volume, const ClusterArguments& arguments,
                       v1::AttachTarget* target) {
  const PlacedMember* const placed = volume.Find(arguments.force_from);
  if (placed == nullptr || !placed->replica) {
    return absl::NotFoundError(absl::StrCat("no node that answers has a replica ",
                                            arguments.force_from, " of volume '", volume.name,
                                            "'; `volume status` lists them"));
  }
  if (placed->member.witness()) {
    return absl::FailedPreconditionError(
        absl::StrCat("replica ", arguments.force_from, " is a witness and has no data"));
  }
  const bool member = std::any_of(
      volume.members.begin(), volume.members.end(),
      [&](const PlacedMember& one) { return one.member.replica_id() == arguments.force_from; });
  if (member && CheckReachable(volume).ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("a majority of the members of volume '", volume.name,
                     "' and a copy that has everything answer: attach it without --force-from"));
  }
  if (!arguments.lose_newer_writes) {
    return absl::FailedPreconditionError(
        absl::StrCat(ExplainForce(volume, *placed), ". Say --yes-lose-newer-writes to go on"));
  }
  target->mutable_segments(0)->set_force_from_replica_id(arguments.force_from);
  return absl::OkStatus();
}

}  // namespace

std::string RandomId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&id, "%08x", random());
  return id;
}

v1::Member MemberAt(const Place& place, const std::string& replica_id, bool witness) {
  v1::Member member;
  member.set_pool_id(place.pool_id);
  member.set_replica_id(replica_id);
  member.set_incarnation(place.incarnation);
  member.set_address(place.address);
  member.set_witness(witness);
  member.set_state(witness ? v1::MEMBER_STATE_OUT : v1::MEMBER_STATE_IN_SYNC);
  return member;
}

absl::Status CreateOnNodes(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                           std::ostream* out) {
  if (arguments.min_in_sync > arguments.replicas) {
    return absl::InvalidArgumentError(absl::StrCat("--min-in-sync ", arguments.min_in_sync,
                                                   " is more than the ", arguments.replicas,
                                                   " copies of --replicas"));
  }
  const std::vector<NodeAnswer> nodes = cluster.Ask("");
  for (const std::string& name : VolumeNames(nodes)) {
    if (name != arguments.name) continue;
    return absl::AlreadyExistsError(absl::StrCat("there is already a volume '", name, "'"));
  }
  const absl::StatusOr<Placement> placement = ChoosePlaces(nodes, arguments.replicas);
  if (!placement.ok()) return placement.status();
  std::vector<v1::Member> members;
  std::vector<std::string> names;
  for (const Place& place : placement->copies) {
    members.push_back(MemberAt(place, RandomId(), /*witness=*/false));
    names.push_back(place.node);
  }
  if (placement->witness) {
    members.push_back(MemberAt(*placement->witness, RandomId(), /*witness=*/true));
    names.push_back(placement->witness->node);
  }
  const std::string volume_id = RandomId();
  // All or nothing: the first configuration is on every member before the volume is there (R2).
  absl::Status status;
  std::size_t made = 0;
  for (; made < members.size() && status.ok(); ++made) {
    const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(names[made]);
    status = client.status();
    if (!status.ok()) break;
    status =
        (*client)->CreateReplica(NewReplica(arguments, members, members[made], volume_id)).status();
  }
  if (status.ok()) {
    const absl::StatusOr<VolumeView> view = cluster.View(arguments.name);
    if (!view.ok()) return view.status();
    PrintStatus(output, *view, out);
    return absl::OkStatus();
  }
  std::string left;
  for (std::size_t i = 0; i < made; ++i) {
    v1::DeleteReplicaRequest request;
    request.set_pool(members[i].pool_id());
    request.set_replica_id(members[i].replica_id());
    const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(names[i]);
    const absl::Status gone =
        client.ok() ? (*client)->DeleteReplica(request).status() : client.status();
    if (!gone.ok()) absl::StrAppend(&left, left.empty() ? "" : ", ", names[i]);
  }
  return absl::Status(
      status.code(),
      absl::StrCat(std::string(status.message()), "; volume '", arguments.name, "' was not made",
                   left.empty() ? "" : ", but replicas of it may be left on ", left,
                   left.empty() ? "" : ": `volume delete` removes them"));
}

absl::Status AttachOnNode(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                          std::ostream* out) {
  const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(arguments.on);
  if (!client.ok()) return client.status();
  const std::vector<NodeAnswer> nodes = cluster.Ask(arguments.name);
  const absl::StatusOr<VolumeView> volume = FindVolume(nodes, arguments.name);
  if (!volume.ok()) return volume.status();
  std::uint64_t attachment = volume->promised + 1;
  const bool serves_here = volume->serving_node == arguments.on && volume->status->error().empty();
  const bool forces = !arguments.force_from.empty();
  if (serves_here && !arguments.force && !forces) {
    attachment = volume->status->attachment();  // idempotent: it has what it is asked for
  } else if (!forces) {
    if (absl::Status unused = CheckUnused(*volume); !unused.ok() && !arguments.force) {
      return absl::FailedPreconditionError(
          absl::StrCat(std::string(unused.message()),
                       "; detach it first, or take it over with --force: what then still runs on "
                       "the other node gets I/O errors"));
    }
    // With a node that does not answer the daemon could only wait in vain; without one, it may
    // reach members that this list of nodes does not name.
    if (const absl::Status reachable = CheckReachable(*volume);
        !reachable.ok() && !volume->silent_nodes.empty()) {
      return absl::UnavailableError(absl::StrCat(
          "volume '", arguments.name, "' cannot be attached: ", std::string(reachable.message())));
    }
  }
  v1::AttachVolumeRequest request;
  request.set_name(arguments.name);
  request.set_read_only(arguments.read_only);
  *request.mutable_target() = TargetOf(*volume, nodes, attachment, forces);
  if (forces) {
    const absl::Status forced = ForceFrom(*volume, arguments, request.mutable_target());
    if (!forced.ok()) return forced;
  }
  const absl::StatusOr<v1::AttachVolumeResponse> response = (*client)->AttachVolume(request);
  if (!response.ok()) return response.status();
  Print(output, *response, out);
  return absl::OkStatus();
}

absl::Status DetachFromNodes(const Cluster& cluster, const ClusterArguments& arguments) {
  const std::vector<NodeAnswer> nodes = cluster.Ask(arguments.name);
  const absl::StatusOr<VolumeView> volume = FindVolume(nodes, arguments.name);
  if (!volume.ok()) return volume.status();
  absl::Status status;
  bool found = false;
  for (const NodeAnswer& node : nodes) {
    if (!node.volume) continue;
    found = true;
    v1::DetachVolumeRequest request;
    request.set_name(arguments.name);
    const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(node.name);
    const absl::Status one =
        client.ok() ? (*client)->DetachVolume(request).status() : client.status();
    if (status.ok()) status = one;
  }
  if (!found && !volume->silent_nodes.empty() && !volume->session_nodes.empty()) {
    return absl::UnavailableError(
        absl::StrCat("volume '", arguments.name, "' is in use by a node that does not answer (",
                     Enumerate(volume->silent_nodes), "); nothing was detached"));
  }
  return status;
}

absl::Status DeleteFromNodes(const Cluster& cluster, const ClusterArguments& arguments) {
  const absl::StatusOr<VolumeView> volume = cluster.View(arguments.name);
  if (!volume.ok()) return volume.status();
  if (absl::Status unused = CheckUnused(*volume); !unused.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat(std::string(unused.message()), "; detach it before deleting it"));
  }
  if (!volume->resuming_node.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("volume '", arguments.name,
                                                      "' is to be resumed on node ",
                                                      volume->resuming_node, "; detach it first"));
  }
  if (!volume->silent_nodes.empty()) {
    return absl::UnavailableError(absl::StrCat(
        "volume '", arguments.name, "' is not deleted: ", Enumerate(volume->silent_nodes),
        " may have replicas of it and does not answer; start it, or leave it out of "
        "the nodes when it is gone for good"));
  }
  std::vector<PlacedMember> all = volume->members;
  all.insert(all.end(), volume->leftovers.begin(), volume->leftovers.end());
  for (const PlacedMember& placed : all) {
    if (!placed.replica) continue;
    const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(placed.node);
    if (!client.ok()) return client.status();
    v1::DeleteReplicaRequest request;
    request.set_pool(placed.member.pool_id());
    request.set_replica_id(placed.member.replica_id());
    if (absl::Status gone = (*client)->DeleteReplica(request).status(); !gone.ok()) return gone;
  }
  return absl::OkStatus();
}

absl::Status ListOnNodes(const Cluster& cluster, Output output, std::ostream* out) {
  const std::vector<NodeAnswer> nodes = cluster.Ask("");
  // After a take-over the node that has lost the volume may not know it yet.
  std::map<std::string, int> claims;
  for (const NodeAnswer& node : nodes) {
    for (const v1::Volume& volume : node.volumes)
      claims[volume.name()] += volume.attached() ? 1 : 0;
  }
  std::map<std::string, VolumeView> contested;
  for (const auto& [name, count] : claims) {
    if (count < 2) continue;
    if (absl::StatusOr<VolumeView> view = cluster.View(name); view.ok()) {
      contested.emplace(name, *std::move(view));
    }
  }
  PrintVolumes(output, nodes, contested, out);
  return absl::OkStatus();
}

absl::Status ShowStatus(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                        std::ostream* out) {
  const absl::StatusOr<VolumeView> volume = cluster.View(arguments.name);
  if (!volume.ok()) return volume.status();
  PrintStatus(output, *volume, out);
  return absl::OkStatus();
}

absl::Status ShowWhy(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                     std::ostream* out) {
  const absl::StatusOr<VolumeView> volume = cluster.View(arguments.name);
  if (!volume.ok()) return volume.status();
  PrintWhy(output, Explain(*volume), out);
  return absl::OkStatus();
}

absl::StatusOr<std::string> ServingSocket(const Cluster& cluster, const std::string& volume) {
  const absl::StatusOr<VolumeView> view = cluster.View(volume);
  if (!view.ok()) return view.status();
  if (!view->serving_node.empty()) return cluster.SocketOf(view->serving_node);
  return absl::FailedPreconditionError(absl::StrCat(
      "volume '", volume, "' is not attached",
      view->silent_nodes.empty()
          ? std::string()
          : absl::StrCat(" on a node that answers (", Enumerate(view->silent_nodes), " does not)"),
      "; attach it with `volume attach --on`"));
}

}  // namespace keelson::ctl
