#pragma once
// Cluster: the daemons that keelctl was given as nodes. Blocking; asks them in parallel, so that
// one that does not answer costs its deadline once. One thread, but for what Ask starts and ends.

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "provisioner/ctl/client.h"
#include "provisioner/ctl/cluster_view.h"

namespace keelson::ctl {

// NAME=SOCKET pairs: INVALID_ARGUMENT for anything else, and for a name given twice.
absl::StatusOr<std::map<std::string, std::string>> ParseNodes(
    const std::vector<std::string>& pairs);

class Cluster {
 public:
  // How long a node may take to say what it has.
  static constexpr std::chrono::seconds kAskTimeout{3};
  // The same where an outage lasts until all have answered or are given up: a take-over by force.
  static constexpr std::chrono::seconds kAskTimeoutInHaste{1};

  Cluster(std::map<std::string, std::string> sockets, std::chrono::seconds timeout)
      : sockets_(std::move(sockets)), timeout_(timeout) {}

  struct AskOptions {
    bool snapshots = false;  // its replicas are wanted with their snapshots
    std::chrono::seconds patience = kAskTimeout;
  };
  // What every node has, and the volume's status there when `volume` is not empty.
  std::vector<NodeAnswer> Ask(const std::string& volume, const AskOptions& options) const;
  std::vector<NodeAnswer> Ask(const std::string& volume) const { return Ask(volume, {}); }
  // Ask, and what it says about the volume.
  absl::StatusOr<VolumeView> View(const std::string& volume) const;
  // For calls that change something. INVALID_ARGUMENT for a node that is not named.
  absl::StatusOr<std::unique_ptr<Client>> To(const std::string& node) const;
  absl::StatusOr<std::string> SocketOf(const std::string& node) const;

 private:
  const std::map<std::string, std::string> sockets_;
  const std::chrono::seconds timeout_;
};

}  // namespace keelson::ctl
