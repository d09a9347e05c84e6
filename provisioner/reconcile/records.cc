#include "provisioner/reconcile/records.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"

namespace keelson::provisioner {
namespace {

// Somebody else writes the same record: the next attempt finds what they wrote.
constexpr int kAttemptsMax = 16;

template <typename Message>
absl::StatusOr<Message> Parse(Kind kind, const Record& record) {
  Message value;
  if (value.ParseFromString(record.value)) return value;
  return absl::DataLossError(absl::StrCat("the record of ", std::string(KindName(kind)), " '",
                                          record.key,
                                          "' is not readable; restore the store from a backup, or "
                                          "rebuild it with `keelctl adopt`"));
}

}  // namespace

// --- Table ---

template <typename Message>
Table<Message>::Table(ClusterStore* store, Kind kind,
                      std::function<void(const std::string&)> changed)
    : store_(store), kind_(kind), changed_(std::move(changed)) {}

template <typename Message>
absl::Status Table<Message>::Load() {
  ASSIGN_OR_RETURN(const Listing listing, store_->List(kind_));
  for (const Record& record : listing.records) {
    ASSIGN_OR_RETURN(Message value, Parse<Message>(kind_, record));
    Keep(record.key, std::move(value), record.revision);
  }
  return absl::OkStatus();
}

template <typename Message>
absl::Status Table<Message>::Refresh(const std::string& key) {
  {
    std::lock_guard lock(mutex_);
    stale_.erase(key);
  }
  const absl::StatusOr<Record> record = store_->Get(kind_, key);
  if (absl::IsNotFound(record.status())) {
    Drop(key);
    return absl::OkStatus();
  }
  absl::Status status = record.status();
  if (status.ok()) {
    absl::StatusOr<Message> value = Parse<Message>(kind_, *record);
    if (value.ok()) {
      Keep(key, *std::move(value), record->revision);
      return absl::OkStatus();
    }
    status = value.status();
  }
  std::lock_guard lock(mutex_);
  stale_.insert(key);
  return status;
}

template <typename Message>
absl::StatusOr<Stored<Message>> Table<Message>::Find(const std::string& key) {
  bool stale = false;
  {
    std::lock_guard lock(mutex_);
    stale = stale_.count(key) > 0;
  }
  if (stale) RETURN_IF_ERROR(Refresh(key));
  std::lock_guard lock(mutex_);
  const auto found = known_.find(key);
  if (found == known_.end()) return NoSuchRecord(kind_, key);
  return found->second;
}

template <typename Message>
std::vector<Stored<Message>> Table<Message>::All() const {
  std::lock_guard lock(mutex_);
  std::vector<Stored<Message>> all;
  all.reserve(known_.size());
  for (const auto& [key, stored] : known_) all.push_back(stored);
  return all;
}

template <typename Message>
std::size_t Table<Message>::count() const {
  std::lock_guard lock(mutex_);
  return known_.size();
}

template <typename Message>
absl::Status Table<Message>::Create(const std::string& key, const Message& value) {
  const absl::StatusOr<std::uint64_t> revision =
      store_->Put(kind_, key, value.SerializeAsString(), 0);
  if (!revision.ok()) {
    MarkStale(key, UINT64_MAX);
    return revision.status();
  }
  Keep(key, value, *revision);
  return absl::OkStatus();
}

template <typename Message>
absl::StatusOr<Stored<Message>> Table<Message>::Update(
    const std::string& key, absl::FunctionRef<absl::Status(Message*)> change) {
  absl::Status last;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    ASSIGN_OR_RETURN(Stored<Message> stored, Find(key));
    const std::string before = stored.value.SerializeAsString();
    RETURN_IF_ERROR(change(&stored.value));
    const std::string after = stored.value.SerializeAsString();
    if (before == after) return stored;
    const absl::StatusOr<std::uint64_t> revision = store_->Put(kind_, key, after, stored.revision);
    if (revision.ok()) {
      stored.revision = *revision;
      Keep(key, stored.value, *revision);
      return stored;
    }
    // Also after UNAVAILABLE, when it may have been written.
    MarkStale(key, UINT64_MAX);
    last = revision.status();
    if (!absl::IsAborted(last)) return last;
  }
  return last;
}

