#pragma once
// Host: what the node service needs of the machine: devices, file systems, mounts. The kernel is
// the only memory: everything that was done is found again in its mount table, by whichever process
// asks. KernelHost is the real one, tests have another. Calls may block as long as a device or a
// tool does; any thread, but never two at once about the same volume.
//
// Paths are absolute, have passed CheckPath, and are resolved so that no symbolic link is followed.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "csi/mount_options.h"

namespace keelson::csi {

struct Device {
  std::string path;
  dev_t number = 0;
  std::uint64_t size_bytes = 0;
  bool read_only = false;
};

// What the kernel shows at a path, on top if there are several.
struct Mounted {
  std::string path;
  bool block = false;  // a device node; otherwise a directory of a file system
  dev_t device = 0;    // that node's device, or the one with the file system
  std::string fs_type;
  bool whole = true;       // the root of the file system, not a directory in it
  bool read_only = false;  // this mount, or its file system
  bool fs_read_only = false;
  std::uint64_t attributes = 0;  // MOUNT_ATTR_*
};

// What is found on a device. All empty: nothing at all.
struct Signature {
  std::string fs_type;              // or the name of another kind of content
  std::uint64_t fs_size_bytes = 0;  // as the superblock says; 0: not known
};

struct Usage {
  std::uint64_t bytes_total = 0;
  std::uint64_t bytes_available = 0;  // to those who are not root
  std::uint64_t bytes_used = 0;
  std::uint64_t inodes_total = 0;
  std::uint64_t inodes_available = 0;
};

class Host {
 public:
  virtual ~Host() = default;

  // NOT_FOUND, FAILED_PRECONDITION: there is no block device at `path`.
  virtual absl::StatusOr<Device> FindDevice(const std::string& path) = 0;

  // Nothing: the path is not there, or nothing is mounted exactly at it.
  virtual absl::StatusOr<std::optional<Mounted>> MountedAt(const std::string& path) = 0;
  // Every place below the mount root that shows the device, whole: its file system or its node.
  virtual absl::StatusOr<std::vector<Mounted>> MountsOf(dev_t device) = 0;

  // An error when it cannot be read or has several signatures: not known to be empty.
  virtual absl::StatusOr<Signature> Probe(const Device& device) = 0;
  // ABORTED: the device is not empty any more, or somebody else is at it. FAILED_PRECONDITION: it
  // is in use.
  virtual absl::Status Format(const Device& device, const std::string& fs_type) = 0;
  // Replays what must be and repairs what is safe to repair. DATA_LOSS: a person must decide.
  virtual absl::Status Check(const Device& device, const std::string& fs_type) = 0;
  // `path` is a directory.
  virtual absl::Status Mount(const Device& device, const std::string& fs_type,
                             const MountOptions& options, const std::string& path) = 0;
  // To the size of the device, before it is mounted, where that is not possible afterwards. False:
  // it is; nothing was done.
  virtual absl::StatusOr<bool> GrowUnmounted(const Device& device, const std::string& fs_type) = 0;
  // To the size of the device; nothing happens when it has that already. Mounted at `path`.
  virtual absl::Status Grow(const Device& device, const std::string& fs_type,
                            const std::string& path) = 0;

  // Makes an empty directory or file; its parent is there. True: it was not there before.
  // FAILED_PRECONDITION: something else is.
  virtual absl::StatusOr<bool> MakeTarget(const std::string& path, bool directory) = 0;
  // Removes an empty directory or an empty file, never anything else and never recursively. OK when
  // it is not there.
  virtual absl::Status RemoveTarget(const std::string& path) = 0;
  // Shows the file system that is mounted at `from` at `target` too. FAILED_PRECONDITION: it is not
  // that of `device`.
  virtual absl::Status Bind(const std::string& from, dev_t device, const std::string& target,
                            bool read_only) = 0;
  // Shows the device's node at `target`, a file.
  virtual absl::Status BindDevice(const Device& device, const std::string& target) = 0;
  // All that is mounted exactly at `path`. OK when nothing is. FAILED_PRECONDITION: in use.
  virtual absl::Status Unmount(const std::string& path) = 0;

  // Of the file system that is mounted at `path`.
  virtual absl::StatusOr<Usage> GetUsage(const std::string& path) = 0;
};

}  // namespace keelson::csi
