#pragma once
// Retry: a thread that calls something again and again until it says that nothing is left to do.
// Made and destroyed by one thread; the destructor waits for the call that runs.

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "absl/functional/any_invocable.h"

namespace keelson::service {

class Retry {
 public:
  // `attempt` runs on the new thread; true ends it.
  Retry(std::chrono::milliseconds interval, absl::AnyInvocable<bool()> attempt);
  ~Retry();

 private:
  void Run(std::chrono::milliseconds interval, absl::AnyInvocable<bool()> attempt);

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace keelson::service
