#include "tests/sim/sim_meta_store.h"

#include <algorithm>
#include <utility>

#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

constexpr std::uint64_t kTraceCommit = 200, kTraceGroup = 201, kTraceLost = 202;

}  // namespace

class SimMetaStore final : public pool::MetaStore {
 public:
  SimMetaStore(SimMetaDisk* disk, SimReactor* process) : disk_(disk), process_(process) {}
  ~SimMetaStore() override {
    KEEL_CHECK(disk_->queue_.empty(), "a MetaStore dies with nothing in flight");
    disk_->opened_by_ = nullptr;
  }

  void Submit(CommitOp* op) override { disk_->Submit(op); }

  io::Task<absl::StatusOr<std::optional<std::string>>> Get(pool::Table table,
                                                           std::string key) override {
    co_await process_->SleepFor(disk_->DrawLatency());
    if (disk_->world_->random().Chance(disk_->faults_.read_error)) co_return ReadError();
    const auto& entries = disk_->current_[static_cast<std::size_t>(table)];
    const auto found = entries.find(key);
    std::optional<std::string> value;
    if (found != entries.end()) value = found->second;
    co_return value;
  }

  io::Task<absl::StatusOr<std::vector<pool::MetaEntry>>> Scan(pool::Table table, std::string prefix,
                                                              std::string after,
                                                              std::size_t count_max) override {
    co_await process_->SleepFor(disk_->DrawLatency());
    if (disk_->world_->random().Chance(disk_->faults_.read_error)) co_return ReadError();
    const auto& entries = disk_->current_[static_cast<std::size_t>(table)];
    std::vector<pool::MetaEntry> found;
    auto it =
        after.empty() || after < prefix ? entries.lower_bound(prefix) : entries.upper_bound(after);
    for (; it != entries.end() && found.size() < count_max && it->first.starts_with(prefix); ++it) {
      found.emplace_back(it->first, it->second);
    }
    co_return found;
  }

 private:
  static absl::Status ReadError() {
    return absl::InternalError("simulated read error of the metadata store");
  }
  SimMetaDisk* disk_;
  SimReactor* process_;
};

absl::StatusOr<std::unique_ptr<pool::MetaStore>> SimMetaDisk::Open(SimReactor* process) {
  if (opened_by_ != nullptr) {
    return absl::FailedPreconditionError("the metadata store is open; close it first");
  }
  opened_by_ = process;
  failed_ = false;
  return std::make_unique<SimMetaStore>(this, process);
}

void SimMetaDisk::Submit(pool::MetaStore::CommitOp* op) {
  world_->Trace(kTraceCommit, op->batch->count(), op->batch->size_bytes());
  queue_.push_back({op, *op->batch, op->synced});
  if (group_running_) return;
  group_running_ = true;
  world_->After(opened_by_, DrawLatency(), [this] { RunGroup(); });
}

// Applies and answers the commits of one group, as many of those queued as chance gathers.
void SimMetaDisk::RunGroup() {
  Random& random = world_->random();
  const std::size_t count = 1 + random.Below(queue_.size());
  world_->Trace(kTraceGroup, count);
  std::vector<pool::MetaStore::CommitOp*> answered;
  for (std::size_t i = 0; i < count; ++i) {
    Commit commit = std::move(queue_.front());
    queue_.pop_front();
    const bool fails = failed_ || random.Chance(faults_.commit_error);
    if (!fails || (!failed_ && random.Coin())) {
      Apply(commit.batch, &current_);
      unsynced_.push_back(std::move(commit.batch));
      if (commit.synced && !fails) MakeDurable(unsynced_.size());
    }
    failed_ = fails;
    commit.op->result =
        fails ? absl::InternalError("simulated failure of a metadata commit") : absl::OkStatus();
    answered.push_back(commit.op);
  }
  if (queue_.empty()) {
    group_running_ = false;
  } else {
    world_->After(opened_by_, DrawLatency(), [this] { RunGroup(); });
  }
  for (pool::MetaStore::CommitOp* op : answered) op->waiter.resume();
}

void SimMetaDisk::Apply(const pool::MetaBatch& batch, Tables* tables) {
  for (const pool::MetaBatch::Op& op : batch.ops()) {
    auto& entries = (*tables)[static_cast<std::size_t>(op.table)];
    if (op.is_delete) {
      const auto found = entries.find(batch.key(op));
      if (found != entries.end()) entries.erase(found);
    } else {
      entries.insert_or_assign(std::string(batch.key(op)), std::string(batch.value(op)));
    }
  }
}

void SimMetaDisk::MakeDurable(std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    Apply(unsynced_.front(), &durable_);
    unsynced_.pop_front();
  }
}

void SimMetaDisk::ProcessDied(SimReactor* process) {
  if (opened_by_ != process) return;
  Random& random = world_->random();
  const std::size_t applied = failed_ ? 0 : random.Below(queue_.size() + 1);
  for (std::size_t i = 0; i < applied; ++i) {
    SIM_PROBE("meta: a commit in flight was applied though its process died");
    Apply(queue_[i].batch, &current_);
    unsynced_.push_back(std::move(queue_[i].batch));
  }
  queue_.clear();
  group_running_ = false;
  opened_by_ = nullptr;
}

void SimMetaDisk::PowerCut() {
  const std::size_t kept = world_->random().Below(unsynced_.size() + 1);
  if (kept > 0) SIM_PROBE("meta: an unsynced commit survived a power cut");
  if (kept < unsynced_.size()) SIM_PROBE("meta: an unsynced commit was lost by a power cut");
  world_->Trace(kTraceLost, kept, unsynced_.size());
  MakeDurable(kept);
  unsynced_.clear();
  current_ = durable_;
}

void SimMetaDisk::Erase() {
  KEEL_CHECK(opened_by_ == nullptr, "a metadata directory is lost while nobody has it open");
  for (auto& entries : current_) entries.clear();
  for (auto& entries : durable_) entries.clear();
  unsynced_.clear();
}

void SimMetaDisk::Damage(pool::Table table, const std::string& key) {
  KEEL_CHECK(opened_by_ == nullptr, "a metadata directory is damaged while nobody has it open");
  pool::MetaBatch batch;
  batch.Put(table, key, "\xff damaged");
  Apply(batch, &current_);
  unsynced_.push_back(batch);
  MakeDurable(unsynced_.size());
}

std::int64_t SimMetaDisk::DrawLatency() {
  Random& random = world_->random();
  auto latency = static_cast<std::int64_t>(
      1 + random.Below(static_cast<std::uint64_t>(faults_.latency_ns_max)));
  if (random.Chance(faults_.stall)) {
    SIM_PROBE("meta: the store stalled");
    latency += faults_.stall_ns;
  }
  return latency;
}

}  // namespace keelson::sim
