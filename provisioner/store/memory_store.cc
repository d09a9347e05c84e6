#include "provisioner/store/memory_store.h"

namespace keelson::provisioner {

absl::Status MemoryStore::CheckAnswers() const {
  if (answers_) return absl::OkStatus();
  return absl::UnavailableError("the store in memory was told not to answer");
}

std::optional<std::uint64_t> MemoryStore::PresentRevision(const Id& id) const {
  const auto found = values_.find(id);
  if (found == values_.end()) return std::nullopt;
  return found->second.revision;
}

absl::StatusOr<Record> MemoryStore::Get(Kind kind, std::string_view key) {
  if (absl::Status status = CheckKey(kind, key); !status.ok()) return status;
  const std::lock_guard lock(mutex_);
  if (absl::Status status = CheckAnswers(); !status.ok()) return status;
  const auto found = values_.find(Id(kind, key));
  if (found == values_.end()) return NoSuchRecord(kind, key);
  return Record{std::string(key), found->second.bytes, found->second.revision};
}

absl::StatusOr<Listing> MemoryStore::List(Kind kind) {
  const std::lock_guard lock(mutex_);
  if (absl::Status status = CheckAnswers(); !status.ok()) return status;
  Listing listing;
  listing.revision = revision_;
  for (const auto& [id, value] : values_) {
    if (id.first == kind) listing.records.push_back({id.second, value.bytes, value.revision});
  }
  return listing;
}

absl::StatusOr<std::uint64_t> MemoryStore::Put(Kind kind, std::string_view key,
                                               std::string_view value,
                                               std::uint64_t expected_revision) {
  if (absl::Status status = CheckKey(kind, key); !status.ok()) return status;
  if (absl::Status status = CheckValue(kind, key, value); !status.ok()) return status;
  const Id id(kind, key);
  const std::lock_guard lock(mutex_);
  if (absl::Status status = CheckAnswers(); !status.ok()) return status;
  absl::Status status = CheckPut(kind, key, PresentRevision(id), expected_revision);
  if (!status.ok()) return status;
  return Write(id, std::string(value));
}

absl::Status MemoryStore::Delete(Kind kind, std::string_view key, std::uint64_t expected_revision) {
  if (absl::Status status = CheckKey(kind, key); !status.ok()) return status;
  const Id id(kind, key);
  const std::lock_guard lock(mutex_);
  if (absl::Status status = CheckAnswers(); !status.ok()) return status;
  absl::Status status = CheckDelete(kind, key, PresentRevision(id), expected_revision);
  if (!status.ok()) return status;
  return Write(id, std::nullopt).status();
}

// Puts `bytes`, or deletes; or fails, as told. REQUIRES: the lock is held.
absl::StatusOr<std::uint64_t> MemoryStore::Write(const Id& id, std::optional<std::string> bytes) {
  ++writes_;
  const bool fails = failure_ && failure_->write == writes_;
  if (!fails || failure_->made) {
    ++revision_;
    const bool present = bytes.has_value();
    if (present) {
      values_[id] = Value{*std::move(bytes), revision_};
    } else {
      values_.erase(id);
    }
    hub_.Add(Change{id.first, id.second, present, revision_});
  }
  if (!fails) return revision_;
  answers_ = !failure_->stays;
  failure_.reset();
  return absl::UnavailableError(
      "the store in memory was told to fail this write: it may have been "
      "made or not");
}

std::unique_ptr<ClusterStore::Watcher> MemoryStore::Watch(
    std::function<void(const Change&)> callback) {
  return hub_.Watch(std::move(callback));
}

void MemoryStore::FailAt(const Failure& failure) {
  const std::lock_guard lock(mutex_);
  failure_ = failure;
  failure_->write += writes_;
}

void MemoryStore::StopAnswering() {
  const std::lock_guard lock(mutex_);
  answers_ = false;
}

void MemoryStore::Answer() {
  const std::lock_guard lock(mutex_);
  answers_ = true;
  failure_.reset();
}

std::uint64_t MemoryStore::writes() const {
  const std::lock_guard lock(mutex_);
  return writes_;
}

void MemoryStore::DrainWatchers() { hub_.Drain(); }

}  // namespace keelson::provisioner
