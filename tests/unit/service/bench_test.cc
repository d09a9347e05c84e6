#include "blockstore/service/bench.h"

#include <gtest/gtest.h>

#include <vector>

#include "blockstore/io/status.h"
#include "blockstore/pool/pool_directory.h"
#include "blockstore/service/latency_histogram.h"
#include "blockstore/service/random_order.h"
#include "blockstore/service/reactor_thread.h"
#include "tests/unit/service/temporary_directory.h"

namespace keelson::service {
namespace {

TEST(LatencyHistogramTest, TellsPercentilesToWithinABucket) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.Percentile(0.5), 0u);
  for (std::uint64_t us = 1; us <= 1000; ++us) histogram.Add(us * 1000);
  EXPECT_NEAR(static_cast<double>(histogram.Percentile(0.50)), 500e3, 500e3 * 0.04);
  EXPECT_NEAR(static_cast<double>(histogram.Percentile(0.99)), 990e3, 990e3 * 0.04);
  EXPECT_GE(histogram.Percentile(1.0), 1'000'000u);
  histogram.Add(UINT64_MAX);
  EXPECT_EQ(histogram.Percentile(1.0), UINT64_MAX);
}

TEST(RandomOrderTest, VisitsEveryNumberOnce) {
  for (const std::uint64_t count : {1u, 2u, 3u, 7u, 256u, 1000u, 4097u}) {
    const RandomOrder order(count, 42);
    std::vector<bool> seen(count, false);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t number = order.At(i);
      ASSERT_LT(number, count);
      EXPECT_FALSE(seen[number]) << count << " " << i;
      seen[number] = true;
    }
  }
}

TEST(RandomOrderTest, DoesNotGoInOrder) {
  const RandomOrder order(100'000, 42);
  int ascending = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) ascending += order.At(i + 1) == order.At(i) + 1 ? 1 : 0;
  EXPECT_LT(ascending, 10);
}

io::Task<absl::StatusOr<BenchResult>> MakePoolAndBench(io::Reactor* reactor, std::string directory,
                                                       BenchOptions options,
                                                       const std::atomic<bool>* stop,
                                                       std::size_t* volumes_left) {
  pool::CreatePoolOptions create;
  create.directory = directory;
  create.size_bytes = std::uint64_t{64} << 20;
  CO_ASSIGN_OR_RETURN([[maybe_unused]] const pool::PoolId id,
                      co_await pool::CreatePoolDirectory(reactor, std::move(create)));
  pool::OpenPoolOptions open;
  open.directory = std::move(directory);
  CO_ASSIGN_OR_RETURN(std::unique_ptr<pool::Pool> pool,
                      co_await pool::OpenPoolDirectory(reactor, std::move(open)));
  CO_ASSIGN_OR_RETURN(std::unique_ptr<replica::ReplicaStore> store,
                      co_await replica::ReplicaStore::Open(std::move(pool)));
  absl::StatusOr<BenchResult> result = co_await RunBench(store.get(), options, stop);
  *volumes_left = store->List().size();
  CO_RETURN_IF_ERROR(co_await store->Close());
  co_return result;
}

absl::StatusOr<BenchResult> Bench(const BenchOptions& options, std::size_t* volumes_left,
                                  bool interrupted = false) {
  const TemporaryDirectory directory;
  const std::atomic<bool> stop{interrupted};
  io::ReactorOptions reactor_options;
  reactor_options.buffer_arena_bytes = BenchBufferBytes(options);
  auto thread = ReactorThread::Start(reactor_options, "bench");
  if (!thread.ok()) return thread.status();
  return (*thread)->Run([&] {
    return MakePoolAndBench(&(*thread)->reactor(), directory.Child("pool"), options, &stop,
                            volumes_left);
  });
}

TEST(BenchTest, CountsWhatItDidAndLeavesNoVolumeBehind) {
  for (const BenchLayout layout :
       {BenchLayout::kFresh, BenchLayout::kFilled, BenchLayout::kSnapshot}) {
    BenchOptions options;
    options.volume_bytes = std::uint64_t{8} << 20;
    options.pattern = BenchPattern::kRandomWrite;
    options.layout = layout;
    options.depth = 4;
    options.size_bytes = 1 << 20;
    options.flush_every = 64;
    std::size_t volumes_left = 1;
    const absl::StatusOr<BenchResult> result = Bench(options, &volumes_left);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->operations, 256u);
    EXPECT_EQ(result->flushes, 4u);
    EXPECT_GT(result->iops, 0);
    EXPECT_LE(result->p50_us, result->p99_us);
    EXPECT_EQ(volumes_left, 0u);
  }
}

TEST(BenchTest, EndsAFreshRunWhenEverythingIsAllocated) {
  BenchOptions options;
  options.volume_bytes = std::uint64_t{1} << 20;
  options.pattern = BenchPattern::kRandomWrite;
  options.layout = BenchLayout::kFresh;
  std::size_t volumes_left = 1;
  const absl::StatusOr<BenchResult> result = Bench(options, &volumes_left);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->operations, 256u);
}

TEST(BenchTest, DeletesItsVolumeAlsoAfterAnError) {
  BenchOptions options;
  options.volume_bytes = std::uint64_t{256} << 20;  // more than the pool has
  std::size_t volumes_left = 1;
  EXPECT_TRUE(absl::IsResourceExhausted(Bench(options, &volumes_left).status()));
  EXPECT_EQ(volumes_left, 0u);
}

TEST(BenchTest, DeletesItsVolumeWhenInterrupted) {
  BenchOptions options;
  options.volume_bytes = std::uint64_t{8} << 20;
  std::size_t volumes_left = 1;
  EXPECT_TRUE(absl::IsCancelled(Bench(options, &volumes_left, /*interrupted=*/true).status()));
  EXPECT_EQ(volumes_left, 0u);
}

}  // namespace
}  // namespace keelson::service
