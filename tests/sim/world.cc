#include "tests/sim/world.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_meta_store.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/sim_stream.h"

// What a dead process held is leaked on purpose (world.h).
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }

namespace keelson::sim {
namespace {

enum TraceKind : std::uint64_t { kEventRuns = 1, kReadyRuns, kProcessStarts, kProcessDies, kCut };

}  // namespace

World::World(std::uint64_t seed)
    : random_(seed), boot_(MakeId()), network_(std::make_unique<SimNetwork>(this)) {}

World::~World() {
  while (!processes_.empty()) EndProcess(processes_.back().get());
}

pool::Uuid World::MakeId() {
  pool::Uuid id;
  const std::uint64_t words[2] = {random_.Next(), random_.Next()};
  std::memcpy(id.bytes.data(), words, sizeof(words));
  return id;
}

SimReactor* World::StartProcess(std::size_t buffer_arena_bytes) {
  Trace(kProcessStarts);
  processes_.push_back(std::make_unique<SimReactor>(this, buffer_arena_bytes));
  return processes_.back().get();
}

void World::EndProcess(SimReactor* process) {
  std::erase_if(events_, [process](const auto& entry) { return entry.second.process == process; });
  const auto found =
      std::find_if(processes_.begin(), processes_.end(),
                   [process](const auto& candidate) { return candidate.get() == process; });
  KEEL_CHECK(found != processes_.end(), "a process dies once");
  SimReactor* const leaked = found->release();
  processes_.erase(found);
  const std::span<std::byte> arena = leaked->buffers().arena();
  madvise(arena.data(), arena.size(), MADV_DONTNEED);
}

void World::Kill(SimReactor* process) {
  Trace(kProcessDies);
  for (auto& [path, disk] : disks_) disk->ProcessDied(process);
  for (auto& [path, disk] : meta_disks_) disk->ProcessDied(process);
  network_->ProcessDied(process);
  EndProcess(process);
}

void World::PowerCut() {
  while (!processes_.empty()) Kill(processes_.back().get());
  Trace(kCut);
  for (auto& [path, disk] : disks_) disk->PowerCut();
  for (auto& [path, disk] : meta_disks_) disk->PowerCut();
  boot_ = pool::BootId(MakeId());
}

SimDisk* World::AddDisk(const std::string& path, std::uint64_t size_bytes) {
  std::unique_ptr<SimDisk>& disk = disks_[path];
  if (disk == nullptr) disk = std::make_unique<SimDisk>(this, path, size_bytes);
  return disk.get();
}

SimDisk* World::FindDisk(const std::string& path) {
  const auto found = disks_.find(path);
  return found == disks_.end() ? nullptr : found->second.get();
}

SimMetaDisk* World::AddMetaDisk(const std::string& path) {
  std::unique_ptr<SimMetaDisk>& disk = meta_disks_[path];
  if (disk == nullptr) disk = std::make_unique<SimMetaDisk>(this);
  return disk.get();
}

World::EventKey World::After(SimReactor* process, std::int64_t delay_ns,
                             absl::AnyInvocable<void()> action) {
  return At(process, now_ns_ + delay_ns, std::move(action));
}

World::EventKey World::At(SimReactor* process, std::int64_t when_ns,
                          absl::AnyInvocable<void()> action) {
  const EventKey key{when_ns, ++sequence_};
  events_.emplace(key, Event{process, std::move(action)});
  return key;
}

void World::RunFirstEvent() {
  auto first = events_.extract(events_.begin());
  now_ns_ = std::max(now_ns_, first.key().first);
  Trace(kEventRuns, first.key().second);
  first.mapped().action();
}

bool World::Step() {
  std::size_t ready_count = 0;
  for (const auto& process : processes_) ready_count += process->HasReady() ? 1 : 0;
  const bool event_due = !events_.empty() && events_.begin()->first.first <= now_ns_;
  if (ready_count == 0 || (event_due && random_.Coin())) {
    if (events_.empty()) return false;
    RunFirstEvent();
    return true;
  }
  std::uint64_t chosen = ready_count == 1 ? 0 : random_.Below(ready_count);
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    if (!processes_[i]->HasReady() || chosen-- > 0) continue;
    Trace(kReadyRuns, i);
    now_ns_ += static_cast<std::int64_t>(random_.Below(2'000));  // a turn takes a little time
    processes_[i]->RunReady();
    break;
  }
  return true;
}

void World::RunSteps(std::uint64_t steps) {
  for (std::uint64_t i = 0; i < steps && Step(); ++i) {
  }
}

void World::RunUntil(std::int64_t until_ns) {
  while (now_ns_ < until_ns) {
    bool ready = false;
    for (const auto& process : processes_) ready = ready || process->HasReady();
    if (!ready && (events_.empty() || events_.begin()->first.first > until_ns)) {
      now_ns_ = until_ns;
      return;
    }
    Step();
  }
}

}  // namespace keelson::sim
