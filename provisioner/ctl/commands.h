#pragma once
// The commands of keelctl that talk to the daemon, one function each. They print to `out` and
// return the daemon's error, or OK.

#include <chrono>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "provisioner/ctl/format.h"

namespace keelson::ctl {

// What the options before and behind the command were parsed into.
struct Settings {
  std::string socket = "/run/keelson/blockstore.sock";
  std::int64_t timeout_seconds = 60;
  Output output = Output::kTable;
};

struct PoolArguments {
  std::string pool;  // id or directory
  std::uint64_t size_bytes = 0;
  std::string device;
  bool force = false;
  bool verify_data = false;
  bool repair = false;
  bool offline = false;
};

struct VolumeArguments {
  std::string name;
  std::string pool;
  std::string snapshot;
  std::string since;  // an older snapshot
  std::string hold;   // its id
  std::uint32_t hold_limit_ms = 0;
  std::string source;  // VOLUME@SNAPSHOT
  std::uint64_t size_bytes = 0;
  std::uint64_t bytes_per_second = 0;
  std::uint32_t min_in_sync = 0;      // 0: not given
  std::optional<std::uint64_t> iops;  // 0: no limit
  std::optional<std::uint64_t> bandwidth_bytes_per_second;
  v1::Frontend frontend = v1::FRONTEND_NBD;
  bool read_only = false;
  bool no_wait = false;
};

absl::Status CreatePool(const Settings& settings, const PoolArguments& pool, std::ostream* out);
absl::Status ListPools(const Settings& settings, std::ostream* out);
// FAILED_PRECONDITION when problems were found: they have been printed.
absl::Status CheckPool(const Settings& settings, const PoolArguments& pool, std::ostream* out);
absl::Status DumpPool(const Settings& settings, const PoolArguments& pool, std::ostream* out);

absl::Status CreateVolume(const Settings& settings, const VolumeArguments& volume,
                          std::ostream* out);
absl::Status ListVolumes(const Settings& settings, std::ostream* out);
absl::Status DeleteVolume(const Settings& settings, const VolumeArguments& volume);
absl::Status CreateSnapshot(const Settings& settings, const VolumeArguments& volume,
                            std::ostream* out);
absl::Status HoldWrites(const Settings& settings, const VolumeArguments& volume);
absl::Status ReleaseWrites(const Settings& settings, const VolumeArguments& volume);
// A line "OFFSET BYTES" for each range of a snapshot's blocks, or of those changed since another.
absl::Status ListBlocks(const Settings& settings, const VolumeArguments& volume, std::ostream* out);
absl::Status ListSnapshots(const Settings& settings, const VolumeArguments& volume,
                           std::ostream* out);
absl::Status DeleteSnapshot(const Settings& settings, const VolumeArguments& volume);
absl::Status CloneVolume(const Settings& settings, const VolumeArguments& volume,
                         std::ostream* out);
absl::Status GrowVolume(const Settings& settings, const VolumeArguments& volume, std::ostream* out);
// Min in sync and limits, whichever are given; the limit that is not stays.
absl::Status SetVolume(const Settings& settings, const VolumeArguments& volume);
absl::Status AttachVolume(const Settings& settings, const VolumeArguments& volume,
                          std::ostream* out);
absl::Status DetachVolume(const Settings& settings, const VolumeArguments& volume);
// Waits for the end of the scrub, and prints what it found. FAILED_PRECONDITION when it found
// blocks that are bad, and could not be repaired, or different; ABORTED when it did not get to its
// end.
absl::Status ScrubVolume(const Settings& settings, const VolumeArguments& volume,
                         std::ostream* out);

}  // namespace keelson::ctl
