#pragma once
// Session: the port of a replica (or witness) of a pool in this process: the right of one engine to
// use it, under one epoch (R1). Made by ReplicaStore::MakePort, owned by the engine that calls it
// directly or by the connection it comes in on; closed, then destroyed, before the store.
//
// One reactor: the pool's. At most one session of a replica is open. Prepare ends the one before,
// whoever has it, and waits until every call that one made has ended: each call is counted, from
// when it finds the session open until its last I/O has completed. Deadlines do not matter here: a
// call takes as long as the disk.
//
// Errors are those of ReplicaPort: what the pool calls UNAVAILABLE (it has failed) is INTERNAL
// here, because no new session helps. INVALID_ARGUMENT and OUT_OF_RANGE: not a request for this
// replica at all.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/replica/replica_port.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::replica {

class Session final : public ReplicaPort {
 public:
  // A session that was heard from within this time counts as alive in PrepareAnswer.
  static constexpr std::int64_t kAliveWithin_ns = 1'000'000'000;

  // More unsaved checksums in the pool than this ask for a new generation: memory stays bounded.
  static constexpr std::size_t kDirtyChecksumsMax = 16384;

  Session(ReplicaStore* store, pool::ReplicaId id) : store_(store), id_(id) {}
  ~Session() override;

  io::Task<absl::StatusOr<PrepareAnswer>> Prepare(pool::Epoch epoch,
                                                  std::int64_t deadline_ns) override;
  io::Task<absl::Status> Accept(Configuration configuration, std::int64_t deadline_ns) override;
  io::Task<absl::Status> Heartbeat(std::int64_t deadline_ns) override;

  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into,
                              std::int64_t deadline_ns) override;
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               pool::Generation generation, std::int64_t deadline_ns) override;
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes,
                              pool::Generation generation, std::int64_t deadline_ns) override;
  io::Task<absl::Status> Flush(std::int64_t deadline_ns) override;
  io::Task<absl::Status> EndGeneration(pool::Generation generation,
                                       std::int64_t deadline_ns) override;
  io::Task<absl::StatusOr<std::vector<DataRun>>> Map(std::uint64_t offset, std::uint64_t size_bytes,
                                                     std::size_t runs_max,
                                                     std::int64_t deadline_ns) override;

  io::Task<absl::StatusOr<std::vector<RegionNote>>> Notes(pool::Generation above,
                                                          std::uint32_t first_region,
                                                          std::size_t count_max,
                                                          std::int64_t deadline_ns) override;
  io::Task<absl::StatusOr<ExtentContent>> ReadCopy(pool::SnapshotId layer, std::uint32_t extent,
                                                   std::span<std::byte> into,
                                                   std::int64_t deadline_ns) override;
  io::Task<absl::Status> BeginCopy(pool::SnapshotId layer, std::uint32_t region,
                                   pool::Generation generation, std::int64_t deadline_ns) override;
  io::Task<absl::Status> WriteCopy(pool::SnapshotId layer, std::uint32_t extent,
                                   ExtentContent content, std::span<const std::byte> packed,
                                   std::int64_t deadline_ns) override;
  io::Task<absl::Status> RecordProgress(ResyncProgress progress, std::int64_t deadline_ns) override;
  io::Task<absl::StatusOr<VerifyAnswer>> Verify(pool::SnapshotId layer, std::uint32_t extent,
                                                pool::BlockBits offered,
                                                std::span<const std::byte> packed,
                                                std::int64_t deadline_ns) override;

  bool wants_new_generation() const override;
  io::Task<void> Close() override;
  bool open() const override { return open_; }

 private:
  class Call;
  // Why a call cannot be made: the session is not open, or the replica has no data.
  enum Needs { kVote, kData };
  absl::Status Check(Needs needs) const;
  absl::Status CheckRange(std::uint64_t offset, std::uint64_t size_bytes) const;
  absl::Status CheckExtents(std::uint64_t first, std::uint64_t count) const;
  // Ends the session: no call begins any more, and those that run answer `why`.
  void End(absl::Status why);
  // Prepare, with the replica kept alive and no other Prepare of it running.
  io::Task<absl::StatusOr<PrepareAnswer>> TakeOver(Replica* replica, pool::Epoch epoch,
                                                   bool was_alive);
  // Notes what the generation that ends has written for the one that begins, when `generation` is
  // the first of it to be seen here.
  io::Task<absl::Status> BeginGeneration(pool::Generation generation);

  ReplicaStore* store_;  // outlives the session
  const pool::ReplicaId id_;
  Replica* replica_ = nullptr;  // from Prepare until another session took over or Close
  pool::Epoch epoch_;
  bool open_ = false;
  absl::Status end_;               // why it is not open
  std::int64_t heard_ns_ = 0;      // when the last call began
  std::uint64_t running_ = 0;      // calls, Prepare among them
  std::uint64_t close_count_ = 0;  // a Prepare that was overtaken by Close opens nothing
  io::WaitList idle_;
};

}  // namespace keelson::replica