template <typename Message>
absl::Status Table<Message>::Remove(const std::string& key, std::uint64_t revision) {
  const absl::Status removed = store_->Delete(kind_, key, revision);
  if (removed.ok() || absl::IsNotFound(removed)) {
    Drop(key);
    return absl::OkStatus();
  }
  MarkStale(key, UINT64_MAX);
  return removed;
}

template <typename Message>
void Table<Message>::MarkStale(const std::string& key, std::uint64_t revision) {
  {
    std::lock_guard lock(mutex_);
    const auto found = known_.find(key);
    if (found != known_.end() && found->second.revision >= revision) return;
    stale_.insert(key);
  }
  changed_(key);
}

template <typename Message>
void Table<Message>::Keep(const std::string& key, Message value, std::uint64_t revision) {
  {
    std::lock_guard lock(mutex_);
    Stored<Message>& stored = known_[key];
    if (stored.revision >= revision) return;  // a later one has come by the watch
    stored = {key, std::move(value), revision};
  }
  changed_(key);
}

template <typename Message>
void Table<Message>::Drop(const std::string& key) {
  {
    std::lock_guard lock(mutex_);
    stale_.erase(key);
    if (known_.erase(key) == 0) return;
  }
  changed_(key);
}

template class Table<rec::VolumeRecord>;
template class Table<rec::SnapshotRecord>;
template class Table<rec::GroupRecord>;
template class Table<rec::NodeRecord>;

// --- Records ---

Records::Records(ClusterStore* store, Listener listener)
    : listener_(std::move(listener)),
      volumes_(store, Kind::kVolume,
               [this](const std::string& key) { OnChange(Kind::kVolume, key); }),
      snapshots_(store, Kind::kSnapshot,
                 [this](const std::string& key) { OnChange(Kind::kSnapshot, key); }),
      groups_(store, Kind::kGroup, [this](const std::string& key) { OnChange(Kind::kGroup, key); }),
      nodes_(store, Kind::kNode, [this](const std::string& key) { OnChange(Kind::kNode, key); }) {}

absl::StatusOr<std::unique_ptr<Records>> Records::Open(ClusterStore* store, Listener listener) {
  auto records = std::unique_ptr<Records>(new Records(store, std::move(listener)));
  Records* const self = records.get();
  records->watcher_ = store->Watch([self](const Change& change) {
    switch (change.kind) {
      case Kind::kVolume:
        return self->volumes_.MarkStale(change.key, change.revision);
      case Kind::kSnapshot:
        return self->snapshots_.MarkStale(change.key, change.revision);
      case Kind::kGroup:
        return self->groups_.MarkStale(change.key, change.revision);
      case Kind::kNode:
        return self->nodes_.MarkStale(change.key, change.revision);
    }
  });
  RETURN_IF_ERROR(records->volumes_.Load());
  RETURN_IF_ERROR(records->snapshots_.Load());
  RETURN_IF_ERROR(records->groups_.Load());
  RETURN_IF_ERROR(records->nodes_.Load());
  return records;
}

void Records::OnChange(Kind kind, const std::string& key) {
  listener_(kind, key);
  Nudge();
}

std::uint64_t Records::changes() const {
  std::lock_guard lock(mutex_);
  return changes_;
}

void Records::WaitPast(std::uint64_t seen, std::int64_t limit_ns) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::nanoseconds(limit_ns), [&] { return changes_ > seen; });
}

void Records::Nudge() {
  {
    std::lock_guard lock(mutex_);
    ++changes_;
  }
  changed_.notify_all();
}

}  // namespace keelson::provisioner
