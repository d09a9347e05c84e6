#pragma once
// --access: which nodes may use a volume at once, by the names that Kubernetes has for it. Values
// are the numbers of the CSI specification, which the provisioner's AccessMode has too. Any thread.

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include "proto/keelson/v1/provisioner.pb.h"

namespace keelson::ctl {

inline constexpr int kAccessDefault = control::v1::SINGLE_NODE_MULTI_WRITER;

inline void AddAccessOption(CLI::App* command, int* access) {
  const std::map<std::string, int> modes = {{"rwo", control::v1::SINGLE_NODE_MULTI_WRITER},
                                            {"rwop", control::v1::SINGLE_NODE_SINGLE_WRITER},
                                            {"rox", control::v1::MULTI_NODE_READER_ONLY},
                                            {"rwx", control::v1::MULTI_NODE_MULTI_WRITER}};
  command
      ->add_option("--access", *access,
                   "rwo: one node; rwop: one pod; rox: many nodes read; rwx: many nodes write, "
                   "with --block (rwo)")
      ->transform(CLI::CheckedTransformer(modes, CLI::ignore_case));
}

}  // namespace keelson::ctl
