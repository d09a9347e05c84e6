#pragma once
// SimMetaDisk: the metadata directory of a pool in a World, which outlives processes; SimMetaStore:
// a process's open pool::MetaStore on it. Ordered tables in memory, commits applied in the order of
// Submit, a group at a time.
//
// What survives: a completed commit, synced or not, survives its process; submitted ones may have
// been applied, a prefix of them in order. A power cut keeps every commit up to the last completed
// synced one and, since a log is also written back by itself, any number of those behind it, in
// order (RocksDB's point-in-time recovery). An injected commit error leaves that commit's outcome
// unknown, and the store fails until it is opened again.

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "blockstore/pool/meta_store.h"
#include "tests/sim/sim_reactor.h"

namespace keelson::sim {

struct MetaFaults {
  double commit_error = 0;
  double read_error = 0;
  double stall = 0;
  std::int64_t stall_ns = 50'000'000;
  std::int64_t latency_ns_max = 300'000;
};

class SimMetaDisk {
 public:
  explicit SimMetaDisk(World* world) : world_(world) {}

  // FAILED_PRECONDITION while another store is open on it.
  absl::StatusOr<std::unique_ptr<pool::MetaStore>> Open(SimReactor* process);
  void ProcessDied(SimReactor* process);
  void PowerCut();
  // Everything is lost, as when the directory is deleted.
  void Erase();
  // The entry reads as bytes that mean nothing, from now on. While nobody has it open.
  void Damage(pool::Table table, const std::string& key);

  MetaFaults& faults() { return faults_; }
  // What a loss of power now would leave at the least; null: nothing.
  const std::string* Durable(pool::Table table, const std::string& key) const {
    const auto& entries = durable_[static_cast<std::size_t>(table)];
    const auto found = entries.find(key);
    return found == entries.end() ? nullptr : &found->second;
  }
  const std::map<std::string, std::string, std::less<>>& DurableEntries(pool::Table table) const {
    return durable_[static_cast<std::size_t>(table)];
  }
  std::size_t entry_count(pool::Table table) const {
    return current_[static_cast<std::size_t>(table)].size();
  }
  // A commit is in flight, or one failed since the store was opened.
  bool uncertain() const { return !queue_.empty() || failed_; }
  std::size_t unsynced_count() const { return unsynced_.size(); }

 private:
  friend class SimMetaStore;
  using Tables = std::vector<std::map<std::string, std::string, std::less<>>>;

  struct Commit {
    pool::MetaStore::CommitOp* op;
    pool::MetaBatch batch;  // a copy: `op` and what it points to die with their process
    bool synced;
  };

  void Submit(pool::MetaStore::CommitOp* op);
  void RunGroup();
  void Apply(const pool::MetaBatch& batch, Tables* tables);
  void MakeDurable(std::size_t count);
  std::int64_t DrawLatency();

  World* world_;  // owns this
  MetaFaults faults_;
  Tables current_ = Tables(pool::kTableCount);
  Tables durable_ = Tables(pool::kTableCount);
  std::deque<pool::MetaBatch> unsynced_;  // applied to current_, not yet to durable_
  std::deque<Commit> queue_;
  SimReactor* opened_by_ = nullptr;
  bool group_running_ = false;
  bool failed_ = false;
};

}  // namespace keelson::sim
