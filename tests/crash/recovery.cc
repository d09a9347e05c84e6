#include "tests/crash/recovery.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "blockstore/engine/engine.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/check.h"
#include "blockstore/replica/replica_store.h"
#include "tests/crash/recording.h"

namespace keelson::crash {
namespace {

constexpr std::size_t kSectorsPerBlock = kBlockBytes / kSectorBytes;
constexpr std::size_t kReadBlocks = 64;

class Checker {
 public:
  Checker(CrashReactor* reactor, const History& history, std::uint64_t cut, CutKind kind)
      : reactor_(reactor), history_(history), cut_(cut), kind_(kind) {}

  io::Task<absl::Status> Check(const CrashState* state);

 private:
  io::Task<absl::Status> CheckVolumes();
  absl::Status CheckNothingElse();
  io::Task<absl::Status> CheckVolume(const VolumeHistory* volume);
  absl::Status CheckSize(const VolumeHistory& volume, std::uint64_t size_bytes) const;
  io::Task<absl::Status> CheckContent(const VolumeHistory* volume, engine::Engine* engine);
  io::Task<absl::Status> CheckSnapshot(const VolumeHistory* volume,
                                       const SnapshotHistory* snapshot);
  io::Task<absl::Status> CheckSnapshotContent(const SnapshotHistory* snapshot,
                                              engine::Engine* engine);
  io::Task<absl::Status> CheckPool();
  io::Task<absl::Status> CheckWrite();
  const replica::ReplicaInfo* Find(const std::string& name) const;
  pool::BootId Boot() const { return kind_ == CutKind::kKilled ? RecordedBoot() : NextBoot(); }

