#pragma once
// A member of a segment without a pool, for the tests of the data protocol: FakeReplica keeps what
// outlives a port (blocks in memory, the promised epoch, a log of calls), FakePort is a session
// with it, FakeSource hands ports to a ReplicaServer. Calls can be held, delayed or made to fail.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "blockstore/engine/replica_server.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/sync.h"
#include "blockstore/replica/replica_port.h"
#include "tests/sim/random.h"

namespace keelson::engine::testing {

class FakePort;

struct FakeReplica {
  FakeReplica(io::Reactor* its_reactor, std::size_t size_bytes)
      : reactor(its_reactor), data(size_bytes) {}

  io::Reactor* reactor;
  pool::PoolId pool;
  pool::ReplicaId replica;
  pool::Uuid incarnation;
  std::vector<std::byte> data;
  std::optional<replica::Configuration> configuration;
  replica::ResyncProgress progress;
  std::vector<replica::RegionNote> notes;  // what Notes answers with, from `first_region` on
  replica::ExtentContent content;          // what ReadCopy answers with, and WriteCopy brought
  bool wants_new_generation = false;
  pool::Epoch promised;

  std::vector<std::string> log;                // a line for each call that was begun
  std::map<std::string, absl::Status> errors;  // by the first word of its line
  std::int64_t delay_ns_max = 0;               // each call takes up to this long, by `random`
  sim::Random* random = nullptr;
  bool held = false;  // calls wait until Release, or the end of their session
  io::WaitList holding;
  std::size_t running = 0;
  std::size_t running_max = 0;
  std::size_t ports = 0;  // that exist
  FakePort* session = nullptr;

  void Release();
  // Another engine's Prepare of a higher epoch.
  void Fence();
};

class FakePort final : public replica::ReplicaPort {
 public:
  explicit FakePort(FakeReplica* replica);
  ~FakePort() override;

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
  bool wants_new_generation() const override { return replica_->wants_new_generation; }
  io::Task<void> Close() override;
  bool open() const override { return open_; }

  void End(absl::Status why);

 private:
  class Running;
  // Logs the call, waits as the test wishes, and says what becomes of it.
  io::Task<absl::Status> Begin(std::string what);

  FakeReplica* replica_;
  bool open_ = false;
  absl::Status end_ = absl::UnavailableError("not prepared");
  std::size_t running_ = 0;
  io::WaitList idle_;
};

class FakeSource final : public PortSource {
 public:
  explicit FakeSource(FakeReplica* replica) : replica_(replica) {}
  absl::StatusOr<std::unique_ptr<replica::ReplicaPort>> OpenPort(pool::PoolId pool,
                                                                 pool::ReplicaId replica) override;

 private:
  FakeReplica* replica_;
};

}  // namespace keelson::engine::testing
