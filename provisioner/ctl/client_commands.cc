// The commands on the nodes that show a volume whose engine is elsewhere (R16).

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "provisioner/ctl/cluster_commands.h"
#include "provisioner/ctl/cluster_format.h"

namespace keelson::ctl {
namespace {

const NodeAnswer* Find(const std::vector<NodeAnswer>& nodes, const std::string& name) {
  const auto found = std::find_if(nodes.begin(), nodes.end(),
                                  [&name](const NodeAnswer& node) { return node.name == name; });
  return found == nodes.end() ? nullptr : &*found;
}

bool IsClient(const NodeAnswer& node) { return node.volume && node.volume->has_remote(); }

v1::VolumeClient NewClient(const std::string& node, bool read_only) {
  v1::VolumeClient client;
  client.set_node(node);
  client.set_ticket(RandomId());
  client.set_read_only(read_only);
  return client;
}

// What the engine has now, but for `without`; tickets stay what they are.
v1::SetClientsRequest PresentClients(const VolumeView& volume, const std::string& without) {
  v1::SetClientsRequest request;
  request.set_volume(volume.name);
  request.set_attachment(volume.status->attachment());
  for (const v1::ClientStatus& status : volume.status->clients()) {
    if (status.leaving() || status.node() == without) continue;
    v1::VolumeClient* const client = request.add_clients();
    client->set_node(status.node());
    client->set_read_only(status.read_only());
  }
  return request;
}

absl::Status CheckServed(const VolumeView& volume) {
  if (!volume.serving_node.empty() && volume.status->error().empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "volume '", volume.name,
      "' is not attached on a node that answers; attach it with `volume attach --on`"));
}

absl::StatusOr<std::string> ClientAddress(const std::vector<NodeAnswer>& nodes,
                                          const std::string& name) {
  const NodeAnswer* const node = Find(nodes, name);
  if (node != nullptr && !node->node.client_address().empty()) return node->node.client_address();
  return absl::FailedPreconditionError(absl::StrCat(
      "node ", name, " has no client port; start its daemon with --client-listen HOST:PORT"));
}

// The URI there.
absl::StatusOr<v1::AttachVolumeResponse> PointTo(const Cluster& cluster, const std::string& volume,
                                                 const v1::VolumeClient& client,
                                                 const std::string& address,
                                                 std::uint64_t attachment) {
  const absl::StatusOr<std::unique_ptr<Client>> daemon = cluster.To(client.node());
  if (!daemon.ok()) return daemon.status();
  v1::AttachVolumeRequest request;
  request.set_name(volume);
  request.mutable_remote()->set_address(address);
  request.mutable_remote()->set_ticket(client.ticket());
  request.mutable_remote()->set_attachment(attachment);
  return (*daemon)->AttachVolume(request);
}

}  // namespace

absl::Status AddClientNode(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                           std::ostream* out) {
  const std::vector<NodeAnswer> nodes = cluster.Ask(arguments.name);
  const absl::StatusOr<VolumeView> volume = FindVolume(nodes, arguments.name);
  if (!volume.ok()) return volume.status();
  if (absl::Status served = CheckServed(*volume); !served.ok()) return served;
  const NodeAnswer* const node = Find(nodes, arguments.on);
  if (volume->serving_node == arguments.on && (node == nullptr || !IsClient(*node))) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume '", arguments.name, "' is attached on node ", arguments.on, ": it is shown there"));
  }
  const absl::StatusOr<std::string> address = ClientAddress(nodes, volume->serving_node);
  if (!address.ok()) return address.status();
  const absl::StatusOr<std::unique_ptr<Client>> engine = cluster.To(volume->serving_node);
  if (!engine.ok()) return engine.status();
  v1::SetClientsRequest request = PresentClients(*volume, arguments.on);
  const v1::VolumeClient client = NewClient(arguments.on, arguments.read_only);
  *request.add_clients() = client;
  if (absl::Status set = (*engine)->SetClients(request).status(); !set.ok()) return set;
  const absl::StatusOr<v1::AttachVolumeResponse> shown =
      PointTo(cluster, arguments.name, client, *address, request.attachment());
  if (!shown.ok()) return shown.status();
  Print(output, *shown, out);
  return absl::OkStatus();
}

absl::Status RemoveClientNode(const Cluster& cluster, const ClusterArguments& arguments) {
  const std::vector<NodeAnswer> nodes = cluster.Ask(arguments.name);
  const absl::StatusOr<VolumeView> volume = FindVolume(nodes, arguments.name);
  if (!volume.ok()) return volume.status();
  bool found = false;
  // First there, where what it has under way is answered. A node that is gone is left out.
  if (const NodeAnswer* const node = Find(nodes, arguments.on);
      node != nullptr && IsClient(*node)) {
    found = true;
    const absl::StatusOr<std::unique_ptr<Client>> daemon = cluster.To(arguments.on);
    if (!daemon.ok()) return daemon.status();
    v1::DetachVolumeRequest request;
    request.set_name(arguments.name);
    request.set_client_only(true);
    if (absl::Status gone = (*daemon)->DetachVolume(request).status(); !gone.ok()) return gone;
  }
  if (!volume->serving_node.empty()) {
    for (const v1::ClientStatus& client : volume->status->clients()) {
      found = found || client.node() == arguments.on;
    }
    const absl::StatusOr<std::unique_ptr<Client>> engine = cluster.To(volume->serving_node);
    if (!engine.ok()) return engine.status();
    const v1::SetClientsRequest request = PresentClients(*volume, arguments.on);
    if (absl::Status set = (*engine)->SetClients(request).status(); !set.ok()) return set;
  }
  if (found) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("node ", arguments.on, " is no client of volume '",
                                          arguments.name, "'; see `volume client list`"));
}

absl::Status ListClientNodes(const Cluster& cluster, const ClusterArguments& arguments,
                             Output output, std::ostream* out) {
  const absl::StatusOr<VolumeView> volume = cluster.View(arguments.name);
  if (!volume.ok()) return volume.status();
  if (absl::Status served = CheckServed(*volume); !served.ok()) return served;
  PrintClients(output, *volume, out);
  return absl::OkStatus();
}

std::vector<v1::VolumeClient> ClientsToTakeAlong(const std::vector<NodeAnswer>& nodes,
                                                 const std::string& to) {
  std::vector<v1::VolumeClient> clients;
  if (!ClientAddress(nodes, to).ok()) return clients;
  for (const NodeAnswer& node : nodes) {
    if (IsClient(node)) clients.push_back(NewClient(node.name, node.volume->read_only()));
  }
  return clients;
}

absl::Status PointClients(const Cluster& cluster, const std::vector<NodeAnswer>& nodes,
                          const std::string& to, const v1::AttachVolumeRequest& attached) {
  if (attached.clients().empty()) return absl::OkStatus();
  const absl::StatusOr<std::string> address = ClientAddress(nodes, to);
  if (!address.ok()) return address.status();
  std::string failed;
  for (const v1::VolumeClient& client : attached.clients()) {
    const absl::Status pointed =
        PointTo(cluster, attached.name(), client, *address, attached.target().attachment())
            .status();
    if (pointed.ok()) continue;
    absl::StrAppend(&failed, failed.empty() ? "" : "; ", "node ", client.node(), ": ",
                    std::string(pointed.message()));
  }
  if (failed.empty()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("volume '", attached.name(), "' is attached on node ", to,
                   ", but not every client was pointed there (", failed,
                   "); give `volume client add` for them, or `volume client remove`"));
}

}  // namespace keelson::ctl
