#include "provisioner/reconcile/rebuilds.h"

#include <algorithm>

namespace keelson::provisioner {

bool Rebuilds::MayRun(const std::string& key, int copies, std::int64_t now_ns) {
  std::lock_guard lock(mutex_);
  std::erase_if(wishes_, [now_ns](const auto& one) {
    return now_ns - one.second.asked_ns > kForgottenNanos;
  });
  Wish& wish = wishes_.try_emplace(key, Wish{.since_ns = now_ns}).first->second;
  wish.copies = copies;
  wish.asked_ns = now_ns;
  if (wish.runs) return true;
  std::size_t running = 0;
  bool another_first = false;
  for (const auto& [other, theirs] : wishes_) {
    running += theirs.runs ? 1 : 0;
    another_first = another_first || (!theirs.runs && theirs.copies < copies);
  }
  if (running >= max_ || another_first || now_ns - wish.since_ns < kHearNanos) return false;
  wish.runs = true;
  return true;
}

void Rebuilds::Renew(const std::string& key, std::int64_t now_ns) {
  std::lock_guard lock(mutex_);
  const auto found = wishes_.find(key);
  if (found != wishes_.end() && found->second.runs) found->second.asked_ns = now_ns;
}

void Rebuilds::Done(const std::string& key) {
  std::lock_guard lock(mutex_);
  wishes_.erase(key);
}

std::size_t Rebuilds::running() const {
  std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::count_if(wishes_.begin(), wishes_.end(),
                                                [](const auto& one) { return one.second.runs; }));
}

}  // namespace keelson::provisioner
