#pragma once
// HandoffQueue: the boundary between a reactor and a worker thread. Any thread pushes operations
// (the operation itself is the list node, through its `next`); one worker takes everything that is
// queued at once, oldest first, which is what makes group commit out of it. A mutex, held for a few
// instructions, and a condition variable that is signalled only when the worker sleeps.
//
// Not bounded by itself: what is queued lives in the frames of coroutines whose number is bounded.

#include <condition_variable>
#include <mutex>
#include <utility>

namespace keelson::pool {

template <typename Op>
class HandoffQueue {
 public:
  void Push(Op* op) {
    op->next = nullptr;
    bool wake = false;
    {
      std::lock_guard lock(mutex_);
      if (last_ == nullptr) {
        first_ = op;
      } else {
        last_->next = op;
      }
      last_ = op;
      wake = sleeping_;
    }
    if (wake) ready_.notify_one();
  }

  // Waits for operations and takes all of them, linked by `next`, oldest first. nullptr: stopped,
  // and nothing is left.
  Op* TakeAll() {
    std::unique_lock lock(mutex_);
    while (first_ == nullptr && !stopped_) {
      sleeping_ = true;
      ready_.wait(lock);
      sleeping_ = false;
    }
    last_ = nullptr;
    return std::exchange(first_, nullptr);
  }

  // The worker ends once it has taken what is queued.
  void Stop() {
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    ready_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  Op* first_ = nullptr;
  Op* last_ = nullptr;
  bool sleeping_ = false;
  bool stopped_ = false;
};

}  // namespace keelson::pool
