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

// The highest configurations' members. Once an operator went on from one copy of a segment, also
// those that are left over, so that they hear of it.
v1::AttachTarget TargetOf(const VolumeView& volume, const std::vector<NodeAnswer>& nodes,
                          std::uint64_t attachment, bool forces) {
  v1::AttachTarget target;
  target.set_volume_id(volume.volume_id);
  target.set_attachment(attachment);
  target.set_segment_bytes(volume.segment_bytes());
  for (const SegmentView& segment : volume.segments) {
    v1::SegmentHint* hint = target.add_segments();
    hint->set_segment(segment.segment);
    for (const PlacedMember& placed : segment.members) AddToHint(placed, nodes, hint);
    if (segment.forced_attachment == 0 && !forces) continue;
    for (const PlacedMember& placed : segment.leftovers) AddToHint(placed, nodes, hint);
  }
  return target;
}

// The replica becomes the only member of its segment; the others that there are and were are told.
absl::Status ForceFrom(const VolumeView& volume, const std::string& replica_id,
                       bool lose_newer_writes, v1::AttachTarget* target) {
  const auto segment = std::find_if(
      volume.segments.begin(), volume.segments.end(),
      [&replica_id](const SegmentView& one) { return one.Find(replica_id) != nullptr; });
  const PlacedMember* const placed =
      segment == volume.segments.end() ? nullptr : segment->Find(replica_id);
  if (placed == nullptr || !placed->replica) {
    return absl::NotFoundError(absl::StrCat("no node that answers has a replica ", replica_id,
                                            " of volume '", volume.name,
                                            "'; `volume status` lists them"));
  }
  if (placed->member.witness()) {
    return absl::FailedPreconditionError(
        absl::StrCat("replica ", replica_id, " is a witness and has no data"));
  }
  const bool member =
      std::any_of(segment->members.begin(), segment->members.end(),
                  [&](const PlacedMember& one) { return one.member.replica_id() == replica_id; });
  if (member && CheckReachable(volume, *segment).ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "a majority of the members of volume '", volume.name,
        "' and a copy that has everything answer: attach it without --force-from ", replica_id));
  }
  if (!lose_newer_writes) {
    return absl::FailedPreconditionError(absl::StrCat(ExplainForce(volume, *segment, *placed),
                                                      ". Say --yes-lose-newer-writes to go on"));
  }
  const int index = static_cast<int>(segment - volume.segments.begin());
  target->mutable_segments(index)->set_force_from_replica_id(replica_id);
  return absl::OkStatus();
}

// The segments that are not forced can be attached.
absl::Status CheckOthersReachable(const VolumeView& volume, const v1::AttachTarget& target) {
  for (const SegmentView& segment : volume.segments) {
    const v1::SegmentHint& hint = target.segments(static_cast<int>(segment.segment));
    if (!hint.force_from_replica_id().empty()) continue;
    const absl::Status status = CheckReachable(volume, segment);
    if (status.ok()) continue;
    return absl::Status(status.code(),
                        absl::StrCat("segment ", segment.segment, " of volume '", volume.name,
                                     "': ", std::string(status.message()),
                                     "; name a replica of it with --force-from, too"));
  }
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

absl::Status AttachOnNode(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                          std::ostream* out) {
  const absl::StatusOr<std::unique_ptr<Client>> client = cluster.To(arguments.on);
  if (!client.ok()) return client.status();
  Cluster::AskOptions how;
  if (arguments.force) how.patience = Cluster::kAskTimeoutInHaste;
  const std::vector<NodeAnswer> nodes = cluster.Ask(arguments.name, how);
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
  request.set_frontend(arguments.frontend);
  *request.mutable_target() = TargetOf(*volume, nodes, attachment, forces);
  if (forces) {
    absl::Status forced;
    for (const std::string& replica : arguments.force_from) {
      if (!forced.ok()) break;
      forced = ForceFrom(*volume, replica, arguments.lose_newer_writes, request.mutable_target());
    }
    if (forced.ok()) forced = CheckOthersReachable(*volume, request.target());
    if (!forced.ok()) return forced;
  }
  const bool is_new = !volume->status || volume->status->attachment() != attachment;
  if (is_new) {
    for (const v1::VolumeClient& one : ClientsToTakeAlong(nodes, arguments.on)) {
      *request.add_clients() = one;
    }
  }
  const absl::StatusOr<v1::AttachVolumeResponse> response = (*client)->AttachVolume(request);
  if (!response.ok()) return response.status();
  Print(output, *response, out);
  return PointClients(cluster, nodes, arguments.on, request);
}

absl::Status DetachFromNodes(const Cluster& cluster, const ClusterArguments& arguments) {
  std::vector<NodeAnswer> nodes = cluster.Ask(arguments.name);
  const absl::StatusOr<VolumeView> volume = FindVolume(nodes, arguments.name);
  if (!volume.ok()) return volume.status();
  // Clients first, while there is an engine that answers them.
  std::stable_partition(nodes.begin(), nodes.end(), [](const NodeAnswer& node) {
    return node.volume && node.volume->has_remote();
  });
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
  std::vector<PlacedMember> all = volume->strays;
  for (const SegmentView& segment : volume->segments) {
    all.insert(all.end(), segment.members.begin(), segment.members.end());
    all.insert(all.end(), segment.leftovers.begin(), segment.leftovers.end());
  }
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
