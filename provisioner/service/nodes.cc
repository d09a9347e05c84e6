// Controller: nodes, and why things are as they are.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/attachments.h"
#include "provisioner/reconcile/ids.h"
#include "provisioner/service/controller.h"
#include "provisioner/service/request_checks.h"

namespace keelson::provisioner {
namespace {

constexpr std::size_t kTopologyPairsMax = 32;
constexpr std::size_t kTopologyTextMax = 253;

absl::Status CheckTopology(const google::protobuf::Map<std::string, std::string>& topology) {
  if (topology.size() > kTopologyPairsMax) {
    return absl::InvalidArgumentError("a node has at most 32 topology keys");
  }
  for (const auto& [key, value] : topology) {
    if (key.empty() || key.size() > kTopologyTextMax || value.size() > kTopologyTextMax) {
      return absl::InvalidArgumentError("topology keys and values have 1 to 253 characters");
    }
  }
  return absl::OkStatus();
}

bool HasReplicaOn(const rec::VolumeRecord& volume, const std::string& node) {
  for (const rec::SegmentRecord& segment : volume.segments()) {
    for (const rec::ReplicaRecord& replica : segment.replicas()) {
      if (replica.node() == node) return true;
    }
  }
  return false;
}

}  // namespace

absl::Status Controller::RegisterNode(const api::RegisterNodeRequest& request) {
  RETURN_IF_ERROR(CheckNodeName(request.name()));
  RETURN_IF_ERROR(CheckTopology(request.topology()));
  RETURN_IF_ERROR(rpc::UnixPathOf(request.address()).status());
  const auto fill = [&](rec::NodeRecord* record) {
    record->set_name(request.name());
    record->set_address(request.address());
    *record->mutable_topology() = request.topology();
    record->set_volumes_max(request.volumes_max());
    if (record->intent().empty()) record->set_intent("active");
    return absl::OkStatus();
  };
  auto& nodes = reconciler_->records().nodes();
  if (absl::IsNotFound(nodes.Find(request.name()).status())) {
    rec::NodeRecord record;
    record.set_registered_unix_ns(reconciler_->environment().clock->UnixNanos());
    (void)fill(&record);
    const absl::Status created = nodes.Create(request.name(), record);
    if (!absl::IsAlreadyExists(created)) return created;
  }
  return nodes.Update(request.name(), fill).status();
}

api::ListNodesResponse Controller::ListNodes() {
  const Environment& environment = reconciler_->environment();
  const std::vector<VolumeRow> volumes = reconciler_->records().volumes().All();
  api::ListNodesResponse response;
  for (const auto& row : reconciler_->records().nodes().All()) {
    const NodeView view = environment.stores->View(row.key);
    api::Node* const node = response.add_nodes();
    node->set_name(row.key);
    node->set_address(row.value.address());
    *node->mutable_topology() = row.value.topology();
    node->set_intent(row.value.intent());
    node->set_volumes_max(row.value.volumes_max());
    node->set_state(!view.heard                 ? "unknown"
                    : view.answers              ? "ready"
                    : environment.Lost(row.key) ? "lost"
                                                : "silent");
    node->set_last_seen_unix_ns(view.last_answer_unix_ns);
    node->set_problem(view.error);
    for (const v1::Pool& pool : view.node.pools()) {
      if (!pool.error().empty()) {
        node->set_problem(absl::StrCat("pool ", pool.directory(), ": ", pool.error()));
        continue;
      }
      node->set_capacity_bytes(node->capacity_bytes() + pool.capacity_bytes());
      node->set_free_bytes(node->free_bytes() + pool.free_bytes());
    }
    for (const VolumeRow& volume : volumes) {
      if (volume.value.attachment().node() == row.key) {
        node->set_attached_count(node->attached_count() + 1);
      }
      for (const rec::SegmentRecord& segment : volume.value.segments()) {
        for (const rec::ReplicaRecord& replica : segment.replicas()) {
          if (replica.node() == row.key) node->set_replica_count(node->replica_count() + 1);
        }
      }
    }
  }
  return response;
}

absl::Status Controller::SetNodeIntent(const api::SetNodeIntentRequest& request) {
  if (request.intent() != "active" && request.intent() != "cordoned" &&
      request.intent() != "draining") {
    return absl::InvalidArgumentError(absl::StrCat("intent '", request.intent().substr(0, 32),
                                                   "' must be active, cordoned or draining"));
  }
  RETURN_IF_ERROR(CheckNodeName(request.node()));
  RETURN_IF_ERROR(reconciler_->records()
                      .nodes()
                      .Update(request.node(),
                              [&](rec::NodeRecord* record) {
                                record->set_intent(request.intent());
                                return absl::OkStatus();
                              })
                      .status());
  for (const VolumeRow& volume : reconciler_->records().volumes().All()) {
    if (HasReplicaOn(volume.value, request.node()) ||
        volume.value.attachment().node() == request.node()) {
      reconciler_->environment().Poke(Kind::kVolume, volume.key);
    }
  }
  return absl::OkStatus();
}

absl::Status Controller::RemoveNode(const api::RemoveNodeRequest& request) {
  RETURN_IF_ERROR(CheckNodeName(request.node()));
  const auto row = reconciler_->records().nodes().Find(request.node());
  if (absl::IsNotFound(row.status())) return absl::OkStatus();
  RETURN_IF_ERROR(row.status());
  for (const VolumeRow& volume : reconciler_->records().volumes().All()) {
    const auto& publications = volume.value.publications();
    const bool published =
        std::any_of(publications.begin(), publications.end(),
                    [&](const auto& one) { return one.node() == request.node(); });
    if (published) {
      return absl::FailedPreconditionError(absl::StrCat("volume ", volume.value.id(),
                                                        " is published on node ", request.node(),
                                                        "; unpublish it there first"));
    }
    if (!HasReplicaOn(volume.value, request.node()) &&
        volume.value.attachment().node() != request.node()) {
      continue;
    }
    return absl::FailedPreconditionError(
        absl::StrCat("node ", request.node(), " has part of volume ", volume.value.id(),
                     "; drain it first, and wait until it is empty"));
  }
  return reconciler_->records().nodes().Remove(row->key, row->revision);
}

absl::StatusOr<api::WhyResponse> Controller::Why(const api::WhyRequest& request) {
  api::WhyResponse response;
  for (const VolumeRow& row : reconciler_->records().volumes().All()) {
    if (row.value.id() != request.what() && row.value.name() != request.what()) continue;
    const api::Volume volume = Describe(row);
    std::string state = volume.ready() ? "is ready" : "is being made";
    if (row.value.state() == rec::VolumeRecord::DELETING) state = "is being deleted";
    if (row.value.state() == rec::VolumeRecord::KEPT)
      state = "is deleted and kept for its snapshots";
    response.add_sentences(
        absl::StrCat("Volume ", row.value.id(), " ('", row.value.name(), "') ", state, "."));
    for (const rec::PublicationRecord& publication : row.value.publications()) {
      const bool served = IsServed(row.value, publication);
      response.add_sentences(absl::StrCat("It is published on node ", publication.node(),
                                          served ? "." : ", and not served there yet."));
    }
    if (!volume.problem().empty()) response.add_sentences(absl::StrCat(volume.problem(), "."));
    const std::optional<VolumeSight> sight = reconciler_->volumes().SightOf(row.key);
    if (sight && !sight->trouble.ok() && sight->trouble.message() != volume.problem()) {
      response.add_sentences(
          absl::StrCat("What is left to do waits: ", std::string(sight->trouble.message()), "."));
    }
    for (const rec::OrphanRecord& orphan : row.value.orphans()) {
      response.add_sentences(
          absl::StrCat("A replica on node ", orphan.node(), " is deleted when the node answers."));
    }
  }
  for (const SnapshotRow& row : reconciler_->records().snapshots().All()) {
    if (row.value.internal() ||
        (row.value.id() != request.what() && row.value.name() != request.what())) {
      continue;
    }
    const bool ready = row.value.state() == rec::SnapshotRecord::READY;
    response.add_sentences(absl::StrCat("Snapshot ", row.value.id(), " of volume ",
                                        row.value.volume_id(),
                                        ready ? " is ready." : " is being cut or deleted."));
  }
  const api::ListNodesResponse nodes = ListNodes();
  for (const api::Node& node : nodes.nodes()) {
    if (node.name() != request.what()) continue;
    response.add_sentences(absl::StrCat("Node ", node.name(), " is ", node.state(), " and ",
                                        node.intent(), ", with ", node.replica_count(),
                                        " replicas and ", node.attached_count(), " engines."));
    if (!node.problem().empty()) response.add_sentences(absl::StrCat(node.problem(), "."));
  }
  if (response.sentences().empty()) {
    return absl::NotFoundError(
        absl::StrCat("there is no volume, snapshot or node '", request.what().substr(0, 128), "'"));
  }
  return response;
}

}  // namespace keelson::provisioner
