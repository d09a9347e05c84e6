#pragma once
// MemoryStore: a ClusterStore in memory, for tests: what it keeps outlives the code under test,
// which a test ends and begins anew at any of its writes. Owned by the test; any thread.
//
// As every ClusterStore, and in addition it fails when it is told to. A write is a Put or a Delete
// that passed its checks; a refused one does not count.

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "provisioner/store/cluster_store.h"
#include "provisioner/store/watch_hub.h"

namespace keelson::provisioner {

class MemoryStore final : public ClusterStore {
 public:
  // What happens at a write that is told to fail. Its caller gets UNAVAILABLE either way.
  struct Failure {
    std::uint64_t write = 1;  // which one, counted from now: 1 is the next
    bool made = false;        // the change was made all the same, and only the answer is lost
    bool stays = false;       // every later call is UNAVAILABLE, until Answer()
  };

  absl::StatusOr<Record> Get(Kind kind, std::string_view key) override;
  absl::StatusOr<Listing> List(Kind kind) override;
  absl::StatusOr<std::uint64_t> Put(Kind kind, std::string_view key, std::string_view value,
                                    std::uint64_t expected_revision) override;
  absl::Status Delete(Kind kind, std::string_view key, std::uint64_t expected_revision) override;
  std::unique_ptr<Watcher> Watch(std::function<void(const Change&)> callback) override;

  void FailAt(const Failure& failure);  // replaces one that has not happened yet
  void StopAnswering();                 // every call is UNAVAILABLE
  void Answer();                        // again; a failure that has not happened yet is forgotten

  // Writes until now, failed ones too: so many places to cut a run that is repeated.
  std::uint64_t writes() const;

  // Returns when the watchers have been told of all changes made before this call. Not from a
  // callback.
  void DrainWatchers();

 private:
  using Id = std::pair<Kind, std::string>;
  struct Value {
    std::string bytes;
    std::uint64_t revision;
  };

  absl::Status CheckAnswers() const;
  std::optional<std::uint64_t> PresentRevision(const Id& id) const;
  absl::StatusOr<std::uint64_t> Write(const Id& id, std::optional<std::string> bytes);

  mutable std::mutex mutex_;
  std::map<Id, Value> values_;
  std::uint64_t revision_ = 0;
  std::uint64_t writes_ = 0;
  std::optional<Failure> failure_;  // its `write` is a number of writes_
  bool answers_ = true;
  WatchHub hub_;
};

}  // namespace keelson::provisioner
