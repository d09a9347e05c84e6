#pragma once
// BlockDevice: what a frontend (NBD, and later ublk and FUSE) needs of an attached volume. The
// engine is the one production implementation; tests have a memory one. All calls on the owner
// reactor.
//
// Ranges are checked: OUT_OF_RANGE past the end, INVALID_ARGUMENT when not a multiple of kBlockSize
// or when the volume is read-only and the call changes it (PERMISSION_DENIED then). Buffers are
// aligned to 4 KiB in memory and stay valid and unchanged until the call completes.
// Calls may overlap in time; overlapping writes are ordered, and a read that overlaps a write in
// flight sees all of it or none of it.
// Errors of any data call: RESOURCE_EXHAUSTED (pool full), DATA_LOSS (checksum mismatch),
// UNAVAILABLE (the replica failed or the volume was detached), INTERNAL (I/O error).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/io/task.h"

namespace keelson::engine {

inline constexpr std::uint64_t kBlockSize = 4096;

// A run of blocks in the same state. A hole reads as zeroes and occupies no space.
struct BlockRun {
  std::uint64_t size_bytes = 0;
  bool hole = false;
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;

  virtual std::uint64_t size_bytes() const = 0;
  virtual bool read_only() const = 0;

  virtual io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into) = 0;
  // `fua`: completes only when this write is durable.
  virtual io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                                       bool fua) = 0;
  // Every write completed before this call is durable when it completes OK.
  virtual io::Task<absl::Status> Flush() = 0;
  // The range reads as zeroes afterwards; its space is freed. Any size; never touches the data
  // area.
  virtual io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes, bool fua) = 0;

  // The runs that cover [offset, offset + size_bytes), at most `runs_max` of them; the last run may
  // end before the range does, never after. At least one for a valid range.
  // Errors as for a read.
  virtual io::Task<absl::StatusOr<std::vector<BlockRun>>> Status(std::uint64_t offset,
                                                                 std::uint64_t size_bytes,
                                                                 std::size_t runs_max) = 0;
};

}  // namespace keelson::engine
