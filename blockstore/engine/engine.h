#pragma once
// Engine: the one process object that may do I/O to an attached volume: a BlockDevice for the
// frontends, made of one SegmentEngine for each segment of the volume. It checks ranges, splits
// requests at segment boundaries, and makes snapshots that are one cut through all segments (R15).
//
// One reactor. Lifecycle: Attach, I/O, Detach; then it may be destroyed. When a segment's
// attachment has ended in errors (fenced, the backlog limit, the last copy's flush failed) calls to
// it fail; only a new attach changes that.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/block_device.h"
#include "blockstore/engine/segment_engine.h"
#include "blockstore/io/gate.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::engine {

struct EngineOptions {
  SegmentOptions segment;
  bool read_only = false;
};

struct EngineCounters {
  std::uint64_t reads = 0, writes = 0, flushes = 0, trims = 0;
  std::uint64_t read_bytes = 0, written_bytes = 0, trimmed_bytes = 0;
  std::uint64_t errors = 0;
};

// What to attach, and where its members may be.
struct AttachTarget {
  std::string name;  // of the volume, for messages
  pool::Epoch epoch;
  std::vector<SegmentHint> segments;  // in order; all but the last have `segment_bytes`
  std::uint64_t segment_bytes = 0;    // 0: it has one, of any size
};

class Engine final : public BlockDevice {
 public:
  // `ports` outlives the engine. Errors are those of SegmentEngine::Attach, and
  // FAILED_PRECONDITION when the target's segments are not those of the volume; then nothing is
  // attached. `make_id` gives new ids (of snapshots).
  static io::Task<absl::StatusOr<std::unique_ptr<Engine>>> Attach(
      io::Reactor* reactor, PortFactory* ports, AttachTarget target,
      absl::AnyInvocable<pool::Uuid()> make_id, EngineOptions options);

  // A volume with one copy, in a pool of this process: takes the next attachment of that copy.
  // FAILED_PRECONDITION when it already has an engine in this process, or has other copies.
  static io::Task<absl::StatusOr<std::unique_ptr<Engine>>> Attach(replica::ReplicaStore* store,
                                                                  pool::ReplicaId id,
                                                                  EngineOptions options);
  ~Engine() override;
  // Waits for requests in flight, makes everything durable and clean where it can, and ends the
  // sessions.
  io::Task<absl::Status> Detach();

  std::uint64_t size_bytes() const override;
  bool read_only() const override { return options_.read_only; }
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into) override;
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               bool fua) override;
  io::Task<absl::Status> Flush() override;
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes, bool fua) override;
  io::Task<absl::StatusOr<std::vector<BlockRun>>> Status(std::uint64_t offset,
                                                         std::uint64_t size_bytes,
                                                         std::size_t runs_max) override;

  // Holds new writes, waits for those in flight, seals every member, lets writes go on.
  // ALREADY_EXISTS for the name of a snapshot that there is.
  io::Task<absl::StatusOr<pool::SnapshotId>> Snapshot(std::string name,
                                                      std::int64_t created_unix_ns);
  io::Task<absl::Status> DeleteSnapshot(pool::SnapshotId id);
  // Of every segment; see SegmentEngine.
  io::Task<absl::Status> SetMinInSync(std::uint32_t copies);
  // Segments that follow the last one, which is full. Their replicas have been made; the volume has
  // them, all or none, when segment 0 says so. FAILED_PRECONDITION: the last one is not full, or
  // the volume was made to have one only. Those that it has already are passed over.
  io::Task<absl::Status> AddSegments(std::vector<SegmentHint> hints);
  // Of the last segment: a volume of several segments grows only up to the end of it.
  io::Task<absl::Status> Grow(std::uint64_t size_bytes);
  // Begins a scrub of every segment, which share the rate; SegmentEngine::Status shows them.
  // FAILED_PRECONDITION: one still runs.
  absl::Status StartScrub(ScrubOptions options);
  bool scrubbing() const;
  // Ends the present generation in every segment.
  io::Task<absl::Status> RollGeneration();

  SegmentEngine& segment(std::size_t index) { return *segments_[index]; }
  std::size_t segment_count() const { return segments_.size(); }
  // OK, or why the first segment that ended did.
  absl::Status health() const;
  const EngineCounters& counters() const { return counters_; }
  const pool::Epoch& epoch() const { return epoch_; }

 private:
  // The part of a request that lies in one segment.
  struct Part {
    std::size_t segment = 0;
    std::uint64_t offset = 0;  // in it
    std::uint64_t size_bytes = 0;
  };
  // A segment on its way.
  struct Attaching {
    SegmentHint hint;
    absl::Status status;
    std::unique_ptr<SegmentEngine> segment;
  };
  class InFlight;

  Engine(io::Reactor* reactor, PortFactory* ports, AttachTarget target,
         absl::AnyInvocable<pool::Uuid()> make_id, EngineOptions options);
  absl::Status Detaching() const;  // what every call gets then
  absl::Status CheckRange(std::uint64_t offset, std::uint64_t size_bytes, bool writes) const;
  Part PartAt(std::uint64_t offset, std::uint64_t size_bytes) const;
  absl::Status Count(absl::Status status);
  // Those that could be are appended to *attached, also after an error.
  io::Task<absl::Status> AttachSegments(std::vector<SegmentHint> hints,
                                        std::vector<std::unique_ptr<SegmentEngine>>* attached);
  io::Task<void> AttachSegment(Attaching* one, io::Latch* latch);
  io::Task<void> CloseSegment(SegmentEngine* segment, absl::Status* status, io::Latch* latch);
  absl::Status CheckSegments() const;
  io::Task<absl::Status> CloseAll();
  io::Task<absl::Status> SealAll(const replica::ConfiguredSnapshot& snapshot);

  io::Reactor* reactor_;                      // outlives the engine
  PortFactory* ports_;                        // outlives the engine
  std::unique_ptr<PortFactory> local_ports_;  // of Attach
  std::string name_;
  pool::Epoch epoch_;
  std::uint64_t segment_bytes_;
  EngineOptions options_;
  absl::AnyInvocable<pool::Uuid()> make_id_;
  std::vector<std::unique_ptr<SegmentEngine>> segments_;
  std::vector<bool> unflushed_;  // segments written since their last flush began
  io::AsyncMutex snapshots_;
  io::Gate gate_;
  bool detaching_ = false;
  bool detached_ = false;
  std::uint64_t requests_in_flight_ = 0;
  io::WaitList drained_;
  EngineCounters counters_;
};

}  // namespace keelson::engine
