#pragma once
// Engine: the one process object that may do I/O to an attached volume. It orders overlapping
// requests, keeps generations (write intervals) and their clean records, and is a BlockDevice for
// the frontends. This engine has one member: the replica in a pool of its own process, called
// directly.
//
// One owner reactor: the pool's. Lifecycle: Attach, I/O, Detach; then it may be destroyed.
// When the replica fails (a flush that failed, a metadata store that failed) every later write and
// flush is UNAVAILABLE; reads go on. Only reopening the pool and a new attach change that.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/block_device.h"
#include "blockstore/io/gate.h"
#include "blockstore/replica/range_lock.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::engine {

struct EngineOptions {
  std::int64_t generation_interval_ns =
      5'000'000'000;  // how often a new generation starts under writes
  bool read_only = false;
};

struct EngineCounters {
  std::uint64_t reads = 0, writes = 0, flushes = 0, trims = 0;
  std::uint64_t read_bytes = 0, written_bytes = 0, trimmed_bytes = 0;
  std::uint64_t errors = 0;
  std::uint64_t generations = 0;
};

class Engine final : public BlockDevice {
 public:
  // Takes the next epoch, makes it durable at the replica, and serves. FAILED_PRECONDITION when the
  // replica already has an engine in this process. Options' intervals are positive.
  static io::Task<absl::StatusOr<std::unique_ptr<Engine>>> Attach(replica::ReplicaStore* store,
                                                                  pool::ReplicaId id,
                                                                  EngineOptions options);
  ~Engine() override;
  // Waits for requests in flight, makes everything durable and clean, and records the detachment
  // (unless `keep_attached`: a daemon that stops and will resume the attachment at its next start).
  io::Task<absl::Status> Detach(bool keep_attached);

  std::uint64_t size_bytes() const override;
  bool read_only() const override { return options_.read_only; }
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into) override;
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               bool fua) override;
  io::Task<absl::Status> Flush() override;
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes, bool fua) override;
  std::vector<BlockRun> Status(std::uint64_t offset, std::uint64_t size_bytes,
                               std::size_t runs_max) const override;

  // Holds new writes, waits for those in flight, seals the head, lets writes go on.
  io::Task<absl::StatusOr<pool::SnapshotId>> Snapshot(std::string name,
                                                      std::int64_t created_unix_ns);
  io::Task<absl::Status> Grow(std::uint64_t size_bytes);
  // Ends the current generation: flush, checksums and clean record durable. Also runs by itself.
  io::Task<absl::Status> RollGeneration();

  // False while the regions that a crash left unknown are being read in the background. Until then
  // no generation becomes clean: a crash meanwhile must find the same regions again (R10, R11).
  bool reconciled() const { return reconciled_; }

  const EngineCounters& counters() const { return counters_; }
  const pool::Epoch& epoch() const { return epoch_; }

 private:
  Engine(replica::ReplicaStore* store, replica::Replica* replica, EngineOptions options);
  class InFlight;
  absl::Status CheckRange(std::uint64_t offset, std::uint64_t size_bytes, bool writes) const;
  absl::Status Count(absl::Status status);
  // Ensures a roll comes: called after every write and trim.
  void ArmRoll();
  io::Task<void> TimedRoll();
  // Ends generation `closing`; `next`, when not null, is begun before it.
  io::Task<absl::Status> EndGeneration(const pool::Generation* next);
  io::Task<void> Reconcile();

  replica::ReplicaStore* store_;  // outlives the engine
  replica::Replica* replica_;     // outlives the engine: a replica with an engine is not deleted
  EngineOptions options_;
  pool::Epoch epoch_;
  replica::RangeLock ranges_;
  io::Gate gate_;
  io::AsyncMutex rolling_;
  io::TimerNode roll_timer_;
  bool wrote_since_roll_ = false;
  bool reconciled_ = false;
  bool detaching_ = false;
  bool detached_ = false;
  // Writes in flight by the parity of their generation's counter: at most two are open at a time.
  std::uint64_t writes_in_flight_[2] = {0, 0};
  std::uint64_t requests_in_flight_ = 0;
  io::WaitList drained_;
  EngineCounters counters_;
};

}  // namespace keelson::engine
