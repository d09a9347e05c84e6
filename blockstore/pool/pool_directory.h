#pragma once
// A pool as it lies on a node: a directory with `data` (a preallocated file, or a symbolic link to
// a block device) and `meta/` (RocksDB). Production's way to make and open pools.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/pool/pool.h"

namespace keelson::pool {

struct CreatePoolOptions {
  std::string directory;         // made if absent; its parent must exist
  std::string device;            // a block device to use instead of a file; empty: a file
  std::uint64_t size_bytes = 0;  // of the data file; a multiple of 1 MiB, at least 16 MiB;
                                 // ignored with a device (all of it is used)
  bool force = false;            // overwrite a device that holds something else
};

// Makes a pool. ALREADY_EXISTS when the directory already holds one; RESOURCE_EXHAUSTED when the
// file system has no room; INVALID_ARGUMENT for a bad size; FAILED_PRECONDITION for a device in
// use.
io::Task<absl::StatusOr<PoolId>> CreatePoolDirectory(io::Reactor* reactor,
                                                     CreatePoolOptions options);

struct OpenPoolOptions {
  std::string directory;
  bool discard = true;
};

// Opens a pool made by CreatePoolDirectory. Errors as Pool::Open, and FAILED_PRECONDITION when
// another process has it open, NOT_FOUND when there is none, DATA_LOSS when the metadata store is
// missing or damaged.
io::Task<absl::StatusOr<std::unique_ptr<Pool>>> OpenPoolDirectory(io::Reactor* reactor,
                                                                  OpenPoolOptions options);

// /proc/sys/kernel/random/boot_id as 16 bytes.
absl::StatusOr<BootId> CurrentBootId();

}  // namespace keelson::pool
