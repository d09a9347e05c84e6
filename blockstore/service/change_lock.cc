#include "blockstore/service/change_lock.h"

#include "absl/strings/str_cat.h"

namespace keelson::service {

absl::StatusOr<ChangeLock::Guard> ChangeLock::Take(std::string_view operation,
                                                   std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  if (!released_.wait_for(lock, patience, [this] { return holder_.empty(); })) {
    return absl::UnavailableError(absl::StrCat("cannot ", std::string(operation),
                                               " now: the pool is busy (", holder_,
                                               "); try again when that is done"));
  }
  holder_ = operation;
  return Guard(this);
}

void ChangeLock::Release::operator()(ChangeLock* lock) const {
  {
    std::lock_guard held(lock->mutex_);
    lock->holder_.clear();
  }
  lock->released_.notify_one();
}

}  // namespace keelson::service
