#include "blockstore/io/sync.h"

#include <gtest/gtest.h>

#include <vector>

namespace keelson::io {
namespace {

internal::Detached Start(Task<void> task) {
  Task<void> owned = std::move(task);
  co_await std::move(owned);
}

Task<void> WaitAndNote(WaitList* list, int id, std::vector<int>* order) {
  co_await list->Wait();
  order->push_back(id);
}

Task<void> WaitTwice(WaitList* list, std::vector<int>* order) {
  co_await list->Wait();
  order->push_back(1);
  co_await list->Wait();
  order->push_back(2);
}

TEST(WaitListTest, WakesInTheOrderOfArrival) {
  WaitList list;
  std::vector<int> order;
  for (int id = 0; id < 4; ++id) Start(WaitAndNote(&list, id, &order));
  EXPECT_TRUE(list.WakeOne());
  EXPECT_EQ(order, (std::vector<int>{0}));
  list.WakeAll();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
  EXPECT_FALSE(list.WakeOne());
}

TEST(WaitListTest, DoesNotWakeThoseThatBeginToWaitMeanwhile) {
  WaitList list;
  std::vector<int> order;
  Start(WaitTwice(&list, &order));
  list.WakeAll();
  EXPECT_EQ(order, (std::vector<int>{1}));
  EXPECT_FALSE(list.empty());
  list.WakeAll();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(WaitListTest, TakesTheWaitersOfAnother) {
  WaitList list;
  WaitList other;
  std::vector<int> order;
  Start(WaitAndNote(&list, 1, &order));
  Start(WaitAndNote(&other, 2, &order));
  Start(WaitAndNote(&other, 3, &order));
  list.TakeFrom(&other);
  EXPECT_TRUE(other.empty());
  list.WakeAll();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

Task<void> Await(Latch* latch, bool* passed) {
  co_await *latch;
  *passed = true;
}

TEST(LatchTest, OpensWhenItsCountIsZero) {
  Latch latch(1);
  latch.Add(2);
  bool passed = false;
  Start(Await(&latch, &passed));
  latch.Done();
  latch.Done();
  EXPECT_FALSE(passed);
  latch.Done();
  EXPECT_TRUE(passed);
}

TEST(LatchTest, IsOpenFromTheStartWithoutACount) {
  Latch latch(0);
  bool passed = false;
  Start(Await(&latch, &passed));
  EXPECT_TRUE(passed);
}

Task<void> LockAndWait(AsyncMutex* mutex, WaitList* inside, int id, std::vector<int>* order) {
  AsyncMutex::Guard guard = co_await mutex->Lock();
  order->push_back(id);
  co_await inside->Wait();
}

TEST(AsyncMutexTest, LetsOneInAtATimeInOrder) {
  AsyncMutex mutex;
  WaitList inside;
  std::vector<int> order;
  for (int id = 0; id < 3; ++id) Start(LockAndWait(&mutex, &inside, id, &order));
  EXPECT_EQ(order, (std::vector<int>{0}));
  inside.WakeOne();
  EXPECT_EQ(order, (std::vector<int>{0, 1}));
  inside.WakeOne();
  inside.WakeOne();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
  EXPECT_FALSE(mutex.locked());
}

}  // namespace
}  // namespace keelson::io
