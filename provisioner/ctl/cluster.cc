#include "provisioner/ctl/cluster.h"

#include <algorithm>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"

namespace keelson::ctl {
namespace {

NodeAnswer AskNode(const std::string& name, const std::string& socket, std::chrono::seconds timeout,
                   const std::string& volume, bool snapshots) {
  NodeAnswer answer;
  answer.name = name;
  const absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(socket, timeout);
  answer.status = client.status();
  if (!client.ok()) return answer;
  const absl::StatusOr<v1::GetNodeResponse> node = (*client)->GetNode();
  answer.status = node.status();
  if (!node.ok()) return answer;
  v1::ListReplicasRequest list;
  if (snapshots) list.set_snapshots_of(volume);
  const absl::StatusOr<v1::ListReplicasResponse> replicas = (*client)->ListReplicas(list);
  answer.status = replicas.status();
  if (!replicas.ok()) return answer;
  const absl::StatusOr<v1::ListVolumesResponse> volumes = (*client)->ListVolumes();
  answer.status = volumes.status();
  if (!volumes.ok()) return answer;
  if (!volume.empty()) {
    v1::GetVolumeStatusRequest request;
    request.set_name(volume);
    absl::StatusOr<v1::GetVolumeStatusResponse> status = (*client)->GetVolumeStatus(request);
    if (status.ok()) answer.volume = *std::move(status);
    if (!status.ok() && !absl::IsNotFound(status.status())) {
      answer.status = status.status();
      return answer;
    }
  }
  answer.node = *node;
  answer.replicas.assign(replicas->replicas().begin(), replicas->replicas().end());
  answer.volumes.assign(volumes->volumes().begin(), volumes->volumes().end());
  return answer;
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> ParseNodes(
    const std::vector<std::string>& pairs) {
  std::map<std::string, std::string> nodes;
  for (const std::string& pair : pairs) {
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == pair.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "'", pair, "' is not NAME=SOCKET, for example a=/run/keelson/blockstore.sock"));
    }
    if (!nodes.emplace(pair.substr(0, equals), pair.substr(equals + 1)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("node ", pair.substr(0, equals), " is given twice"));
    }
  }
  return nodes;
}

std::vector<NodeAnswer> Cluster::Ask(const std::string& volume, const AskOptions& options) const {
  std::vector<std::future<NodeAnswer>> asked;
  asked.reserve(sockets_.size());
  for (const auto& [name, socket] : sockets_) {
    asked.push_back(std::async(std::launch::async, AskNode, name, socket,
                               std::min(options.patience, timeout_), volume, options.snapshots));
  }
  std::vector<NodeAnswer> answers;
  answers.reserve(asked.size());
  for (std::future<NodeAnswer>& one : asked) answers.push_back(one.get());
  return answers;
}

absl::StatusOr<VolumeView> Cluster::View(const std::string& volume) const {
  return FindVolume(Ask(volume), volume);
}

absl::StatusOr<std::string> Cluster::SocketOf(const std::string& node) const {
  const auto found = sockets_.find(node);
  if (found != sockets_.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [name, socket] : sockets_) names.push_back(name);
  return absl::InvalidArgumentError(
      absl::StrCat("there is no node '", node, "'; the nodes are ", Enumerate(names)));
}

absl::StatusOr<std::unique_ptr<Client>> Cluster::To(const std::string& node) const {
  const absl::StatusOr<std::string> socket = SocketOf(node);
  if (!socket.ok()) return socket.status();
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(*socket, timeout_);
  if (client.ok()) return client;
  return absl::Status(client.status().code(),
                      absl::StrCat("node ", node, ": ", std::string(client.status().message())));
}

}  // namespace keelson::ctl
