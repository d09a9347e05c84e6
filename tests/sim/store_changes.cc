// StoreHarness: structural changes (create, clone, delete, snapshot, grow, attach, ...), one at a
// time, while reads and writes go on.

#include <algorithm>
#include <new>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "tests/sim/probe.h"
#include "tests/sim/store_harness.h"

namespace keelson::sim {

std::string StoreHarness::Name(const Change& change) const {
  static constexpr const char* kNames[] = {"create",          "clone", "delete", "snapshot",
                                           "delete snapshot", "grow",  "roll",   "attach",
                                           "detach",          "verify"};
  return absl::StrCat(kNames[static_cast<int>(change.kind)], " ", change.volume,
                      change.source.empty() ? "" : " from ", change.source,
                      change.snapshot.empty() ? "" : "@", change.snapshot);
}

void StoreHarness::StartRandomChange(VolumeModel* volume) {
  Random& random = world_.random();
  Change change;
  change.volume = volume->name;
  const std::uint64_t dice = random.Below(100);
  const bool has_snapshot = !volume->snapshots.empty();
  if (has_snapshot) {
    auto chosen = volume->snapshots.begin();
    std::advance(chosen, random.Below(volume->snapshots.size()));
    change.snapshot = chosen->first;
  }
  const std::string new_name = absl::StrCat("v", next_name_++);
  const bool room = model_.volumes().size() < knobs_.volumes_max;
  if (dice < 30 && knobs_.snapshots && volume->attached && volume->snapshots.size() < 4) {
    change.kind = ChangeKind::kSnapshot;
    change.snapshot = absl::StrCat("s", next_name_++);
  } else if (dice < 45 && has_snapshot) {
    change.kind = ChangeKind::kDeleteSnapshot;
  } else if (dice < 55 && has_snapshot && room) {
    change.kind = ChangeKind::kClone;
    change.source = std::exchange(change.volume, new_name);
    const std::uint64_t size = volume->snapshots[change.snapshot].size_blocks;
    change.size_blocks = random.Coin() ? 0 : size + random.Below(256);
  } else if (dice < 62 && has_snapshot) {
    change.kind = ChangeKind::kVerifySnapshot;
    change.source = std::exchange(change.volume, absl::StrCat("verify-", new_name));
  } else if (dice < 70) {
    change.kind = ChangeKind::kGrow;
    change.snapshot.clear();
    change.size_blocks = volume->size_blocks + random.Below(512);
  } else if (dice < 82 && volume->attached) {
    change.kind = ChangeKind::kRoll;
  } else if (dice < 90 && volume->attached) {
    change.kind = ChangeKind::kDetach;
  } else if (dice < 94) {
    change.kind = ChangeKind::kDelete;
  } else if (room) {
    change.kind = ChangeKind::kCreate;
    change.volume = new_name;
    change.size_blocks = 256 + random.Below(knobs_.volume_blocks_max - 255);
  } else {
    return;
  }
  if (change.kind >= ChangeKind::kGrow && change.kind <= ChangeKind::kDetach)
    change.snapshot.clear();
  if (change.kind == ChangeKind::kDelete) change.snapshot.clear();
  StartChange(std::move(change));
}

void StoreHarness::StartChange(Change change) {
  KEEL_CHECK(change_ == nullptr, "one structural change at a time");
  change_ = std::make_unique<Change>(std::move(change));
  if (VolumeModel* volume = model_.Find(change_->volume); volume != nullptr) volume->busy = true;
  if (change_->kind == ChangeKind::kDelete || change_->kind == ChangeKind::kDetach) DrainIo();
  if (Failed()) return;
  change_->began = model_.Tick();
  if (verbose_) Tell(absl::StrCat(Name(*change_), " begins"));
  RunChange(this, change_.get());
}

void StoreHarness::FinishChange(Change change) {
  StartChange(std::move(change));
  Drain();
}

io::internal::Detached StoreHarness::RunChange(StoreHarness* harness, Change* change) {
  absl::Status status = co_await harness->Perform(change);
  harness->ChangeEnded(change, status);
}

io::Task<absl::Status> StoreHarness::Perform(Change* change) {
  switch (change->kind) {
    case ChangeKind::kCreate:
      return Create(change);
    case ChangeKind::kClone:
      return Clone(change);
    case ChangeKind::kDelete:
      return Delete(change);
    case ChangeKind::kSnapshot:
      return Snapshot(change);
    case ChangeKind::kDeleteSnapshot:
      return DeleteSnapshot(change);
    case ChangeKind::kGrow:
      return Grow(change);
    case ChangeKind::kRoll:
      return Roll(change);
    case ChangeKind::kAttach:
      return Attach(change);
    case ChangeKind::kDetach:
      return Detach(change);
    case ChangeKind::kVerifySnapshot:
      return VerifySnapshot(change);
  }
  return {};
}

void StoreHarness::ChangeEnded(Change* change, const absl::Status& status) {
  world_.Trace(500 + static_cast<std::uint64_t>(change->kind), 0,
               static_cast<std::uint64_t>(status.code()));
  std::unique_ptr<Change> ended = std::move(change_);
  if (verbose_) Tell(absl::StrCat(Name(*ended), " ends: ", status.ToString()));
  if (VolumeModel* volume = model_.Find(ended->volume); volume != nullptr) volume->busy = false;
  if (status.ok()) return;
  if (PoolFailed()) {
    if (absl::IsUnavailable(status) || absl::IsInternal(status)) {
      LeaveOpen(std::move(ended));
      return;
    }
  } else if (DiskFaultsPossible() && absl::IsInternal(status)) {
    return;
  }
  Fail(absl::StrCat(Name(*ended), " ended in ", status.ToString(),
                    " for no reason known to the model"));
}

// Whether it happened will show when the pool is opened again.
void StoreHarness::LeaveOpen(std::unique_ptr<Change> change) {
  if (change->kind == ChangeKind::kSnapshot) {
    if (const VolumeModel* volume = model_.Find(change->volume); volume != nullptr) {
      change->frozen = StoreModel::Freeze(*volume, change->began, model_.now());
      change->size_blocks = volume->size_blocks;
    }
  }
  open_changes_.push_back(std::move(change));
}

io::Task<absl::Status> StoreHarness::Create(Change* change) {
  const std::uint64_t size_bytes = change->size_blocks * kModelBlockBytes;
  auto task = life_.store->Create(change->volume, size_bytes, 1);
  CO_ASSIGN_OR_RETURN(const pool::ReplicaId id, co_await std::move(task));
  model_.Add(change->volume, id, change->size_blocks);
  co_return absl::OkStatus();
}

io::Task<absl::Status> StoreHarness::Clone(Change* change) {
  const VolumeModel* source = model_.Find(change->source);
  const SnapshotModel* snapshot = &source->snapshots.at(change->snapshot);
  auto task = life_.store->Clone(source->id, snapshot->id, change->volume,
                                 change->size_blocks * kModelBlockBytes, 1);
  CO_ASSIGN_OR_RETURN(const pool::ReplicaId id, co_await std::move(task));
  SIM_PROBE("store: a snapshot was cloned");
  const std::uint64_t size_blocks =
      change->size_blocks == 0 ? snapshot->size_blocks : change->size_blocks;
  model_.Add(change->volume, id, size_blocks)->blocks = snapshot->blocks;
  cloned_ = true;
  co_return absl::OkStatus();
}

io::Task<absl::Status> StoreHarness::Delete(Change* change) {
  const VolumeModel* volume = model_.Find(change->volume);
  if (volume->attached) {
    CO_RETURN_IF_ERROR(co_await Detach(change));
    change->began = model_.Tick();
  }
  const pool::ReplicaId id = volume->id;
  CO_RETURN_IF_ERROR(co_await life_.store->Delete(id));
  model_.Remove(change->volume);
  co_return absl::OkStatus();
}

io::Task<absl::Status> StoreHarness::Snapshot(Change* change) {
  VolumeModel* volume = model_.Find(change->volume);
  auto task = life_.engines.at(change->volume)->Snapshot(change->snapshot, 1);
  CO_ASSIGN_OR_RETURN(const pool::SnapshotId id, co_await std::move(task));
  if (volume->in_flight > 0) SIM_PROBE("store: a snapshot was taken under writes");
  SnapshotModel snapshot;
  snapshot.id = id;
  snapshot.size_blocks = volume->size_blocks;
  snapshot.blocks = StoreModel::Freeze(*volume, change->began, model_.Tick());
  volume->snapshots.emplace(change->snapshot, std::move(snapshot));
  model_.Flushed(volume, change->began);
  co_return absl::OkStatus();
}

io::Task<absl::Status> StoreHarness::DeleteSnapshot(Change* change) {
  VolumeModel* volume = model_.Find(change->volume);
  const pool::SnapshotId snapshot = volume->snapshots.at(change->snapshot).id;
  const auto drop = [snapshot](engine::Engine* engine) { return engine->DeleteSnapshot(snapshot); };
  CO_RETURN_IF_ERROR(co_await WithEngine(*volume, drop));
  volume->snapshots.erase(change->snapshot);
  merge_expected_ = true;
  co_return absl::OkStatus();
}

io::Task<absl::Status> StoreHarness::WithEngine(
    const VolumeModel& volume, absl::AnyInvocable<io::Task<absl::Status>(engine::Engine*)> change) {
  if (volume.attached) co_return co_await change(life_.engines.at(volume.name).get());
  engine::EngineOptions options;
  const pool::ReplicaId id = volume.id;
  CO_ASSIGN_OR_RETURN(std::unique_ptr<engine::Engine> engine,
                      co_await engine::Engine::Attach(life_.store.get(), id, options));
  absl::Status status = co_await change(engine.get());
  absl::Status detached = co_await engine->Detach();
  co_return status.ok() ? detached : status;
}

io::Task<absl::Status> StoreHarness::Grow(Change* change) {
  VolumeModel* volume = model_.Find(change->volume);
  const std::uint64_t size_bytes = change->size_blocks * kModelBlockBytes;
  const auto grow = [size_bytes](engine::Engine* engine) { return engine->Grow(size_bytes); };
  CO_RETURN_IF_ERROR(co_await WithEngine(*volume, grow));
  volume->size_blocks = change->size_blocks;
  co_return absl::OkStatus();
}

io::Task<absl::Status> StoreHarness::Roll(Change* change) {
  VolumeModel* volume = model_.Find(change->volume);
  CO_RETURN_IF_ERROR(co_await life_.engines.at(change->volume)->RollGeneration());
  volume->rolled = change->began;
  model_.Flushed(volume, change->began);
  co_return absl::OkStatus();
}

io::Task<absl::Status> StoreHarness::Attach(Change* change) {
  VolumeModel* volume = model_.Find(change->volume);
  engine::EngineOptions options;
  options.segment.generation_interval_ns = knobs_.generation_interval_ns;
  const pool::ReplicaId id = volume->id;
  CO_ASSIGN_OR_RETURN(std::unique_ptr<engine::Engine> attached,
                      co_await engine::Engine::Attach(life_.store.get(), id, options));
  life_.engines[change->volume] = std::move(attached);
  volume->attached = true;
  co_return absl::OkStatus();
}

io::Task<absl::Status> StoreHarness::Detach(Change* change) {
  VolumeModel* volume = model_.Find(change->volume);
  absl::Status status = co_await life_.engines.at(change->volume)->Detach();
  life_.engines.erase(change->volume);
  volume->attached = false;
  if (status.ok()) {
    volume->rolled = change->began;
    model_.Flushed(volume, change->began);
  }
  co_return status;
}

io::Task<absl::Status> StoreHarness::VerifySnapshot(Change* change) {
  VolumeModel* source = model_.Find(change->source);
  SnapshotModel* snapshot = &source->snapshots.at(change->snapshot);
  auto task = life_.store->Clone(source->id, snapshot->id, change->volume, 0, 1);
  CO_ASSIGN_OR_RETURN(const pool::ReplicaId id, co_await std::move(task));
  cloned_ = true;
  engine::EngineOptions options;
  options.read_only = world_.random().Coin();
  CO_ASSIGN_OR_RETURN(std::unique_ptr<engine::Engine> engine,
                      co_await engine::Engine::Attach(life_.store.get(), id, options));
  absl::Status read = co_await ReadClone(engine.get(), change, snapshot);
  absl::Status detached = co_await engine->Detach();
  engine.reset();
  CO_RETURN_IF_ERROR(read);
  CO_RETURN_IF_ERROR(detached);
  SIM_PROBE("store: a snapshot was verified");
  co_return co_await life_.store->Delete(id);
}

io::Task<absl::Status> StoreHarness::ReadClone(engine::Engine* engine, const Change* change,
                                               SnapshotModel* snapshot) {
  if (engine->size_bytes() != snapshot->size_blocks * kModelBlockBytes) {
    Fail(absl::StrCat(Name(*change), ": wrong size ", engine->size_bytes()));
  }
  constexpr std::uint64_t kStep = 64;
  const std::unique_ptr<std::byte, FreeAligned> buffer(static_cast<std::byte*>(
      ::operator new(kStep* kModelBlockBytes, std::align_val_t{io::kIoAlignment})));
  for (std::uint64_t first = 0; first < snapshot->size_blocks && !Failed();) {
    // A range that was never written is read now and then.
    const auto next = snapshot->blocks.lower_bound(first);
    const bool hole = next == snapshot->blocks.end() || next->first >= first + kStep;
    std::uint64_t count = std::min(kStep, snapshot->size_blocks - first);
    if (hole && !world_.random().Chance(0.1)) {
      first += count;
      continue;
    }
    const std::span<std::byte> bytes(buffer.get(), count * kModelBlockBytes);
    const std::uint64_t began = model_.Tick();
    absl::Status status = co_await engine->Read(first * kModelBlockBytes, bytes);
    if (absl::IsDataLoss(status) && model_.MayBeLost(snapshot->blocks, first, count, began)) {
      first += count;
      continue;
    }
    CO_RETURN_IF_ERROR(status);
    const std::string wrong =
        model_.CheckRead(Name(*change), &snapshot->blocks, first, bytes, began, !PoolFailed());
    if (!wrong.empty()) Fail(wrong);
    first += count;
  }
  co_return absl::OkStatus();
}

}  // namespace keelson::sim
