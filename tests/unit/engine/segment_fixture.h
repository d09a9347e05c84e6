#pragma once
// A segment's engine over pools on simulated disks, all of one process. A switch between engine and
// member cuts the member off: calls in flight fail, and so does every later one, until it is
// healed.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/engine/segment_engine.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/superblock.h"
#include "blockstore/replica/replica_store.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_meta_store.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/world.h"

namespace keelson::engine {

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kBlock = 4096;

// The port of a member behind a switch.
class SwitchedPort final : public replica::ReplicaPort {
 public:
  // `missing`: its pool is not open, and so nothing is found there. `incarnation`: it answers with
  // this one, if it is not nil, as after a restart of its machine.
  SwitchedPort(std::unique_ptr<replica::ReplicaPort> port, const bool* cut, const bool* missing,
               const pool::Uuid* incarnation)
      : port_(std::move(port)), cut_(cut), missing_(missing), incarnation_(incarnation) {}

  io::Task<absl::StatusOr<replica::PrepareAnswer>> Prepare(pool::Epoch epoch,
                                                           std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    if (*missing_) co_return absl::NotFoundError("no such replica");
    absl::StatusOr<replica::PrepareAnswer> answer = co_await port_->Prepare(epoch, deadline_ns);
    if (answer.ok() && !incarnation_->is_nil()) answer->incarnation = *incarnation_;
    co_return answer;
  }
  io::Task<absl::Status> Accept(replica::Configuration configuration,
                                std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->Accept(std::move(configuration), deadline_ns);
  }
  io::Task<absl::Status> Heartbeat(std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->Heartbeat(deadline_ns);
  }
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into,
                              std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->Read(offset, into, deadline_ns);
  }
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               pool::Generation generation, std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->Write(offset, from, generation, deadline_ns);
  }
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes,
                              pool::Generation generation, std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->Trim(offset, size_bytes, generation, deadline_ns);
  }
  io::Task<absl::Status> Flush(std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->Flush(deadline_ns);
  }
  io::Task<absl::Status> EndGeneration(pool::Generation generation,
                                       std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->EndGeneration(generation, deadline_ns);
  }
  io::Task<absl::StatusOr<std::vector<replica::DataRun>>> Map(std::uint64_t offset,
                                                              std::uint64_t size_bytes,
                                                              std::size_t runs_max,
                                                              std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->Map(offset, size_bytes, runs_max, deadline_ns);
  }
  io::Task<absl::StatusOr<std::vector<replica::RegionNote>>> Notes(
      pool::Generation above, std::uint32_t first_region, std::size_t count_max,
      std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->Notes(above, first_region, count_max, deadline_ns);
  }
  io::Task<absl::StatusOr<replica::ExtentContent>> ReadCopy(pool::SnapshotId layer,
                                                            std::uint32_t extent,
                                                            std::span<std::byte> into,
                                                            std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->ReadCopy(layer, extent, into, deadline_ns);
  }
  io::Task<absl::Status> BeginCopy(pool::SnapshotId layer, std::uint32_t region,
                                   pool::Generation generation, std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->BeginCopy(layer, region, generation, deadline_ns);
  }
  io::Task<absl::Status> WriteCopy(pool::SnapshotId layer, std::uint32_t extent,
                                   replica::ExtentContent content,
                                   std::span<const std::byte> packed,
                                   std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->WriteCopy(layer, extent, content, packed, deadline_ns);
  }
  io::Task<absl::Status> RecordProgress(replica::ResyncProgress progress,
                                        std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->RecordProgress(progress, deadline_ns);
  }
  io::Task<absl::StatusOr<replica::VerifyAnswer>> Verify(pool::SnapshotId layer,
                                                         std::uint32_t extent,
                                                         pool::BlockBits offered,
                                                         std::span<const std::byte> packed,
                                                         std::int64_t deadline_ns) override {
    if (*cut_) co_return Cut();
    co_return co_await port_->Verify(layer, extent, offered, packed, deadline_ns);
  }
  io::Task<void> Close() override { co_await port_->Close(); }
  bool open() const override { return !*cut_ && port_->open(); }

 private:
  static absl::Status Cut() { return absl::UnavailableError("cut off"); }
  std::unique_ptr<replica::ReplicaPort> port_;
  const bool* cut_;
  const bool* missing_;
  const pool::Uuid* incarnation_;
};

class SegmentFixture : public testing::Test, public PortFactory {
 protected:
  static constexpr std::uint64_t kSizeBytes = 16 * kMiB;
  struct Pool {
    pool::PoolId id;
    sim::SimDisk* disk = nullptr;
    std::unique_ptr<replica::ReplicaStore> store;
    bool cut = false;
    bool missing = false;
    pool::Uuid incarnation;  // after Restart
  };

