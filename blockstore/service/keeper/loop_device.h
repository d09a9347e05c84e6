#pragma once
// What is done to loop devices and to the files under them, by keelson-fuse-keeper as a short-lived
// process: every call here may wait for the daemon to answer the kernel, in a state that no signal
// ends, and so must not be made by a thread of the daemon. Blocking; one thread.
//
// A loop device is ours when its backing file has the device number that is expected (each volume
// is a file system of its own, so the number says which) or, where that cannot be asked any more,
// the path. Nothing is done to any other.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace keelson::service {

// A loop device on a file.
struct LoopBinding {
  int index = -1;            // of /dev/loop<index>
  std::uint64_t device = 0;  // st_dev of the file
};

// Sets up a free loop device on the FUSE file `path`: direct I/O, blocks of 4 KiB.
absl::StatusOr<LoopBinding> AttachLoop(const std::string& path, bool read_only);
// OK when `binding` holds. NOT_FOUND otherwise.
absl::Status CheckLoop(const LoopBinding& binding);
// Gives the device the size that the file has now. `path` may be out of sight (another mount
// namespace). NOT_FOUND as CheckLoop.
absl::Status GrowLoop(const LoopBinding& binding, const std::string& path);
// Flushes and frees the device. OK when it is not ours (any more). FAILED_PRECONDITION: it is in
// use, by whom.
absl::Status DetachLoop(const LoopBinding& binding, const std::string& path);
// Frees every device on `path`, whose connection is dead. FAILED_PRECONDITION as above.
absl::Status DetachLoopsOf(const std::string& path);

}  // namespace keelson::service
