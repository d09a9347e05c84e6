#include "tests/crash/workload.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace keelson::crash {
namespace {

constexpr std::size_t kVolumesMax = 5;
constexpr std::size_t kBlocksMax = 6;   // of a request
constexpr std::size_t kHotBlocks = 48;  // where most requests go: overwrites and neighbours
constexpr int kOperationsPerAct = 8;    // client operations between two of the administrator's
constexpr std::uint64_t kExtentBlocks = 256;

pool::SnapshotId FindSnapshot(const replica::ReplicaStore& store, pool::ReplicaId id,
                              const std::string& name) {
  for (const replica::ReplicaInfo& info : store.List()) {
    if (info.id != id) continue;
    for (const replica::SnapshotInfo& snapshot : info.snapshots) {
      if (snapshot.name == name) return snapshot.id;
    }
  }
  return {};
}

}  // namespace

void Workload::Expect(const absl::Status& status, const char* act) {
  if (status.ok() || !failure_.ok()) return;
  failure_ = absl::InternalError(absl::StrCat(act, ": ", status.ToString()));
}

io::Task<absl::Status> Workload::Run() {
  operations_left_ = options_.operations;
  co_await Create();
  co_await Create();
  if (failure_.ok()) {
    io::Gate gate;
    for (int i = 0; i < options_.client_count; ++i) gate.Spawn(Client());
    gate.Spawn(Administrator());
    co_await gate.Close();
  }
  for (const std::unique_ptr<Volume>& volume : volumes_) co_await Detach(volume.get());
  co_return failure_;
}

io::Task<void> Workload::Client() {
  while (operations_left_ > 0 && failure_.ok()) {
    const Range range = PickRange();
    if (range.volume == nullptr) {
      co_await reactor_->SleepFor(1000);
      continue;
    }
    --operations_left_;
    const std::uint64_t die = random_.Below(100);
    const bool fua = random_.Below(10) == 0;
    if (die < 55) {
      co_await Write(range, fua);
    } else if (die < 70) {
      co_await Trim(range, fua);
    } else if (die < 80) {
      co_await Read(range);
    } else {
      Release(range);
      co_await Flush(range.volume);
    }
    operation_ended_.WakeAll();
  }
  operation_ended_.WakeAll();
}

Workload::Volume* Workload::Pick() {
  std::vector<Volume*> served;
  for (const std::unique_ptr<Volume>& volume : volumes_) {
    if (volume->engine != nullptr && !volume->held) served.push_back(volume.get());
  }
  return served.empty() ? nullptr : served[random_.Below(served.size())];
}

// A range none of whose blocks has a request in flight, marked busy; no volume when chance finds
// none.
Workload::Range Workload::PickRange() {
  Volume* volume = Pick();
  if (volume == nullptr) return {};
  const std::size_t block_count = volume->busy.size();
  const std::size_t count = 1 + random_.Below(kBlocksMax);
  std::size_t first = random_.Below(kHotBlocks);
  if (random_.Below(4) == 0) first = random_.Below(block_count);
  // Some requests lie across the boundary of two extents.
  if (random_.Below(4) == 0) first = kExtentBlocks - random_.Below(kBlocksMax + 1);
  if (first + count > block_count) return {};
  for (std::size_t i = first; i < first + count; ++i) {
    if (volume->busy[i]) return {};
  }
  std::fill_n(volume->busy.begin() + static_cast<std::ptrdiff_t>(first), count, true);
  ++volume->in_flight;
  return {volume, first, count};
}

void Workload::Release(const Range& range) {
  std::fill_n(range.volume->busy.begin() + static_cast<std::ptrdiff_t>(range.first), range.count,
              false);
  --range.volume->in_flight;
}

std::uint64_t Workload::NoteVersions(const Range& range, bool zero, bool fua) {
  const std::uint64_t seq = zero ? 0 : next_seq_++;
  VolumeHistory& history = *range.volume->history;
  for (std::size_t i = range.first; i < range.first + range.count; ++i) {
    Version version;
    version.stamps = {{history.number, static_cast<std::uint32_t>(i), seq}};
    version.written.issued = Now();
    version.fua = fua;
    history.blocks[i].push_back(std::move(version));
  }
  return seq;
}

void Workload::AckVersions(const Range& range, const absl::Status& status) {
  // A full pool is no mistake; what became of the blocks is then open.
  if (status.code() != absl::StatusCode::kResourceExhausted) Expect(status, "write or trim");
  if (!status.ok()) return;
  for (std::size_t i = range.first; i < range.first + range.count; ++i) {
    range.volume->history->blocks[i].back().written.acked = Now();
  }
}

io::Task<void> Workload::Write(Range range, bool fua) {
  io::Buffer buffer = co_await reactor_->buffers().Take(range.count * kBlockBytes);
  const std::uint64_t seq = NoteVersions(range, /*zero=*/false, fua);
  for (std::size_t i = 0; i < range.count; ++i) {
    FillBlock({range.volume->history->number, static_cast<std::uint32_t>(range.first + i), seq},
              buffer.data() + i * kBlockBytes);
  }
  const absl::Status written =
      co_await range.volume->engine->Write(range.first * kBlockBytes, buffer.span(), fua);
  AckVersions(range, written);
  Release(range);
}

