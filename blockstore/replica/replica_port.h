#pragma once
// ReplicaPort: what an engine may ask of one member of its segment, wherever that member is: the
// session of a replica in a pool of this process (replica::Session), or one across a stream
// (engine::RemoteReplica). docs/protocol.md says what each message means.
//
// One reactor: the engine's. A port is one session at a time: Prepare opens it, and everything else
// belongs to the session that the last successful Prepare opened. Calls may overlap in time;
// their effects are unordered unless the caller waits. Buffers are aligned to 4 KiB and stay valid
// and unchanged until the call completes.
//
// Every call has a deadline on Reactor::NowNanos(). A call that a remote member does not answer by
// then ends the session. A call to a local member runs as long as its disk takes.
//
// Errors, by what the engine does about them:
//   ABORTED             fenced: the member promised a higher epoch. Terminal for this engine.
//   UNAVAILABLE,
//   DEADLINE_EXCEEDED   the session has ended or the member is not reached; outcome unknown. A new
//                       Prepare may bring it back.
//   INTERNAL            the member's disk or metadata failed; for a read, only this read
//   DATA_LOSS           read: a block does not match its checksum
//   RESOURCE_EXHAUSTED  write: no space
//   FAILED_PRECONDITION the member cannot do this in its state (no data, no such snapshot)

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/io/task.h"
#include "blockstore/pool/block_bits.h"
#include "blockstore/pool/ids.h"
#include "blockstore/replica/configuration.h"

namespace keelson::replica {

// How far a Syncing member has come: regions below `position` equal the InSync members' through
// `generation`, and that is durable (R12).
struct ResyncProgress {
  std::uint32_t position = 0;
  pool::Generation generation;
  bool operator==(const ResyncProgress&) const = default;
};

struct PrepareAnswer {
  pool::PoolId pool;
  pool::ReplicaId replica;
  pool::Uuid incarnation;
  // Absent: this replica has no readable record; it does not vote and is no source (R2).
  std::optional<Configuration> configuration;
  ResyncProgress progress;
  // Another engine's session was open and heard from within the lease when this Prepare came.
  bool ended_session = false;
};

// A region of one layer that changed. `layer` is the snapshot's id; nil is the head.
struct RegionNote {
  std::uint32_t region = 0;
  pool::SnapshotId layer;
  pool::Generation generation;
  bool operator==(const RegionNote&) const = default;
};

// What one extent of one layer holds, without what lies in older layers. `data` blocks are those
// the layer has; `zeroed` ones hide an older layer's block; the others are absent.
struct ExtentContent {
  pool::BlockBits data;
  pool::BlockBits zeroed;
};

// What Verify found in an extent of one layer.
struct VerifyAnswer {
  ExtentContent content;
  pool::BlockBits bad;     // data blocks that could not be read or did not match their checksum
  pool::BlockBits mended;  // of these; the others of them are still bad
  // Of the data blocks that are good now; 0 for all others.
  std::array<std::uint32_t, pool::kBlocksPerExtent> crc32c{};

  pool::BlockBits still_bad() const { return bad & ~mended; }
};

// A run of blocks in the same state. A hole reads as zeroes and occupies no space.
struct DataRun {
  std::uint64_t size_bytes = 0;
  bool hole = false;
};

class ReplicaPort {
 public:
  virtual ~ReplicaPort() = default;

  // R1. Promises `epoch`, ends every earlier session of the replica (in the same epoch too) once
  // all its I/O has finished, and opens this port's. ABORTED: a higher one is promised; the message
  // names it. NOT_FOUND: there is no such replica there.
  virtual io::Task<absl::StatusOr<PrepareAnswer>> Prepare(pool::Epoch epoch,
                                                          std::int64_t deadline_ns) = 0;
  // Durable when it completes, with all that follows from it: new snapshots sealed, absent ones
  // dropped, the size grown. The same or a lower version than accepted before is OK without effect.
  virtual io::Task<absl::Status> Accept(Configuration configuration, std::int64_t deadline_ns) = 0;
  virtual io::Task<absl::Status> Heartbeat(std::int64_t deadline_ns) = 0;

