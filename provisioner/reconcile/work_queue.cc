#include "provisioner/reconcile/work_queue.h"

#include <algorithm>
#include <chrono>

namespace keelson::provisioner {

void WorkQueue::Add(const std::string& key, std::int64_t delay_ns) {
  const std::int64_t due_ns = clock_->SteadyNanos() + delay_ns;
  {
    std::lock_guard lock(mutex_);
    Entry& entry = entries_[key];
    if (!entry.due_ns || *entry.due_ns > due_ns) entry.due_ns = due_ns;
  }
  changed_.notify_one();
}

std::optional<std::string> WorkQueue::TakeLocked() {
  const std::int64_t now_ns = clock_->SteadyNanos();
  auto best = entries_.end();
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    const Entry& entry = it->second;
    if (entry.working || !entry.due_ns || *entry.due_ns > now_ns) continue;
    if (best == entries_.end() || *entry.due_ns < *best->second.due_ns) best = it;
  }
  if (best == entries_.end()) return std::nullopt;
  best->second.working = true;
  best->second.due_ns.reset();
  return best->first;
}

std::optional<std::string> WorkQueue::Take() {
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    if (std::optional<std::string> key = TakeLocked()) return key;
    const std::optional<std::int64_t> due_ns = NextDueLocked();
    if (!due_ns) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, std::chrono::nanoseconds(*due_ns - clock_->SteadyNanos()));
    }
  }
  return std::nullopt;
}

std::optional<std::string> WorkQueue::TryTake() {
  std::lock_guard lock(mutex_);
  return TakeLocked();
}

void WorkQueue::Release(const std::string& key, std::optional<std::int64_t> due_ns) {
  {
    std::lock_guard lock(mutex_);
    Entry& entry = entries_[key];
    entry.working = false;
    if (due_ns && (!entry.due_ns || *entry.due_ns > *due_ns)) entry.due_ns = due_ns;
    if (!entry.due_ns) entries_.erase(key);
  }
  changed_.notify_one();
}

void WorkQueue::Done(const std::string& key, std::int64_t again_ns) {
  {
    std::lock_guard lock(mutex_);
    entries_[key].retry_ns = 0;
  }
  std::optional<std::int64_t> due_ns;
  if (again_ns != 0) due_ns = clock_->SteadyNanos() + again_ns;
  Release(key, due_ns);
}

void WorkQueue::Failed(const std::string& key) {
  std::int64_t retry_ns = 0;
  {
    std::lock_guard lock(mutex_);
    Entry& entry = entries_[key];
    retry_ns = std::clamp(entry.retry_ns, kRetryNanosMin, kRetryNanosMax);
    entry.retry_ns = 2 * retry_ns;
  }
  Release(key, clock_->SteadyNanos() + retry_ns);
}

std::optional<std::int64_t> WorkQueue::NextDueLocked() const {
  std::optional<std::int64_t> next;
  for (const auto& [key, entry] : entries_) {
    if (entry.working || !entry.due_ns) continue;
    if (!next || *entry.due_ns < *next) next = entry.due_ns;
  }
  return next;
}

std::optional<std::int64_t> WorkQueue::NextDue() const {
  std::lock_guard lock(mutex_);
  return NextDueLocked();
}

void WorkQueue::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
}

}  // namespace keelson::provisioner
