#pragma once
// `keelctl cluster ...`: the commands that talk to keelson-provisioner. They print to `out` and
// return the provisioner's error, or OK.

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "provisioner/ctl/access_option.h"
#include "provisioner/ctl/format.h"

namespace CLI {
class App;
}  // namespace CLI

namespace keelson::ctl {

struct ControlArguments {
  std::string address = "unix:/run/keelson/provisioner.sock";
  std::int64_t timeout_seconds = 60;
  Output output = Output::kTable;
  std::string what;  // a volume's id or name, a node's name, ...
  std::string name;
  std::string node;
  std::string source;  // a snapshot or volume to make it from
  std::uint64_t size_bytes = 0;
  std::vector<std::string> parameters;  // key=value
  bool block = false;
  int access = kAccessDefault;  // control::v1::AccessMode
  bool read_only = false;
  bool dry_run = false;
  std::string intent;
};

// Adds the command `cluster` to keelctl. Before a command runs, `settings` fills in what the
// options in front of it say; its status is left in *status. The pointers outlive the parsing.
void AddControlCommands(CLI::App* app, ControlArguments* arguments, std::ostream* const* out,
                        absl::Status* status);

}  // namespace keelson::ctl
