#pragma once
// TimerHeap: the armed timers of one reactor, earliest first. A binary heap whose nodes know their
// place, so that starting, cancelling and firing are O(log n) and allocate nothing once the heap
// has grown to its working size. Does not own the nodes; a node is cancelled before it is
// destroyed.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "blockstore/io/reactor.h"

namespace keelson::io {

class TimerHeap {
 public:
  void Start(TimerNode* node);
  void Cancel(TimerNode* node);
  // Fires the timers that are due at `now_ns`, in order. Those that are started meanwhile wait for
  // the next call, even when they are due already: a loop of short sleeps must not starve I/O.
  void FireDue(std::int64_t now_ns);

  bool empty() const { return heap_.empty(); }
  // When the next timer is due. Not for an empty heap.
  std::int64_t next_ns() const { return heap_.front()->when_ns; }

 private:
  static bool Before(const TimerNode* a, const TimerNode* b) {
    return a->when_ns != b->when_ns ? a->when_ns < b->when_ns : a->sequence < b->sequence;
  }
  void Place(TimerNode* node, std::size_t slot);
  void SiftUp(TimerNode* node, std::size_t slot);
  void SiftDown(TimerNode* node, std::size_t slot);

  std::vector<TimerNode*> heap_;
  std::uint64_t next_sequence_ = 0;
};

}  // namespace keelson::io
