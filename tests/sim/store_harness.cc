#include "tests/sim/store_harness.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "blockstore/replica/check.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

}  // namespace

StoreHarness::Knobs StoreHarness::DrawKnobs(Random* random) {
  Knobs knobs;
  knobs.pool_extents = random->Between(8, random->Coin() ? 16 : 48);
  knobs.volumes_max = random->Between(1, 4);
  knobs.volume_blocks_max = 256 * random->Between(1, random->Chance(0.1) ? 32 : 6);
  knobs.io_blocks_max = random->Coin() ? 8 : 64;
  knobs.depth_max = random->Between(1, 8);
  knobs.actions = random->Between(30, random->Chance(0.2) ? 1500 : 500);
  knobs.steps_between_max = random->Coin() ? 8 : 60;
  knobs.generation_interval_ns = random->Coin() ? 2'000'000 : 5'000'000'000;
  knobs.kills = random->Chance(0.7);
  knobs.cuts = random->Chance(0.7);
  knobs.kills_during_open = random->Chance(0.4);
  knobs.flips = random->Chance(0.3);
  knobs.snapshots = random->Chance(0.8);
  knobs.trims = random->Chance(0.7);
  knobs.hot = random->Coin() ? 0.2 : 0.7;
  FaultMix& disk = knobs.disk;
  disk.survives_cut = random->Coin() ? 0.5 : 0.9;
  disk.torn = random->Coin() ? 0.0 : 0.3;
  if (random->Chance(0.25)) disk.read_error = 0.02;
  if (random->Chance(0.25)) disk.write_error = 0.01;
  if (random->Chance(0.25)) disk.flush_error = 0.05;
  if (random->Chance(0.15)) disk.write_full = 0.02;
  disk.sticky_errors = random->Chance(0.3);
  disk.lose_after_failed_flush = random->Coin();
  if (random->Chance(0.3)) disk.stall = 0.02;
  if (random->Chance(0.15)) knobs.meta.commit_error = 0.005;
  if (random->Chance(0.3)) knobs.meta.stall = 0.02;
  return knobs;
}

StoreHarness::StoreHarness(std::uint64_t seed) : world_(seed), knobs_(DrawKnobs(&world_.random())) {
  disk_ = world_.AddDisk(kDataPath, (knobs_.pool_extents + 1) * kMiB);
  meta_disk_ = world_.AddMetaDisk(kMetaPath);
}

StoreHarness::~StoreHarness() {
  // A run that ended in a failure leaves a living process behind.
  life_.Leak();
}

std::string StoreHarness::Run() {
  life_.process = world_.StartProcess();
  const std::optional<absl::Status> formatted = world_.RunTask(FormatStore(&world_, life_.process));
  if (!formatted.has_value() || !formatted->ok()) return "formatting the pool failed";
  world_.Kill(life_.process);
  life_.Leak();
  Open();
  for (std::uint64_t i = 0; i < knobs_.actions && !Failed(); ++i) {
    Act();
    world_.RunSteps(world_.random().Below(knobs_.steps_between_max));
  }
  if (!Failed()) Finish();
  return error_;
}

void StoreHarness::Fail(const std::string& what) {
  Tell(absl::StrCat("FAILURE ", what));
  if (error_.empty()) error_ = what;
}

void StoreHarness::Tell(const std::string& what) const {
  if (!verbose_) return;
  std::fprintf(stderr, "%12.3f us  %s\n",
               static_cast<double>(world_.now_ns() % 1'000'000'000'000) / 1e3, what.c_str());
}

void StoreHarness::TellPool() {
  if (!verbose_) return;
  const auto lines = world_.RunTask(replica::DumpPool(life_.store.get()));
  if (!lines.has_value() || !lines->ok()) return;
  for (const std::string& line : **lines) Tell(line);
}

VolumeModel* StoreHarness::RandomVolume() {
  if (model_.volumes().empty()) return nullptr;
  auto chosen = model_.volumes().begin();
  std::advance(chosen, world_.random().Below(model_.volumes().size()));
  return chosen->second.get();
}

void StoreHarness::SetFaults(bool on) {
  FaultMix& disk = disk_->faults();
  disk = knobs_.disk;
  meta_disk_->faults() = knobs_.meta;
  if (on) return;
  disk_->Heal();
  disk.read_error = disk.write_error = disk.flush_error = disk.write_full = disk.stall = 0;
  meta_disk_->faults() = MetaFaults{};
}

// An operation that began under faults may end after they were switched off.
bool StoreHarness::DiskFaultsPossible() const {
  return knobs_.disk.read_error > 0 || knobs_.disk.write_error > 0 || knobs_.disk.flush_error > 0 ||
         knobs_.disk.write_full > 0 || knobs_.meta.commit_error > 0;
}

void StoreHarness::FailHang(const std::string& what) {
  const pool::PoolSpace space = life_.store->pool().space();
  Fail(absl::StrCat("hang: ", what, " never ends (pool: ", space.used_bytes >> 20, " MiB used, ",
                    space.reclaiming_bytes >> 20, " reclaiming, ", space.free_bytes >> 20,
                    " free)"));
}

void StoreHarness::DrainIo() {
  if (!world_.StepWhile([this] { return !ios_.empty() && !Failed(); })) {
    FailHang(Name(*ios_.begin()->second));
  }
}

void StoreHarness::Drain() {
  DrainIo();
  if (!world_.StepWhile([this] { return change_ != nullptr && !Failed(); })) {
    FailHang(Name(*change_));
  }
}

