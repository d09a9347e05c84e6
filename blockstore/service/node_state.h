#pragma once
// NodeState: what a daemon must remember that no pool can tell it: which pools it opens, which
// attachments are read-only or limited (QoS), which volumes are shown as block devices (the
// frontend loop), what it has attached by a target, with its clients, and what it shows as a client
// of another node. The tickets of clients are in it: it is for this user only. Kept in
// <state-dir>/pools.json, replaced as a whole (temporary file, fsync, rename, fsync of the
// directory), so that a crash leaves the old or the new one.
//
// Owned by Node; any thread. Every change is durable when its call returns OK.

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/rate_limiter.h"
#include "proto/keelson/v1/blockstore.pb.h"

namespace keelson::service {

// A volume attached by a target, to be resumed at the next start.
struct RememberedAttachment {
  v1::AttachTarget target;
  bool read_only = false;
  std::uint32_t restart = 0;              // of the last engine
  bool shown = true;                      // false: nothing here uses it, but for its clients
  std::vector<v1::VolumeClient> clients;  // its client list, with tickets
};

class NodeState {
 public:
  explicit NodeState(const std::string& directory) : path_(directory + "/pools.json") {}

  // Reads the file; a missing one is an empty state. DATA_LOSS when it cannot be understood,
  // FAILED_PRECONDITION when a newer program wrote it.
  absl::Status Load();

  std::vector<std::string> pools() const;
  absl::Status AddPool(const std::string& directory);
  bool IsReadOnly(const std::string& volume) const;
  absl::Status SetReadOnly(const std::string& volume, bool read_only);

  std::set<std::string> loop_volumes() const;
  bool HasLoop(const std::string& volume) const;
  absl::Status SetLoop(const std::string& volume, bool loop);

  // Without limits when none are remembered; those are forgotten.
  engine::QosLimits FindQos(const std::string& volume) const;
  absl::Status SetQos(const std::string& volume, const engine::QosLimits& limits);

  std::map<std::string, RememberedAttachment> attachments() const;  // by the volume's name
  std::optional<RememberedAttachment> FindAttachment(const std::string& volume) const;
  absl::Status Remember(const std::string& volume, const RememberedAttachment& attachment);
  // OK when there is none.
  absl::Status Forget(const std::string& volume);

  // Volumes that another node's engine serves and this node shows, by name, with tickets.
  std::map<std::string, v1::RemoteEngine> remotes() const;
  std::optional<v1::RemoteEngine> FindRemote(const std::string& volume) const;
  absl::Status RememberRemote(const std::string& volume, const v1::RemoteEngine& remote);
  // OK when there is none.
  absl::Status ForgetRemote(const std::string& volume);

 private:
  absl::Status Save() const;
  // Of the file's format, so that an older program opens what it understands.
  int VersionNeeded() const;
  // Puts `volume` into the set or takes it out, durably.
  absl::Status SetIn(std::set<std::string>* set, const std::string& volume, bool in);

  const std::string path_;
  mutable std::mutex mutex_;
  std::set<std::string> pools_;              // absolute directories
  std::set<std::string> read_only_volumes_;  // attached read-only
  std::set<std::string> loop_volumes_;       // attached with the frontend loop
  std::map<std::string, engine::QosLimits> qos_;
  std::map<std::string, RememberedAttachment> attachments_;
  std::map<std::string, v1::RemoteEngine> remotes_;
};

}  // namespace keelson::service
