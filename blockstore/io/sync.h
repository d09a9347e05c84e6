#pragma once
// Waiting among coroutines of one reactor: no threads, no locks, no allocation. Waiters are resumed
// inline by the call that wakes them, in the order they came; a waker must therefore leave its own
// state consistent before it wakes anyone, and must not touch `this` afterwards if a waiter may
// free it.

#include <coroutine>
#include <cstddef>
#include <utility>

#include "blockstore/io/task.h"

namespace keelson::io {

// An intrusive FIFO of suspended coroutines. Its owner outlives every waiter.
class WaitList {
 public:
  struct Waiter {
    std::coroutine_handle<> handle;
    Waiter* next = nullptr;
  };
  struct Awaiter : Waiter {
    explicit Awaiter(WaitList* wait_list) : list(wait_list) {}
    WaitList* list;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> awaiting) noexcept {
      handle = awaiting;
      list->Append(this);
    }
    void await_resume() const noexcept {}
  };

  WaitList() = default;
  WaitList(const WaitList&) = delete;
  WaitList& operator=(const WaitList&) = delete;
  ~WaitList() { KEEL_CHECK(head_ == nullptr, "a WaitList dies without waiters"); }

  // co_await list.Wait() suspends until WakeAll or WakeOne reaches this waiter.
  Awaiter Wait() { return Awaiter(this); }
  bool empty() const { return head_ == nullptr; }

  // Resumes every coroutine that waits now; those that begin to wait meanwhile are not woken.
  void WakeAll() {
    Waiter* waiter = std::exchange(head_, nullptr);
    tail_ = nullptr;
    while (waiter != nullptr) {
      Waiter* next = waiter->next;
      waiter->handle.resume();
      waiter = next;
    }
  }
  // Resumes the coroutine that has waited longest. Returns false when none waits.
  bool WakeOne() {
    if (head_ == nullptr) return false;
    Waiter* waiter = head_;
    head_ = waiter->next;
    if (head_ == nullptr) tail_ = nullptr;
    waiter->handle.resume();
    return true;
  }
  // Moves all waiters of `other` to the end of this list.
  void TakeFrom(WaitList* other) {
    if (other->head_ == nullptr) return;
    if (tail_ == nullptr) {
      head_ = other->head_;
    } else {
      tail_->next = other->head_;
    }
    tail_ = other->tail_;
    other->head_ = other->tail_ = nullptr;
  }

 private:
  void Append(Waiter* waiter) {
    waiter->next = nullptr;
    if (tail_ == nullptr) {
      head_ = waiter;
    } else {
      tail_->next = waiter;
    }
    tail_ = waiter;
  }
  Waiter* head_ = nullptr;
  Waiter* tail_ = nullptr;
};

// A counter that one coroutine waits on until it is zero: the join of a fan-out.
class Latch {
 public:
  explicit Latch(std::size_t count) : count_(count) {}
  Latch(const Latch&) = delete;
  Latch& operator=(const Latch&) = delete;

  void Add(std::size_t count = 1) { count_ += count; }
  void Done() {
    KEEL_CHECK(count_ > 0, "Latch::Done is called once per count");
    if (--count_ == 0 && waiter_) std::exchange(waiter_, nullptr).resume();
  }
  bool await_ready() const noexcept { return count_ == 0; }
  void await_suspend(std::coroutine_handle<> awaiting) noexcept { waiter_ = awaiting; }
  void await_resume() const noexcept {}

 private:
  std::size_t count_;
  std::coroutine_handle<> waiter_;
};

// Mutual exclusion of coroutines across co_await, first come first served.
class AsyncMutex {
 public:
  class [[nodiscard]] Guard {
   public:
    explicit Guard(AsyncMutex* mutex) : mutex_(mutex) {}
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (mutex_ != nullptr) mutex_->Unlock();
    }

   private:
    AsyncMutex* mutex_;
  };

  Task<Guard> Lock() {
    if (locked_) {
      co_await waiters_.Wait();  // ownership is handed over: locked_ stays true
    } else {
      locked_ = true;
    }
    co_return Guard(this);
  }
  bool locked() const { return locked_; }

 private:
  void Unlock() {
    if (!waiters_.WakeOne()) locked_ = false;
  }
  bool locked_ = false;
  WaitList waiters_;
};

}  // namespace keelson::io
