// StoreHarness: reads, writes, trims and flushes, and what may be said of each when it ends.

#include <algorithm>
#include <new>

#include "absl/strings/str_cat.h"
#include "tests/sim/probe.h"
#include "tests/sim/store_harness.h"

namespace keelson::sim {

void StoreHarness::FreeAligned::operator()(std::byte* memory) const {
  ::operator delete(memory, std::align_val_t{io::kIoAlignment});
}

std::string StoreHarness::Name(const Io& io) const {
  static constexpr const char* kNames[] = {"read", "write", "trim", "flush"};
  return absl::StrCat(kNames[static_cast<int>(io.kind)], io.fua ? " (FUA)" : "", " of ",
                      io.volume->name, " blocks ", io.first, "+", io.count);
}

void StoreHarness::StartRandomIo(VolumeModel* volume) {
  Random& random = world_.random();
  if (volume->in_flight >= knobs_.depth_max) return;
  const std::uint64_t dice = random.Below(100);
  const IoKind kind = dice < 55                   ? IoKind::kWrite
                      : dice < 80                 ? IoKind::kRead
                      : dice < 92 && knobs_.trims ? IoKind::kTrim
                      : dice < 92                 ? IoKind::kWrite
                                                  : IoKind::kFlush;
  if (kind == IoKind::kFlush) {
    StartIo(kind, volume, 0, 0, false);
    return;
  }
  std::uint64_t count_max = random.Coin() ? 4 : knobs_.io_blocks_max;
  if (kind == IoKind::kTrim && random.Coin()) count_max = volume->size_blocks;
  // Much of the work meets in few places, so that it overlaps.
  std::uint64_t first = random.Below(volume->size_blocks);
  if (random.Chance(knobs_.hot)) first = random.Below(32) * (volume->size_blocks / 32);
  const std::uint64_t count = std::min(random.Between(1, count_max), volume->size_blocks - first);
  const bool fua = kind != IoKind::kRead && random.Chance(0.1);
  StartIo(kind, volume, first, count, fua);
}

void StoreHarness::StartIo(IoKind kind, VolumeModel* volume, std::uint64_t first,
                           std::uint64_t count, bool fua) {
  auto started = std::make_unique<Io>();
  Io* const io = started.get();
  *io = {
      kind,         volume, life_.engines.at(volume->name).get(), first, count, fua, next_op_++, 0,
      PoolFailed(), nullptr};
  if (kind == IoKind::kRead || kind == IoKind::kWrite) {
    io->buffer.reset(static_cast<std::byte*>(
        ::operator new(count* kModelBlockBytes, std::align_val_t{io::kIoAlignment})));
  }
  ios_.emplace(io->op, std::move(started));
  ++volume->in_flight;
  if (kind == IoKind::kWrite) {
    const Version version = model_.versions().New(volume->tag);
    for (std::uint64_t i = 0; i < count; ++i) {
      model_.versions().Fill(version, first + i,
                             io->bytes().subspan(i * kModelBlockBytes, kModelBlockBytes));
    }
    model_.BeginChange(volume, first, count, version, io->op);
  } else if (kind == IoKind::kTrim) {
    model_.BeginChange(volume, first, count, kZeroes, io->op);
  }
  io->began = model_.Tick();
  if (verbose_) Tell(absl::StrCat("op ", io->op, " begins: ", Name(*io)));
  if (kind == IoKind::kRead) volume->reads.insert(io->began);
  RunIo(this, io);
}

io::internal::Detached StoreHarness::RunIo(StoreHarness* harness, Io* io) {
  const std::uint64_t offset = io->first * kModelBlockBytes;
  absl::Status status;
  switch (io->kind) {
    case IoKind::kRead:
      status = co_await io->engine->Read(offset, io->bytes());
      break;
    case IoKind::kWrite:
      status = co_await io->engine->Write(offset, io->bytes(), io->fua);
      break;
    case IoKind::kTrim:
      status = co_await io->engine->Trim(offset, io->count * kModelBlockBytes, io->fua);
      break;
    case IoKind::kFlush:
      status = co_await io->engine->Flush();
      break;
  }
  harness->IoEnded(io, status);
}

void StoreHarness::IoEnded(Io* io, const absl::Status& status) {
  VolumeModel* const volume = io->volume;
  --volume->in_flight;
  world_.Trace(400 + static_cast<std::uint64_t>(io->kind), io->op,
               static_cast<std::uint64_t>(status.code()));
  if (verbose_) Tell(absl::StrCat("op ", io->op, " ends: ", status.ToString()));
  if (io->kind == IoKind::kRead) {
    if (status.ok()) {
      // A failed pool shows changes that failed with it and that the next life does not know.
      const std::string wrong = model_.CheckRead(Name(*io), &volume->blocks, io->first, io->bytes(),
                                                 io->began, !PoolFailed());
      if (!wrong.empty()) Fail(wrong);
    } else {
      JudgeIoError(*io, status);
      if (absl::IsDataLoss(status) && io->count > 1) {
        for (std::uint64_t i = 0; i < io->count; ++i) {
          lost_.emplace_back(volume->name, io->first + i);
        }
      }
    }
    volume->reads.erase(volume->reads.find(io->began));
  } else {
    if (io->kind != IoKind::kFlush) {
      model_.EndChange(volume, io->first, io->count, io->op, status.ok(), io->fua);
    } else if (status.ok()) {
      model_.Flushed(volume, io->began);
    }
    if (!status.ok()) JudgeIoError(*io, status);
    if (status.ok() && io->pool_had_failed) {
      Fail(absl::StrCat(Name(*io), " succeeded though the pool had failed before it began"));
    }
  }
  ios_.erase(io->op);
}

void StoreHarness::JudgeIoError(const Io& io, const absl::Status& status) {
  const bool reads = io.kind == IoKind::kRead;
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      if (PoolFailed() && !reads) {
        SIM_PROBE("store: a failed pool refused a change");
        return;
      }
      break;
    case absl::StatusCode::kInternal:
      if (DiskFaultsPossible()) return;
      break;
    case absl::StatusCode::kDataLoss:
      if (reads && model_.MayBeLost(io.volume->blocks, io.first, io.count, io.began)) {
        SIM_PROBE("store: rot was reported instead of returned");
        return;
      }
      break;
    case absl::StatusCode::kResourceExhausted:
      if (reads || io.kind == IoKind::kFlush) break;
      if (knobs_.disk.write_full > 0) return;
      // The rest of the pool may be promised to the writes that run beside this one.
      if (life_.store->pool().space().free_bytes <= 4 * knobs_.depth_max * pool::kExtentBytes) {
        SIM_PROBE("store: a write met a full pool");
        return;
      }
      break;
    default:
      break;
  }
  Fail(
      absl::StrCat(Name(io), " ended in ", status.ToString(), " for no reason known to the model"));
}

