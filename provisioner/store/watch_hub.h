#pragma once
// WatchHub: tells the watchers of a store what changed, on a thread of its own. Owned by a store,
// which adds each durable change in the order of revisions; any thread. Nothing can fail.
//
// What is not told yet is kept in a backlog. When it has grown to a limit, because a callback is
// slow, earlier changes of a record that changed again are dropped from it: so it holds at most
// that many changes, or one for each record if there are more records.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "provisioner/store/cluster_store.h"

namespace keelson::provisioner {

class WatchHub {
 public:
  static constexpr std::size_t kBacklogMax = 65'536;

  explicit WatchHub(std::size_t backlog_max = kBacklogMax);
  // No watcher is left by then. What was not told is dropped.
  ~WatchHub();
  WatchHub(const WatchHub&) = delete;
  WatchHub& operator=(const WatchHub&) = delete;

  void Add(Change change);
  std::unique_ptr<ClusterStore::Watcher> Watch(std::function<void(const Change&)> callback);

  // Returns when everything added before this call has been told. Not from a callback.
  void Drain();

 private:
  class Handle;
  struct Target {
    std::function<void(const Change&)> callback;
    std::uint64_t after_revision;  // it is told later ones
  };

  void Run();
  void Tell(const Change& change, std::unique_lock<std::mutex>* lock);
  void DropOvertaken();
  void Remove(std::uint64_t id);

  std::mutex mutex_;
  std::condition_variable added_;
  std::condition_variable told_;
  const std::size_t backlog_max_;
  std::size_t drop_at_;  // when the backlog has so many changes, it is looked through
  std::deque<Change> backlog_;
  std::uint64_t last_added_ = 0;  // revisions
  std::uint64_t last_told_ = 0;
  // shared: the thread holds a target while it calls it, and the callback may remove it.
  std::map<std::uint64_t, std::shared_ptr<Target>> targets_;
  std::uint64_t next_id_ = 1;
  std::uint64_t running_id_ = 0;  // the target whose callback runs; 0: none
  bool stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace keelson::provisioner
