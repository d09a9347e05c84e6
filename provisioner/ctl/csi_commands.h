#pragma once
// `keelctl csi ...`: a volume through a CSI driver's sockets, as Kubernetes would have it: made by
// a StorageClass, attached, mounted, and back; and which blocks a snapshot has, as a backup program
// would ask. For trying a driver out, and for finding out what it says. Blocking; prints to `out`
// and returns the driver's error, or OK.

#include <cstdint>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "provisioner/ctl/access_option.h"

namespace CLI {
class App;
}  // namespace CLI

namespace keelson::ctl {

struct CsiArguments {
  std::string controller = "unix:///run/keelson/csi.sock";
  std::string node_endpoint;  // empty: the same
  std::string name;
  std::string volume;         // its id
  std::string storage_class;  // a YAML file; empty: no parameters
  std::uint64_t size_bytes = 0;
  std::string node;
  std::string staging;
  std::string target;
  std::string snapshot;  // its id
  std::string since;     // that of an older one; empty: all blocks
  std::int64_t starting_offset = 0;
  std::int32_t max_results = 0;
  bool block = false;
  int access = kAccessDefault;  // csi::v1::VolumeCapability::AccessMode::Mode
  bool read_only = false;
};

// Adds the command to keelctl; its status is left in *status. The pointers outlive the parsing.
void AddCsiCommands(CLI::App* app, CsiArguments* arguments, std::ostream* const* out,
                    absl::Status* status);

}  // namespace keelson::ctl
