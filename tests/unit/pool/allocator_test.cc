#include "blockstore/pool/allocator.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "blockstore/pool/block_bits.h"

namespace keelson::pool {
namespace {

TEST(AllocatorTest, GivesEveryExtentOnceAndThenNone) {
  Allocator allocator;
  allocator.Reset(130);
  std::set<std::uint32_t> given;
  for (int i = 0; i < 130; ++i) given.insert(allocator.Take().value());
  EXPECT_EQ(given.size(), 130U);
  EXPECT_EQ(*given.rbegin(), 129U);
  EXPECT_FALSE(allocator.Take().has_value());
}

TEST(AllocatorTest, DoesNotGiveOutAnExtentThatIsStillBeingReclaimed) {
  Allocator allocator;
  allocator.Reset(2);
  const std::uint32_t first = allocator.Take().value();
  (void)allocator.Take();
  allocator.BeginReclaim(first);
  EXPECT_FALSE(allocator.Take().has_value());
  EXPECT_EQ(allocator.reclaiming_count(), 1U);
  allocator.EndReclaim(first);
  EXPECT_EQ(allocator.Take(), first);
}

TEST(AllocatorTest, RefusesASecondOwnerAndAnExtentPastTheEnd) {
  Allocator allocator;
  allocator.Reset(10);
  EXPECT_TRUE(allocator.MarkUsed(3));
  EXPECT_FALSE(allocator.MarkUsed(3));
  EXPECT_FALSE(allocator.MarkUsed(10));
  EXPECT_EQ(allocator.free_count(), 9U);
}

TEST(AllocatorTest, LaysSequentialDataOutInOrder) {
  Allocator allocator;
  allocator.Reset(64);
  for (std::uint32_t i = 0; i < 64; ++i) EXPECT_EQ(allocator.Take(), i);
}

TEST(BlockBitsTest, AgreesWithABitByBitModel) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 3000; ++i) {
    const auto first = static_cast<std::uint32_t>(random() % 256);
    const auto count = static_cast<std::uint32_t>(1 + random() % (256 - first));
    const BlockBits range = BlockBits::Range(first, count);
    EXPECT_EQ(range.Count(), count);
    EXPECT_TRUE(range.Test(first));
    EXPECT_TRUE(range.Test(first + count - 1));
    if (first > 0) {
      EXPECT_FALSE(range.Test(first - 1));
    }
    EXPECT_EQ(range.RunLength(first, 256 - first), count);
    EXPECT_EQ((range | ~range).IsAll(), true);
    EXPECT_FALSE((range & ~range).Any());
    if (count > 1) {
      EXPECT_EQ(range.RunLength(first, count - 1), count - 1);
    }
  }
}

}  // namespace
}  // namespace keelson::pool
