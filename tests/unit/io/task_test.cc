#include "blockstore/io/task.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>

#include "blockstore/io/sync.h"

namespace keelson::io {
namespace {

internal::Detached Start(Task<void> task) {
  Task<void> owned = std::move(task);
  co_await std::move(owned);
}

Task<int> Answer() { co_return 42; }
Task<std::unique_ptr<std::string>> Boxed() { co_return std::make_unique<std::string>("moved"); }

Task<void> Sum(int* result) {
  *result += co_await Answer();
  *result += co_await Answer();
}

TEST(TaskTest, GivesItsValueToItsAwaiter) {
  int result = 0;
  Start(Sum(&result));
  EXPECT_EQ(result, 84);
}

Task<void> Unbox(std::string* result) {
  std::unique_ptr<std::string> box = co_await Boxed();
  *result = *box;
}

TEST(TaskTest, MovesAMoveOnlyValue) {
  std::string result;
  Start(Unbox(&result));
  EXPECT_EQ(result, "moved");
}

Task<void> Note(bool* ran) {
  *ran = true;
  co_return;
}

TEST(TaskTest, DoesNotStartUntilItIsAwaited) {
  bool ran = false;
  { Task<void> never = Note(&ran); }
  EXPECT_FALSE(ran);
  Task<void> later = Note(&ran);
  EXPECT_FALSE(ran);
  Start(std::move(later));
  EXPECT_TRUE(ran);
}

Task<void> WaitFor(WaitList* list, int* stage) {
  *stage = 1;
  co_await list->Wait();
  *stage = 2;
}

TEST(TaskTest, ResumesWhereItWasSuspended) {
  WaitList list;
  int stage = 0;
  Start(WaitFor(&list, &stage));
  EXPECT_EQ(stage, 1);
  list.WakeAll();
  EXPECT_EQ(stage, 2);
}

Task<int> Deep(int depth) {
  if (depth == 0) co_return 0;
  const int below = co_await Deep(depth - 1);
  co_return below + 1;
}

Task<void> MeasureDepth(int depth, int* result) { *result = co_await Deep(depth); }

TEST(TaskTest, NestsDeeply) {
  int result = 0;
  Start(MeasureDepth(1000, &result));
  EXPECT_EQ(result, 1000);
}

#if !defined(__SANITIZE_ADDRESS__)
TEST(FramePoolTest, GivesAFrameOfTheSameClassAgain) {
  void* first = FramePool::Take(100);
  FramePool::Give(first, 100);
  void* second = FramePool::Take(128);  // the same class: 65 to 128 bytes
  EXPECT_EQ(second, first);
  void* third = FramePool::Take(129);
  EXPECT_NE(third, first);
  FramePool::Give(second, 128);
  FramePool::Give(third, 129);
}
#endif

TEST(FramePoolTest, TakesAFrameBackOnAnotherThread) {
  void* frame = FramePool::Take(200);
  std::thread([frame] { FramePool::Give(frame, 200); }).join();
  void* large = FramePool::Take(10'000);
  FramePool::Give(large, 10'000);
}

}  // namespace
}  // namespace keelson::io
