#pragma once
// Runs a tool of the host (mkfs.ext4, e2fsck, ...): no shell, a fixed set of directories to find it
// in, a fixed environment, nothing on its standard input. Any thread; blocks until the tool ends.

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace keelson::csi {

struct CommandResult {
  int exit_code = 0;
  std::string output;  // the last few KiB of what it printed
};

// `arguments[0]` is the tool's name. It starts in `directory_fd`, or in / when that is -1.
// FAILED_PRECONDITION: the tool is not installed. DEADLINE_EXCEEDED: it was killed. INTERNAL: it
// could not be started, or died of a signal.
absl::StatusOr<CommandResult> RunCommand(const std::vector<std::string>& arguments,
                                         int directory_fd, std::chrono::milliseconds timeout);

// What a tool printed, for an error message: one line, of bounded length, printable.
std::string OneLine(const std::string& output);

}  // namespace keelson::csi
