#include "blockstore/engine/engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"

namespace keelson::engine {
namespace {

using replica::RangeLock;

// More unsaved checksums than this end a generation early, so that memory stays bounded.
constexpr std::size_t kDirtyChecksumsMax = 16384;

}  // namespace

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

Engine::Engine(replica::ReplicaStore* store, replica::Replica* replica, EngineOptions options)
    : store_(store), replica_(replica), options_(options) {
  roll_timer_.owner = this;
  roll_timer_.fire = [](io::TimerNode* timer) {
    auto* engine = static_cast<Engine*>(timer->owner);
    engine->gate_.Spawn(engine->TimedRoll());
  };
}

Engine::~Engine() { KEEL_CHECK(detached_, "an engine is detached before it is destroyed"); }

io::Task<absl::StatusOr<std::unique_ptr<Engine>>> Engine::Attach(replica::ReplicaStore* store,
                                                                 pool::ReplicaId id,
                                                                 EngineOptions options) {
  replica::Replica* replica = store->Find(id);
  if (replica == nullptr) {
    co_return absl::NotFoundError(
        absl::StrCat("there is no replica ", id.ToString(), " in this pool"));
  }
  const pool::EngineId engine_id(store->pool().MakeId());
  absl::StatusOr<pool::Epoch> epoch = co_await store->BeginAttachment(id, engine_id);
  if (!epoch.ok()) co_return epoch.status();
  std::unique_ptr<Engine> engine(new Engine(store, replica, options));
  engine->epoch_ = *epoch;
  KEEL_LOG_INFO("event=attached volume={} epoch={}.{} size_bytes={} read_only={}", replica->name(),
                epoch->attachment, epoch->restart, replica->size_bytes(), options.read_only);
  engine->gate_.Spawn(engine->Reconcile());
  co_return std::move(engine);
}

std::uint64_t Engine::size_bytes() const { return replica_->size_bytes(); }

absl::Status Engine::CheckRange(std::uint64_t offset, std::uint64_t size_bytes, bool writes) const {
  if (detaching_) {
    return absl::UnavailableError(absl::StrCat("volume ", replica_->name(), " is being detached"));
  }
  if (offset % kBlockSize != 0 || size_bytes % kBlockSize != 0 || size_bytes == 0) {
    return absl::InvalidArgumentError(absl::StrCat("volume ", replica_->name(), ": a request of ",
                                                   size_bytes, " bytes at ", offset,
                                                   " is not made of whole 4096-byte blocks"));
  }
  const std::uint64_t end = replica_->size_bytes();
  if (offset > end || size_bytes > end - offset) {
    return absl::OutOfRangeError(absl::StrCat("volume ", replica_->name(), ": a request of ",
                                              size_bytes, " bytes at ", offset, " ends past its ",
                                              end, " bytes"));
  }
  if (writes && options_.read_only) {
    return absl::PermissionDeniedError(
        absl::StrCat("volume ", replica_->name(), " is attached read-only"));
  }
  return absl::OkStatus();
}

absl::Status Engine::Count(absl::Status status) {
  if (!status.ok()) [[unlikely]]
    ++counters_.errors;
  return status;
}

io::Task<absl::Status> Engine::Read(std::uint64_t offset, std::span<std::byte> into) {
  absl::Status checked = CheckRange(offset, into.size(), /*writes=*/false);
  if (!checked.ok()) co_return Count(std::move(checked));
  InFlight in_flight(this);
  RangeLock::Hold hold(&ranges_, offset, offset + into.size(), RangeLock::kShared);
  co_await hold;
  ++counters_.reads;
  counters_.read_bytes += into.size();
  co_return Count(co_await replica_->Read(offset, into));
}

io::Task<absl::Status> Engine::Write(std::uint64_t offset, std::span<const std::byte> from,
                                     bool fua) {
  absl::Status status = CheckRange(offset, from.size(), /*writes=*/true);
  if (!status.ok()) co_return Count(std::move(status));
  InFlight in_flight(this);
  {
    RangeLock::Hold hold(&ranges_, offset, offset + from.size(), RangeLock::kExclusive);
    co_await hold;
    const pool::Generation generation = replica_->generation();
    std::uint64_t& writes = writes_in_flight_[generation.counter % 2];
    ++writes;
    ++counters_.writes;
    counters_.written_bytes += from.size();
    status = co_await replica_->Write(offset, from, generation);
    if (--writes == 0) drained_.WakeAll();
  }
  ArmRoll();
  if (status.ok() && fua) status = co_await store_->pool().changes().Flush();
  co_return Count(std::move(status));
}

io::Task<absl::Status> Engine::Trim(std::uint64_t offset, std::uint64_t size_bytes, bool fua) {
  absl::Status status = CheckRange(offset, size_bytes, /*writes=*/true);
  if (!status.ok()) co_return Count(std::move(status));
  InFlight in_flight(this);
  {
    RangeLock::Hold hold(&ranges_, offset, offset + size_bytes, RangeLock::kExclusive);
    co_await hold;
    const pool::Generation generation = replica_->generation();
    std::uint64_t& writes = writes_in_flight_[generation.counter % 2];
    ++writes;
    ++counters_.trims;
    counters_.trimmed_bytes += size_bytes;
    status = co_await replica_->Trim(offset, size_bytes, generation);
    if (--writes == 0) drained_.WakeAll();
  }
  ArmRoll();
  if (status.ok() && fua) status = co_await store_->pool().changes().Flush();
  co_return Count(std::move(status));
}

io::Task<absl::Status> Engine::Flush() {
  if (detaching_) {
    co_return Count(
        absl::UnavailableError(absl::StrCat("volume ", replica_->name(), " is being detached")));
  }
  InFlight in_flight(this);
  ++counters_.flushes;
  co_return Count(co_await store_->pool().changes().Flush());
}

std::vector<BlockRun> Engine::Status(std::uint64_t offset, std::uint64_t size_bytes,
                                     std::size_t runs_max) const {
  std::vector<BlockRun> runs;
  while (size_bytes > 0 && runs.size() < runs_max) {
    const replica::Replica::DataRun run = replica_->FindData(offset, size_bytes);
    runs.push_back({run.size_bytes, run.hole});
    offset += run.size_bytes;
    size_bytes -= run.size_bytes;
  }
  return runs;
}

io::Task<absl::StatusOr<pool::SnapshotId>> Engine::Snapshot(std::string name,
                                                            std::int64_t created_unix_ns) {
  if (detaching_) {
    co_return absl::UnavailableError(
        absl::StrCat("volume ", replica_->name(), " is being detached"));
  }
  InFlight in_flight(this);
  // Not while a generation is ending: the snapshot begins a new one itself.
  io::AsyncMutex::Guard guard = co_await rolling_.Lock();
  // Everything in flight ends, everything new waits.
  RangeLock::Hold barrier(&ranges_, 0, UINT64_MAX, RangeLock::kExclusive);
  co_await barrier;
  CO_RETURN_IF_ERROR(co_await replica_->SettleFailedWrites());
  const pool::ReplicaId id = replica_->id();
  absl::StatusOr<pool::SnapshotId> snapshot =
      co_await store_->Snapshot(id, std::move(name), created_unix_ns);
  ArmRoll();
  co_return snapshot;
}

io::Task<absl::Status> Engine::Grow(std::uint64_t size_bytes) {
  InFlight in_flight(this);
  co_return co_await store_->Grow(replica_->id(), size_bytes);
}

io::Task<absl::Status> Engine::RollGeneration() {
  InFlight in_flight(this);
  io::AsyncMutex::Guard guard = co_await rolling_.Lock();
  CO_RETURN_IF_ERROR(co_await replica_->SettleFailedWrites());
  pool::Generation next = replica_->generation();
  ++next.counter;
  co_return co_await EndGeneration(&next);
}

io::Task<absl::Status> Engine::EndGeneration(const pool::Generation* next) {
  const pool::Generation closing = replica_->generation();
  if (next != nullptr) {
    CO_RETURN_IF_ERROR(co_await replica_->head()->notes().CarryOver(closing, *next));
    replica_->set_generation(*next);
  }
  while (writes_in_flight_[closing.counter % 2] > 0) co_await drained_.Wait();
  CO_RETURN_IF_ERROR(co_await store_->pool().changes().Flush());
  ++counters_.generations;
  if (!reconciled_) co_return absl::OkStatus();
  co_return co_await store_->CommitClean(replica_->id(), closing);
}

void Engine::ArmRoll() {
  wrote_since_roll_ = true;
  if (detaching_) return;
  const bool early = store_->pool().checksums().dirty_count() > kDirtyChecksumsMax;
  if (rolling_.locked() || (roll_timer_.armed && !early)) return;
  io::Reactor& reactor = store_->pool().reactor();
  if (roll_timer_.armed && roll_timer_.when_ns <= reactor.NowNanos()) return;
  reactor.CancelTimer(&roll_timer_);
  roll_timer_.when_ns = reactor.NowNanos() + (early ? 0 : options_.generation_interval_ns);
  reactor.StartTimer(&roll_timer_);
}

io::Task<void> Engine::TimedRoll() {
  const bool wrote = std::exchange(wrote_since_roll_, false);
  absl::Status status = co_await RollGeneration();
  if (!status.ok()) {
    KEEL_LOG_WARN("event=generation_not_ended volume={} reason=\"{}\"", replica_->name(),
                  std::string(status.message()));
    co_return;
  }
  // One more after the last write: it stores the checksums of the regions carried over.
  if (wrote || wrote_since_roll_) {
    ArmRoll();
    wrote_since_roll_ = false;
  }
}

io::Task<void> Engine::Reconcile() {
  // With one member nothing can differ; what is to be recovered is the knowledge of what is there.
  const std::vector<std::uint32_t> regions = replica_->UncleanRegions();
  if (regions.empty()) {
    reconciled_ = true;
    co_return;
  }
  KEEL_LOG_INFO("event=reconcile_started volume={} regions={}", replica_->name(), regions.size());
  for (std::uint32_t region : regions) {
    if (detaching_ || !store_->pool().health().ok()) co_return;
    InFlight in_flight(this);
    RangeLock::Hold hold(&ranges_, region * pool::kRegionBytes, (region + 1) * pool::kRegionBytes,
                         RangeLock::kExclusive);
    co_await hold;
    // Layers must not be merged away under it. After the range, as a snapshot takes them.
    io::AsyncMutex::Guard structure = co_await store_->structure().Lock();
    absl::Status status = co_await replica_->Resum(region);
    if (!status.ok()) {
      KEEL_LOG_WARN("event=reconcile_failed volume={} region={} reason=\"{}\"", replica_->name(),
                    region, std::string(status.message()));
      co_return;
    }
  }
  reconciled_ = true;
  KEEL_LOG_INFO("event=reconciled volume={} regions={}", replica_->name(), regions.size());
  ArmRoll();
}

io::Task<absl::Status> Engine::Detach(bool keep_attached) {
  detaching_ = true;
  io::Reactor& reactor = store_->pool().reactor();
  reactor.CancelTimer(&roll_timer_);
  while (requests_in_flight_ > 0) co_await drained_.Wait();
  co_await gate_.Close();
  reactor.CancelTimer(&roll_timer_);  // the gate's last work may have armed it
  absl::Status status = co_await replica_->SettleFailedWrites();
  if (status.ok()) status = co_await EndGeneration(nullptr);
  if (status.ok() && !keep_attached) status = co_await store_->EndAttachment(replica_->id());
  replica_->set_has_engine(false);
  detached_ = true;
  KEEL_LOG_INFO("event=detached volume={} epoch={}.{} status=\"{}\"", replica_->name(),
                epoch_.attachment, epoch_.restart, status.ToString());
  co_return status;
}

}  // namespace keelson::engine
