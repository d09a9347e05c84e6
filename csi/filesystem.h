#pragma once
// File systems on devices: found by libblkid, made, checked and grown by their own tools. Blocks as
// long as the device and the tools do; any thread. Nothing is ever written to a device that holds
// something, except by the tools of the file system that is on it.

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "csi/host.h"

namespace keelson::csi {

// See Host.
absl::StatusOr<Signature> ProbeDevice(const Device& device);
absl::Status MakeFilesystem(const Device& device, const std::string& fs_type);
absl::Status CheckFilesystem(const Device& device, const std::string& fs_type);
// Reads all of its metadata, for minutes if it is large.
absl::Status GrowUnmountedExt4(const Device& device);
// `mount_fd` is the root of the mounted file system.
absl::Status GrowFilesystem(const Device& device, const std::string& fs_type, int mount_fd);

// What an operator reads when a file system cannot be mounted or repaired without loss.
absl::Status DamagedError(const Device& device, const std::string& fs_type,
                          const std::string& what);

}  // namespace keelson::csi
