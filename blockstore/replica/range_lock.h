#pragma once
// RangeLock: orders overlapping requests on byte ranges. A hold is granted when no earlier request
// that overlaps it and conflicts with it (at least one of the two exclusive) is still there: first
// come, first served, so nothing starves. A hold lives in the holder's frame; its destruction
// releases it. The cost is linear in the requests in flight, which frontends bound. One reactor, no
// allocation.
//
//   RangeLock::Hold hold(&lock, begin, end, RangeLock::kExclusive);
//   co_await hold;

#include <coroutine>
#include <cstddef>
#include <cstdint>

#include "blockstore/io/check.h"

namespace keelson::replica {

class RangeLock {
 public:
  enum Mode { kShared, kExclusive };

  class [[nodiscard]] Hold {
   public:
    Hold(RangeLock* lock, std::uint64_t begin, std::uint64_t end, Mode mode)
        : lock_(lock), begin_(begin), end_(end), exclusive_(mode == kExclusive) {
      lock_->Append(this);
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() { Release(); }
    // Gives the range up before the end of the scope; awaited after that, it waits for nothing.
    void Release() {
      if (lock_ == nullptr) return;
      RangeLock* lock = lock_;
      lock_ = nullptr;
      lock->Remove(this);
    }

    // The same of a hold that may not be granted yet: whoever awaits it goes on without it.
    void Cancel() {
      if (lock_ == nullptr) return;
      const std::coroutine_handle<> waiter = granted_ ? std::coroutine_handle<>() : waiter_;
      Release();
      if (waiter) waiter.resume();
    }

    bool await_ready() const noexcept { return granted_ || lock_ == nullptr; }
    void await_suspend(std::coroutine_handle<> awaiting) noexcept { waiter_ = awaiting; }
    void await_resume() const noexcept {}

   private:
    friend class RangeLock;
    bool ConflictsWith(const Hold& other) const {
      return begin_ < other.end_ && other.begin_ < end_ && (exclusive_ || other.exclusive_);
    }
    RangeLock* lock_;
    std::uint64_t begin_;
    std::uint64_t end_;
    bool exclusive_;
    bool granted_ = false;
    std::coroutine_handle<> waiter_;
    Hold* previous_ = nullptr;
    Hold* next_ = nullptr;
    Hold* wake_next_ = nullptr;
  };

  RangeLock() = default;
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;
  ~RangeLock() { KEEL_CHECK(first_ == nullptr, "a RangeLock dies without holds"); }

  bool idle() const { return first_ == nullptr; }

 private:
  static bool Grantable(const Hold* hold) {
    for (const Hold* earlier = hold->previous_; earlier != nullptr; earlier = earlier->previous_) {
      if (earlier->ConflictsWith(*hold)) return false;
    }
    return true;
  }
  void Append(Hold* hold) {
    hold->previous_ = last_;
    (last_ != nullptr ? last_->next_ : first_) = hold;
    last_ = hold;
    hold->granted_ = Grantable(hold);
    if (!hold->granted_) ++pending_;
  }
  void Remove(Hold* hold) {
    (hold->previous_ != nullptr ? hold->previous_->next_ : first_) = hold->next_;
    (hold->next_ != nullptr ? hold->next_->previous_ : last_) = hold->previous_;
    if (!hold->granted_) --pending_;
    if (pending_ == 0) return;
    // Grant first, resume after: a resumed holder may release and change the list at once. One that
    // is not awaited yet is granted all the same, and finds it so when it is.
    Hold* wake = nullptr;
    Hold** wake_end = &wake;
    for (Hold* later = hold->next_; later != nullptr; later = later->next_) {
      if (later->granted_ || !later->ConflictsWith(*hold)) continue;
      if (!Grantable(later)) continue;
      later->granted_ = true;
      --pending_;
      if (!later->waiter_) continue;
      later->wake_next_ = nullptr;
      *wake_end = later;
      wake_end = &later->wake_next_;
    }
    while (wake != nullptr) {
      Hold* next = wake->wake_next_;
      wake->waiter_.resume();
      wake = next;
    }
  }

  Hold* first_ = nullptr;
  Hold* last_ = nullptr;
  std::size_t pending_ = 0;  // not granted yet
};

}  // namespace keelson::replica
