#include "blockstore/io/timer_heap.h"

#include "blockstore/io/check.h"

namespace keelson::io {

void TimerHeap::Start(TimerNode* node) {
  KEEL_CHECK(!node->armed, "a timer is started once until it fires or is cancelled");
  node->armed = true;
  node->sequence = next_sequence_++;
  heap_.push_back(node);
  SiftUp(node, heap_.size() - 1);
}

void TimerHeap::Cancel(TimerNode* node) {
  if (!node->armed) return;
  node->armed = false;
  const std::size_t slot = node->heap_slot;
  TimerNode* last = heap_.back();
  heap_.pop_back();
  if (last == node) return;
  // The last node fills the hole, and goes whichever way the order needs.
  if (slot > 0 && Before(last, heap_[(slot - 1) / 2])) {
    SiftUp(last, slot);
  } else {
    SiftDown(last, slot);
  }
}

void TimerHeap::FireDue(std::int64_t now_ns) {
  const std::uint64_t sequence_end = next_sequence_;
  while (!heap_.empty()) {
    TimerNode* node = heap_.front();
    if (node->when_ns > now_ns || node->sequence >= sequence_end) return;
    Cancel(node);
    node->fire(node);
  }
}

void TimerHeap::Place(TimerNode* node, std::size_t slot) {
  heap_[slot] = node;
  node->heap_slot = slot;
}

void TimerHeap::SiftUp(TimerNode* node, std::size_t slot) {
  while (slot > 0) {
    const std::size_t parent = (slot - 1) / 2;
    if (!Before(node, heap_[parent])) break;
    Place(heap_[parent], slot);
    slot = parent;
  }
  Place(node, slot);
}

void TimerHeap::SiftDown(TimerNode* node, std::size_t slot) {
  for (;;) {
    std::size_t child = 2 * slot + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && Before(heap_[child + 1], heap_[child])) ++child;
    if (!Before(heap_[child], node)) break;
    Place(heap_[child], slot);
    slot = child;
  }
  Place(node, slot);
}

}  // namespace keelson::io
