#pragma once
// ChangeLock: one administrative change of a pool at a time, with a limit to the waiting, and a
// name for what is being waited for. Any thread; a Guard is released by the thread that has it.

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace keelson::service {

class ChangeLock {
  struct Release {
    void operator()(ChangeLock* lock) const;
  };

 public:
  using Guard = std::unique_ptr<ChangeLock, Release>;

  // `operation` says what the holder does, for the message of the next one. UNAVAILABLE when
  // another operation still holds the lock after `patience`.
  absl::StatusOr<Guard> Take(std::string_view operation, std::chrono::milliseconds patience);

 private:
  std::mutex mutex_;
  std::condition_variable released_;
  std::string holder_;  // empty: free
};

}  // namespace keelson::service
