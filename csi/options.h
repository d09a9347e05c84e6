#pragma once
// The command line of keelson-csi. Pure, but for the environment variable CSI_ENDPOINT.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace keelson::csi {

enum class Mode { kController, kNode, kAll };

struct Options {
  std::string endpoint;  // path of the socket to listen on
  Mode mode = Mode::kAll;
  std::string provisioner;  // "unix:/path"
  std::string block_store;  // "unix:/path"; of this node
  std::string advertise;    // the same block store as the provisioner reaches it
  std::string node;
  std::map<std::string, std::string> topology;  // with the prefix of the driver
  std::uint32_t volumes_max = 0;
  std::string mount_root = "/var/lib/kubelet";
  std::string driver_name = "csi.keelson.io";
  bool enable_alpha = false;
  bool debug = false;

  bool HasController() const { return mode != Mode::kNode; }
  bool HasNode() const { return mode != Mode::kController; }
};

// The topology key of a node's own name.
constexpr char kNodeTopologyKey[] = "topology.keelson.io/node";

// INVALID_ARGUMENT names the option and what is allowed. Nothing: help or the version was asked for
// and has been printed.
absl::StatusOr<std::optional<Options>> ParseOptions(int argc, const char* const* argv);

}  // namespace keelson::csi
