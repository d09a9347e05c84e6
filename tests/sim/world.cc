#include "tests/sim/world.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "tests/sim/sim_reactor.h"
#include "tests/sim/sim_stream.h"

// What a dead process held is leaked on purpose (world.h).
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }

namespace keelson::sim {
namespace {

enum TraceKind : std::uint64_t {
  kEventRuns = 1,
  kReadyRuns,
  kProcessStarts,
  kProcessDies,
  kCut,
  kPause
};

}  // namespace

World::World(std::uint64_t seed) : random_(seed), network_(std::make_unique<SimNetwork>(this)) {
  AddMachine("127.0.0.1");
}

World::~World() {
  while (!processes_.empty()) EndProcess(processes_.back().get());
}

pool::Uuid World::MakeId() {
  pool::Uuid id;
  const std::uint64_t words[2] = {random_.Next(), random_.Next()};
  std::memcpy(id.bytes.data(), words, sizeof(words));
  return id;
}

Machine* World::AddMachine(const std::string& host) {
  machines_.push_back(std::make_unique<Machine>(this, host));
  return machines_.back().get();
}

SimReactor* World::StartProcess(Machine* machine, std::size_t buffer_arena_bytes) {
  Trace(kProcessStarts);
  processes_.push_back(std::make_unique<SimReactor>(this, machine, buffer_arena_bytes));
  machine->processes_.push_back(processes_.back().get());
  return processes_.back().get();
}

void World::EndProcess(SimReactor* process) {
  const auto of_process = [process](const auto& entry) { return entry.second.process == process; };
  std::erase_if(events_, of_process);
  std::erase_if(late_, of_process);
  const auto found =
      std::find_if(processes_.begin(), processes_.end(),
                   [process](const auto& candidate) { return candidate.get() == process; });
  KEEL_CHECK(found != processes_.end(), "a process dies once");
  SimReactor* const leaked = found->release();
  processes_.erase(found);
  const std::span<std::byte> arena = leaked->buffers().arena();
  madvise(arena.data(), arena.size(), MADV_DONTNEED);
}

void World::Kill(SimReactor* process) { Die(process, /*with_machine=*/false); }

void World::Die(SimReactor* process, bool with_machine) {
  Trace(kProcessDies);
  process->machine()->ProcessDied(process);
  network_->ProcessDied(process, with_machine);
  EndProcess(process);
}

void World::PowerCut(Machine* machine) {
  while (!machine->processes().empty()) Die(machine->processes().back(), /*with_machine=*/true);
  Trace(kCut);
  machine->LoseUnflushed();
}

void World::PowerCutAll() {
  for (const auto& machine : machines_) PowerCut(machine.get());
}

void World::Pause(SimReactor* process, std::int64_t duration_ns) {
  const std::int64_t until_ns = now_ns_ + duration_ns;
  if (until_ns <= process->paused_until_ns()) return;
  Trace(kPause, static_cast<std::uint64_t>(duration_ns));
  process->set_paused_until_ns(until_ns);
  At(nullptr, until_ns, [this, process, until_ns] { Resume(process, until_ns); });
}

void World::Pause(Machine* machine, std::int64_t duration_ns) {
  for (SimReactor* process : machine->processes()) Pause(process, duration_ns);
}

// The pause that ends at `until_ns` is over, unless the process died or is paused for longer.
void World::Resume(SimReactor* process, std::int64_t until_ns) {
  const bool alive = std::any_of(processes_.begin(), processes_.end(),
                                 [process](const auto& other) { return other.get() == process; });
  if (!alive || process->paused_until_ns() != until_ns) return;
  for (auto it = late_.begin(); it != late_.end();) {
    const auto late = it++;
    if (late->second.process == process) events_.insert(late_.extract(late));
  }
}

bool World::CanRun(SimReactor* process) const {
  return process->paused_until_ns() <= now_ns_ && process->HasReady();
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

void World::Cancel(EventKey key) {
  if (events_.erase(key) == 0) late_.erase(key);
}

void World::RunFirstEvent() {
  auto first = events_.extract(events_.begin());
  now_ns_ = std::max(now_ns_, first.key().first);
  SimReactor* const process = first.mapped().process;
  if (process != nullptr && process->paused_until_ns() > now_ns_) {
    late_.insert(std::move(first));
    return;
  }
  Trace(kEventRuns, first.key().second);
  first.mapped().action();
}

bool World::Step() {
  std::size_t ready_count = 0;
  for (const auto& process : processes_) ready_count += CanRun(process.get()) ? 1 : 0;
  const bool event_due = !events_.empty() && events_.begin()->first.first <= now_ns_;
  if (ready_count == 0 || (event_due && random_.Coin())) {
    if (events_.empty()) return false;
    RunFirstEvent();
    return true;
  }
  std::uint64_t chosen = ready_count == 1 ? 0 : random_.Below(ready_count);
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    if (!CanRun(processes_[i].get()) || chosen-- > 0) continue;
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
    for (const auto& process : processes_) ready = ready || CanRun(process.get());
    if (!ready && (events_.empty() || events_.begin()->first.first > until_ns)) {
      now_ns_ = until_ns;
      return;
    }
    Step();
  }
}

}  // namespace keelson::sim