void StoreHarness::Act() {
  Random& random = world_.random();
  const std::uint64_t dice = random.Below(200);
  if (PoolFailed() ? random.Chance(0.15) : dice < 6) return EndLife();
  if (dice < 10 && knobs_.flips && !PoolFailed()) return FlipABit();
  if (dice < 13) return CheckSpace();
  VolumeModel* const volume = RandomVolume();
  if (volume != nullptr) return ActOnVolume(volume);
  if (change_ != nullptr || PoolFailed()) return;
  Change create;
  create.kind = ChangeKind::kCreate;
  create.volume = absl::StrCat("v", next_name_++);
  create.size_blocks = 256 + random.Below(knobs_.volume_blocks_max - 255);
  StartChange(std::move(create));
}

// One life ends, and the next begins.
void StoreHarness::EndLife() {
  Random& random = world_.random();
  if (PoolFailed()) SIM_PROBE("store: a failed pool was reopened");
  if ((knobs_.kills || knobs_.cuts) && random.Chance(0.8)) {
    // In the middle of things.
    const std::uint64_t last_actions = random.Below(6);
    for (std::uint64_t i = 0; i < last_actions && !Failed(); ++i) {
      VolumeModel* const volume = RandomVolume();
      if (volume != nullptr) ActOnVolume(volume);
    }
    world_.RunSteps(random.Below(random.Coin() ? 12 : 60));
    if (!Failed()) Crash(knobs_.cuts && (!knobs_.kills || random.Coin()));
  } else {
    Restart();
  }
  if (!Failed()) Open();
  if (!Failed() && random.Coin()) VerifyVolumes(random.Coin());
}

void StoreHarness::ActOnVolume(VolumeModel* volume) {
  Random& random = world_.random();
  const bool structural = change_ == nullptr && !PoolFailed();
  if (structural && random.Chance(volume->attached ? 0.12 : 0.3)) return StartRandomChange(volume);
  if (!volume->attached) {
    if (!structural) return;
    Change attach;
    attach.kind = ChangeKind::kAttach;
    attach.volume = volume->name;
    return StartChange(std::move(attach));
  }
  // A volume that is about to be detached gets no new work; one that grows or is snapshotted does.
  if (change_ != nullptr && volume->busy &&
      (change_->kind == ChangeKind::kDelete || change_->kind == ChangeKind::kDetach)) {
    return;
  }
  const std::uint64_t burst = random.Between(1, 3);
  for (std::uint64_t i = 0; i < burst; ++i) StartRandomIo(volume);
}

// What the pool says it uses lies between what the model needs at least and at most.
void StoreHarness::CheckSpace() {
  Drain();
  if (Failed() || PoolFailed() || life_.store == nullptr) return;
  if (!world_.RunTask(life_.store->WaitForCleanup())) return Fail("WaitForCleanup hangs");
  if (PoolFailed()) return;
  if (std::exchange(merge_expected_, false)) SIM_PROBE("store: a merge finished");
  const std::uint64_t used = life_.store->pool().space().used_bytes / pool::kExtentBytes;
  const std::uint64_t needed =
      (model_.BlocksMin() + pool::kBlocksPerExtent - 1) / pool::kBlocksPerExtent;
  if (used < needed) {
    return Fail(absl::StrCat("the pool uses ", used, " extents, the data needs ", needed));
  }
  // Clones may share, and keep, what neither shows, and an I/O error puts a merge off: only without
  // them is there an upper bound.
  if (!cloned_ && !DiskFaultsPossible() && used > model_.ExtentsMax()) {
    TellPool();
    Fail(absl::StrCat("the pool uses ", used, " extents, the data needs at most ",
                      model_.ExtentsMax()));
  }
}

void StoreHarness::Finish() {
  Random& random = world_.random();
  Drain();
  if (Failed()) return;
  if (PoolFailed() || random.Coin()) {
    if (random.Coin()) {
      Crash(knobs_.cuts && random.Coin());
    } else {
      Restart();
    }
    if (!Failed()) Open();
  }
  if (Failed()) return;
  SetFaults(false);
  knobs_.disk.read_error = knobs_.disk.write_error = knobs_.disk.flush_error = 0;
  knobs_.disk.write_full = knobs_.meta.commit_error = 0;
  VerifyVolumes(/*all=*/true);
  if (PoolFailed() || Failed()) return;
  std::vector<Change> last;
  for (const auto& [name, volume] : model_.volumes()) {
    for (const auto& [snapshot_name, snapshot] : volume->snapshots) {
      Change verify;
      verify.kind = ChangeKind::kVerifySnapshot;
      verify.source = name;
      verify.snapshot = snapshot_name;
      verify.volume = absl::StrCat("verify-v", next_name_++);
      last.push_back(std::move(verify));
    }
  }
  for (const auto& [name, volume] : model_.volumes()) {
    Change gone;
    gone.kind = ChangeKind::kDelete;
    gone.volume = name;
    last.push_back(std::move(gone));
  }
  for (Change& change : last) {
    if (!Failed()) FinishChange(std::move(change));
  }
  if (!Failed()) RemoveLeftovers();
  if (!Failed()) ExpectEmptyPool();
}

void StoreHarness::ExpectEmptyPool() {
  if (!world_.RunTask(life_.store->WaitForCleanup())) return Fail("the last WaitForCleanup hangs");
  const std::optional<absl::Status> flushed = world_.RunTask(life_.store->pool().changes().Flush());
  if (!flushed.has_value()) return Fail("the last flush hangs");
  world_.RunUntil(world_.now_ns() + 1'000'000'000);
  const pool::PoolSpace space = life_.store->pool().space();
  if (space.used_bytes != 0 || space.reclaiming_bytes != 0) {
    return Fail(absl::StrCat("all volumes are deleted, but ", space.used_bytes,
                             " bytes are used and ", space.reclaiming_bytes, " reclaiming"));
  }
  CheckTables();
  if (Failed()) return;
  Restart();
}

}  // namespace keelson::sim
