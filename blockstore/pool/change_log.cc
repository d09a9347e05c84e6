#include "blockstore/pool/change_log.h"

#include <algorithm>
#include <utility>

#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"
#include "blockstore/pool/pool.h"

namespace keelson::pool {
namespace {

// In key order: neighbours compress in the store, and a simulated run does the same every time.
std::vector<MapKey> Sorted(const absl::flat_hash_set<MapKey>& keys) {
  std::vector<MapKey> sorted(keys.begin(), keys.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

}  // namespace

void ChangeLog::Freed(std::uint32_t pool_extent) {
  pool_->allocator().BeginReclaim(pool_extent);
  freed_.push_back(pool_extent);
}

void ChangeLog::AdoptLogKey(std::uint64_t sequence) {
  log_keys_.push_back(sequence);
  next_log_key_ = std::max(next_log_key_, sequence + 1);
}

io::Task<absl::Status> ChangeLog::Logged() {
  if (!pool_->health().ok()) co_return pool_->health();
  if (unlogged_.empty() && !log_running_) co_return absl::OkStatus();
  if (!log_running_) {
    log_running_ = true;
    gate_.Spawn(RunLog());
  }
  co_await log_waiters_.Wait();
  co_return pool_->health();
}

io::Task<void> ChangeLog::RunLog() {
  // One turn of the loop gathers every write that completed in it.
  co_await pool_->reactor().Yield();
  while (!log_waiters_.empty()) {
    io::WaitList served;
    served.TakeFrom(&log_waiters_);
    absl::Status status = co_await LogOnce();
    if (!status.ok()) pool_->Fail(std::move(status));
    served.WakeAll();
  }
  log_running_ = false;
}

io::Task<absl::Status> ChangeLog::LogOnce() {
  if (!pool_->health().ok()) co_return pool_->health();
  if (unlogged_.empty()) co_return absl::OkStatus();
  BeginLogRecord(pool_->incarnation(), &scratch_);
  for (const MapKey& key : Sorted(unlogged_)) {
    LogEntry entry;
    entry.key = key;
    entry.gone = !maps_->Lookup(key, &entry.state);
    AppendLogEntry(entry, &scratch_);
  }
  unlogged_.clear();
  const std::uint64_t sequence = next_log_key_++;
  log_batch_.Clear();
  log_batch_.Put(Table::kLog, EncodeLogKey(sequence), scratch_);
  // Before the commit: a flush whose cut comes while this commit is queued runs after it (commits
  // are ordered) and contains at least what this record says.
  log_keys_.push_back(sequence);
  ++pool_->counters().log_commits;
  co_return co_await pool_->meta().Commit(&log_batch_, /*synced=*/false);
}

io::Task<absl::Status> ChangeLog::Flush() { return FlushWith(nullptr); }

io::Task<absl::Status> ChangeLog::FlushWith(absl::AnyInvocable<void(MetaBatch*)> at_cut) {
  if (!pool_->health().ok()) co_return pool_->health();
  if (flush_running_ && !at_cut && SeededBug(kFlushJoinsRunning)) co_return absl::OkStatus();
  if (at_cut) cuts_.push_back(std::move(at_cut));
  if (!flush_running_) {
    flush_running_ = true;
    gate_.Spawn(RunFlush());
  }
  co_await flush_waiters_.Wait();
  co_return pool_->health();
}

io::Task<void> ChangeLog::RunFlush() {
  co_await pool_->reactor().Yield();
  while (!flush_waiters_.empty()) {
    io::WaitList served;
    served.TakeFrom(&flush_waiters_);
    absl::Status status = co_await FlushOnce();
    if (!status.ok()) pool_->Fail(std::move(status));
    served.WakeAll();
  }
  flush_running_ = false;
}

void ChangeLog::Cut(MetaBatch* batch, std::vector<std::uint32_t>* freed) {
  batch->Clear();
  std::vector<absl::AnyInvocable<void(MetaBatch*)>> cuts = std::exchange(cuts_, {});
  for (auto& cut : cuts) cut(batch);
  for (const MapKey& key : Sorted(unflushed_)) {
    ExtentState state;
    if (maps_->Lookup(key, &state)) {
      scratch_.clear();
      AppendExtentState(state, &scratch_);
      batch->Put(Table::kMap, EncodeMapKey(key), scratch_);
    } else {
      batch->Delete(Table::kMap, EncodeMapKey(key));
    }
  }
  unflushed_.clear();
  for (std::uint64_t sequence : log_keys_) batch->Delete(Table::kLog, EncodeLogKey(sequence));
  log_keys_.clear();
  freed->swap(freed_);
  for (std::uint32_t extent : *freed) batch->Delete(Table::kSums, EncodeSumKey(extent));
  if (!batch->empty()) batch->Put(Table::kObjects, kStampKey, EncodeU64(++stamp_));
}

io::Task<absl::Status> ChangeLog::FlushOnce() {
  if (!pool_->health().ok()) co_return pool_->health();
  std::vector<std::uint32_t> freed;
  if (!SeededBug(kMapChangesAfterFlush)) Cut(&flush_batch_, &freed);
  if (SeededBug(kReuseBeforeDurable) && !freed.empty()) {
    pool_->ReleaseExtents(std::exchange(freed, {}));
  }
  if (marked_stamp_ < durable_stamp_) {
    const std::uint64_t stamp = durable_stamp_;
    CO_RETURN_IF_ERROR(co_await pool_->WriteMark(stamp));
    marked_stamp_ = stamp;
  }
  ++pool_->counters().flushes;
  absl::Status flushed = co_await pool_->data().Flush();
  if (SeededBug(kMapChangesAfterFlush)) Cut(&flush_batch_, &freed);
  if (!flushed.ok() && SeededBug(kFlushRetriedIntoSuccess)) {
    flushed = co_await pool_->data().Flush();
  }
  if (!flushed.ok()) {
    ++pool_->counters().io_errors;
    // Before anyone hears of it: what the disk had taken may be gone, so what the log says of it
    // must count for nothing when the pool is opened again.
    pool_->Fail(flushed);
    co_await pool_->RecordFailure();
    co_return flushed;
  }
  if (!flush_batch_.empty()) {
    const std::uint64_t stamp = stamp_;
    CO_RETURN_IF_ERROR(co_await pool_->meta().Commit(&flush_batch_, /*synced=*/true));
    durable_stamp_ = stamp;
  }
  if (!freed.empty()) pool_->ReleaseExtents(std::move(freed));
  co_return absl::OkStatus();
}

}  // namespace keelson::pool