io::Task<void> Workload::Trim(Range range, bool fua) {
  NoteVersions(range, /*zero=*/true, fua);
  const absl::Status trimmed = co_await range.volume->engine->Trim(range.first * kBlockBytes,
                                                                   range.count * kBlockBytes, fua);
  AckVersions(range, trimmed);
  Release(range);
}

io::Task<void> Workload::Read(Range range) {
  io::Buffer buffer = co_await reactor_->buffers().Take(range.count * kBlockBytes);
  const absl::Status read =
      co_await range.volume->engine->Read(range.first * kBlockBytes, buffer.span());
  Expect(read, "read");
  for (std::size_t i = 0; read.ok() && i < range.count * 8; ++i) {
    const std::byte* sector = buffer.data() + i * kSectorBytes;
    const std::vector<Stamp> allowed =
        range.volume->history->Allowed(range.first + i / 8, Now(), CutKind::kKilled);
    const bool right = std::any_of(allowed.begin(), allowed.end(), [i, sector](const Stamp& stamp) {
      return IsSectorOf(stamp, i % 8, sector);
    });
    if (!right) {
      Expect(absl::InternalError(DescribeSector(sector)), "a read while recording was wrong");
    }
  }
  Release(range);
}

io::Task<void> Workload::Flush(Volume* volume) {
  ++volume->in_flight;
  Act flush{Now(), kNever};
  const absl::Status flushed = co_await volume->engine->Flush();
  Expect(flushed, "flush");
  flush.acked = Now();
  if (flushed.ok()) volume->history->flushes.push_back(flush);
  --volume->in_flight;
}

io::Task<void> Workload::Administrator() {
  while (operations_left_ > 0 && failure_.ok()) {
    const int resume_at = operations_left_ - kOperationsPerAct;
    while (operations_left_ > std::max(0, resume_at) && failure_.ok()) {
      co_await operation_ended_.Wait();
    }
    if (operations_left_ > 0) co_await AdministerOnce();
  }
}

io::Task<void> Workload::AdministerOnce() {
  Volume* volume = Pick();
  if (volume == nullptr) co_return;
  const std::uint64_t die = random_.Below(100);
  if (die < 30) {
    co_await Snapshot(volume);
  } else if (die < 45) {
    co_await DeleteSnapshot(volume);
  } else if (die < 60) {
    co_await Clone(volume);
  } else if (die < 65) {
    co_await Create();
  } else if (die < 73) {
    co_await Grow(volume);
  } else if (die < 88) {
    co_await RollGeneration(volume);
  } else if (die < 94) {
    co_await Detach(volume);
    co_await Attach(volume);
  } else if (volumes_.size() > 2) {
    co_await Delete(volume);
  }
}

Workload::Volume* Workload::AddVolume(std::uint64_t block_count) {
  VolumeHistory& history = history_->volumes.emplace_back();
  history.number = static_cast<std::uint32_t>(history_->volumes.size());
  history.name = absl::StrCat("volume-", history.number);
  history.made.issued = Now();
  history.sizes.push_back({block_count, {0, 0}});
  history.blocks.resize(block_count);
  for (std::vector<Version>& versions : history.blocks) {
    Version zeroes;
    zeroes.stamps = {Stamp{}};
    zeroes.written = {0, 0};
    versions.push_back(std::move(zeroes));
  }
  auto volume = std::make_unique<Volume>();
  volume->history = &history;
  volume->busy.resize(block_count);
  volumes_.push_back(std::move(volume));
  return volumes_.back().get();
}

io::Task<void> Workload::Create() {
  if (volumes_.size() >= kVolumesMax) co_return;
  const std::uint64_t block_count = kExtentBlocks * (1 + random_.Below(3)) + random_.Below(100);
  Volume* volume = AddVolume(block_count);
  absl::StatusOr<pool::ReplicaId> id = co_await store_->Create(
      volume->history->name, block_count * kBlockBytes, /*created_unix_ns=*/1);
  Expect(id.status(), "create");
  if (!id.ok()) co_return;
  volume->id = *id;
  volume->history->made.acked = Now();
  co_await Attach(volume);
}

io::Task<void> Workload::Attach(Volume* volume) {
  absl::StatusOr<std::unique_ptr<engine::Engine>> attached =
      co_await engine::Engine::Attach(store_, volume->id, engine::EngineOptions{});
  Expect(attached.status(), "attach");
  if (!attached.ok()) co_return;
  volume->engine = *std::move(attached);
  volume->held = false;
}

io::Task<void> Workload::Quieten(Volume* volume) {
  volume->held = true;
  while (volume->in_flight > 0) co_await reactor_->SleepFor(1000);
}

