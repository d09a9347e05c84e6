#include "provisioner/store/watch_hub.h"

#include <pthread.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

namespace keelson::provisioner {

class WatchHub::Handle final : public ClusterStore::Watcher {
 public:
  Handle(WatchHub* hub, std::uint64_t id) : hub_(hub), id_(id) {}
  ~Handle() override { hub_->Remove(id_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

 private:
  WatchHub* hub_;  // the store's, which outlives its watchers
  std::uint64_t id_;
};

WatchHub::WatchHub(std::size_t backlog_max)
    : backlog_max_(backlog_max), drop_at_(backlog_max), thread_(&WatchHub::Run, this) {
  pthread_setname_np(thread_.native_handle(), "store-watch");
}

WatchHub::~WatchHub() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  added_.notify_all();
  thread_.join();
}

void WatchHub::Add(Change change) {
  {
    const std::lock_guard lock(mutex_);
    last_added_ = change.revision;
    backlog_.push_back(std::move(change));
    if (backlog_.size() > drop_at_) DropOvertaken();
  }
  added_.notify_one();
}

// Keeps of each record the last change only. REQUIRES: the lock is held.
void WatchHub::DropOvertaken() {
  std::deque<Change> kept;
  std::set<std::pair<Kind, std::string_view>> seen;  // the views are of backlog_'s changes
  std::vector<std::size_t> positions;
  for (std::size_t i = backlog_.size(); i-- > 0;) {
    if (seen.emplace(backlog_[i].kind, backlog_[i].key).second) positions.push_back(i);
  }
  for (auto i = positions.rbegin(); i != positions.rend(); ++i) {
    kept.push_back(std::move(backlog_[*i]));
  }
  backlog_ = std::move(kept);
  // With more records than the limit the next look is worth it only after as many again.
  drop_at_ = std::max(backlog_max_, 2 * backlog_.size());
}

std::unique_ptr<ClusterStore::Watcher> WatchHub::Watch(
    std::function<void(const Change&)> callback) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t id = next_id_++;
  targets_.emplace(id, std::make_shared<Target>(Target{std::move(callback), last_added_}));
  return std::make_unique<Handle>(this, id);
}

void WatchHub::Remove(std::uint64_t id) {
  std::unique_lock lock(mutex_);
  // Goes when the lock has been released: what a callback holds may end a watch of its own.
  const std::shared_ptr<Target> target = std::move(targets_.extract(id).mapped());
  if (std::this_thread::get_id() == thread_.get_id()) {
    lock.unlock();
    return;
  }
  told_.wait(lock, [this, id] { return running_id_ != id; });
  lock.unlock();
}

void WatchHub::Drain() {
  std::unique_lock lock(mutex_);
  const std::uint64_t until = last_added_;
  told_.wait(lock, [this, until] { return last_told_ >= until; });
}

void WatchHub::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    added_.wait(lock, [this] { return stopping_ || !backlog_.empty(); });
    if (stopping_) return;
    const Change change = std::move(backlog_.front());
    backlog_.pop_front();
    Tell(change, &lock);
    last_told_ = change.revision;
    told_.notify_all();
  }
}

// Releases the lock while a callback runs; targets may come and go meanwhile.
void WatchHub::Tell(const Change& change, std::unique_lock<std::mutex>* lock) {
  std::uint64_t last_id = 0;
  for (auto next = targets_.begin(); next != targets_.end(); next = targets_.upper_bound(last_id)) {
    last_id = next->first;
    std::shared_ptr<Target> target = next->second;
    if (change.revision <= target->after_revision) continue;
    running_id_ = last_id;
    lock->unlock();
    target->callback(change);
    target.reset();
    lock->lock();
    running_id_ = 0;
    told_.notify_all();
  }
}

}  // namespace keelson::provisioner