  virtual io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into,
                                      std::int64_t deadline_ns) = 0;
  virtual io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                                       pool::Generation generation, std::int64_t deadline_ns) = 0;
  virtual io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes,
                                      pool::Generation generation, std::int64_t deadline_ns) = 0;
  virtual io::Task<absl::Status> Flush(std::int64_t deadline_ns) = 0;
  // Every write of `generation` and before that the member was sent has completed: flushes it, and
  // stores the checksums of regions that are clean by that.
  virtual io::Task<absl::Status> EndGeneration(pool::Generation generation,
                                               std::int64_t deadline_ns) = 0;
  // The runs that cover the range, at most `runs_max`; see engine::BlockDevice::Status.
  virtual io::Task<absl::StatusOr<std::vector<DataRun>>> Map(std::uint64_t offset,
                                                             std::uint64_t size_bytes,
                                                             std::size_t runs_max,
                                                             std::int64_t deadline_ns) = 0;

  // --- Resync and reconcile (R11, R12) ---
  // The notes above `above` of regions from `first_region` on, in order of region, then of the
  // configuration's layers (head last); at most `count_max`, but always all of a region.
  virtual io::Task<absl::StatusOr<std::vector<RegionNote>>> Notes(pool::Generation above,
                                                                  std::uint32_t first_region,
                                                                  std::size_t count_max,
                                                                  std::int64_t deadline_ns) = 0;
  // The extent's content in that layer; the data blocks are packed at the beginning of `into`
  // (1 MiB). Verifies checksums: DATA_LOSS.
  virtual io::Task<absl::StatusOr<ExtentContent>> ReadCopy(pool::SnapshotId layer,
                                                           std::uint32_t extent,
                                                           std::span<std::byte> into,
                                                           std::int64_t deadline_ns) = 0;
  // Before the first WriteCopy to a region: durably raises its note in that layer to at least
  // `generation` (the source's note), and voids the stored checksums that copying makes wrong (R5).
  virtual io::Task<absl::Status> BeginCopy(pool::SnapshotId layer, std::uint32_t region,
                                           pool::Generation generation,
                                           std::int64_t deadline_ns) = 0;
  // Makes the extent of that layer hold exactly `content`; `packed` are the data blocks.
  virtual io::Task<absl::Status> WriteCopy(pool::SnapshotId layer, std::uint32_t extent,
                                           ExtentContent content, std::span<const std::byte> packed,
                                           std::int64_t deadline_ns) = 0;
  // Flushes, then makes the progress durable.
  virtual io::Task<absl::Status> RecordProgress(ResyncProgress progress,
                                                std::int64_t deadline_ns) = 0;

  // --- Scrub ---
  // Reads every data block of the extent in that layer and compares it with its checksum, where one
  // is known (R17). Of those that are bad the blocks `offered`, whose bytes are `packed`, are put
  // right in place, but only where the bytes are exactly what the checksum says: so nothing
  // changes but what had rotted, no note is raised, and what is torn by a crash stays detectable.
  virtual io::Task<absl::StatusOr<VerifyAnswer>> Verify(pool::SnapshotId layer,
                                                        std::uint32_t extent,
                                                        pool::BlockBits offered,
                                                        std::span<const std::byte> packed,
                                                        std::int64_t deadline_ns) = 0;

  // The member holds so much that only the end of a generation lets go of (checksums not yet
  // stored) that the engine should end the present one soon.
  virtual bool wants_new_generation() const { return false; }

  // Ends the session, if one is open: calls in flight complete with UNAVAILABLE (a local one when
  // its I/O has finished). Completes when nothing of the port runs any more; then it may be
  // destroyed or prepared again.
  virtual io::Task<void> Close() = 0;
  // True from a successful Prepare until the session ends, by Close, by an error, or by the member.
  virtual bool open() const = 0;
};

}  // namespace keelson::replica
