#include "blockstore/service/node_state.h"

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/service/host_files.h"

namespace keelson::service {
namespace {

constexpr int kVersion = 4;  // 2: attachments; 3: loop_volumes; 4: clients, remote_attachments
// An older program understands everything while none of the later is used.
constexpr int kVersionWithoutClients = 3;
constexpr int kVersionWithoutLoop = 2;

absl::Status Unreadable(std::string_view path, std::string_view why) {
  return absl::DataLossError(absl::StrCat(std::string(path), " cannot be understood (",
                                          std::string(why),
                                          "); move it away and name the pools with --pool: "
                                          "everything else is in the pools themselves"));
}

nlohmann::json ToJson(const RememberedAttachment& attachment) {
  const v1::AttachTarget& target = attachment.target;
  nlohmann::json segments = nlohmann::json::array();
  for (const v1::SegmentHint& segment : target.segments()) {
    nlohmann::json members = nlohmann::json::array();
    for (const v1::Member& member : segment.members()) {
      members.push_back({{"pool", member.pool_id()},
                         {"replica", member.replica_id()},
                         {"address", member.address()},
                         {"witness", member.witness()}});
    }
    segments.push_back({{"segment", segment.segment()}, {"members", members}});
  }
  nlohmann::json clients = nlohmann::json::array();
  for (const v1::VolumeClient& client : attachment.clients) {
    clients.push_back(
        {{"node", client.node()}, {"ticket", client.ticket()}, {"read_only", client.read_only()}});
  }
  return {{"volume_id", target.volume_id()},
          {"read_only", attachment.read_only},
          {"attachment", target.attachment()},
          {"restart", attachment.restart},
          {"segment_bytes", target.segment_bytes()},
          {"segments", segments},
          {"clients", clients},
          {"shown", attachment.shown}};
}

// These throw what nlohmann::json throws when a field is missing or of another type.

engine::QosLimits ParseQos(const nlohmann::json& json) {
  engine::QosLimits limits;
  limits.iops = json.at("iops").get<std::uint64_t>();
  limits.bytes_per_second = json.at("bytes_per_second").get<std::uint64_t>();
  return limits;
}

RememberedAttachment ParseAttachment(const nlohmann::json& json) {
  RememberedAttachment attachment;
  v1::AttachTarget& target = attachment.target;
  attachment.read_only = json.at("read_only").get<bool>();
  attachment.restart = json.at("restart").get<std::uint32_t>();
  attachment.shown = json.value("shown", true);
  target.set_volume_id(json.at("volume_id").get<std::string>());
  target.set_attachment(json.at("attachment").get<std::uint64_t>());
  target.set_segment_bytes(json.at("segment_bytes").get<std::uint64_t>());
  for (const nlohmann::json& segment : json.at("segments")) {
    v1::SegmentHint* hint = target.add_segments();
    hint->set_segment(segment.at("segment").get<std::uint32_t>());
    for (const nlohmann::json& member : segment.at("members")) {
      v1::Member* parsed = hint->add_members();
      parsed->set_pool_id(member.at("pool").get<std::string>());
      parsed->set_replica_id(member.at("replica").get<std::string>());
      parsed->set_address(member.at("address").get<std::string>());
      parsed->set_witness(member.at("witness").get<bool>());
    }
  }
  for (const nlohmann::json& client : json.value("clients", nlohmann::json::array())) {
    v1::VolumeClient& parsed = attachment.clients.emplace_back();
    parsed.set_node(client.at("node").get<std::string>());
    parsed.set_ticket(client.at("ticket").get<std::string>());
    parsed.set_read_only(client.at("read_only").get<bool>());
  }
  return attachment;
}

nlohmann::json ToJson(const v1::RemoteEngine& remote) {
  return {{"address", remote.address()},
          {"ticket", remote.ticket()},
          {"attachment", remote.attachment()}};
}

// As ParseAttachment.
v1::RemoteEngine ParseRemote(const nlohmann::json& json) {
  v1::RemoteEngine remote;
  remote.set_address(json.at("address").get<std::string>());
  remote.set_ticket(json.at("ticket").get<std::string>());
  remote.set_attachment(json.at("attachment").get<std::uint64_t>());
  return remote;
}

// Calls `parse(name, value)` for each member of the object `key`, if it is there.
template <typename Parse>
absl::Status ForEachIn(const nlohmann::json& state, const char* key, const std::string& path,
                       Parse parse) {
  const auto object = state.find(key);
  if (object == state.end()) return absl::OkStatus();
  if (!object->is_object()) return Unreadable(path, key);
  for (const auto& [name, json] : object->items()) {
    try {
      parse(name, json);
    } catch (const nlohmann::json::exception& error) {
      return Unreadable(path, absl::StrCat(key, " of ", name, ": ", error.what()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status NodeState::Load() {
  std::lock_guard lock(mutex_);
  absl::StatusOr<std::string> text = ReadFile(path_);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  if (!text.ok()) return text.status();
  const nlohmann::json state = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!state.is_object()) return Unreadable(path_, "not a JSON object");
  const auto version = state.find("version");
  if (version == state.end() || !version->is_number_integer()) {
    return Unreadable(path_, "no version");
  }
  if (version->get<int>() > kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, " was written by a newer keelson-blockstore; run that one"));
  }
  for (const auto& [key, set] :
       {std::pair{"pools", &pools_}, std::pair{"read_only_volumes", &read_only_volumes_},
        std::pair{"loop_volumes", &loop_volumes_}}) {
    const auto list = state.find(key);
    if (list == state.end()) continue;
    if (!list->is_array()) return Unreadable(path_, key);
    for (const nlohmann::json& entry : *list) {
      if (!entry.is_string()) return Unreadable(path_, key);
      set->insert(entry.get<std::string>());
    }
  }
  RETURN_IF_ERROR(ForEachIn(state, "qos", path_, [this](const auto& name, const auto& json) {
    qos_[name] = ParseQos(json);
  }));
  RETURN_IF_ERROR(ForEachIn(
      state, "attachments", path_,
      [this](const auto& name, const auto& json) { attachments_[name] = ParseAttachment(json); }));
  return ForEachIn(state, "remote_attachments", path_, [this](const auto& name, const auto& json) {
    remotes_[name] = ParseRemote(json);
  });
}

int NodeState::VersionNeeded() const {
  const bool clients =
      !remotes_.empty() ||
      std::any_of(attachments_.begin(), attachments_.end(), [](const auto& attachment) {
        return !attachment.second.clients.empty() || !attachment.second.shown;
      });
  if (clients) return kVersion;
  return loop_volumes_.empty() ? kVersionWithoutLoop : kVersionWithoutClients;
}

absl::Status NodeState::Save() const {
  nlohmann::json state;
  state["version"] = VersionNeeded();
  state["pools"] = pools_;
  state["read_only_volumes"] = read_only_volumes_;
  state["loop_volumes"] = loop_volumes_;
  // Not worth a version: an older program serves such a volume without limits.
  for (const auto& [volume, limits] : qos_) {
    state["qos"][volume] = {{"iops", limits.iops}, {"bytes_per_second", limits.bytes_per_second}};
  }
  state["attachments"] = nlohmann::json::object();
  for (const auto& [volume, attachment] : attachments_) {
    state["attachments"][volume] = ToJson(attachment);
  }
  state["remote_attachments"] = nlohmann::json::object();
  for (const auto& [volume, remote] : remotes_) {
    state["remote_attachments"][volume] = ToJson(remote);
  }
  return ReplaceFile(path_,
                     state.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n");
}

std::vector<std::string> NodeState::pools() const {
  std::lock_guard lock(mutex_);
  return {pools_.begin(), pools_.end()};
}

absl::Status NodeState::AddPool(const std::string& directory) {
  std::lock_guard lock(mutex_);
  if (!pools_.insert(directory).second) return absl::OkStatus();
  const absl::Status status = Save();
  if (!status.ok()) pools_.erase(directory);
  return status;
}

bool NodeState::IsReadOnly(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  return read_only_volumes_.count(volume) > 0;
}

absl::Status NodeState::SetReadOnly(const std::string& volume, bool read_only) {
  std::lock_guard lock(mutex_);
  return SetIn(&read_only_volumes_, volume, read_only);
}

std::set<std::string> NodeState::loop_volumes() const {
  std::lock_guard lock(mutex_);
  return loop_volumes_;
}

bool NodeState::HasLoop(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  return loop_volumes_.count(volume) > 0;
}

absl::Status NodeState::SetLoop(const std::string& volume, bool loop) {
  std::lock_guard lock(mutex_);
  return SetIn(&loop_volumes_, volume, loop);
}

absl::Status NodeState::SetIn(std::set<std::string>* set, const std::string& volume, bool in) {
  const bool was = set->count(volume) > 0;
  if (was == in) return absl::OkStatus();
  const std::set<std::string> before = *set;
  if (in) {
    set->insert(volume);
  } else {
    set->erase(volume);
  }
  const absl::Status status = Save();
  if (!status.ok()) *set = before;
  return status;
}

engine::QosLimits NodeState::FindQos(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  const auto found = qos_.find(volume);
  return found == qos_.end() ? engine::QosLimits() : found->second;
}

absl::Status NodeState::SetQos(const std::string& volume, const engine::QosLimits& limits) {
  std::lock_guard lock(mutex_);
  const std::map<std::string, engine::QosLimits> before = qos_;
  if (limits == engine::QosLimits()) {
    qos_.erase(volume);
  } else {
    qos_[volume] = limits;
  }
  if (qos_ == before) return absl::OkStatus();
  const absl::Status status = Save();
  if (!status.ok()) qos_ = before;
  return status;
}

std::map<std::string, RememberedAttachment> NodeState::attachments() const {
  std::lock_guard lock(mutex_);
  return attachments_;
}

std::optional<RememberedAttachment> NodeState::FindAttachment(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  const auto found = attachments_.find(volume);
  if (found == attachments_.end()) return std::nullopt;
  return found->second;
}

absl::Status NodeState::Remember(const std::string& volume,
                                 const RememberedAttachment& attachment) {
  std::lock_guard lock(mutex_);
  const std::map<std::string, RememberedAttachment> before = attachments_;
  attachments_[volume] = attachment;
  const absl::Status status = Save();
  if (!status.ok()) attachments_ = before;
  return status;
}

absl::Status NodeState::Forget(const std::string& volume) {
  std::lock_guard lock(mutex_);
  const std::map<std::string, RememberedAttachment> before = attachments_;
  if (attachments_.erase(volume) == 0) return absl::OkStatus();
  const absl::Status status = Save();
  if (!status.ok()) attachments_ = before;
  return status;
}

std::map<std::string, v1::RemoteEngine> NodeState::remotes() const {
  std::lock_guard lock(mutex_);
  return remotes_;
}

std::optional<v1::RemoteEngine> NodeState::FindRemote(const std::string& volume) const {
  std::lock_guard lock(mutex_);
  const auto found = remotes_.find(volume);
  if (found == remotes_.end()) return std::nullopt;
  return found->second;
}

absl::Status NodeState::RememberRemote(const std::string& volume, const v1::RemoteEngine& remote) {
  std::lock_guard lock(mutex_);
  const std::map<std::string, v1::RemoteEngine> before = remotes_;
  remotes_[volume] = remote;
  const absl::Status status = Save();
  if (!status.ok()) remotes_ = before;
  return status;
}

absl::Status NodeState::ForgetRemote(const std::string& volume) {
  std::lock_guard lock(mutex_);
  const std::map<std::string, v1::RemoteEngine> before = remotes_;
  if (remotes_.erase(volume) == 0) return absl::OkStatus();
  const absl::Status status = Save();
  if (!status.ok()) remotes_ = before;
  return status;
}

}  // namespace keelson::service
