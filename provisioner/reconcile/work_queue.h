#pragma once
// WorkQueue: keys whose object has to be looked at, now or at a time. A key is there once, is given
// to one worker at a time, and is kept for later when it is added while somebody works on it. What
// fails is tried again after a pause that doubles. Any thread.

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "provisioner/reconcile/clock.h"

namespace keelson::provisioner {

class WorkQueue {
 public:
  static constexpr std::int64_t kRetryNanosMin = 100'000'000;
  static constexpr std::int64_t kRetryNanosMax = 60'000'000'000;

  explicit WorkQueue(Clock* clock) : clock_(clock) {}

  void Add(const std::string& key, std::int64_t delay_ns = 0);
  // A key that is due, which is the caller's until Done or Failed; waits for one. Nothing: Stop was
  // called.
  std::optional<std::string> Take();
  // The same without waiting. Nothing: none is due.
  std::optional<std::string> TryTake();
  // It is well; again after `again_ns`, if that is not 0, or when it is added.
  void Done(const std::string& key, std::int64_t again_ns);
  // Again after its pause.
  void Failed(const std::string& key);
  // When the first key that nobody works on is due (clock.SteadyNanos); nothing: there is none.
  std::optional<std::int64_t> NextDue() const;
  void Stop();

 private:
  struct Entry {
    std::optional<std::int64_t> due_ns;  // nothing: only worked on
    bool working = false;
    std::int64_t retry_ns = 0;  // of the next failure
  };

  std::optional<std::string> TakeLocked();
  std::optional<std::int64_t> NextDueLocked() const;
  void Release(const std::string& key, std::optional<std::int64_t> due_ns);

  Clock* clock_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Entry> entries_;
  bool stopped_ = false;
};

}  // namespace keelson::provisioner
