#pragma once
// A pool with members of replicated segments, and ports to them, for unit tests. One member is
// always there: 8 MiB of volume `volume_`, InSync, beside a witness elsewhere. Blocks are filled
// with one letter, as in StoreFixture.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/replica/replica_port.h"
#include "tests/unit/replica/store_fixture.h"

namespace keelson::replica {

inline constexpr std::int64_t kNoDeadline = INT64_MAX;
inline constexpr pool::SnapshotId kHead;

class MemberFixture : public StoreFixture {
 protected:
  void SetUp() override {
    StoreFixture::SetUp();
    volume_ = pool::VolumeId(world_.MakeId());
    id_ = pool::ReplicaId(world_.MakeId());
    engine_ = pool::EngineId(world_.MakeId());
    other_engine_ = pool::EngineId(world_.MakeId());
    ASSERT_TRUE(Must(store().CreateMember(NewReplica(id_))).ok());
  }
  void TearDown() override {
    if (life_.store != nullptr) ClosePorts();
    StoreFixture::TearDown();
  }

  // --- What there is ---
  pool::Epoch EpochOf(std::uint64_t attachment) const { return {attachment, 0, engine_}; }
  pool::Generation At(std::uint64_t counter) const { return {EpochOf(1), counter}; }
  Configuration MakeConfiguration(std::uint64_t counter, MemberState state = MemberState::kInSync) {
    Configuration configuration;
    configuration.volume = volume_;
    configuration.volume_name = "v";
    configuration.version = {EpochOf(1), counter};
    configuration.size_bytes = 8 * kMiB;
    Member member;
    member.pool = store().pool().id();
    member.replica = id_;
    member.incarnation = store().pool().incarnation();
    member.state = state;
    Member peer;
    peer.pool = peer_pool_;
    peer.replica = peer_;
    peer.state = MemberState::kInSync;
    configuration.members = {member, peer};
    return configuration;
  }
  NewMember NewReplica(pool::ReplicaId id) {
    NewMember member;
    member.volume = volume_;
    member.replica = id;
    member.name = "v";
    member.size_bytes = 8 * kMiB;
    member.configuration = MakeConfiguration(1);
    return member;
  }
  ConfiguredSnapshot MakeSnapshot(const std::string& name, std::uint64_t sealed) {
    ConfiguredSnapshot snapshot;
    snapshot.id = pool::SnapshotId(world_.MakeId());
    snapshot.name = name;
    snapshot.sealed = At(sealed);
    snapshot.size_bytes = 8 * kMiB;
    snapshot.complete = true;
    return snapshot;
  }
  // Another replica in the same pool, of another volume, to be copied to.
  pool::ReplicaId AddTarget() {
    NewMember member = NewReplica(pool::ReplicaId(world_.MakeId()));
    member.volume = pool::VolumeId(world_.MakeId());
    member.name = "target";
    member.configuration.volume = member.volume;
    EXPECT_TRUE(Must(store().CreateMember(member)).ok());
    return member.replica;
  }
  Replica& replica() { return *store().Find(id_); }
  sim::SimDisk& disk() { return *world_.FindDisk(sim::kDataPath); }

  // --- Ports ---
  ReplicaPort& Port(pool::ReplicaId id) {
    ports_.push_back(store().MakePort(id));
    return *ports_.back();
  }
  ReplicaPort& Port() { return Port(id_); }
  // A port that has a session.
  ReplicaPort& Open(pool::ReplicaId id, std::uint64_t attachment = 1) {
    ReplicaPort& port = Port(id);
    auto answer = Must(port.Prepare(EpochOf(attachment), kNoDeadline));
    EXPECT_TRUE(answer.ok()) << answer.status();
    return port;
  }
  ReplicaPort& OpenPort(std::uint64_t attachment = 1) { return Open(id_, attachment); }
  void ClosePorts() {
    for (const auto& port : ports_) EXPECT_TRUE(world_.RunTask(port->Close()));
    ports_.clear();
  }
  void LeakPorts() {
    for (auto& port : ports_) static_cast<void>(port.release());
    ports_.clear();
  }
  void KillProcess() {
    LeakPorts();
    Kill();
    StoreFixture::Open();
  }
  void CutPower() {
    LeakPorts();
    PowerCut();
    StoreFixture::Open();
  }
  void Reopen() {
    ClosePorts();
    Close();
    StoreFixture::Open();
  }

