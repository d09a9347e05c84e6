// FakeNodes: what tests set of the nodes, and see of them.

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/unit/provisioner/service/fake_node_state.h"

namespace keelson::provisioner {

void FakeNodes::SetDown(const std::string& name, bool down) {
  std::lock_guard lock(mutex_);
  nodes_.at(name)->down = down;
}

void FakeNodes::SetPoolError(const std::string& name, const std::string& error) {
  std::lock_guard lock(mutex_);
  nodes_.at(name)->pool_error = error;
}

void FakeNodes::SetLacking(const std::string& name, bool lacking) {
  std::lock_guard lock(mutex_);
  nodes_.at(name)->lacking = lacking;
}

void FakeNodes::MakeStale(const std::string& name, const std::string& volume,
                          const std::string& snapshot) {
  std::lock_guard lock(mutex_);
  for (auto& [id, replica] : nodes_.at(name)->replicas) {
    if (replica.made.volume() != volume) continue;
    replica.snapshots.at(snapshot).set_id("id-of-an-earlier-cut");
  }
}

void FakeNodes::FailNext(const std::string& method, absl::Status status, int times) {
  std::lock_guard lock(mutex_);
  failures_[method] = {std::move(status), times};
}

std::size_t FakeNodes::ReplicaCount() const {
  std::lock_guard lock(mutex_);
  std::size_t count = 0;
  for (const auto& [name, node] : nodes_) count += node->replicas.size();
  return count;
}

std::size_t FakeNodes::ReplicaCount(const std::string& node) const {
  std::lock_guard lock(mutex_);
  return nodes_.at(node)->replicas.size();
}

std::size_t FakeNodes::SnapshotCount() const {
  std::lock_guard lock(mutex_);
  std::size_t count = 0;
  for (const auto& [name, node] : nodes_) {
    for (const auto& [id, replica] : node->replicas) count += replica.snapshots.size();
  }
  return count;
}

std::size_t FakeNodes::EngineCount() const {
  std::lock_guard lock(mutex_);
  std::size_t count = 0;
  for (const auto& [name, node] : nodes_) count += node->engines.size();
  return count;
}

std::vector<std::string> FakeNodes::EnginesOf(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> found;
  for (const auto& [name, node] : nodes_) {
    if (node->engines.count(volume) > 0) found.push_back(name);
  }
  return found;
}

const FakeNodes::Engine* FakeNodes::EngineFor(const std::string& volume, const Shown& shown) const {
  for (const auto& [name, node] : nodes_) {
    const auto engine = node->engines.find(volume);
    if (node->down || engine == node->engines.end()) continue;
    if (absl::StrCat(name, ":2") != shown.engine.address()) continue;
    if (engine->second.target.attachment() != shown.engine.attachment()) continue;
    for (const v1::VolumeClient& client : engine->second.clients) {
      if (client.ticket() == shown.engine.ticket()) return &engine->second;
    }
  }
  return nullptr;
}

std::vector<std::string> FakeNodes::ClientsOf(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> found;
  for (const auto& [name, node] : nodes_) {
    const auto shown = node->shown.find(volume);
    if (shown == node->shown.end() || node->down) continue;
    if (EngineFor(volume, shown->second) != nullptr) found.push_back(name);
  }
  return found;
}

std::vector<std::string> FakeNodes::ShownOn(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> found;
  for (const auto& [name, node] : nodes_) {
    if (node->shown.count(volume) > 0) found.push_back(name);
  }
  return found;
}

std::uint64_t FakeNodes::ShownBytes(const std::string& volume, const std::string& node) const {
  std::lock_guard lock(mutex_);
  const auto shown = nodes_.at(node)->shown.find(volume);
  return shown == nodes_.at(node)->shown.end() ? 0 : shown->second.size_bytes;
}

void FakeNodes::SetInUse(const std::string& node, const std::string& volume, bool in_use) {
  std::lock_guard lock(mutex_);
  if (in_use) {
    nodes_.at(node)->in_use.insert(volume);
  } else {
    nodes_.at(node)->in_use.erase(volume);
  }
}

std::vector<FakeNodes::Replica*> FakeNodes::FirstSegmentOf(const std::string& volume) const {
  std::vector<Replica*> found;
  for (const auto& [name, node] : nodes_) {
    for (auto& [id, replica] : node->replicas) {
      const bool wanted = replica.made.volume() == volume && replica.made.segment() == 0;
      if (wanted) found.push_back(&replica);
    }
  }
  return found;
}

std::uint64_t FakeNodes::SizeOfLocked(const std::string& volume) const {
  const std::vector<Replica*> found = FirstSegmentOf(volume);
  return found.empty() ? 0 : found.front()->size_bytes;
}

std::uint64_t FakeNodes::SizeOf(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  return SizeOfLocked(volume);
}

void FakeNodes::SetContent(const std::string& volume, const std::string& content) {
  std::lock_guard lock(mutex_);
  for (Replica* const replica : FirstSegmentOf(volume)) {
    if (!replica->made.witness()) replica->content = content;
  }
}

std::string FakeNodes::ContentOf(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  for (const Replica* const replica : FirstSegmentOf(volume)) {
    if (!replica->content.empty()) return replica->content;
  }
  return "";
}

std::string FakeNodes::ContentOfSnapshot(const std::string& snapshot) const {
  std::lock_guard lock(mutex_);
  for (const auto& [name, node] : nodes_) {
    for (const auto& [id, replica] : node->replicas) {
      const auto cut = replica.snapshots.find(snapshot);
      if (cut == replica.snapshots.end()) continue;
      const auto content = replica.snapshot_contents.find(cut->second.id());
      const bool known = content != replica.snapshot_contents.end() && !content->second.empty();
      if (known) return content->second;
    }
  }
  return "";
}

bool FakeNodes::IsReadOnly(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  for (const auto& [name, node] : nodes_) {
    const auto shown = node->shown.find(volume);
    if (shown != node->shown.end() && shown->second.read_only) return true;
    const auto found = node->engines.find(volume);
    if (found != node->engines.end() && found->second.read_only) return true;
  }
  return false;
}

v1::Qos FakeNodes::QosOf(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  for (const auto& [name, node] : nodes_) {
    const auto found = node->engines.find(volume);
    if (found != node->engines.end()) return found->second.qos;
  }
  return {};
}

std::size_t FakeNodes::HoldCount() const {
  std::lock_guard lock(mutex_);
  std::size_t count = 0;
  for (const auto& [name, node] : nodes_) {
    for (const auto& [volume, engine] : node->engines) count += engine.hold.empty() ? 0 : 1;
  }
  return count;
}

std::uint32_t FakeNodes::MinInSyncOf(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  for (const auto& [name, node] : nodes_) {
    const auto found = node->engines.find(volume);
    if (found != node->engines.end()) return found->second.min_in_sync;
  }
  return 0;
}

std::vector<std::string> FakeNodes::calls() const {
  std::lock_guard lock(mutex_);
  return calls_;
}

}  // namespace keelson::provisioner
