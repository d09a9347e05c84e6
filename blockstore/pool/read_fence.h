#pragma once
// ReadFence: lets freed extents wait for the reads that may still be looking at them. A read enters
// before it looks into a map and leaves when its data has arrived; Quiesce completes when every
// read that had entered before the call has left. Reads never wait. One reactor.

#include <cstddef>

#include "blockstore/io/sync.h"
#include "blockstore/io/task.h"

namespace keelson::pool {

class ReadFence {
 public:
  class [[nodiscard]] Pass {
   public:
    explicit Pass(ReadFence* fence) : fence_(fence), phase_(fence->phase_) {
      ++fence_->inside_[phase_];
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass() {
      if (--fence_->inside_[phase_] == 0 && phase_ != fence_->phase_) fence_->drained_.WakeAll();
    }

   private:
    ReadFence* fence_;
    unsigned phase_;
  };

  io::Task<void> Quiesce() {
    io::AsyncMutex::Guard one_at_a_time = co_await mutex_.Lock();
    const unsigned old_phase = phase_;
    phase_ ^= 1;
    while (inside_[old_phase] > 0) co_await drained_.Wait();
  }

 private:
  unsigned phase_ = 0;
  std::size_t inside_[2] = {0, 0};
  io::WaitList drained_;
  io::AsyncMutex mutex_;
};

}  // namespace keelson::pool
