#pragma once
// SharedClock: time for a provisioner without threads of its own whose callers are several. It
// stands still while any of them has something to do, and passes at once when all wait for it. Any
// thread.

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "provisioner/reconcile/clock.h"

namespace keelson::csi {

class SharedClock final : public provisioner::Clock {
 public:
  // Around every call that may wait for time.
  class Caller {
   public:
    explicit Caller(SharedClock* clock) : clock_(*clock) {
      const std::lock_guard lock(clock_.mutex_);
      ++clock_.callers_;
    }
    ~Caller() {
      const std::lock_guard lock(clock_.mutex_);
      --clock_.callers_;
      clock_.WakeAll();
    }
    Caller(const Caller&) = delete;
    Caller& operator=(const Caller&) = delete;

   private:
    SharedClock& clock_;
  };

  std::int64_t UnixNanos() const override { return 1'700'000'000'000'000'000 + SteadyNanos(); }
  std::int64_t SteadyNanos() const override {
    const std::lock_guard lock(mutex_);
    return now_ns_;
  }

  // Of a caller that has nothing to do until then. Returns when time has passed, or when another
  // has ended, which may have left something to do.
  void Advance(std::int64_t time_ns) {
    std::unique_lock lock(mutex_);
    if (++waiting_ >= callers_) {
      now_ns_ += time_ns;
      WakeAll();
      return;
    }
    const std::uint64_t seen = wakes_;
    woken_.wait(lock, [&] { return wakes_ != seen; });
  }

 private:
  // REQUIRES: the lock is held.
  void WakeAll() {
    waiting_ = 0;
    ++wakes_;
    woken_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable woken_;
  std::int64_t now_ns_ = 1'000'000'000;
  int callers_ = 0;
  int waiting_ = 0;
  std::uint64_t wakes_ = 0;
};

}  // namespace keelson::csi