  void TearDown() override {
    if (segment_ != nullptr) Close();
    for (auto& engine : abandoned_) (void)Must(engine->Close());
    for (auto& pool : pools_) (void)Must(pool->store->Close());
    pools_.clear();
  }

  template <typename T>
  T Must(io::Task<T> task) {
    std::optional<T> result = world_.RunTask(std::move(task));
    if (!result.has_value()) {
      ADD_FAILURE() << "the call hangs";
      std::abort();
    }
    return *std::move(result);
  }

  io::Task<absl::Status> OpenPool(Pool* pool, std::size_t number) {
    const std::string data_path = "/pool" + std::to_string(number) + "/data";
    const std::string meta_path = "/pool" + std::to_string(number) + "/meta";
    pool->disk = world_.AddDisk(data_path, 33 * kMiB);
    pool->id = pool::PoolId(world_.MakeId());
    {
      CO_ASSIGN_OR_RETURN(std::unique_ptr<io::File> data, process_->OpenFile(data_path, {}));
      CO_ASSIGN_OR_RETURN(std::unique_ptr<pool::MetaStore> meta,
                          world_.AddMetaDisk(meta_path)->Open(process_));
      CO_RETURN_IF_ERROR(co_await pool::Pool::Format(data.get(), meta.get(), pool->id, false));
    }
    pool::PoolDeps deps;
    deps.reactor = process_;
    CO_ASSIGN_OR_RETURN(deps.data, process_->OpenFile(data_path, {}));
    CO_ASSIGN_OR_RETURN(deps.meta, world_.AddMetaDisk(meta_path)->Open(process_));
    deps.boot = world_.boot();
    sim::World* world = &world_;
    deps.make_id = [world] { return world->MakeId(); };
    absl::StatusOr<std::unique_ptr<pool::Pool>> opened = co_await pool::Pool::Open(std::move(deps));
    if (!opened.ok()) co_return opened.status();
    std::unique_ptr<pool::Pool> open_pool = *std::move(opened);
    auto store = co_await replica::ReplicaStore::Open(std::move(open_pool));
    if (!store.ok()) co_return store.status();
    pool->store = *std::move(store);
    co_return absl::OkStatus();
  }

  replica::Member NewMember() {
    pools_.push_back(std::make_unique<Pool>());
    EXPECT_TRUE(Must(OpenPool(pools_.back().get(), pools_.size())).ok());
    replica::Member member;
    member.pool = pools_.back()->id;
    member.replica = pool::ReplicaId(world_.MakeId());
    member.incarnation = pools_.back()->store->pool().incarnation();
    member.address = "10.0.0." + std::to_string(pools_.size()) + ":7100";
    return member;
  }
  void CreateAt(std::size_t index) {
    replica::NewMember made;
    made.volume = first_.volume;
    made.replica = members_[index].replica;
    made.name = "v";
    made.size_bytes = kSizeBytes;
    made.witness = members_[index].witness;
    made.configuration = first_;
    const absl::Status created = Must(pools_[index]->store->CreateMember(made));
    ASSERT_TRUE(created.ok()) << created;
  }

  // A segment with so many copies, all InSync.
  void Make(std::size_t copies) {
    first_.volume = pool::VolumeId(world_.MakeId());
    first_.volume_name = "v";
    first_.version = {{1, 0, pool::EngineId(world_.MakeId())}, 1};
    first_.size_bytes = kSizeBytes;
    for (std::size_t i = 0; i < copies; ++i) {
      members_.push_back(NewMember());
      members_.back().state = replica::MemberState::kInSync;
    }
    first_.members = members_;
    for (std::size_t i = 0; i < copies; ++i) CreateAt(i);
  }
  replica::Member AddPool() {
    members_.push_back(NewMember());
    members_.back().state = replica::MemberState::kOut;
    CreateAt(members_.size() - 1);
    return members_.back();
  }

  std::unique_ptr<replica::ReplicaPort> MakePort(const replica::Member& member) override {
    for (auto& pool : pools_) {
      if (pool->id != member.pool) continue;
      return std::make_unique<SwitchedPort>(pool->store->MakePort(member.replica), &pool->cut,
                                            &pool->missing, &pool->incarnation);
    }
    ADD_FAILURE() << "a port to a member that there is not";
    return nullptr;
  }
  bool IsLocal(const replica::Member& member) const override {
    return member.pool == pools_[0]->id;
  }

