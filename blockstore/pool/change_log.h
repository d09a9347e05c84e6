#pragma once
// ChangeLog: how changes of the extent maps become safe (rule R4).
//   * Changed() marks an extent whose state in memory changed, *after* its data is complete.
//   * Logged() completes when those changes are in the metadata store's log, unsynced and tagged
//   with
//     the pool's incarnation: they survive the death of this process. Many writers share one log
//     record.
//   * Flush() makes durable, in one synced batch, exactly the changes marked before its data flush
//     began, and frees what they freed (R18). Requests that arrive while a flush runs share the
//     next one; a flush never answers a request that came after it started (R8).
// Structural changes (snapshot, clone, delete, merge) are applied at a flush's cut and go into its
// batch. Whoever makes one holds off writes to what it touches until the flush completes, so that
// no log record can describe a state the batch has not made durable.
//
// One reactor. Errors: the pool's health once it has failed. Owned by Pool.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/sync.h"
#include "blockstore/pool/format.h"
#include "blockstore/pool/meta_store.h"

namespace keelson::pool {

class Pool;

// What knows the current state of every extent: replica::LayerTable.
class MapSource {
 public:
  virtual ~MapSource() = default;
  // False when the layer's map has no such extent (or there is no such layer).
  virtual bool Lookup(const MapKey& key, ExtentState* state) const = 0;
};

class ChangeLog {
 public:
  explicit ChangeLog(Pool* pool) : pool_(pool) {}

  void set_maps(const MapSource* maps) { maps_ = maps; }

  void Changed(const MapKey& key) {
    unlogged_.insert(key);
    unflushed_.insert(key);
  }
  // A pool extent that no map refers to any more. Its checksums go with it.
  void Freed(std::uint32_t pool_extent);

  io::Task<absl::Status> Logged();
  io::Task<absl::Status> Flush();
  // `at_cut` runs at the cut of the flush that serves this call: it changes the maps in memory,
  // calls Changed and Freed, and adds object records to the batch. It does not run if the pool has
  // failed.
  io::Task<absl::Status> FlushWith(absl::AnyInvocable<void(MetaBatch*)> at_cut);

  // At open: the log records found in the store. They are deleted by the next flush.
  void AdoptLogKey(std::uint64_t sequence);
  void set_stamp(std::uint64_t stamp) { stamp_ = durable_stamp_ = stamp; }
  std::uint64_t durable_stamp() const { return durable_stamp_; }
  bool has_freed() const { return !freed_.empty(); }
  bool has_unflushed() const {
    return !unflushed_.empty() || !log_keys_.empty() || !freed_.empty();
  }

  io::Task<void> Close() { co_await gate_.Close(); }

 private:
  io::Task<void> RunLog();
  io::Task<absl::Status> LogOnce();
  io::Task<void> RunFlush();
  io::Task<absl::Status> FlushOnce();
  void Cut(MetaBatch* batch, std::vector<std::uint32_t>* freed);

  Pool* pool_;                       // owns this
  const MapSource* maps_ = nullptr;  // outlives the running pool
  absl::flat_hash_set<MapKey> unlogged_;
  absl::flat_hash_set<MapKey> unflushed_;
  std::vector<std::uint64_t> log_keys_;  // records the next flush makes superfluous
  std::vector<std::uint32_t> freed_;
  std::vector<absl::AnyInvocable<void(MetaBatch*)>> cuts_;
  std::uint64_t next_log_key_ = 1;
  std::uint64_t stamp_ = 0;
  std::uint64_t durable_stamp_ = 0;
  std::uint64_t marked_stamp_ = 0;
  bool log_running_ = false;
  bool flush_running_ = false;
  io::WaitList log_waiters_;
  io::WaitList flush_waiters_;
  MetaBatch log_batch_;
  MetaBatch flush_batch_;
  std::string scratch_;
  io::Gate gate_;
};

}  // namespace keelson::pool
