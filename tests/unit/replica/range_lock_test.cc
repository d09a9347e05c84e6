#include "blockstore/replica/range_lock.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "blockstore/io/task.h"

namespace keelson::replica {
namespace {

io::internal::Detached Wait(RangeLock::Hold* hold, std::vector<int>* order, int name) {
  co_await *hold;
  order->push_back(name);
}

class RangeLockTest : public testing::Test {
 protected:
  std::unique_ptr<RangeLock::Hold> Take(std::uint64_t begin, std::uint64_t end,
                                        RangeLock::Mode mode, int name) {
    auto hold = std::make_unique<RangeLock::Hold>(&lock_, begin, end, mode);
    Wait(hold.get(), &order_, name);
    return hold;
  }
  RangeLock lock_;
  std::vector<int> order_;
};

TEST_F(RangeLockTest, GrantsDisjointRangesAtOnce) {
  auto a = Take(0, 10, RangeLock::kExclusive, 1);
  auto b = Take(10, 20, RangeLock::kExclusive, 2);
  EXPECT_EQ(order_, (std::vector<int>{1, 2}));
}

TEST_F(RangeLockTest, SharesReadersAndMakesAWriterWait) {
  auto a = Take(0, 10, RangeLock::kShared, 1);
  auto b = Take(5, 15, RangeLock::kShared, 2);
  auto c = Take(9, 10, RangeLock::kExclusive, 3);
  EXPECT_EQ(order_, (std::vector<int>{1, 2}));
  a.reset();
  EXPECT_EQ(order_.size(), 2U);
  b.reset();
  EXPECT_EQ(order_, (std::vector<int>{1, 2, 3}));
}

TEST_F(RangeLockTest, ServesOverlappingRequestsInTheOrderTheyCame) {
  auto a = Take(0, 10, RangeLock::kExclusive, 1);
  auto b = Take(0, 20, RangeLock::kExclusive, 2);
  auto c = Take(15, 20, RangeLock::kShared, 3);  // behind b, although a does not touch it
  EXPECT_EQ(order_, (std::vector<int>{1}));
  a.reset();
  EXPECT_EQ(order_, (std::vector<int>{1, 2}));
  b.reset();
  EXPECT_EQ(order_, (std::vector<int>{1, 2, 3}));
}

TEST_F(RangeLockTest, AHoldThatWasReleasedWaitsForNothing) {
  auto a = Take(0, 10, RangeLock::kExclusive, 1);
  RangeLock::Hold released(&lock_, 0, 10, RangeLock::kExclusive);
  released.Release();
  Wait(&released, &order_, 2);
  EXPECT_EQ(order_, (std::vector<int>{1, 2}));
}

TEST_F(RangeLockTest, OneThatIsCancelledGoesOnWithoutTheRangeAndLetsOthersHaveIt) {
  auto a = Take(0, 10, RangeLock::kExclusive, 1);
  auto b = Take(0, 20, RangeLock::kShared, 2);
  auto c = Take(15, 20, RangeLock::kExclusive, 3);
  b->Cancel();
  EXPECT_EQ(order_, (std::vector<int>{1, 3, 2}));
  auto d = Take(0, 10, RangeLock::kExclusive, 4);
  b->Cancel();
  a->Cancel();
  EXPECT_EQ(order_, (std::vector<int>{1, 3, 2, 4})) << "one that had it just gives it up";
}

}  // namespace
}  // namespace keelson::replica
