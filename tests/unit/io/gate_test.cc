#include "blockstore/io/gate.h"

#include <gtest/gtest.h>

namespace keelson::io {
namespace {

internal::Detached Start(Task<void> task) {
  Task<void> owned = std::move(task);
  co_await std::move(owned);
}

Task<void> WaitThenCount(WaitList* list, int* count) {
  co_await list->Wait();
  ++*count;
}

Task<void> CloseThenNote(Gate* gate, bool* closed) {
  co_await gate->Close();
  *closed = true;
}

TEST(GateTest, WaitsForAllWorkWhenItCloses) {
  Gate gate;
  WaitList first;
  WaitList second;
  int count = 0;
  bool closed = false;
  EXPECT_TRUE(gate.Spawn(WaitThenCount(&first, &count)));
  EXPECT_TRUE(gate.Spawn(WaitThenCount(&second, &count)));
  EXPECT_EQ(gate.running(), 2u);
  Start(CloseThenNote(&gate, &closed));
  first.WakeAll();
  EXPECT_FALSE(closed);
  second.WakeAll();
  EXPECT_TRUE(closed);
  EXPECT_EQ(count, 2);
}

TEST(GateTest, RefusesWorkOnceItIsClosing) {
  Gate gate;
  WaitList list;
  int count = 0;
  bool closed = false;
  gate.Spawn(WaitThenCount(&list, &count));
  Start(CloseThenNote(&gate, &closed));
  EXPECT_FALSE(gate.Spawn(WaitThenCount(&list, &count)));
  list.WakeAll();
  EXPECT_EQ(count, 1);
}

TEST(GateTest, ClosesAtOnceWhenNothingRuns) {
  Gate gate;
  bool closed = false;
  Start(CloseThenNote(&gate, &closed));
  EXPECT_TRUE(closed);
  EXPECT_TRUE(gate.closed());
}

TEST(GateDeathTest, AbortsWhenItIsDestroyedWithWorkInside) {
  EXPECT_DEATH(
      {
        WaitList list;
        int count = 0;
        auto gate = std::make_unique<Gate>();
        gate->Spawn(WaitThenCount(&list, &count));
        gate.reset();
      },
      "closed before it is destroyed");
}

}  // namespace
}  // namespace keelson::io
