#include "blockstore/service/retry.h"

#include <utility>

namespace keelson::service {

Retry::Retry(std::chrono::milliseconds interval, absl::AnyInvocable<bool()> attempt)
    : thread_([this, interval, attempt = std::move(attempt)]() mutable {
        Run(interval, std::move(attempt));
      }) {}

Retry::~Retry() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Retry::Run(std::chrono::milliseconds interval, absl::AnyInvocable<bool()> attempt) {
  while (!attempt()) {
    std::unique_lock lock(mutex_);
    if (wake_.wait_for(lock, interval, [this] { return stopping_; })) return;
  }
}

}  // namespace keelson::service
