#pragma once
// World: everything that is outside the product in a simulation: virtual time, one source of
// chance, the disks and metadata disks that outlive processes, and the network. One thread. The
// same seed and the same calls give the same run, event by event; trace_hash() is the proof.
//
// Life and death. A SimReactor is one process. Kill (a process dies) and PowerCut (a machine dies
// with every process on it) decide what became of operations in flight, and then never run the
// reactor again. The product's objects and suspended coroutines of that life must be *leaked*, not
// destroyed: a destructor would act (give back a lock, resume a waiter) in a process that is no
// more, and WaitList and Gate rightly abort when they die with waiters. The owner of such objects
// calls release() on its unique_ptrs. Leak checking is off in simulation binaries for this reason
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
#include "tests/sim/random.h"

namespace keelson::sim {

class SimDisk;
class SimMetaDisk;
class SimNetwork;
class SimReactor;

class World {
 public:
  explicit World(std::uint64_t seed);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Random& random() { return random_; }
  std::int64_t now_ns() const { return now_ns_; }
  pool::Uuid MakeId();
  // The boot id of the machine; another one after PowerCut.
  const pool::BootId& boot() const { return boot_; }

  // Folds an event into the trace.
  void Trace(std::uint64_t kind, std::uint64_t a = 0, std::uint64_t b = 0) {
    trace_hash_ = Mix(trace_hash_ + kind) ^ Mix(a * 31 + b + static_cast<std::uint64_t>(now_ns_));
  }
  std::uint64_t trace_hash() const { return trace_hash_; }

  // A new process. The World owns it; it is never destroyed before the World.
  SimReactor* StartProcess(std::size_t buffer_arena_bytes = std::size_t{4} << 20);
  // The process is gone: operations in flight happened or not, wholly or torn; completed ones stay.
  void Kill(SimReactor* process);
  // The machine is gone, and comes back: every process dies, what no flush covered is kept, dropped
  // or torn, unsynced metadata survives up to a random point, the boot id is another one.
  void PowerCut();

  // The disk at `path`; made (zeroes) when it does not exist.
  SimDisk* AddDisk(const std::string& path, std::uint64_t size_bytes);
  SimDisk* FindDisk(const std::string& path);
  SimMetaDisk* AddMetaDisk(const std::string& path);
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
  void Cancel(EventKey key) { events_.erase(key); }

 private:
  struct Event {
    SimReactor* process;
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
  void EndProcess(SimReactor* process);

  Random random_;
  std::int64_t now_ns_ = 1'000'000'000;
  std::uint64_t sequence_ = 0;
  std::uint64_t trace_hash_ = 0;
  pool::BootId boot_;
  std::map<EventKey, Event> events_;
  std::vector<std::unique_ptr<SimReactor>> processes_;  // the living ones
  std::map<std::string, std::unique_ptr<SimDisk>> disks_;
  std::map<std::string, std::unique_ptr<SimMetaDisk>> meta_disks_;
  std::unique_ptr<SimNetwork> network_;
};

}  // namespace keelson::sim
