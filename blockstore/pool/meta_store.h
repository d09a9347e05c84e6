#pragma once
// MetaStore: the ordered, crash-safe key-value store that holds a pool's metadata. RocksDB in
// production (rocks_meta_store.h); a seeded model in tests/sim. One owner reactor: calls are made
// on it and complete on it. Implementations do their blocking work elsewhere (a metadata thread).
//
// Commits take effect in the order of Submit, each atomically. `synced` decides what a completed
// commit survives: false, the death of the process; true, also the death of the machine. A later
// synced commit makes every earlier one durable too, and an unsynced one may become durable by
// itself, so an unsynced record must carry whatever a reader needs to judge it (the boot id).

#include <coroutine>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/io/task.h"

namespace keelson::pool {

// The tables of docs/on-disk-format.md; column families in RocksDB.
enum class Table : std::uint8_t { kObjects = 0, kMap = 1, kSums = 2, kNotes = 3, kLog = 4 };
inline constexpr std::size_t kTableCount = 5;

// An ordered list of puts and deletes. Reusable: Clear keeps the memory.
class MetaBatch {
 public:
  struct Op {
    Table table;
    bool is_delete;
    std::uint32_t key_offset;
    std::uint32_t key_size;
    std::uint32_t value_size;  // the value follows the key
  };

  void Put(Table table, std::string_view key, std::string_view value) {
    Append(table, false, key, value);
  }
  void Delete(Table table, std::string_view key) { Append(table, true, key, {}); }

  bool empty() const { return ops_.empty(); }
  std::size_t count() const { return ops_.size(); }
  std::size_t size_bytes() const { return bytes_.size(); }
  void Clear() {
    ops_.clear();
    bytes_.clear();
  }
  const std::vector<Op>& ops() const { return ops_; }
  std::string_view key(const Op& op) const { return {bytes_.data() + op.key_offset, op.key_size}; }
  std::string_view value(const Op& op) const {
    return {bytes_.data() + op.key_offset + op.key_size, op.value_size};
  }

 private:
  void Append(Table table, bool is_delete, std::string_view key, std::string_view value) {
    ops_.push_back({table, is_delete, static_cast<std::uint32_t>(bytes_.size()),
                    static_cast<std::uint32_t>(key.size()),
                    static_cast<std::uint32_t>(value.size())});
    bytes_.append(key);
    bytes_.append(value);
  }
  std::vector<Op> ops_;
  std::string bytes_;
};

using MetaEntry = std::pair<std::string, std::string>;  // key, value

class MetaStore {
 public:
  virtual ~MetaStore() = default;  // REQUIRES: nothing in flight

  // A commit in flight; lives in the awaiting frame. `batch` must stay unchanged until `done`.
  struct CommitOp {
    const MetaBatch* batch = nullptr;
    bool synced = false;
    absl::Status result;
    std::coroutine_handle<> waiter;
    CommitOp* next = nullptr;  // the implementation's
  };
  // Queues `op`; resumes op->waiter from the reactor's loop, never from inside Submit. An error
  // means the outcome is unknown and the store is failed: every later commit fails too.
  virtual void Submit(CommitOp* op) = 0;

  virtual io::Task<absl::StatusOr<std::optional<std::string>>> Get(Table table,
                                                                   std::string key) = 0;
  // Up to `count_max` entries in key order whose key starts with `prefix` and is greater than
  // `after` (empty: from the first). Fewer than count_max means the end.
  virtual io::Task<absl::StatusOr<std::vector<MetaEntry>>> Scan(Table table, std::string prefix,
                                                                std::string after,
                                                                std::size_t count_max) = 0;

  class [[nodiscard]] CommitAwaiter {
   public:
    CommitAwaiter(MetaStore* store, const MetaBatch* batch, bool synced) : store_(store) {
      op_.batch = batch;
      op_.synced = synced;
    }
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> awaiting) {
      op_.waiter = awaiting;
      store_->Submit(&op_);
    }
    absl::Status await_resume() { return std::move(op_.result); }

   private:
    MetaStore* store_;
    CommitOp op_;
  };
  CommitAwaiter Commit(const MetaBatch* batch, bool synced) { return {this, batch, synced}; }
};

}  // namespace keelson::pool
