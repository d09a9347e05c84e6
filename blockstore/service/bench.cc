#include "blockstore/service/bench.h"

#include <algorithm>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "blockstore/engine/engine.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/status.h"
#include "blockstore/service/latency_histogram.h"
#include "blockstore/service/process_usage.h"
#include "blockstore/service/random_order.h"

namespace keelson::service {
namespace {

constexpr char kVolumeName[] = "keelson-bench";
constexpr std::uint64_t kSeed = 0x6b65656c736f6e;
constexpr std::uint64_t kFillBlockBytes = std::uint64_t{1} << 20;
constexpr std::uint32_t kFillDepth = 8;

// One run of the same kind of I/O with a number of requests in flight.
class Phase {
 public:
  Phase(io::Reactor* reactor, engine::Engine* engine, const BenchOptions& options,
        const std::atomic<bool>* stop)
      : reactor_(reactor),
        engine_(engine),
        options_(options),
        stop_(stop),
        blocks_(options.volume_bytes / options.block_bytes),
        order_(blocks_, kSeed),
        random_(kSeed) {}

  io::Task<absl::Status> Run() {
    // All buffers are there before the clock starts. The arena holds them: see BenchBufferBytes.
    std::vector<io::Buffer> buffers(options_.depth);
    for (io::Buffer& buffer : buffers) {
      buffer = co_await reactor_->buffers().Take(options_.block_bytes);
      for (std::byte& byte : buffer.span()) byte = static_cast<std::byte>(random_());
    }
    const double cpu_begin = ProcessCpuSeconds();
    begin_ns_ = reactor_->NowNanos();
    for (io::Buffer& buffer : buffers) gate_.Spawn(Worker(buffer.span()));
    co_await gate_.Close();
    seconds_ = static_cast<double>(reactor_->NowNanos() - begin_ns_) / 1e9;
    cpu_seconds_ = ProcessCpuSeconds() - cpu_begin;
    co_return error_;
  }

  BenchResult result() const {
    BenchResult result;
    const auto operations = static_cast<double>(std::max<std::uint64_t>(latency_.count(), 1));
    result.operations = latency_.count();
    result.seconds = seconds_;
    if (seconds_ > 0) result.iops = static_cast<double>(latency_.count()) / seconds_;
    result.mbps = result.iops * static_cast<double>(options_.block_bytes) / 1e6;
    result.p50_us = static_cast<double>(latency_.Percentile(0.50)) / 1e3;
    result.p99_us = static_cast<double>(latency_.Percentile(0.99)) / 1e3;
    result.cpu_us_per_io = cpu_seconds_ * 1e6 / operations;
    result.flushes = flush_latency_.count();
    result.flush_p50_us = static_cast<double>(flush_latency_.Percentile(0.50)) / 1e3;
    result.flush_p99_us = static_cast<double>(flush_latency_.Percentile(0.99)) / 1e3;
    return result;
  }

 private:
  struct Request {
    std::uint64_t offset = 0;
    bool write = false;
  };

  // The next request; false when the phase is over.
  bool Next(Request* request) {
    const std::int64_t elapsed_ns = reactor_->NowNanos() - begin_ns_;
    if (!error_.ok() || *stop_ || elapsed_ns >= options_.runtime_ns) return false;
    if (options_.size_bytes > 0 && started_ * options_.block_bytes >= options_.size_bytes) {
      return false;
    }
    const BenchPattern pattern = options_.pattern;
    request->write =
        pattern == BenchPattern::kWrite || pattern == BenchPattern::kRandomWrite ||
        (pattern == BenchPattern::kRandomMixed && random_() % 100 >= options_.read_percent);
    // On what a write changes for good (unallocated space, space shared with a snapshot) no block
    // is written twice: the second write would be of another kind.
    const bool once = request->write && options_.layout != BenchLayout::kFilled;
    if (once && written_ == blocks_) return false;
    std::uint64_t block = 0;
    if (pattern == BenchPattern::kRead || pattern == BenchPattern::kWrite) {
      block = started_ % blocks_;
    } else {
      block = once ? order_.At(written_) : random_() % blocks_;
    }
    ++started_;
    if (request->write) ++written_;
    request->offset = block * options_.block_bytes;
    return true;
  }

  io::Task<void> Worker(std::span<std::byte> bytes) {
    Request request;
    while (Next(&request)) {
      const std::int64_t start_ns = reactor_->NowNanos();
      absl::Status status;
      if (request.write) {
        status = co_await engine_->Write(request.offset, bytes, /*fua=*/false);
      } else {
        status = co_await engine_->Read(request.offset, bytes);
      }
      latency_.Add(static_cast<std::uint64_t>(reactor_->NowNanos() - start_ns));
      if (status.ok() && request.write) status = co_await FlushIfDue();
      if (!status.ok() && error_.ok()) error_ = status;
    }
  }

