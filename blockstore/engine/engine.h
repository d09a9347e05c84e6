#pragma once
// Engine: the one process object that may do I/O to an attached volume: a BlockDevice for the
// frontends, made of one SegmentEngine for each segment of the volume. It checks ranges, splits
// requests at segment boundaries, and makes snapshots that are one cut through all segments (R15).
//
// One reactor. Lifecycle: Attach, I/O, Detach; then it may be destroyed. When a segment's
// attachment has ended in errors (fenced, the backlog limit, the last copy's flush failed) calls to
// it fail; only a new attach changes that.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/block_device.h"
#include "blockstore/engine/rate_limiter.h"
#include "blockstore/engine/segment_engine.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/sync.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::engine {

struct EngineOptions {
  SegmentOptions segment;
  bool read_only = false;
  QosLimits qos;
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
  // Ends what makes requests wait by intent (a hold of writes, the limits), so that clients can be
  // waited for; for whoever is about to detach. Detach does it too.
  void LetGo();
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

  // --- engine_snapshots.cc ---
  // Holds new writes, waits for those in flight, seals every member, lets writes go on.
  // ALREADY_EXISTS for the name of a snapshot that there is. FAILED_PRECONDITION: writes are held.
  //
  // With `hold` it is cut under that hold, which stays, and the same name gives the same snapshot
  // again. ABORTED, and nothing is cut: the hold is over or never was. A cut that fails ends it.
  io::Task<absl::StatusOr<pool::SnapshotId>> Snapshot(
      std::string name, std::int64_t created_unix_ns,
      std::optional<pool::Uuid> hold = std::nullopt);
  // For snapshots of several volumes at one point in time: new writes wait, and everything before
  // is flushed, from when this completes OK until ReleaseWrites, or until `duration_ns` after the
  // call, by itself; a cut that is under way then has ended first. What waits does not fail by it.
  // Without effect for the id that holds them. An id is good once: ABORTED when its hold is over.
  // FAILED_PRECONDITION: another hold. UNAVAILABLE: see SegmentEngine::HoldWrites.
  io::Task<absl::Status> HoldWrites(pool::Uuid hold, std::int64_t duration_ns);
  // Ends that hold, or sees to it that it never begins.
  void ReleaseWrites(pool::Uuid hold);
  // UNAVAILABLE while writes are held for another snapshot.
  io::Task<absl::Status> DeleteSnapshot(pool::SnapshotId id);
  // --- engine.cc again ---
  // Of every segment; see SegmentEngine.
  io::Task<absl::Status> SetMinInSync(std::uint32_t copies);
  // Segments that follow the last one, which is full. Their replicas have been made; the volume has
  // them, all or none, when segment 0 says so. FAILED_PRECONDITION: the last one is not full, or
  // the volume was made to have one only. Those that it has already are passed over.
  io::Task<absl::Status> AddSegments(std::vector<SegmentHint> hints);
  // What clients may ask for from now on; a flush counts as a request without bytes. What the
  // engine does by itself (copying, scrubs) is not limited by it.
  void SetQos(const QosLimits& limits) {
    if (!detaching_) limiter_.SetLimits(limits);
  }
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
  const RateLimiter& limiter() const { return limiter_; }
  const pool::Epoch& epoch() const { return epoch_; }
  // The last epoch that began without writes which had been acknowledged and not flushed, or may
  // have (R3, R14). A device that was served by an earlier one must not flush them any more.
  pool::Epoch lost() const;

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
  // Writes held for a snapshot of several volumes.
  struct WriteHold {
    pool::Uuid id;
    bool beginning = true;  // not every segment is held yet
    bool cutting = false;   // a snapshot is being sealed: released after it
    bool over = false;      // released, or its time is up, while it begins or a snapshot is sealed
    std::string snapshot;   // cut under it last, and its id
    pool::SnapshotId snapshot_id;
  };

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

  io::Task<absl::Status> HoldAll(std::int64_t limit_ns, std::size_t* held);
  io::Task<absl::Status> SealAll(replica::ConfiguredSnapshot snapshot);
  // Holds, seals, and releases.
  io::Task<absl::Status> Cut(replica::ConfiguredSnapshot snapshot);
  io::Task<absl::Status> CutUnderHold(replica::ConfiguredSnapshot snapshot);
  // Removes it where it came to be.
  io::Task<void> Withdraw(pool::SnapshotId id);
  void EndHold();
  void RememberEnded(pool::Uuid hold);
  bool HasEnded(pool::Uuid hold) const;
  absl::Status HoldIsOver() const;

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
  std::optional<WriteHold> hold_;
  io::TimerNode hold_timer_;
  std::deque<pool::Uuid> ended_holds_;  // the last ones
  io::Gate gate_;
  bool detaching_ = false;
  bool detached_ = false;
  std::uint64_t requests_in_flight_ = 0;
  io::WaitList drained_;
  RateLimiter limiter_;
  EngineCounters counters_;
};

// Counts a request, so that Detach can wait for it.
class Engine::InFlight {
 public:
  explicit InFlight(Engine* engine) : engine_(engine) { ++engine_->requests_in_flight_; }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  ~InFlight() {
    if (--engine_->requests_in_flight_ == 0) engine_->drained_.WakeAll();
  }

 private:
  Engine* engine_;
};

}  // namespace keelson::engine
