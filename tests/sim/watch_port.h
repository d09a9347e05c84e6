#pragma once
// Ports that tell a GroupWatch what goes through them. WatchPort stands at the member's side, in
// the process that has the pool open, between the member's session and whoever uses it (an engine
// of that process, or the server of the data protocol); EngineSidePort between an engine and any
// member. Same threads and errors as the ports they wrap.

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "blockstore/replica/replica_port.h"
#include "blockstore/replica/replica_store.h"
#include "tests/sim/group_watch.h"

namespace keelson::sim {

// Passes everything on.
class ForwardPort : public replica::ReplicaPort {
 public:
  explicit ForwardPort(std::unique_ptr<ReplicaPort> port) : port_(std::move(port)) {}

  io::Task<absl::StatusOr<replica::PrepareAnswer>> Prepare(pool::Epoch epoch,
                                                           std::int64_t deadline_ns) override {
    return port_->Prepare(epoch, deadline_ns);
  }
  io::Task<absl::Status> Accept(replica::Configuration configuration,
                                std::int64_t deadline_ns) override {
    return port_->Accept(std::move(configuration), deadline_ns);
  }
  io::Task<absl::Status> Heartbeat(std::int64_t deadline_ns) override {
    return port_->Heartbeat(deadline_ns);
  }
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into,
                              std::int64_t deadline_ns) override {
    return port_->Read(offset, into, deadline_ns);
  }
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               pool::Generation generation, std::int64_t deadline_ns) override {
    return port_->Write(offset, from, generation, deadline_ns);
  }
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes,
                              pool::Generation generation, std::int64_t deadline_ns) override {
    return port_->Trim(offset, size_bytes, generation, deadline_ns);
  }
  io::Task<absl::Status> Flush(std::int64_t deadline_ns) override {
    return port_->Flush(deadline_ns);
  }
  io::Task<absl::Status> EndGeneration(pool::Generation generation,
                                       std::int64_t deadline_ns) override {
    return port_->EndGeneration(generation, deadline_ns);
  }
  io::Task<absl::StatusOr<std::vector<replica::DataRun>>> Map(std::uint64_t offset,
                                                              std::uint64_t size_bytes,
                                                              std::size_t runs_max,
                                                              std::int64_t deadline_ns) override {
    return port_->Map(offset, size_bytes, runs_max, deadline_ns);
  }
  io::Task<absl::StatusOr<std::vector<replica::RegionNote>>> Notes(
      pool::Generation above, std::uint32_t first_region, std::size_t count_max,
      std::int64_t deadline_ns) override {
    return port_->Notes(above, first_region, count_max, deadline_ns);
  }
  io::Task<absl::StatusOr<replica::ExtentContent>> ReadCopy(pool::SnapshotId layer,
                                                            std::uint32_t extent,
                                                            std::span<std::byte> into,
                                                            std::int64_t deadline_ns) override {
    return port_->ReadCopy(layer, extent, into, deadline_ns);
  }
  io::Task<absl::Status> BeginCopy(pool::SnapshotId layer, std::uint32_t region,
                                   pool::Generation generation, std::int64_t deadline_ns) override {
    return port_->BeginCopy(layer, region, generation, deadline_ns);
  }
  io::Task<absl::Status> WriteCopy(pool::SnapshotId layer, std::uint32_t extent,
                                   replica::ExtentContent content,
                                   std::span<const std::byte> packed,
                                   std::int64_t deadline_ns) override {
    return port_->WriteCopy(layer, extent, content, packed, deadline_ns);
  }
  io::Task<absl::Status> RecordProgress(replica::ResyncProgress progress,
                                        std::int64_t deadline_ns) override {
    return port_->RecordProgress(progress, deadline_ns);
  }
  io::Task<absl::StatusOr<replica::VerifyAnswer>> Verify(pool::SnapshotId layer,
                                                         std::uint32_t extent,
                                                         pool::BlockBits offered,
                                                         std::span<const std::byte> packed,
                                                         std::int64_t deadline_ns) override {
    return port_->Verify(layer, extent, offered, packed, deadline_ns);
  }
  io::Task<void> Close() override { return port_->Close(); }
  bool open() const override { return port_->open(); }

 protected:
  std::unique_ptr<ReplicaPort> port_;
};

// At the member's side.
class WatchPort final : public ForwardPort {
 public:
  WatchPort(World* world, GroupWatch* watch, replica::ReplicaStore* store, pool::ReplicaId member,
            std::unique_ptr<ReplicaPort> port)
      : ForwardPort(std::move(port)),
        world_(world),
        watch_(watch),
        store_(store),
        member_(member) {}

  io::Task<absl::StatusOr<replica::PrepareAnswer>> Prepare(pool::Epoch epoch,
                                                           std::int64_t deadline_ns) override;
  io::Task<absl::Status> Accept(replica::Configuration configuration,
                                std::int64_t deadline_ns) override;
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               pool::Generation generation, std::int64_t deadline_ns) override;
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes,
                              pool::Generation generation, std::int64_t deadline_ns) override;
  io::Task<absl::Status> BeginCopy(pool::SnapshotId layer, std::uint32_t region,
                                   pool::Generation generation, std::int64_t deadline_ns) override;
  io::Task<absl::Status> WriteCopy(pool::SnapshotId layer, std::uint32_t extent,
                                   replica::ExtentContent content,
                                   std::span<const std::byte> packed,
                                   std::int64_t deadline_ns) override;
  io::Task<absl::Status> RecordProgress(replica::ResyncProgress progress,
                                        std::int64_t deadline_ns) override;

 private:
  std::vector<pool::SnapshotId> Snapshots() const;

  World* world_;                  // outlives every port
  GroupWatch* watch_;             // outlives every port
  replica::ReplicaStore* store_;  // of the member; the port is closed before it
  pool::ReplicaId member_;
  pool::Epoch epoch_;  // of the session
  std::map<std::pair<pool::SnapshotId, std::uint32_t>, pool::Generation> copying_;
  // By region: what writes of the session have noted in the head, since it was sealed.
  std::map<std::uint64_t, pool::Generation> noted_;
  std::vector<replica::ConfiguredSnapshot> snapshots_;
};

// At the engine's side: what it has been told when it decides.
class EngineSidePort final : public ForwardPort {
 public:
  EngineSidePort(World* world, GroupWatch* watch, pool::ReplicaId member,
                 std::unique_ptr<ReplicaPort> port)
      : ForwardPort(std::move(port)), world_(world), watch_(watch), member_(member) {}
  ~EngineSidePort() override { watch_->PortGone(member_, epoch_, this); }

  io::Task<absl::StatusOr<replica::PrepareAnswer>> Prepare(pool::Epoch epoch,
                                                           std::int64_t deadline_ns) override;
  io::Task<absl::Status> Accept(replica::Configuration configuration,
                                std::int64_t deadline_ns) override;
  io::Task<absl::Status> Heartbeat(std::int64_t deadline_ns) override;
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into,
                              std::int64_t deadline_ns) override;
  io::Task<absl::StatusOr<replica::ExtentContent>> ReadCopy(pool::SnapshotId layer,
                                                            std::uint32_t extent,
                                                            std::span<std::byte> into,
                                                            std::int64_t deadline_ns) override;

 private:
  // R2: what has no readable record is no source.
  void CheckSource();

  World* world_;       // outlives every port
  GroupWatch* watch_;  // outlives every port
  pool::ReplicaId member_;
  pool::Epoch epoch_;      // of the engine
  bool recorded_ = false;  // the member answered with a readable record
};

}  // namespace keelson::sim
