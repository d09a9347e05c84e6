#pragma once
// The mounts of the volumes' FUSE files: RUN_DIR/loop/NAME, a regular file with a FUSE file system
// mounted on it whose root is a regular file, too. Blocking calls that never wait for a FUSE server
// (nothing below the mount point is looked at); any thread but a reactor's.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/service/keeper/keeper_messages.h"

namespace keelson::service {

// Opens /dev/fuse and mounts it on `path`, which is made if it is absent. PERMISSION_DENIED for
// anyone but root.
absl::StatusOr<Descriptor> MountFuseFile(const std::string& path, const std::string& volume,
                                         bool read_only);
// Takes the mount away, if there is one, and the file that it was on.
absl::Status UnmountFuseFile(const std::string& path);
// The names under `directory` that such files are mounted on, or were.
std::vector<std::string> FuseFilesIn(const std::string& directory);

}  // namespace keelson::service
