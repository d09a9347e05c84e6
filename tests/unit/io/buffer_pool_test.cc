#include "blockstore/io/buffer_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

namespace keelson::io {
namespace {

constexpr std::size_t kKiB = 1024;
constexpr std::size_t kMiB = 1024 * kKiB;
constexpr std::size_t kArenaBytes = 4 * kMiB;

internal::Detached Start(Task<void> task) {
  Task<void> owned = std::move(task);
  co_await std::move(owned);
}

class BufferPoolTest : public ::testing::Test {
 protected:
  std::vector<Buffer> TakeAll(std::size_t size_bytes) {
    std::vector<Buffer> taken;
    while (Buffer buffer = pool_.TryTake(size_bytes)) taken.push_back(std::move(buffer));
    return taken;
  }
  BufferPool pool_{kArenaBytes};
};

TEST_F(BufferPoolTest, GivesAlignedMemoryOfTheSizeAskedFor) {
  for (const std::size_t size_bytes : {std::size_t{1}, 4 * kKiB, 5 * kKiB, 100 * kKiB, kMiB}) {
    Buffer buffer = pool_.TryTake(size_bytes);
    ASSERT_TRUE(buffer);
    EXPECT_EQ(buffer.size(), size_bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 4096, 0u);
    EXPECT_GE(buffer.data(), pool_.arena().data());
    EXPECT_LE(buffer.data() + size_bytes, pool_.arena().data() + pool_.arena().size());
  }
  EXPECT_EQ(pool_.free_bytes(), kArenaBytes);
}

TEST_F(BufferPoolTest, UsesTheWholeArenaInEverySizeOneAfterTheOther) {
  for (const std::size_t size_bytes :
       {4 * kKiB, 16 * kKiB, 64 * kKiB, 256 * kKiB, kMiB, 4 * kKiB}) {
    std::vector<Buffer> all = TakeAll(size_bytes);
    EXPECT_EQ(all.size(), kArenaBytes / size_bytes) << size_bytes;
    EXPECT_EQ(pool_.free_bytes(), 0u);
    all.clear();
    EXPECT_EQ(pool_.free_bytes(), kArenaBytes);
  }
}

TEST_F(BufferPoolTest, MergesNothingWhileAPartIsTaken) {
  Buffer small = pool_.TryTake(4 * kKiB);
  EXPECT_EQ(TakeAll(kMiB).size(), 3u);
  small.Reset();
  EXPECT_EQ(TakeAll(kMiB).size(), 4u);
}

TEST_F(BufferPoolTest, NeverGivesTheSameByteTwice) {
  std::minstd_rand random(11);
  std::vector<Buffer> taken;
  std::map<std::byte*, std::byte*> ranges;  // start to end
  for (int step = 0; step < 20'000; ++step) {
    if (random() % 2 == 0 && !taken.empty()) {
      std::swap(taken[random() % taken.size()], taken.back());
      ranges.erase(taken.back().data());
      taken.pop_back();
      continue;
    }
    Buffer buffer = pool_.TryTake(1 + random() % (kMiB >> (random() % 9)));
    if (!buffer) continue;
    std::byte* const end = buffer.data() + buffer.size();
    const auto after = ranges.lower_bound(buffer.data());
    ASSERT_TRUE(after == ranges.end() || end <= after->first);
    ASSERT_TRUE(after == ranges.begin() || std::prev(after)->second <= buffer.data());
    ranges[buffer.data()] = end;
    taken.push_back(std::move(buffer));
  }
  taken.clear();
  EXPECT_EQ(pool_.free_bytes(), kArenaBytes);
  EXPECT_EQ(TakeAll(kMiB).size(), 4u) << "all merged again";
}

Task<void> TakeInto(BufferPool* pool, std::size_t size_bytes, int id, std::vector<int>* order,
                    std::vector<Buffer>* into) {
  Buffer buffer = co_await pool->Take(size_bytes);
  EXPECT_EQ(buffer.size(), size_bytes);
  order->push_back(id);
  into->push_back(std::move(buffer));
}

TEST_F(BufferPoolTest, ServesWaitersFirstComeFirstServed) {
  std::vector<Buffer> all = TakeAll(4 * kKiB);
  std::vector<int> order;
  std::vector<Buffer> later;
  Start(TakeInto(&pool_, kMiB, 1, &order, &later));
  Start(TakeInto(&pool_, 4 * kKiB, 2, &order, &later));
  // A free 4 KiB would do for the second, but the first asked before. Nor may a newcomer overtake.
  all.pop_back();
  Start(TakeInto(&pool_, 4 * kKiB, 3, &order, &later));
  EXPECT_TRUE(order.empty());
  EXPECT_FALSE(pool_.TryTake(4 * kKiB));
  all.clear();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

Task<void> TakeAndGiveBack(BufferPool* pool, int* count) {
  Buffer buffer = co_await pool->Take(kMiB);
  ++*count;
}

TEST_F(BufferPoolTest, ServesALongQueueWithoutADeepStack) {
  constexpr int kWaiters = 200'000;
  std::vector<Buffer> all = TakeAll(kMiB);
  int count = 0;
  for (int i = 0; i < kWaiters; ++i) Start(TakeAndGiveBack(&pool_, &count));
  EXPECT_EQ(count, 0);
  all.pop_back();
  EXPECT_EQ(count, kWaiters);
}

TEST_F(BufferPoolTest, KeepsABufferThroughMoves) {
  Buffer first = pool_.TryTake(kMiB);
  std::byte* const data = first.data();
  Buffer second = std::move(first);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(pool_.free_bytes(), 3 * kMiB);
  second = pool_.TryTake(4 * kKiB);
  EXPECT_EQ(pool_.free_bytes(), kArenaBytes - 4 * kKiB);
  second.Reset();
  second.Reset();
  EXPECT_EQ(pool_.free_bytes(), kArenaBytes);
}

TEST(BufferPoolDeathTest, AbortsWhenABufferOutlivesIt) {
  EXPECT_DEATH(
      {
        Buffer buffer;
        BufferPool pool(kArenaBytes);
        buffer = pool.TryTake(1);
      },
      "given back");
}

}  // namespace
}  // namespace keelson::io
