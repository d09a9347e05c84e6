#pragma once
// MountOptions: the mount flags of a request, sorted by who understands them. Pure; any thread.

#include <google/protobuf/repeated_ptr_field.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace keelson::csi {

struct MountOptions {
  bool read_only = false;
  // Of the mount: MOUNT_ATTR_* of <linux/mount.h>, without MOUNT_ATTR_RDONLY.
  std::uint64_t attributes = 0;
  // Of the file system: names with their values; an option without one has an empty value.
  std::vector<std::pair<std::string, std::string>> file_system;
};

// Each entry is an option or several with commas between; commas within double quotes do not count,
// and the quotes are dropped (SELinux contexts have commas). What is meant for mount(8) alone
// (defaults, _netdev, nofail, x-...) is dropped. INVALID_ARGUMENT: what would make the mount
// something else than one of this device here (bind, remount, propagation, loop, journals and logs
// on other devices). Messages name the option, never its value.
absl::StatusOr<MountOptions> ParseMountFlags(
    const google::protobuf::RepeatedPtrField<std::string>& flags);

// The attribute bits of a mount with these options of mountinfo's sixth field
// ("rw,nosuid,relatime").
std::uint64_t AttributesOf(const std::string& mountinfo_options);

}  // namespace keelson::csi
