#pragma once
// RemoteReplica: the ReplicaPort of a member on another node. Prepare connects and opens a
// RemoteSession; everything else is a request on it. The contract, threads and errors are those of
// replica_port.h. Here moreover: INVALID_ARGUMENT for a configuration that fits in no message; a
// connection that cannot be made or is lost, and a peer that breaks the protocol, are UNAVAILABLE,
// and the message says what happened.
//
// Reads and writes of more than 1 MiB travel as several requests, and fail if one of them does.
// Close must have completed before it is destroyed, unless it never was prepared. A connection that
// is being made when Close is called ends that call's wait only at the deadline of its Prepare.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/remote_session.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/stream.h"
#include "blockstore/io/sync.h"
#include "blockstore/replica/replica_port.h"

namespace keelson::engine {

class RemoteReplica final : public replica::ReplicaPort {
 public:
  // The reactor outlives it. The member's pool, replica and address are used.
  RemoteReplica(io::Reactor* reactor, replica::Member member);
  ~RemoteReplica() override;

  io::Task<absl::StatusOr<replica::PrepareAnswer>> Prepare(pool::Epoch epoch,
                                                           std::int64_t deadline_ns) override;
  io::Task<absl::Status> Accept(replica::Configuration configuration,
                                std::int64_t deadline_ns) override;
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
  io::Task<absl::StatusOr<std::vector<replica::DataRun>>> Map(std::uint64_t offset,
                                                              std::uint64_t size_bytes,
                                                              std::size_t runs_max,
                                                              std::int64_t deadline_ns) override;
  io::Task<absl::StatusOr<std::vector<replica::RegionNote>>> Notes(
      pool::Generation above, std::uint32_t first_region, std::size_t count_max,
      std::int64_t deadline_ns) override;
  io::Task<absl::StatusOr<replica::ExtentContent>> ReadCopy(pool::SnapshotId layer,
                                                            std::uint32_t extent,
                                                            std::span<std::byte> into,
                                                            std::int64_t deadline_ns) override;
  io::Task<absl::Status> BeginCopy(pool::SnapshotId layer, std::uint32_t region,
                                   pool::Generation generation, std::int64_t deadline_ns) override;
  io::Task<absl::Status> WriteCopy(pool::SnapshotId layer, std::uint32_t extent,
                                   replica::ExtentContent content,
                                   std::span<const std::byte> packed,
                                   std::int64_t deadline_ns) override;
  io::Task<absl::Status> RecordProgress(replica::ResyncProgress progress,
                                        std::int64_t deadline_ns) override;
  io::Task<absl::StatusOr<replica::VerifyAnswer>> Verify(pool::SnapshotId layer,
                                                         std::uint32_t extent,
                                                         pool::BlockBits offered,
                                                         std::span<const std::byte> packed,
                                                         std::int64_t deadline_ns) override;
  bool wants_new_generation() const override {
    return session_ != nullptr && session_->wants_new_generation();
  }
  io::Task<void> Close() override;
  bool open() const override { return session_ != nullptr && session_->open(); }

 private:
  // A request without data whose answer is a status.
  template <typename Request>
  io::Task<absl::Status> Call(wire::FrameType type, Request request, std::int64_t deadline_ns);
  // Of more than one frame holds.
  io::Task<absl::Status> ReadLarge(std::uint64_t offset, std::span<std::byte> into,
                                   std::int64_t deadline_ns);
  io::Task<absl::Status> WriteLarge(std::uint64_t offset, std::span<const std::byte> from,
                                    pool::Generation generation, std::int64_t deadline_ns);
  io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> Connect(std::int64_t deadline_ns);
  // Under lifecycle_.
  io::Task<void> EndSession(absl::Status why);
  absl::Status NotPrepared() const;

  io::Reactor* reactor_;
  const replica::Member member_;
  const std::string name_;            // for messages
  io::AsyncMutex lifecycle_;          // Prepare and Close take turns
  std::uint64_t closes_ = 0;          // a Prepare that finds it changed gives up
  RemoteSession* opening_ = nullptr;  // owned by the Prepare that runs
  std::unique_ptr<RemoteSession> session_;
};

}  // namespace keelson::engine
