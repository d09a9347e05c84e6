#pragma once
// The kernel's table of mounts (/proc/self/mountinfo, read by libmount), and which mount a
// descriptor is on. Reads what the kernel has in memory: never waits for a device. Any thread.

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace keelson::csi {

struct MountEntry {
  int id = 0;
  dev_t device = 0;  // of the file system
  std::string root;  // what of the file system is shown: "/" is all
  std::string target;
  std::string fs_type;
  std::string mount_options;  // "rw,nosuid,relatime"
  std::string fs_options;     // "rw,discard"
};

absl::StatusOr<std::vector<MountEntry>> ReadMountTable();

// The id of the mount that `fd` is on. Unlike fstat, it works on a file system that has shut down.
absl::StatusOr<int> MountIdOf(int fd);

// Whether `option` is one of those, which commas separate.
bool HasOption(const std::string& options, const std::string& option);

}  // namespace keelson::csi