  io::Task<absl::Status> FlushIfDue() {
    if (options_.flush_every == 0 || ++unflushed_ < options_.flush_every) {
      co_return absl::OkStatus();
    }
    unflushed_ = 0;
    const std::int64_t start_ns = reactor_->NowNanos();
    const absl::Status status = co_await engine_->Flush();
    flush_latency_.Add(static_cast<std::uint64_t>(reactor_->NowNanos() - start_ns));
    co_return status;
  }

  io::Reactor* reactor_;
  engine::Engine* engine_;
  const BenchOptions options_;
  const std::atomic<bool>* stop_;
  const std::uint64_t blocks_;
  const RandomOrder order_;
  std::mt19937_64 random_;
  std::int64_t begin_ns_ = 0;
  std::uint64_t started_ = 0;
  std::uint64_t written_ = 0;  // writes started
  std::uint32_t unflushed_ = 0;
  LatencyHistogram latency_;
  LatencyHistogram flush_latency_;
  double seconds_ = 0;
  double cpu_seconds_ = 0;
  absl::Status error_;
  io::Gate gate_;
};

// Writes the whole volume once and makes it durable.
io::Task<absl::Status> Fill(io::Reactor* reactor, engine::Engine* engine,
                            std::uint64_t volume_bytes, const std::atomic<bool>* stop) {
  BenchOptions options;
  options.volume_bytes = volume_bytes;
  options.pattern = BenchPattern::kWrite;
  options.layout = BenchLayout::kFresh;
  options.block_bytes = kFillBlockBytes;
  options.depth = kFillDepth;
  options.runtime_ns = INT64_MAX;
  Phase phase(reactor, engine, options, stop);
  CO_RETURN_IF_ERROR(co_await phase.Run());
  co_return co_await engine->RollGeneration();
}

io::Task<absl::StatusOr<BenchResult>> Measure(io::Reactor* reactor, engine::Engine* engine,
                                              BenchOptions options, const std::atomic<bool>* stop) {
  if (options.layout != BenchLayout::kFresh) {
    CO_RETURN_IF_ERROR(co_await Fill(reactor, engine, options.volume_bytes, stop));
  }
  if (options.layout == BenchLayout::kSnapshot) {
    absl::StatusOr<pool::SnapshotId> snapshot = co_await engine->Snapshot("bench", 0);
    if (!snapshot.ok()) co_return snapshot.status();
  }
  auto phase = std::make_unique<Phase>(reactor, engine, options, stop);
  CO_RETURN_IF_ERROR(co_await phase->Run());
  if (*stop) co_return absl::CancelledError("interrupted");
  co_return phase->result();
}

// Also one that a killed run left attached.
io::Task<absl::Status> DeleteVolume(replica::ReplicaStore* store) {
  replica::Replica* replica = store->FindByName(kVolumeName);
  if (replica == nullptr) co_return absl::OkStatus();
  const pool::ReplicaId id = replica->id();
  engine::EngineOptions options;
  CO_ASSIGN_OR_RETURN(std::unique_ptr<engine::Engine> engine,
                      co_await engine::Engine::Attach(store, id, options));
  CO_RETURN_IF_ERROR(co_await engine->Detach());
  co_return co_await store->Delete(id);
}

}  // namespace

std::uint64_t BenchBufferBytes(const BenchOptions& options) {
  const std::uint64_t fill_bytes = kFillBlockBytes * kFillDepth;
  // Twice, because buffers come in powers of four and the engine needs some itself.
  const std::uint64_t own_bytes = std::max(options.block_bytes * options.depth * 4, fill_bytes) * 2;
  return (own_bytes + kFillBlockBytes - 1) / kFillBlockBytes * kFillBlockBytes;
}

io::Task<absl::StatusOr<BenchResult>> RunBench(replica::ReplicaStore* store, BenchOptions options,
                                               const std::atomic<bool>* stop) {
  io::Reactor* reactor = &store->pool().reactor();
  CO_RETURN_IF_ERROR(co_await DeleteVolume(store));
  CO_ASSIGN_OR_RETURN(const pool::ReplicaId id,
                      co_await store->Create(kVolumeName, options.volume_bytes, 0));
  engine::EngineOptions engine_options;
  CO_ASSIGN_OR_RETURN(std::unique_ptr<engine::Engine> engine,
                      co_await engine::Engine::Attach(store, id, engine_options));
  absl::StatusOr<BenchResult> result = co_await Measure(reactor, engine.get(), options, stop);
  const absl::Status detached = co_await engine->Detach();
  engine.reset();
  absl::Status deleted = detached;
  if (detached.ok()) deleted = co_await store->Delete(id);
  if (result.ok() && !deleted.ok()) co_return deleted;
  co_return result;
}

}  // namespace keelson::service
