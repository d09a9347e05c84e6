#include "blockstore/service/node_state.h"

#include <cerrno>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/service/host_files.h"

namespace keelson::service {
namespace {

constexpr int kVersion = 1;

absl::Status Unreadable(std::string_view path, std::string_view why) {
  return absl::DataLossError(absl::StrCat(std::string(path), " cannot be understood (",
                                          std::string(why),
                                          "); move it away and name the pools with --pool: "
                                          "everything else is in the pools themselves"));
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
       {std::pair{"pools", &pools_}, std::pair{"read_only_volumes", &read_only_volumes_}}) {
    const auto list = state.find(key);
    if (list == state.end()) continue;
    if (!list->is_array()) return Unreadable(path_, key);
    for (const nlohmann::json& entry : *list) {
      if (!entry.is_string()) return Unreadable(path_, key);
      set->insert(entry.get<std::string>());
    }
  }
  return absl::OkStatus();
}

absl::Status NodeState::Save() const {
  nlohmann::json state;
  state["version"] = kVersion;
  state["pools"] = pools_;
  state["read_only_volumes"] = read_only_volumes_;
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
  const bool was = read_only_volumes_.count(volume) > 0;
  if (was == read_only) return absl::OkStatus();
  if (read_only) {
    read_only_volumes_.insert(volume);
  } else {
    read_only_volumes_.erase(volume);
  }
  const absl::Status status = Save();
  if (status.ok()) return status;
  if (was) {
    read_only_volumes_.insert(volume);
  } else {
    read_only_volumes_.erase(volume);
  }
  return status;
}

}  // namespace keelson::service
