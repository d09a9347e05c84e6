#pragma once
// Records: the ClusterStore's records as messages, kept in memory: reads do not block on the store,
// changes go through it by compare-and-swap. What another provisioner changes arrives by the
// store's watch.
//
// Owned by the program's main thread, used from any; outlived by the store. Errors are those of
// cluster_store.h.

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "provisioner/store/cluster_store.h"
#include "provisioner/store/records.pb.h"

namespace keelson::provisioner {

namespace rec = records::v1;

template <typename Message>
struct Stored {
  std::string key;
  Message value;
  std::uint64_t revision = 0;
};

// The records of one kind.
template <typename Message>
class Table {
 public:
  // The store outlives it. `changed(key)` is called after every change, on the thread that learnt
  // of it; it must not block.
  Table(ClusterStore* store, Kind kind, std::function<void(const std::string&)> changed);

  absl::Status Load();
  // NOT_FOUND; DATA_LOSS when the record is no message.
  absl::StatusOr<Stored<Message>> Find(const std::string& key);
  // By key.
  std::vector<Stored<Message>> All() const;
  std::size_t count() const;
  // ALREADY_EXISTS.
  absl::Status Create(const std::string& key, const Message& value);
  // Reads, lets `change` change it and writes; again when somebody else wrote meanwhile. An error
  // of `change` is returned and nothing is written; neither is when it changed nothing.
  absl::StatusOr<Stored<Message>> Update(const std::string& key,
                                         absl::FunctionRef<absl::Status(Message*)> change);
  // OK when it is gone already. ABORTED when it was changed since `revision`.
  absl::Status Remove(const std::string& key, std::uint64_t revision);

  // From the store's watch: the record may be another one than is known.
  void MarkStale(const std::string& key, std::uint64_t revision);

 private:
  absl::Status Refresh(const std::string& key);
  void Keep(const std::string& key, Message value, std::uint64_t revision);
  void Drop(const std::string& key);

  ClusterStore* store_;
  const Kind kind_;
  const std::function<void(const std::string&)> changed_;
  mutable std::mutex mutex_;
  std::map<std::string, Stored<Message>> known_;
  std::set<std::string> stale_;  // to be read again before they are used
};

class Records {
 public:
  using Listener = std::function<void(Kind, const std::string& key)>;

  // Watches and reads all records. `listener` hears of every change, must not block, and may be
  // called until the Records are gone.
  static absl::StatusOr<std::unique_ptr<Records>> Open(ClusterStore* store, Listener listener);

  Table<rec::VolumeRecord>& volumes() { return volumes_; }
  Table<rec::SnapshotRecord>& snapshots() { return snapshots_; }
  Table<rec::GroupRecord>& groups() { return groups_; }
  Table<rec::NodeRecord>& nodes() { return nodes_; }

  // Changes since the beginning. WaitPast returns when there are more than `seen`, or after
  // `limit_ns`.
  std::uint64_t changes() const;
  void WaitPast(std::uint64_t seen, std::int64_t limit_ns);
  // Wakes who waits although no record has changed: what they wait for may have.
  void Nudge();

 private:
  Records(ClusterStore* store, Listener listener);
  void OnChange(Kind kind, const std::string& key);

  const Listener listener_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t changes_ = 0;
  Table<rec::VolumeRecord> volumes_;
  Table<rec::SnapshotRecord> snapshots_;
  Table<rec::GroupRecord> groups_;
  Table<rec::NodeRecord> nodes_;
  std::unique_ptr<ClusterStore::Watcher> watcher_;  // last: ends first
};

}  // namespace keelson::provisioner
