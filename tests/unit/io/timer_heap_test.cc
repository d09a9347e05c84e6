#include "blockstore/io/timer_heap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace keelson::io {
namespace {

struct Recorder {
  TimerHeap heap;
  std::vector<const TimerNode*> fired;
};

TimerNode MakeNode(Recorder* recorder, std::int64_t when_ns) {
  TimerNode node;
  node.when_ns = when_ns;
  node.owner = recorder;
  node.fire = [](TimerNode* timer) {
    static_cast<Recorder*>(timer->owner)->fired.push_back(timer);
  };
  return node;
}

TEST(TimerHeapTest, FiresWhatIsDueInOrderAfterAnyCancellations) {
  constexpr std::size_t kCount = 500;
  std::minstd_rand random(7);
  Recorder recorder;
  std::vector<TimerNode> nodes;
  for (std::size_t i = 0; i < kCount; ++i) {
    nodes.push_back(MakeNode(&recorder, static_cast<std::int64_t>(random() % 100)));
  }
  for (TimerNode& node : nodes) recorder.heap.Start(&node);
  std::vector<const TimerNode*> expected;
  for (TimerNode& node : nodes) {
    if (random() % 3 == 0) {
      recorder.heap.Cancel(&node);
    } else if (node.when_ns <= 60) {
      expected.push_back(&node);
    }
  }
  std::stable_sort(expected.begin(), expected.end(),
                   [](const TimerNode* a, const TimerNode* b) { return a->when_ns < b->when_ns; });
  recorder.heap.FireDue(60);
  EXPECT_EQ(recorder.fired, expected);
  EXPECT_GT(recorder.heap.next_ns(), 60);
  recorder.heap.FireDue(100);
  EXPECT_TRUE(recorder.heap.empty());
  for (const TimerNode& node : nodes) EXPECT_FALSE(node.armed);
}

TEST(TimerHeapTest, LeavesATimerStartedByATimerForTheNextTurn) {
  struct Repeating {
    TimerHeap heap;
    TimerNode node;
    int fired = 0;
  } repeating;
  repeating.node.owner = &repeating;
  repeating.node.fire = [](TimerNode* node) {
    auto* self = static_cast<Repeating*>(node->owner);
    ++self->fired;
    self->heap.Start(node);
  };
  repeating.heap.Start(&repeating.node);
  repeating.heap.FireDue(10);
  EXPECT_EQ(repeating.fired, 1);
  repeating.heap.FireDue(10);
  EXPECT_EQ(repeating.fired, 2);
  repeating.heap.Cancel(&repeating.node);
}

TEST(TimerHeapTest, LetsATimerCancelAnotherThatIsDue) {
  struct Pair {
    TimerHeap heap;
    TimerNode first;
    TimerNode second;
    bool second_fired = false;
  } pair;
  pair.first.owner = pair.second.owner = &pair;
  pair.first.fire = [](TimerNode* node) {
    auto* self = static_cast<Pair*>(node->owner);
    self->heap.Cancel(&self->second);
  };
  pair.second.fire = [](TimerNode* node) { static_cast<Pair*>(node->owner)->second_fired = true; };
  pair.heap.Start(&pair.first);
  pair.heap.Start(&pair.second);
  pair.heap.FireDue(0);
  EXPECT_FALSE(pair.second_fired);
}

}  // namespace
}  // namespace keelson::io
