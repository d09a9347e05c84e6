#pragma once
// Workload: what a recorded run does to a ReplicaStore: several clients write, trim, flush and read
// at the same time on several volumes, while an administrator snapshots, clones, grows, deletes,
// detaches and ends generations. Everything it asks for goes into a History. Seeded; one reactor.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blockstore/engine/engine.h"
#include "blockstore/io/gate.h"
#include "blockstore/replica/replica_store.h"
#include "tests/crash/crash_reactor.h"
#include "tests/crash/history.h"
#include "tests/sim/random.h"

namespace keelson::crash {

struct WorkloadOptions {
  std::uint64_t seed = 1;
  int client_count = 5;
  int operations = 250;  // of all clients together
};

class Workload {
 public:
  // All of these outlive the workload.
  Workload(CrashReactor* reactor, replica::ReplicaStore* store, const CrashTrace* trace,
           History* history, WorkloadOptions options)
      : reactor_(reactor),
        store_(store),
        trace_(trace),
        history_(history),
        options_(options),
        random_(options.seed) {}

  // Runs to the end and detaches everything. An error or a wrong read fails the recording.
  io::Task<absl::Status> Run();

 private:
  struct Volume {
    VolumeHistory* history = nullptr;
    pool::ReplicaId id;
    std::unique_ptr<engine::Engine> engine;
    std::vector<bool> busy;  // blocks with a request in flight
    std::size_t in_flight = 0;
    bool held = false;  // the administrator wants it quiet
  };
  struct Range {
    Volume* volume = nullptr;
    std::size_t first = 0;
    std::size_t count = 0;
  };

  io::Task<void> Client();
  io::Task<void> Administrator();
  io::Task<void> AdministerOnce();
  io::Task<void> Write(Range range, bool fua);
  io::Task<void> Trim(Range range, bool fua);
  io::Task<void> Read(Range range);
  io::Task<void> Flush(Volume* volume);

  io::Task<void> Create();
  io::Task<void> Attach(Volume* volume);
  io::Task<void> Quieten(Volume* volume);
  io::Task<void> Detach(Volume* volume);
  io::Task<void> Snapshot(Volume* volume);
  io::Task<void> DeleteSnapshot(Volume* volume);
  io::Task<void> Clone(Volume* volume);
  io::Task<void> Grow(Volume* volume);
  io::Task<void> Delete(Volume* volume);
  io::Task<void> RollGeneration(Volume* volume);

  std::uint64_t Now() const { return trace_->position(); }
  Volume* Pick();
  Range PickRange();
  void Release(const Range& range);
  // Notes a new content of each block of `range`, before it is asked for.
  std::uint64_t NoteVersions(const Range& range, bool zero, bool fua);
  void AckVersions(const Range& range, const absl::Status& status);
  Volume* AddVolume(std::uint64_t block_count);
  SnapshotHistory* PickSnapshot(Volume* volume);
  void Expect(const absl::Status& status, const char* act);

  CrashReactor* reactor_;
  replica::ReplicaStore* store_;
  const CrashTrace* trace_;
  History* history_;
  WorkloadOptions options_;
  sim::Random random_;
  std::vector<std::unique_ptr<Volume>> volumes_;
  int operations_left_ = 0;
  std::uint64_t next_seq_ = 1;
  std::uint32_t next_snapshot_ = 1;
  io::WaitList operation_ended_;
  absl::Status failure_;
};

}  // namespace keelson::crash
