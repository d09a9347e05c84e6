#pragma once
// World: everything that is outside the product in a simulation: virtual time, one source of
// chance, the machines with the disks that outlive their processes, and the network between them.
// One thread. The same seed and the same calls give the same run, event by event; trace_hash() is
// the proof. A World begins with one machine, which is meant wherever none is named.
//
// Life and death. A SimReactor is one process. Kill (a process dies) and PowerCut (a machine dies
// with every process on it) decide what became of operations in flight, and then never run the
// reactor again. Pause stops a process for a while: it computes nothing, while the time, its disks
// and the others go on; what should have happened in it meanwhile happens at the end, all at once.
// The product's objects and suspended coroutines of that life must be *leaked*, not destroyed: a
// destructor would act (give back a lock, resume a waiter) in a process that is no more, and
// WaitList and Gate rightly abort when they die with waiters. The owner of such objects calls
// release() on its unique_ptrs. Leak checking is off in simulation binaries for this reason
// (world.cc); the pages of a dead process's I/O arena are given back to the kernel.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "blockstore/io/task.h"
#include "blockstore/pool/ids.h"
#include "tests/sim/machine.h"
#include "tests/sim/random.h"

namespace keelson::sim {

class SimNetwork;

class World {
 public:
  explicit World(std::uint64_t seed);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Random& random() { return random_; }
  std::int64_t now_ns() const { return now_ns_; }
  pool::Uuid MakeId();
  // The boot id of the first machine; another one after PowerCut.
  const pool::BootId& boot() const { return machines_.front()->boot(); }

  // Folds an event into the trace.
  void Trace(std::uint64_t kind, std::uint64_t a = 0, std::uint64_t b = 0) {
    trace_hash_ = Mix(trace_hash_ + kind) ^ Mix(a * 31 + b + static_cast<std::uint64_t>(now_ns_));
  }
  std::uint64_t trace_hash() const { return trace_hash_; }

  // Another machine, at an address of its own in the network. Lives as long as the World.
  Machine* AddMachine(const std::string& host);
  Machine* machine() { return machines_.front().get(); }
  const std::vector<std::unique_ptr<Machine>>& machines() const { return machines_; }

  // A new process. The World owns it; it is never destroyed before the World.
  SimReactor* StartProcess(std::size_t buffer_arena_bytes = std::size_t{4} << 20) {
    return StartProcess(machine(), buffer_arena_bytes);
  }
  SimReactor* StartProcess(Machine* machine, std::size_t buffer_arena_bytes);
  // The process is gone: operations in flight happened or not, wholly or torn; completed ones stay.
  void Kill(SimReactor* process);
  // The machine is gone, and comes back: every process dies, what no flush covered is kept, dropped
  // or torn, unsynced metadata survives up to a random point, the boot id is another one.
  void PowerCut() { PowerCut(machine()); }
  void PowerCut(Machine* machine);
  // All machines at the same moment.
  void PowerCutAll();
  // Nothing of the process, or of the processes that the machine has now, runs for so long. Of two
  // pauses that overlap the later end counts.
  void Pause(SimReactor* process, std::int64_t duration_ns);
  void Pause(Machine* machine, std::int64_t duration_ns);

  // Disks of the first machine; see Machine.
  SimDisk* AddDisk(const std::string& path, std::uint64_t size_bytes) {
    return machine()->AddDisk(path, size_bytes);
  }
  SimDisk* FindDisk(const std::string& path) { return machine()->FindDisk(path); }
  SimMetaDisk* AddMetaDisk(const std::string& path) { return machine()->AddMetaDisk(path); }
  SimNetwork& network() { return *network_; }

  // Runs one thing: a ready coroutine, posted work, or the next event in time. False when nothing
  // will ever happen again by itself.
  bool Step();
  // Up to `steps` times Step.
  void RunSteps(std::uint64_t steps);
  // Until `until_ns` of virtual time.
  void RunUntil(std::int64_t until_ns);
  // Starts `task` and steps until it has completed. Empty when it did not within kStepsMax steps or
  // the world went idle before: it hangs.
  template <typename T>
  std::optional<T> RunTask(io::Task<T> task) {
    std::optional<T> result;
    StoreResult(std::move(task), &result);
    return StepWhile([&result] { return !result.has_value(); }) ? std::move(result) : std::nullopt;
  }
  bool RunTask(io::Task<void> task) {
    bool done = false;
    StoreDone(std::move(task), &done);
    return StepWhile([&done] { return !done; });
  }
  // Steps while `condition` holds; false when it still held after kStepsMax steps or with the world
  // idle.
  template <typename Condition>
  bool StepWhile(Condition condition) {
    for (std::uint64_t step = 0; condition(); ++step) {
      if (step == kStepsMax || !Step()) return false;
    }
    return true;
  }
  static constexpr std::uint64_t kStepsMax = 3'000'000;

  // For the simulated devices: `action` happens in `process` after `delay_ns`, unless it dies
  // before. Returns the event's key for Cancel.
  using EventKey = std::pair<std::int64_t, std::uint64_t>;  // time, tie breaker
  EventKey After(SimReactor* process, std::int64_t delay_ns, absl::AnyInvocable<void()> action);
  EventKey At(SimReactor* process, std::int64_t when_ns, absl::AnyInvocable<void()> action);
  void Cancel(EventKey key);

 private:
  struct Event {
    SimReactor* process;  // it happens there; null: outside of all of them
    absl::AnyInvocable<void()> action;
  };

  template <typename T>
  static io::internal::Detached StoreResult(io::Task<T> task, std::optional<T>* result) {
    T value = co_await std::move(task);
    result->emplace(std::move(value));
  }
  static io::internal::Detached StoreDone(io::Task<void> task, bool* done) {
    co_await std::move(task);
    *done = true;
  }
  void RunFirstEvent();
  bool CanRun(SimReactor* process) const;
  void Resume(SimReactor* process, std::int64_t until_ns);
  void Die(SimReactor* process, bool with_machine);
  void EndProcess(SimReactor* process);

  Random random_;
  std::int64_t now_ns_ = 1'000'000'000;
  std::uint64_t sequence_ = 0;
  std::uint64_t trace_hash_ = 0;
  std::vector<std::unique_ptr<Machine>> machines_;  // never fewer than one
  std::map<EventKey, Event> events_;
  std::map<EventKey, Event> late_;  // those whose time passed while their process was paused
  std::vector<std::unique_ptr<SimReactor>> processes_;  // the living ones
  std::unique_ptr<SimNetwork> network_;
};

}  // namespace keelson::sim