// Reads every block that was ever written, and some of the others.
void StoreHarness::ReadVolume(VolumeModel* volume, bool all) {
  Random& random = world_.random();
  for (auto it = volume->blocks.begin(); it != volume->blocks.end() && !Failed();) {
    const std::uint64_t first = it->first;
    std::uint64_t count = 0;
    while (it != volume->blocks.end() && it->first == first + count && count < 64) {
      ++it;
      ++count;
    }
    if (!all && random.Coin()) continue;
    if (volume->in_flight >= knobs_.depth_max) DrainIo();
    if (Failed()) return;
    StartIo(IoKind::kRead, volume, first, count, false);
  }
  for (int i = 0; i < 3; ++i) {
    const std::uint64_t first = random.Below(volume->size_blocks);
    StartIo(IoKind::kRead, volume, first, std::min<std::uint64_t>(64, volume->size_blocks - first),
            false);
  }
  DrainIo();
  // Which blocks of a lost range were it: each is read alone, and judged alone.
  for (const auto& [name, block] : std::exchange(lost_, {})) {
    VolumeModel* const owner = model_.Find(name);
    if (Failed() || owner == nullptr || !owner->attached || block >= owner->size_blocks) continue;
    StartIo(IoKind::kRead, owner, block, 1, false);
    DrainIo();
  }
}

}  // namespace keelson::sim
