#pragma once
// `pool check` and `pool dump`: proves that what a pool's metadata says is consistent, and repairs
// only what is provably safe. Works on the metadata tables themselves, not on the loaded state, so
// that it finds what a load would hide. Run on a pool that serves or on one opened only for this;
// volumes are not created, deleted or snapshotted meanwhile, and what is written meanwhile is
// judged only where it can be.

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::replica {

struct CheckOptions {
  bool verify_data = false;  // also read every present block and compare its checksum
  bool repair = false;  // drop orphans (checksums, notes, map entries of layers that do not exist)
  // When set to true by anyone (from any thread) the check ends soon with CANCELLED. May be null.
  const std::atomic<bool>* cancel = nullptr;
};

struct CheckReport {
  std::uint64_t replicas = 0;
  std::uint64_t layers = 0;
  std::uint64_t extents = 0;  // map entries with data
  std::uint64_t blocks_present = 0;
  std::uint64_t checksums = 0;  // blocks with a known checksum
  std::uint64_t blocks_verified = 0;
  std::vector<std::string>
      problems;  // each a sentence that names the object; empty: the pool is sound
  std::vector<std::string> repaired;  // what was mended (still listed in problems)
};

// Errors only when the check itself cannot be done.
io::Task<absl::StatusOr<CheckReport>> CheckPool(ReplicaStore* store, CheckOptions options);

// Every object, layer and map entry as lines of text for a person (`keelctl pool dump`).
io::Task<absl::StatusOr<std::vector<std::string>>> DumpPool(ReplicaStore* store);

}  // namespace keelson::replica
