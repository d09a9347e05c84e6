#pragma once
// What keelctl does without the daemon: it becomes `keelson-blockstore tool ...`, the program that
// lies beside it and has the pool's code.

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace keelson::ctl {

// Replaces this process by `keelson-blockstore tool ARGUMENTS...`; returns only when that fails.
absl::Status BecomeTool(const std::vector<std::string>& arguments);

}  // namespace keelson::ctl