  CrashReactor* reactor_;
  const History& history_;  // outlives this
  std::uint64_t cut_;
  CutKind kind_;
  std::unique_ptr<replica::ReplicaStore> store_;
  std::vector<replica::ReplicaInfo> found_;  // as recovery left it, before the checks add clones
};

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::DataLossError(absl::StrCat(parts...));
}

io::Task<absl::Status> Checker::Check(const CrashState* state) {
  CO_ASSIGN_OR_RETURN(pool::PoolDeps deps, MakeDeps(reactor_, state->files, state->disk, Boot()));
  CO_ASSIGN_OR_RETURN(std::unique_ptr<pool::Pool> pool, co_await pool::Pool::Open(std::move(deps)));
  CO_ASSIGN_OR_RETURN(store_, co_await replica::ReplicaStore::Open(std::move(pool)));
  found_ = store_->List();
  absl::Status status = CheckNothingElse();
  if (status.ok()) status = co_await CheckPool();
  if (status.ok()) status = co_await CheckVolumes();
  if (status.ok()) status = co_await CheckWrite();
  const absl::Status closed = co_await store_->Close();
  co_return status.ok() ? closed : status;
}

const replica::ReplicaInfo* Checker::Find(const std::string& name) const {
  const auto found = std::find_if(found_.begin(), found_.end(),
                                  [&name](const auto& info) { return info.name == name; });
  return found == found_.end() ? nullptr : &*found;
}

absl::Status Checker::CheckNothingElse() {
  for (const replica::ReplicaInfo& info : found_) {
    const auto asked = std::find_if(
        history_.volumes.begin(), history_.volumes.end(), [this, &info](const auto& volume) {
          return volume.name == info.name && volume.made.MayHaveHappened(cut_);
        });
    if (asked == history_.volumes.end()) {
      return Wrong("volume ", info.name, " is there and was never asked for");
    }
  }
  return absl::OkStatus();
}

io::Task<absl::Status> Checker::CheckVolumes() {
  for (const VolumeHistory& volume : history_.volumes) {
    const absl::Status status = co_await CheckVolume(&volume);
    if (!status.ok()) co_return Wrong(volume.name, ": ", std::string(status.message()));
  }
  co_return absl::OkStatus();
}

absl::Status Checker::CheckSize(const VolumeHistory& volume, std::uint64_t size_bytes) const {
  bool allowed = false;
  for (const VolumeHistory::Size& size : volume.sizes) {
    if (size.set.MustHaveHappened(cut_)) allowed = false;  // what came before is superseded
    if (!size.set.MayHaveHappened(cut_)) break;
    allowed = allowed || size_bytes == size.block_count * kBlockBytes;
  }
  return allowed ? absl::OkStatus() : Wrong("its size of ", size_bytes, " bytes is wrong");
}

io::Task<absl::Status> Checker::CheckVolume(const VolumeHistory* volume) {
  const replica::ReplicaInfo* info = Find(volume->name);
  if (info == nullptr) {
    const bool needed =
        volume->made.MustHaveHappened(cut_) && !volume->removed.MayHaveHappened(cut_);
    co_return needed ? Wrong("it is missing") : absl::OkStatus();
  }
  if (volume->removed.MustHaveHappened(cut_)) co_return Wrong("it was deleted and is back");
  CO_RETURN_IF_ERROR(CheckSize(*volume, info->size_bytes));
  CO_ASSIGN_OR_RETURN(
      const std::unique_ptr<engine::Engine> engine,
      co_await engine::Engine::Attach(store_.get(), info->id, engine::EngineOptions{}));
  const absl::Status content = co_await CheckContent(volume, engine.get());
  const absl::Status detached = co_await engine->Detach();
  CO_RETURN_IF_ERROR(content);
  CO_RETURN_IF_ERROR(detached);
  for (const SnapshotHistory& snapshot : volume->snapshots) {
    const absl::Status status = co_await CheckSnapshot(volume, &snapshot);
    if (!status.ok()) co_return Wrong(snapshot.name, ": ", std::string(status.message()));
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Checker::CheckContent(const VolumeHistory* volume, engine::Engine* engine) {
  io::Buffer buffer = co_await reactor_->buffers().Take(kReadBlocks * kBlockBytes);
  const std::size_t block_count = engine->size_bytes() / kBlockBytes;
  for (std::size_t first = 0; first < block_count; first += kReadBlocks) {
    const std::size_t count = std::min(kReadBlocks, block_count - first);
    CO_RETURN_IF_ERROR(
        co_await engine->Read(first * kBlockBytes, buffer.span().first(count * kBlockBytes)));
    for (std::size_t i = 0; i < count; ++i) {
      const std::vector<Stamp> allowed = volume->Allowed(first + i, cut_, kind_);
      for (std::size_t s = 0; s < kSectorsPerBlock; ++s) {
        const std::byte* sector = buffer.data() + i * kBlockBytes + s * kSectorBytes;
        const bool right =
            std::any_of(allowed.begin(), allowed.end(),
                        [s, sector](const Stamp& stamp) { return IsSectorOf(stamp, s, sector); });
        if (!right) {
          co_return Wrong("block ", first + i, " sector ", s, " holds ", DescribeSector(sector),
                          "; the oldest it may hold is write ", allowed.front().seq, " of volume ",
                          allowed.front().volume, ", and there are ", allowed.size(), " allowed");
        }
      }
    }
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Checker::CheckSnapshot(const VolumeHistory* volume,
                                              const SnapshotHistory* snapshot) {
  const replica::ReplicaInfo* info = Find(volume->name);
  const auto found =
      std::find_if(info->snapshots.begin(), info->snapshots.end(),
                   [snapshot](const auto& other) { return other.name == snapshot->name; });
  if (found == info->snapshots.end()) {
    const bool needed =
        snapshot->made.MustHaveHappened(cut_) && !snapshot->removed.MayHaveHappened(cut_);
    co_return needed ? Wrong("it is missing") : absl::OkStatus();
  }
  if (!snapshot->made.MayHaveHappened(cut_)) co_return Wrong("it was never asked for");
  if (snapshot->removed.MustHaveHappened(cut_)) co_return Wrong("it was deleted and is back");

  const std::string name = absl::StrCat("clone-of-", snapshot->name);
  CO_ASSIGN_OR_RETURN(const pool::ReplicaId clone,
                      co_await store_->Clone(info->id, found->id, name, /*size_bytes=*/0,
                                             /*created_unix_ns=*/2));
  CO_ASSIGN_OR_RETURN(
      const std::unique_ptr<engine::Engine> engine,
      co_await engine::Engine::Attach(store_.get(), clone, engine::EngineOptions{}));
  const absl::Status content = co_await CheckSnapshotContent(snapshot, engine.get());
  const absl::Status detached = co_await engine->Detach();
  CO_RETURN_IF_ERROR(content);
  CO_RETURN_IF_ERROR(detached);
  co_return co_await store_->Delete(clone);
}

io::Task<absl::Status> Checker::CheckSnapshotContent(const SnapshotHistory* snapshot,
                                                     engine::Engine* engine) {
  if (engine->size_bytes() != snapshot->blocks.size() * kBlockBytes) {
    co_return Wrong("its size of ", engine->size_bytes(), " bytes is wrong");
  }
  io::Buffer buffer = co_await reactor_->buffers().Take(kReadBlocks * kBlockBytes);
  const std::size_t block_count = snapshot->blocks.size();
  for (std::size_t first = 0; first < block_count; first += kReadBlocks) {
    const std::size_t count = std::min(kReadBlocks, block_count - first);
    CO_RETURN_IF_ERROR(
        co_await engine->Read(first * kBlockBytes, buffer.span().first(count * kBlockBytes)));
    for (std::size_t i = 0; i < count; ++i) {
      const std::byte* block = buffer.data() + i * kBlockBytes;
      const std::vector<Stamp>& allowed = snapshot->blocks[first + i];
      const bool right = std::any_of(allowed.begin(), allowed.end(), [block](const Stamp& stamp) {
        for (std::size_t s = 0; s < kSectorsPerBlock; ++s) {
          if (!IsSectorOf(stamp, s, block + s * kSectorBytes)) return false;
        }
        return true;
      });
      if (!right) {
        co_return Wrong("block ", first + i, " begins with ", DescribeSector(block),
                        "; it was write ", allowed.front().seq, " of volume ",
                        allowed.front().volume);
      }
    }
  }
  co_return absl::OkStatus();
}

io::Task<absl::Status> Checker::CheckPool() {
  co_await store_->WaitForCleanup();
  replica::CheckOptions options;
  options.verify_data = true;
  CO_ASSIGN_OR_RETURN(const replica::CheckReport report,
                      co_await replica::CheckPool(store_.get(), options));
  if (report.problems.empty()) co_return absl::OkStatus();
  co_return Wrong("pool check: ", absl::StrJoin(report.problems, "; "));
}

io::Task<absl::Status> Checker::CheckWrite() {
  CO_ASSIGN_OR_RETURN(const pool::ReplicaId id,
                      co_await store_->Create("after-the-crash", std::uint64_t{1} << 20,
                                              /*created_unix_ns=*/3));
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Engine> engine,
                      co_await engine::Engine::Attach(store_.get(), id, engine::EngineOptions{}));
  io::Buffer buffer = co_await reactor_->buffers().Take(kBlockBytes);
  const Stamp stamp{1000, 7, 1};
  FillBlock(stamp, buffer.data());
  const std::uint64_t offset = stamp.block * kBlockBytes;
  absl::Status status = co_await engine->Write(offset, buffer.span(), /*fua=*/false);
  if (status.ok()) status = co_await engine->Flush();
  std::fill(buffer.span().begin(), buffer.span().end(), std::byte{0});
  if (status.ok()) status = co_await engine->Read(offset, buffer.span());
  if (status.ok() && !IsSectorOf(stamp, 0, buffer.data())) {
    status = Wrong("a write after the crash reads back as ", DescribeSector(buffer.data()));
  }
  const absl::Status detached = co_await engine->Detach();
  co_return status.ok() ? detached : status;
}

io::Task<void> CheckInto(Checker* checker, const CrashState* state, absl::Status* result) {
  *result = co_await checker->Check(state);
}

}  // namespace

absl::Status CheckRecovery(CrashReactor* reactor, const History& history, const CrashState& state,
                           std::uint64_t cut, CutKind kind) {
  Checker checker(reactor, history, cut, kind);
  absl::Status result;
  if (!reactor->RunTask(CheckInto(&checker, &state, &result))) {
    return absl::DeadlineExceededError("the recovery hung");
  }
  return result;
}

}  // namespace keelson::crash
