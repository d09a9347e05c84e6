#include "provisioner/reconcile/reconciler.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "provisioner/reconcile/ids.h"

namespace keelson::provisioner {
namespace {

bool Concerns(const rec::VolumeRecord& volume, const std::string& node) {
  if (volume.attachment().node() == node) return true;
  const auto& publications = volume.publications();
  if (std::any_of(publications.begin(), publications.end(),
                  [&](const auto& one) { return one.node() == node; })) {
    return true;
  }
  const auto& abandoned = volume.abandoned_nodes();
  if (std::find(abandoned.begin(), abandoned.end(), node) != abandoned.end()) return true;
  for (const rec::OrphanRecord& orphan : volume.orphans()) {
    if (orphan.node() == node) return true;
  }
  for (const rec::SegmentRecord& segment : volume.segments()) {
    for (const rec::ReplicaRecord& replica : segment.replicas()) {
      if (replica.node() == node) return true;
    }
  }
  return false;
}

}  // namespace

Reconciler::Reconciler(Clock* clock, Dialer dialer, const ReconcileOptions& options)
    : stores_(clock, std::move(dialer)),
      queue_(clock),
      rebuilds_(options.rebuilds_max),
      volumes_(&environment_),
      groups_(&environment_) {
  environment_.clock = clock;
  environment_.stores = &stores_;
  environment_.queue = &queue_;
  environment_.rebuilds = &rebuilds_;
  environment_.options = options;
}

absl::StatusOr<std::unique_ptr<Reconciler>> Reconciler::Open(ClusterStore* store, Clock* clock,
                                                             Dialer dialer,
                                                             const ReconcileOptions& options) {
  auto reconciler = std::unique_ptr<Reconciler>(new Reconciler(clock, std::move(dialer), options));
  Reconciler* const self = reconciler.get();
  absl::StatusOr<std::unique_ptr<Records>> records = Records::Open(
      store, [self](Kind kind, const std::string& key) { self->OnChange(kind, key); });
  if (!records.ok()) return records.status();
  reconciler->records_ = *std::move(records);
  reconciler->environment_.records = reconciler->records_.get();
  reconciler->PokeAll();
  return reconciler;
}

Reconciler::~Reconciler() { Stop(); }

void Reconciler::Start(std::size_t workers) {
  for (std::size_t i = 0; i < workers; ++i) workers_.emplace_back([this] { Work(); });
}

void Reconciler::Stop() {
  queue_.Stop();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void Reconciler::OnChange(Kind kind, const std::string& key) { environment_.Poke(kind, key); }

void Reconciler::PokeAll() {
  // Nodes first: volumes are looked at with what they have.
  for (const auto& one : records_->nodes().All()) environment_.Poke(Kind::kNode, one.key);
  for (const auto& one : records_->volumes().All()) environment_.Poke(Kind::kVolume, one.key);
  for (const auto& one : records_->groups().All()) environment_.Poke(Kind::kGroup, one.key);
}

void Reconciler::Work() {
  while (const std::optional<std::string> key = queue_.Take()) RunKey(*key);
}

void Reconciler::RunKey(const std::string& queue_key) {
  const std::size_t slash = queue_key.find('/');
  const std::string kind = queue_key.substr(0, slash);
  const std::string key = queue_key.substr(slash + 1);
  Outcome outcome;
  try {
    if (kind == KindName(Kind::kVolume)) outcome = volumes_.Run(key);
    if (kind == KindName(Kind::kNode)) outcome = RunNode(key);
    if (kind == KindName(Kind::kSnapshot)) outcome = RunSnapshot(key);
    if (kind == KindName(Kind::kGroup)) outcome = groups_.Run(key);
  } catch (const std::exception& error) {
    // A library's; one record must not end the work on all others.
    spdlog::error("event=reconcile_failed key={} reason=\"{}\"", queue_key, error.what());
    outcome.status = absl::InternalError(error.what());
  }
  if (outcome.status.ok()) {
    queue_.Done(queue_key, outcome.again_ns);
  } else {
    queue_.Failed(queue_key);
  }
}

Outcome Reconciler::RunNode(const std::string& name) {
  const auto record = records_->nodes().Find(name);
  if (absl::IsNotFound(record.status())) {
    stores_.Forget(name);
    PokeVolumesOf(name);
    return {};
  }
  if (!record.ok()) return {record.status(), 0};
  const bool changed = stores_.Ask(name, record->value.address());
  if (changed) {
    const NodeView view = stores_.View(name);
    if (view.answers) {
      spdlog::info("event=node_answers node={}", name);
    } else {
      spdlog::warn("event=node_silent node={} reason=\"{}\"", name, view.error);
    }
  }
  const bool lost = environment_.Lost(name);
  bool lost_changed = false;
  {
    std::lock_guard lock(mutex_);
    lost_changed = lost ? lost_nodes_.insert(name).second : lost_nodes_.erase(name) > 0;
  }
  if (lost && lost_changed) spdlog::warn("event=node_lost node={}", name);
  if (changed || lost_changed) {
    PokeVolumesOf(name);
    records_->Nudge();
  }
  return {absl::OkStatus(), environment_.options.ask_interval_ns};
}

Outcome Reconciler::RunSnapshot(const std::string& key) {
  const auto snapshot = records_->snapshots().Find(key);
  if (!snapshot.ok())
    return {absl::IsNotFound(snapshot.status()) ? absl::OkStatus() : snapshot.status(), 0};
  environment_.Poke(Kind::kVolume, KeyOfId(kVolumePrefix, snapshot->value.volume_id()));
  if (!snapshot->value.group_id().empty()) {
    environment_.Poke(Kind::kGroup, KeyOfId(kGroupPrefix, snapshot->value.group_id()));
  }
  for (const std::string& clone : environment_.ClonesUnderWay(snapshot->value.id())) {
    environment_.Poke(Kind::kVolume, clone);
  }
  return {};
}

void Reconciler::PokeVolumesOf(const std::string& node) {
  for (const auto& volume : records_->volumes().All()) {
    if (Concerns(volume.value, node)) environment_.Poke(Kind::kVolume, volume.key);
  }
}

bool Reconciler::StepOnce(std::int64_t limit_ns) {
  if (const std::optional<std::string> key = queue_.TryTake()) {
    RunKey(*key);
    return true;
  }
  const std::optional<std::int64_t> due_ns = queue_.NextDue();
  const std::int64_t now_ns = environment_.clock->SteadyNanos();
  if (!due_ns || *due_ns > limit_ns || !advance_) return false;
  advance_(std::max<std::int64_t>(1, *due_ns - now_ns));
  return true;
}

bool Reconciler::Await(const std::function<bool()>& done, std::int64_t limit_ns) {
  const std::int64_t until_ns = environment_.clock->SteadyNanos() + limit_ns;
  while (!done()) {
    if (workers_.empty()) {
      if (!StepOnce(until_ns)) return done();
      continue;
    }
    const std::uint64_t seen = records_->changes();
    if (done()) return true;
    const std::int64_t left_ns = until_ns - environment_.clock->SteadyNanos();
    if (left_ns <= 0) return false;
    records_->WaitPast(seen, left_ns);
  }
  return true;
}

void Reconciler::Settle(std::int64_t limit_ns) {
  const std::int64_t until_ns = environment_.clock->SteadyNanos() + limit_ns;
  while (StepOnce(until_ns)) {
  }
}

}  // namespace keelson::provisioner