io::Task<void> Workload::Detach(Volume* volume) {
  if (volume->engine == nullptr) co_return;
  co_await Quieten(volume);
  Act flush{Now(), kNever};
  const absl::Status detached = co_await volume->engine->Detach();
  Expect(detached, "detach");
  flush.acked = Now();
  if (detached.ok()) volume->history->flushes.push_back(flush);
  volume->engine.reset();
}

io::Task<void> Workload::Snapshot(Volume* volume) {
  if (random_.Coin()) co_await Quieten(volume);
  SnapshotHistory& snapshot = volume->history->snapshots.emplace_back();
  snapshot.name = absl::StrCat("snapshot-", next_snapshot_++);
  snapshot.made.issued = Now();
  ++volume->in_flight;
  absl::StatusOr<pool::SnapshotId> made =
      co_await volume->engine->Snapshot(snapshot.name, /*created_unix_ns=*/1);
  --volume->in_flight;
  Expect(made.status(), "snapshot");
  if (made.ok()) {
    snapshot.made.acked = Now();
    volume->history->flushes.push_back(snapshot.made);
  }
  for (std::size_t i = 0; i < volume->history->blocks.size(); ++i) {
    // What was acknowledged when it was asked for, or anything later.
    snapshot.blocks.push_back(volume->history->Allowed(i, snapshot.made.issued, CutKind::kKilled));
    for (const Version& version : volume->history->blocks[i]) {
      if (version.written.issued <= snapshot.made.issued || version.written.issued == 0) continue;
      snapshot.blocks.back().insert(snapshot.blocks.back().end(), version.stamps.begin(),
                                    version.stamps.end());
    }
  }
  volume->held = false;
}

SnapshotHistory* Workload::PickSnapshot(Volume* volume) {
  std::vector<SnapshotHistory*> present;
  for (SnapshotHistory& snapshot : volume->history->snapshots) {
    if (snapshot.made.acked != kNever && snapshot.removed.issued == kNever) {
      present.push_back(&snapshot);
    }
  }
  return present.empty() ? nullptr : present[random_.Below(present.size())];
}

io::Task<void> Workload::DeleteSnapshot(Volume* volume) {
  SnapshotHistory* snapshot = PickSnapshot(volume);
  if (snapshot == nullptr) co_return;
  snapshot->removed.issued = Now();
  const pool::SnapshotId id = FindSnapshot(*store_, volume->id, snapshot->name);
  const absl::Status deleted = co_await volume->engine->DeleteSnapshot(id);
  Expect(deleted, "delete snapshot");
  snapshot->removed.acked = Now();
}

io::Task<void> Workload::Clone(Volume* volume) {
  SnapshotHistory* snapshot = PickSnapshot(volume);
  if (snapshot == nullptr || volumes_.size() >= kVolumesMax) co_return;
  const pool::SnapshotId id = FindSnapshot(*store_, volume->id, snapshot->name);
  Volume* clone = AddVolume(snapshot->blocks.size());
  for (std::size_t i = 0; i < snapshot->blocks.size(); ++i) {
    clone->history->blocks[i].front().stamps = snapshot->blocks[i];
  }
  absl::StatusOr<pool::ReplicaId> made = co_await store_->Clone(
      volume->id, id, clone->history->name, /*size_bytes=*/0, /*created_unix_ns=*/1);
  Expect(made.status(), "clone");
  if (!made.ok()) co_return;
  clone->id = *made;
  clone->history->made.acked = Now();
  co_await Attach(clone);
}

io::Task<void> Workload::Grow(Volume* volume) {
  const std::uint64_t block_count = volume->busy.size() + 1 + random_.Below(200);
  VolumeHistory& history = *volume->history;
  history.sizes.push_back({block_count, {Now(), kNever}});
  ++volume->in_flight;
  const absl::Status grown = co_await volume->engine->Grow(block_count * kBlockBytes);
  --volume->in_flight;
  Expect(grown, "grow");
  history.sizes.back().set.acked = Now();
  while (history.blocks.size() < block_count) {
    Version zeroes;
    zeroes.stamps = {Stamp{}};
    zeroes.written = {0, 0};
    history.blocks.emplace_back().push_back(std::move(zeroes));
  }
  volume->busy.resize(block_count);
}

io::Task<void> Workload::RollGeneration(Volume* volume) {
  ++volume->in_flight;
  Act flush{Now(), kNever};
  const absl::Status rolled = co_await volume->engine->RollGeneration();
  Expect(rolled, "roll generation");
  flush.acked = Now();
  if (rolled.ok()) volume->history->flushes.push_back(flush);
  --volume->in_flight;
}

io::Task<void> Workload::Delete(Volume* volume) {
  co_await Detach(volume);
  volume->history->removed.issued = Now();
  const absl::Status deleted = co_await store_->Delete(volume->id);
  Expect(deleted, "delete");
  volume->history->removed.acked = Now();
  std::erase_if(volumes_, [volume](const auto& owned) { return owned.get() == volume; });
}

}  // namespace keelson::crash