  // --- I/O ---
  absl::Status Write(ReplicaPort& port, std::uint64_t block, char letter, std::uint64_t generation,
                     std::uint64_t count = 1) {
    pool::HeaderBlock data(count * kBlock);
    std::fill(data.span().begin(), data.span().end(), static_cast<std::byte>(letter));
    return Must(port.Write(block * kBlock, data.span(), At(generation), kNoDeadline));
  }
  absl::Status Trim(ReplicaPort& port, std::uint64_t block, std::uint64_t generation,
                    std::uint64_t count = 1) {
    return Must(port.Trim(block * kBlock, count * kBlock, At(generation), kNoDeadline));
  }
  std::string Read(ReplicaPort& port, std::uint64_t first, std::uint64_t count = 1) {
    std::string letters;
    for (std::uint64_t block = first; block < first + count; ++block) {
      pool::HeaderBlock data(kBlock);
      last_read_ = Must(port.Read(block * kBlock, data.span(), kNoDeadline));
      letters.push_back(last_read_.ok() ? Letter(data.span()) : '!');
    }
    return letters;
  }
  static char Letter(std::span<const std::byte> bytes) {
    for (std::byte byte : bytes) {
      if (byte != bytes[0]) return '?';
    }
    return bytes[0] == std::byte{0} ? '0' : static_cast<char>(bytes[0]);
  }
  absl::Status Accept(ReplicaPort& port, Configuration configuration) {
    return Must(port.Accept(std::move(configuration), kNoDeadline));
  }
  absl::Status EndGeneration(ReplicaPort& port, std::uint64_t counter) {
    return Must(port.EndGeneration(At(counter), kNoDeadline));
  }
  // The first blocks of an extent in one layer: letters for data, 'z' a zeroed mark, '.' absent.
  std::string Content(ReplicaPort& port, pool::SnapshotId layer, std::uint32_t extent,
                      std::uint32_t count = 8) {
    pool::HeaderBlock data(kMiB);
    auto content = Must(port.ReadCopy(layer, extent, data.span(), kNoDeadline));
    EXPECT_TRUE(content.ok()) << content.status();
    if (!content.ok()) return "!";
    std::string letters;
    std::span<const std::byte> packed = data.span();
    for (std::uint32_t block = 0; block < count; ++block) {
      if (content->data.Test(block)) {
        letters.push_back(Letter(packed.first(kBlock)));
        packed = packed.subspan(kBlock);
      } else {
        letters.push_back(content->zeroed.Test(block) ? 'z' : '.');
      }
    }
    return letters;
  }
  // As Content shows it, from block 0 of the extent on; BeginCopy comes before.
  absl::Status WriteCopy(ReplicaPort& port, pool::SnapshotId layer, std::uint32_t extent,
                         const std::string& letters) {
    ExtentContent content;
    pool::HeaderBlock data(kMiB);
    std::size_t packed = 0;
    for (std::uint32_t block = 0; block < letters.size(); ++block) {
      const pool::BlockBits bit = pool::BlockBits::Range(block, 1);
      if (letters[block] == '.') continue;
      if (letters[block] == 'z') {
        content.zeroed = content.zeroed | bit;
        continue;
      }
      content.data = content.data | bit;
      const auto target = data.span().subspan(packed++ * kBlock, kBlock);
      std::fill(target.begin(), target.end(), static_cast<std::byte>(letters[block]));
    }
    return Must(
        port.WriteCopy(layer, extent, content, data.span().first(packed * kBlock), kNoDeadline));
  }
  absl::Status BeginCopy(ReplicaPort& port, pool::SnapshotId layer, std::uint32_t region,
                         std::uint64_t generation) {
    return Must(port.BeginCopy(layer, region, At(generation), kNoDeadline));
  }

  // --- Calls in flight ---
  template <typename T>
  struct Started {
    std::optional<T> result;
  };
  template <typename T>
  static io::internal::Detached Run(io::Task<T> task, Started<T>* started) {
    T value = co_await std::move(task);
    started->result.emplace(std::move(value));
  }
  template <typename T>
  std::unique_ptr<Started<T>> Start(io::Task<T> task) {
    auto started = std::make_unique<Started<T>>();
    Run(std::move(task), started.get());
    return started;
  }
  template <typename T>
  T Finish(Started<T>* started) {
    EXPECT_TRUE(world_.StepWhile([started] { return !started->result.has_value(); }))
        << "the call hangs";
    return *std::move(started->result);
  }

  pool::VolumeId volume_;
  pool::ReplicaId id_;
  pool::EngineId engine_, other_engine_;
  pool::PoolId peer_pool_{world_.MakeId()};
  pool::ReplicaId peer_{world_.MakeId()};
  std::vector<std::unique_ptr<ReplicaPort>> ports_;
};

}  // namespace keelson::replica
