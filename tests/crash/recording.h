#pragma once
// Recording: one run of a Workload on a fresh pool over RocksDB, written down: the hardware before
// it, everything that reached the hardware, and what was asked and promised. Made by RecordRun;
// explored by the power cut test; saved to a file when a state of it fails.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "blockstore/pool/pool.h"
#include "tests/crash/crash_image.h"
#include "tests/crash/crash_reactor.h"
#include "tests/crash/crash_trace.h"
#include "tests/crash/history.h"

namespace keelson::crash {

inline constexpr std::uint64_t kPoolBlocks = (1 + 48) * 256;

struct Recording {
  std::uint64_t seed = 0;
  FsImage files;                // before the first event
  DiskImage disk{kPoolBlocks};  // likewise
  CrashTrace trace;
  History history;

  absl::Status Save(const std::string& path) const;
  absl::Status Load(const std::string& path);
};

struct RecordOptions {
  std::uint64_t seed = 1;
  int operations = 250;
  bool flushes_lie = false;    // the data file's flushes do nothing
  bool ignore_synced = false;  // the metadata store syncs nothing
};

// Formats a pool, then records a workload on it. The recording must be empty.
absl::Status RecordRun(CrashReactor* reactor, RecordOptions options, Recording* recording);

// The machine's boots: of the recorded run, and after a power cut.
pool::BootId RecordedBoot();
pool::BootId NextBoot();

// What a pool is opened with, on these images. Opens RocksDB.
absl::StatusOr<pool::PoolDeps> MakeDeps(CrashReactor* reactor, const FsImage& files,
                                        const DiskImage& disk, pool::BootId boot);

}  // namespace keelson::crash
