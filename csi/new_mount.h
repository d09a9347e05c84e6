#pragma once
// Mounts as descriptors (fsopen, fsmount, open_tree, mount_setattr, move_mount): a mount is made
// and given all its properties before it is anywhere, and then put to a place that is a descriptor,
// too. Never half done, and no path is resolved. Needs CAP_SYS_ADMIN. Any thread.

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "csi/fd.h"
#include "csi/host.h"

namespace keelson::csi {

// INVALID_ARGUMENT: the file system does not take an option. DATA_LOSS: it is damaged.
// FAILED_PRECONDITION: the device is in use otherwise, or mounted with another read-only.
absl::StatusOr<Fd> NewMount(const Device& device, const std::string& fs_type,
                            const MountOptions& options);

// The part of a mount that `source_fd` names, once more. `name` is for messages.
absl::StatusOr<Fd> CloneMount(int source_fd, bool read_only, const std::string& name);

absl::Status MoveMount(int mount_fd, int place_fd, const std::string& name);

}  // namespace keelson::csi