  absl::Status TryAttach() {
    SegmentHint hint{first_.volume, 0, members_, force_from_};
    const pool::Epoch epoch{++attachment_, 0, pool::EngineId(world_.MakeId())};
    auto attached = Must(SegmentEngine::Attach(process_, this, hint, epoch, options_));
    if (!attached.ok()) return attached.status();
    segment_ = *std::move(attached);
    return absl::OkStatus();
  }
  void Attach() {
    const absl::Status attached = TryAttach();
    ASSERT_TRUE(attached.ok()) << attached;
  }
  void Close() {
    (void)Must(segment_->Close());
    segment_.reset();
  }
  // The engine is gone without a word; what it holds is closed when the test ends.
  void Abandon() { abandoned_.push_back(std::move(segment_)); }

  void Cut(std::size_t index) { pools_[index]->cut = true; }
  void Heal(std::size_t index) { pools_[index]->cut = false; }
  // It answers as one that may have lost what was not flushed. While it is cut off.
  void Restart(std::size_t index) { pools_[index]->incarnation = world_.MakeId(); }
  std::int64_t InHalfAMinute() { return process_->NowNanos() + 30'000'000'000; }
  void Pass(std::int64_t time_ns) { world_.RunUntil(world_.now_ns() + time_ns); }
  replica::MemberState State(std::size_t index) {
    for (const MemberStatus& status : segment_->Status().members) {
      if (status.member.replica == members_[index].replica) return status.member.state;
    }
    ADD_FAILURE() << "not a member";
    return replica::MemberState::kOut;
  }

  io::Task<absl::Status> WriteLetter(SegmentEngine* engine, std::uint64_t block, char letter) {
    pool::HeaderBlock data(kBlock);
    std::fill(data.span().begin(), data.span().end(), static_cast<std::byte>(letter));
    co_return co_await engine->Write(block * kBlock, data.span());
  }
  absl::Status WriteTo(SegmentEngine& engine, std::uint64_t block, char letter) {
    return Must(WriteLetter(&engine, block, letter));
  }
  absl::Status Write(std::uint64_t block, char letter) { return WriteTo(*segment_, block, letter); }
  // Starts a write and does not wait for it; done_ says when it has ended.
  std::optional<absl::Status> Begin(std::uint64_t block, char letter) {
    done_ = false;
    RunBegun(this, block, letter);
    return std::nullopt;
  }
  // The same of a detach.
  void BeginClose() {
    done_ = false;
    RunClose(this);
  }
  static io::internal::Detached RunClose(SegmentFixture* self) {
    self->done_status_ = co_await self->segment_->Close();
    self->done_ = true;
  }
  static io::internal::Detached RunBegun(SegmentFixture* self, std::uint64_t block, char letter) {
    self->done_status_ = co_await self->WriteLetter(self->segment_.get(), block, letter);
    self->done_ = true;
  }

  static char LetterOf(std::span<const std::byte> bytes) {
    for (std::byte byte : bytes) {
      if (byte != bytes[0]) return '?';
    }
    return bytes[0] == std::byte{0} ? '0' : static_cast<char>(bytes[0]);
  }
  char Read(std::uint64_t block) {
    pool::HeaderBlock data(kBlock);
    const absl::Status read = Must(segment_->Read(block * kBlock, data.span()));
    EXPECT_TRUE(read.ok()) << read;
    return read.ok() ? LetterOf(data.span()) : '!';
  }
  // Past the engine, at one member.
  char ReadAt(std::size_t index, std::uint64_t block) {
    pool::HeaderBlock data(kBlock);
    replica::Replica* replica = pools_[index]->store->Find(members_[index].replica);
    const absl::Status read = Must(replica->Read(block * kBlock, data.span()));
    EXPECT_TRUE(read.ok()) << read;
    return read.ok() ? LetterOf(data.span()) : '!';
  }
  absl::Status WriteAt(std::size_t index, std::uint64_t block, char letter) {
    pool::HeaderBlock data(kBlock);
    std::fill(data.span().begin(), data.span().end(), static_cast<std::byte>(letter));
    replica::Replica* replica = pools_[index]->store->Find(members_[index].replica);
    const pool::Generation generation{{attachment_, 0, {}}, 1000};
    return Must(replica->Write(block * kBlock, data.span(), generation));
  }

  sim::World world_{11};
  sim::SimReactor* process_ = world_.StartProcess();
  std::vector<std::unique_ptr<Pool>> pools_;
  std::vector<replica::Member> members_;
  replica::Configuration first_;
  SegmentOptions options_;
  std::uint64_t attachment_ = 1;
  pool::ReplicaId force_from_;  // of the attachments that follow (R14)
  std::unique_ptr<SegmentEngine> segment_;
  std::vector<std::unique_ptr<SegmentEngine>> abandoned_;
  bool done_ = false;
  absl::Status done_status_;
};

}  // namespace keelson::engine
