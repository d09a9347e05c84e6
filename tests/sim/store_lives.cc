// StoreHarness: how a life of the store ends and the next begins, and what must be true then.

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "blockstore/replica/check.h"
#include "tests/sim/probe.h"
#include "tests/sim/store_harness.h"

namespace keelson::sim {
namespace {

bool IsLeftover(const std::string& name) { return name.starts_with("verify-"); }

}  // namespace

void StoreHarness::Crash(bool power_cut) {
  Tell(power_cut ? "POWER CUT" : "KILL");
  if (change_ != nullptr) {
    if (change_->kind == ChangeKind::kSnapshot) SIM_PROBE("store: a crash during a snapshot");
    if (change_->kind == ChangeKind::kDelete) SIM_PROBE("store: a crash during a delete");
    if (change_->kind == ChangeKind::kClone) SIM_PROBE("store: a crash during a clone");
    LeaveOpen(std::move(change_));
  }
  if (!ios_.empty()) SIM_PROBE("store: a crash with operations in flight");
  // Dying between a failed flush and the record of it is a double fault that nothing survives.
  if (meta_disk_->uncertain()) disk_->Forgive();
  if (power_cut) {
    world_.PowerCut();
  } else {
    world_.Kill(life_.process);
  }
  life_.Leak();
  model_.ProcessDied();
  ios_.clear();
  lost_.clear();
  if (power_cut) {
    flush_failures_seen_ = disk_->flush_failures();
    model_.LoseUnflushed(/*final=*/true);
  } else {
    ForgetLostWrites();
  }
}

// A life in which a flush failed ends the incarnation: what no flush covered may be gone (R3).
void StoreHarness::ForgetLostWrites() {
  if (disk_->flush_failures() == flush_failures_seen_) return;
  SIM_PROBE("store: reopened after a failed flush");
  flush_failures_seen_ = disk_->flush_failures();
  model_.LoseUnflushed(/*final=*/false);
}

// The orderly way: a daemon that stops and starts.
void StoreHarness::Restart() {
  Drain();
  while (!life_.engines.empty() && !Failed()) {
    Change detach;
    detach.kind = ChangeKind::kDetach;
    detach.volume = life_.engines.begin()->first;
    FinishChange(std::move(detach));
  }
  if (Failed()) return;
  const bool pool_failed = PoolFailed();
  const std::uint64_t began = model_.Tick();
  Tell("RESTART");
  const std::optional<absl::Status> closed = world_.RunTask(life_.store->Close());
  if (!closed.has_value()) return Fail("closing the store hangs");
  Tell(absl::StrCat("closed: ", closed->ToString()));
  if (closed->ok() && !pool_failed) {
    for (auto& [name, volume] : model_.volumes()) model_.Flushed(volume.get(), began);
  } else if (!closed->ok() && !pool_failed && !DiskFaultsPossible()) {
    return Fail(absl::StrCat("closing the store: ", closed->ToString()));
  }
  if (meta_disk_->uncertain()) disk_->Forgive();
  life_.store.reset();
  world_.Kill(life_.process);
  life_.process = nullptr;
  model_.ProcessDied();
  ForgetLostWrites();
}

void StoreHarness::Open() {
  for (int attempt = 0; !Failed(); ++attempt) {
    SetFaults(attempt < 3);
    if (OpenOnce(/*may_crash=*/attempt < 3 && knobs_.kills_during_open)) break;
    if (attempt == 8) return Fail("the pool cannot be opened, and the disk has no fault");
  }
  if (Failed()) return;
  SetFaults(false);
  Reconcile();
  if (!Failed()) CheckTables();
  if (!Failed()) RemoveLeftovers();
  SetFaults(true);
}

// False when it must be tried again, in another process.
bool StoreHarness::OpenOnce(bool may_crash) {
  if (world_.boot() == life_boot_ && meta_disk_->entry_count(pool::Table::kLog) > 0) {
    SIM_PROBE("store: a log was there to replay after a process died");
  }
  life_boot_ = world_.boot();
  life_.process = world_.StartProcess();
  std::optional<absl::StatusOr<std::unique_ptr<replica::ReplicaStore>>> opened;
  const auto store = [](World* world, SimReactor* process,
                        decltype(opened)* result) -> io::internal::Detached {
    auto value = co_await OpenStore(world, process);
    result->emplace(std::move(value));
  };
  store(&world_, life_.process, &opened);
  if (may_crash && world_.random().Chance(0.3)) {
    world_.RunSteps(world_.random().Below(60));
    if (!opened.has_value()) {
      SIM_PROBE("store: a crash during recovery");
      Crash(knobs_.cuts && world_.random().Coin());
      return false;
    }
  }
  if (!world_.StepWhile([&opened] { return !opened.has_value(); })) {
    Fail("opening the pool hangs");
    return false;
  }
  Tell(absl::StrCat("opened: ", opened->status().ToString()));
  if (opened->ok()) {
    life_.store = *std::move(*opened);
    return true;
  }
  const absl::Status& status = opened->status();
  if (!DiskFaultsPossible()) {
    Fail(absl::StrCat("opening the pool: ", status.ToString()));
    return false;
  }
  SIM_PROBE("store: opening failed by a disk fault");
  if (meta_disk_->uncertain()) disk_->Forgive();
  world_.Kill(life_.process);
  life_.Leak();
  ForgetLostWrites();
  return false;
}

void StoreHarness::Reconcile() {
  std::map<std::string, replica::ReplicaInfo> found;
  for (replica::ReplicaInfo& info : life_.store->List()) found.emplace(info.name, info);
  for (auto& change : open_changes_) {
    ResolveOpenChange(*change, found);
    graveyard_.push_back(std::move(change));
  }
  open_changes_.clear();
  CompareWithModel(found);
}

void StoreHarness::ResolveOpenChange(const Change& change,
                                     const std::map<std::string, replica::ReplicaInfo>& found) {
  const auto it = found.find(change.volume);
  const bool exists = it != found.end();
  VolumeModel* const volume = model_.Find(change.volume);
  const auto info_of = [&](const std::string& name) -> const replica::SnapshotInfo* {
    if (!exists) return nullptr;
    for (const replica::SnapshotInfo& info : it->second.snapshots) {
      if (info.name == name) return &info;
    }
    return nullptr;
  };
  switch (change.kind) {
    case ChangeKind::kCreate:
      if (exists) model_.Add(change.volume, it->second.id, change.size_blocks);
      break;
    case ChangeKind::kClone: {
      if (!exists) break;
      const SnapshotModel& source = model_.Find(change.source)->snapshots.at(change.snapshot);
      const std::uint64_t size = change.size_blocks == 0 ? source.size_blocks : change.size_blocks;
      model_.Add(change.volume, it->second.id, size)->blocks = source.blocks;
      cloned_ = true;
      break;
    }
    case ChangeKind::kDelete:
      if (!exists) model_.Remove(change.volume);
      break;
    case ChangeKind::kSnapshot:
      if (const replica::SnapshotInfo* info = info_of(change.snapshot); info != nullptr) {
        SIM_PROBE("store: a snapshot survived the crash that interrupted it");
        volume->snapshots[change.snapshot] = {info->id, change.size_blocks, change.frozen};
      }
      break;
    case ChangeKind::kDeleteSnapshot:
      if (info_of(change.snapshot) == nullptr) volume->snapshots.erase(change.snapshot);
      break;
    case ChangeKind::kGrow:
      if (exists && it->second.size_bytes == change.size_blocks * kModelBlockBytes) {
        volume->size_blocks = change.size_blocks;
      }
      break;
    case ChangeKind::kRoll:
    case ChangeKind::kAttach:
    case ChangeKind::kDetach:
    case ChangeKind::kVerifySnapshot:
      break;
  }
}

void StoreHarness::CompareWithModel(const std::map<std::string, replica::ReplicaInfo>& found) {
  for (const auto& [name, info] : found) {
    if (model_.Find(name) == nullptr && !IsLeftover(name)) {
      return Fail(absl::StrCat("volume ", name, " exists, but was deleted or never made"));
    }
  }
  for (const auto& [name, volume] : model_.volumes()) {
    const auto it = found.find(name);
    if (it == found.end()) return Fail(absl::StrCat("volume ", name, " is gone"));
    const replica::ReplicaInfo& info = it->second;
    if (info.size_bytes != volume->size_blocks * kModelBlockBytes || info.id != volume->id) {
      return Fail(absl::StrCat("volume ", name, " has ", info.size_bytes, " bytes instead of ",
                               volume->size_blocks * kModelBlockBytes, ", or another id"));
    }
    if (info.snapshots.size() != volume->snapshots.size()) {
      return Fail(absl::StrCat("volume ", name, " has ", info.snapshots.size(),
                               " snapshots instead of ", volume->snapshots.size()));
    }
    for (const replica::SnapshotInfo& snapshot : info.snapshots) {
      const auto known = volume->snapshots.find(snapshot.name);
      if (known == volume->snapshots.end() || known->second.id != snapshot.id ||
          known->second.size_blocks * kModelBlockBytes != snapshot.size_bytes) {
        return Fail(absl::StrCat("snapshot ", name, "@", snapshot.name, " is not what was made"));
      }
    }
  }
}

// Clones that were made to look into snapshots, and whose maker died.
void StoreHarness::RemoveLeftovers() {
  for (const replica::ReplicaInfo& info : life_.store->List()) {
    if (!IsLeftover(info.name)) continue;
    const std::optional<absl::Status> deleted = world_.RunTask(life_.store->Delete(info.id));
    if (!deleted.has_value()) return Fail("deleting a leftover clone hangs");
    if (!deleted->ok() && !PoolFailed()) {
      return Fail(absl::StrCat("deleting ", info.name, ": ", deleted->ToString()));
    }
  }
}

void StoreHarness::CheckTables() {
  replica::CheckOptions options;
  options.verify_data = model_.flips().empty() && world_.random().Chance(0.3);
  const auto report = world_.RunTask(replica::CheckPool(life_.store.get(), options));
  if (!report.has_value()) return Fail("checking the pool hangs");
  if (PoolFailed()) return;  // a flush that began under faults
  if (!report->ok()) return Fail(absl::StrCat("checking the pool: ", report->status().ToString()));
  if (!(*report)->problems.empty()) {
    Fail(absl::StrCat("pool check: ", (*report)->problems.front()));
  }
}

void StoreHarness::VerifyVolumes(bool all) {
  // By name: an attach is a change, and waits for others.
  std::vector<std::string> names;
  for (const auto& [name, volume] : model_.volumes()) names.push_back(name);
  for (const std::string& name : names) {
    Drain();
    VolumeModel* volume = model_.Find(name);
    if (Failed() || PoolFailed()) return;
    if (volume == nullptr) continue;
    if (!volume->attached) {
      Change attach;
      attach.kind = ChangeKind::kAttach;
      attach.volume = name;
      FinishChange(std::move(attach));
      if (Failed() || !volume->attached) continue;
    }
    ReadVolume(volume, all);
  }
}

// Rot in a block whose checksum is known: its region has not changed since a generation ended.
void StoreHarness::FlipABit() {
  Drain();
  if (Failed() || PoolFailed()) return;
  VolumeModel* const volume = RandomVolume();
  if (volume == nullptr || !volume->attached || volume->blocks.empty()) return;
  if (!world_.RunTask(life_.store->WaitForCleanup())) return Fail("WaitForCleanup hangs");
  // After a crash, what was not clean is known only once it has been read again.
  if (PoolFailed()) return;
  if (!replica::ReplicaStore::Resummed(*life_.store->Find(volume->id))) return;
  // Twice: regions written in the generation that ends are noted in the next one right away.
  for (int i = 0; i < 2; ++i) {
    Change roll;
    roll.kind = ChangeKind::kRoll;
    roll.volume = volume->name;
    FinishChange(std::move(roll));
    if (Failed() || PoolFailed()) return;
  }
  if (knobs_.disk.read_error == 0) volume->unclean.clear();
  for (int attempt = 0; attempt < 8; ++attempt) {
    auto it = volume->blocks.lower_bound(world_.random().Below(volume->size_blocks));
    if (it == volume->blocks.end()) it = volume->blocks.begin();
    if (FlipABitOf(*volume, it->first, it->second)) {
      if (world_.random().Coin()) StartIo(IoKind::kRead, volume, it->first, 1, false);
      return;
    }
  }
}

// False, and nothing done, when the block's content or its checksum may be unknown.
bool StoreHarness::FlipABitOf(const VolumeModel& volume, std::uint64_t block,
                              const BlockHistory& history) {
  const std::vector<BlockHistory::Entry> visible = history.Visible(model_.now());
  const std::uint64_t region = block * kModelBlockBytes / pool::kRegionBytes;
  const auto changed = volume.region_changed.find(region);
  if (visible.size() != 1 || !model_.versions().IsOf(visible[0].version, volume.tag) ||
      visible[0].state != BlockHistory::State::kDone || changed == volume.region_changed.end() ||
      changed->second >= volume.rolled || volume.unclean.contains(region)) {
    return false;
  }
  const auto place = std::pair(block, visible[0].version);
  if (model_.flips().contains(place)) return false;
  std::vector<std::byte> content(kModelBlockBytes);
  model_.versions().Fill(place.second, block, content);
  const auto bit = static_cast<std::uint32_t>(world_.random().Below(kModelBlockBytes * 8));
  bool flipped = false;
  for (std::uint64_t at = 0; at < disk_->block_count(); ++at) {
    if (std::memcmp(disk_->Current(at).data(), content.data(), kModelBlockBytes) != 0) continue;
    disk_->FlipBit(at, bit);
    Tell(absl::StrCat("bit ", bit, " of disk block ", at, " flips: block ", block, " of ",
                      volume.name));
    flipped = true;
  }
  if (!flipped) {
    Fail(absl::StrCat("block ", block, " of ", volume.name, " is nowhere on the disk"));
    return true;
  }
  SIM_PROBE("store: a bit was flipped");
  model_.flips()[place] = Flip{bit, /*known=*/true};
  return true;
}

}  // namespace keelson::sim
