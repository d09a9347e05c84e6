#include "blockstore/service/offline_tools.h"

#include <csignal>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_format.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/replica_store.h"
#include "blockstore/service/open_pool.h"
#include "blockstore/service/process_usage.h"
#include "blockstore/service/reactor_thread.h"

namespace keelson::service {
namespace {

std::atomic<bool> interrupted{false};

int Failed(const absl::Status& status) {
  absl::FPrintF(stderr, "keelson-blockstore: %s\n", status.message());
  return 1;
}

io::Task<absl::Status> CloseStore(std::unique_ptr<replica::ReplicaStore> store) {
  co_return co_await store->Close();
}

// Opens the pool on a reactor of its own, has `work` done there, and closes it.
template <typename T>
absl::StatusOr<T> WithStore(
    const io::ReactorOptions& options, const std::string& directory,
    absl::FunctionRef<io::Task<absl::StatusOr<T>>(replica::ReplicaStore*)> work) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ReactorThread> thread,
                   ReactorThread::Start(options, "reactor"));
  ASSIGN_OR_RETURN(std::unique_ptr<replica::ReplicaStore> store, thread->Run([&] {
    return OpenPool(&thread->reactor(), directory, kLockPatienceNanos);
  }));
  absl::StatusOr<T> result = thread->Run([&] { return work(store.get()); });
  const absl::Status closed = thread->Run([&] { return CloseStore(std::move(store)); });
  if (result.ok() && !closed.ok()) return closed;
  return result;
}

void PrintCheck(const replica::CheckReport& report, bool json) {
  if (json) {
    const nlohmann::json object = {
        {"replicas", report.replicas},   {"layers", report.layers},
        {"extents", report.extents},     {"blocks_present", report.blocks_present},
        {"checksums", report.checksums}, {"blocks_verified", report.blocks_verified},
        {"problems", report.problems},   {"repaired", report.repaired}};
    absl::PrintF("%s\n", object.dump(2));
    return;
  }
  for (const std::string& problem : report.problems) absl::PrintF("problem: %s\n", problem);
  for (const std::string& repaired : report.repaired) absl::PrintF("repaired: %s\n", repaired);
  absl::PrintF(
      "%d replicas, %d layers, %d extents, %d blocks present, %d checksums, %d blocks verified: ",
      report.replicas, report.layers, report.extents, report.blocks_present, report.checksums,
      report.blocks_verified);
  if (report.problems.empty()) {
    absl::PrintF("the pool is sound\n");
  } else {
    absl::PrintF("%d problems, %d repaired\n", report.problems.size(), report.repaired.size());
  }
}

void PrintBench(const BenchOptions& options, const BenchResult& result, bool json) {
  if (json) {
    const nlohmann::json object = {{"target", "keelson-engine"},
                                   {"rw", BenchPatternName(options.pattern)},
                                   {"layout", BenchLayoutName(options.layout)},
                                   {"bs", options.block_bytes},
                                   {"iodepth", options.depth},
                                   {"fsync", options.flush_every},
                                   {"operations", result.operations},
                                   {"seconds", result.seconds},
                                   {"iops", result.iops},
                                   {"mbps", result.mbps},
                                   {"p50_us", result.p50_us},
                                   {"p99_us", result.p99_us},
                                   {"cpu_us_per_io", result.cpu_us_per_io},
                                   {"flushes", result.flushes},
                                   {"flush_p50_us", result.flush_p50_us},
                                   {"flush_p99_us", result.flush_p99_us},
                                   {"rss_bytes", ProcessResidentBytes()}};
    absl::PrintF("%s\n", object.dump(2));
    return;
  }
  absl::PrintF("%s bs=%d iodepth=%d layout=%s: %.0f IOPS, %.1f MB/s\n",
               BenchPatternName(options.pattern), options.block_bytes, options.depth,
               BenchLayoutName(options.layout), result.iops, result.mbps);
  absl::PrintF("  latency p50 %.0f us, p99 %.0f us; CPU %.1f us per I/O; %d I/Os in %.1f s\n",
               result.p50_us, result.p99_us, result.cpu_us_per_io, result.operations,
               result.seconds);
  if (result.flushes > 0) {
    absl::PrintF("  flush p50 %.0f us, p99 %.0f us; %d flushes\n", result.flush_p50_us,
                 result.flush_p99_us, result.flushes);
  }
}

}  // namespace

const char* BenchPatternName(BenchPattern pattern) {
  switch (pattern) {
    case BenchPattern::kRead:
      return "read";
    case BenchPattern::kWrite:
      return "write";
    case BenchPattern::kRandomRead:
      return "randread";
    case BenchPattern::kRandomWrite:
      return "randwrite";
    case BenchPattern::kRandomMixed:
      return "randrw";
  }
  return "?";
}

const char* BenchLayoutName(BenchLayout layout) {
  switch (layout) {
    case BenchLayout::kFresh:
      return "fresh";
    case BenchLayout::kFilled:
      return "filled";
    case BenchLayout::kSnapshot:
      return "snapshot";
  }
  return "?";
}

int ToolCreate(const io::ReactorOptions& options, const pool::CreatePoolOptions& create) {
  absl::StatusOr<std::unique_ptr<ReactorThread>> thread = ReactorThread::Start(options, "reactor");
  if (!thread.ok()) return Failed(thread.status());
  ReactorThread* maker = thread->get();
  const absl::StatusOr<pool::PoolId> id =
      maker->Run([maker, &create] { return pool::CreatePoolDirectory(&maker->reactor(), create); });
  if (!id.ok()) return Failed(id.status());
  absl::PrintF("%s\n", id->ToString());
  return 0;
}

int ToolCheck(const io::ReactorOptions& options, const std::string& directory,
              const replica::CheckOptions& check, bool json) {
  const absl::StatusOr<replica::CheckReport> report = WithStore<replica::CheckReport>(
      options, directory,
      [&check](replica::ReplicaStore* store) { return replica::CheckPool(store, check); });
  if (!report.ok()) return Failed(report.status());
  PrintCheck(*report, json);
  return report->problems.empty() ? 0 : 1;
}

int ToolDump(const io::ReactorOptions& options, const std::string& directory) {
  const absl::StatusOr<std::vector<std::string>> lines = WithStore<std::vector<std::string>>(
      options, directory, [](replica::ReplicaStore* store) { return replica::DumpPool(store); });
  if (!lines.ok()) return Failed(lines.status());
  for (const std::string& line : *lines) absl::PrintF("%s\n", line);
  return 0;
}

int ToolBench(const io::ReactorOptions& options, const std::string& directory,
              const BenchOptions& bench, bool json) {
  std::signal(SIGINT, [](int) { interrupted = true; });
  std::signal(SIGTERM, [](int) { interrupted = true; });
  io::ReactorOptions bench_options = options;
  bench_options.buffer_arena_bytes =
      std::max<std::size_t>(options.buffer_arena_bytes, BenchBufferBytes(bench));
  const absl::StatusOr<BenchResult> result = WithStore<BenchResult>(
      bench_options, directory,
      [&bench](replica::ReplicaStore* store) { return RunBench(store, bench, &interrupted); });
  if (!result.ok()) return Failed(result.status());
  PrintBench(bench, *result, json);
  return 0;
}

}  // namespace keelson::service
