#pragma once
// StoreHarness: one seed of the store simulation: random operations on the production Pool,
// ReplicaStore and Engines over simulated disks, with crashes and disk faults, against a
// StoreModel. Each seed draws which faults it has at all and how much of everything (swarm
// testing): a run with every fault at once reaches less than many runs with a few each.
//
// Run() returns what went wrong, or an empty string. One thread, virtual time.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/store_life.h"
#include "tests/sim/store_model.h"

namespace keelson::sim {

class StoreHarness {
 public:
  explicit StoreHarness(std::uint64_t seed);
  ~StoreHarness();
  StoreHarness(const StoreHarness&) = delete;
  StoreHarness& operator=(const StoreHarness&) = delete;

  std::string Run();
  // Print what happens, for a person who replays a seed.
  void set_verbose(bool verbose) { verbose_ = verbose; }
  std::uint64_t trace_hash() const { return world_.trace_hash(); }

 private:
  struct Knobs {
    std::uint64_t pool_extents = 0;
    std::uint64_t volumes_max = 0;
    std::uint64_t volume_blocks_max = 0;
    std::uint64_t io_blocks_max = 0;
    std::uint64_t depth_max = 0;
    std::uint64_t actions = 0;
    std::uint64_t steps_between_max = 0;
    std::int64_t generation_interval_ns = 0;
    bool kills = false, cuts = false, flips = false, snapshots = false, trims = false;
    bool kills_during_open = false;
    double hot = 0;
    FaultMix disk;
    MetaFaults meta;
  };

  enum class IoKind { kRead, kWrite, kTrim, kFlush };
  struct FreeAligned {
    void operator()(std::byte* memory) const;
  };
  struct Io {
    IoKind kind = IoKind::kRead;
    VolumeModel* volume = nullptr;
    engine::Engine* engine = nullptr;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    bool fua = false;
    std::uint64_t op = 0;
    std::uint64_t began = 0;
    bool pool_had_failed = false;
    std::unique_ptr<std::byte, FreeAligned> buffer;
    std::span<std::byte> bytes() const { return {buffer.get(), count * kModelBlockBytes}; }
  };

  enum class ChangeKind {
    kCreate,
    kClone,
    kDelete,
    kSnapshot,
    kDeleteSnapshot,
    kGrow,
    kRoll,
    kAttach,
    kDetach,
    kVerifySnapshot,
  };
  // A structural change that runs, or whose outcome a crash left open.
  struct Change {
    ChangeKind kind = ChangeKind::kCreate;
    std::string volume;  // what it is done to, or makes
    std::string source;  // of kClone and kVerifySnapshot
    std::string snapshot;
    std::uint64_t size_blocks = 0;
    std::uint64_t began = 0;
    BlockMap frozen;  // the content of what kSnapshot makes; filled in when its outcome is open
    bool done = false;
  };

  // store_harness.cc: the course of a run
  static Knobs DrawKnobs(Random* random);
  void Act();
  void ActOnVolume(VolumeModel* volume);
  void EndLife();
  void Finish();
  void ExpectEmptyPool();
  void CheckSpace();
  // Steps until no I/O (and no change) runs; anything else is a hang.
  void DrainIo();
  void Drain();
  void Fail(const std::string& what);
  void FailHang(const std::string& what);
  void Tell(const std::string& what) const;
  void TellPool();
  bool Failed() const { return !error_.empty(); }
  bool PoolFailed() const { return life_.store != nullptr && !life_.store->pool().health().ok(); }
  VolumeModel* RandomVolume();
  void SetFaults(bool on);
  bool DiskFaultsPossible() const;

  // store_lives.cc: crashes and reopening
  void Crash(bool power_cut);
  void ForgetLostWrites();
  void Restart();
  void Open();
  bool OpenOnce(bool may_crash);
  void Reconcile();
  void ResolveOpenChange(const Change& change,
                         const std::map<std::string, replica::ReplicaInfo>& found);
  void CompareWithModel(const std::map<std::string, replica::ReplicaInfo>& found);
  void RemoveLeftovers();
  void CheckTables();
  void VerifyVolumes(bool all);
  void FlipABit();
  bool FlipABitOf(const VolumeModel& volume, std::uint64_t block, const BlockHistory& history);

  // store_io.cc: reads, writes, trims, flushes
  void StartRandomIo(VolumeModel* volume);
  void StartIo(IoKind kind, VolumeModel* volume, std::uint64_t first, std::uint64_t count,
               bool fua);
  static io::internal::Detached RunIo(StoreHarness* harness, Io* io);
  void IoEnded(Io* io, const absl::Status& status);
  void JudgeIoError(const Io& io, const absl::Status& status);
  std::string Name(const Io& io) const;
  void ReadVolume(VolumeModel* volume, bool all);

  // store_changes.cc: structural changes, one at a time
  void StartChange(Change change);
  void FinishChange(Change change);
  void StartRandomChange(VolumeModel* volume);
  static io::internal::Detached RunChange(StoreHarness* harness, Change* change);
  io::Task<absl::Status> Perform(Change* change);
  io::Task<absl::Status> Create(Change* change);
  io::Task<absl::Status> Clone(Change* change);
  io::Task<absl::Status> Delete(Change* change);
  io::Task<absl::Status> Snapshot(Change* change);
  io::Task<absl::Status> DeleteSnapshot(Change* change);
  io::Task<absl::Status> Grow(Change* change);
  io::Task<absl::Status> Roll(Change* change);
  io::Task<absl::Status> Attach(Change* change);
  io::Task<absl::Status> Detach(Change* change);
  // Runs `change` with the volume's engine or, while it is detached, with one of its own.
  io::Task<absl::Status> WithEngine(
      const VolumeModel& volume,
      absl::AnyInvocable<io::Task<absl::Status>(engine::Engine*)> change);
  io::Task<absl::Status> VerifySnapshot(Change* change);
  io::Task<absl::Status> ReadClone(engine::Engine* engine, const Change* change,
                                   SnapshotModel* snapshot);
  void ChangeEnded(Change* change, const absl::Status& status);
  void LeaveOpen(std::unique_ptr<Change> change);
  std::string Name(const Change& change) const;

  World world_;
  Knobs knobs_;
  SimDisk* disk_;
  SimMetaDisk* meta_disk_;
  StoreLife life_;
  StoreModel model_;
  std::map<std::uint64_t, std::unique_ptr<Io>> ios_;
  std::vector<std::pair<std::string, std::uint64_t>>
      lost_;                        // volume, block: DATA_LOSS to look into
  std::unique_ptr<Change> change_;  // the one that runs
  std::vector<std::unique_ptr<Change>>
      open_changes_;                                // their outcome shows when the pool is opened
  std::vector<std::unique_ptr<Change>> graveyard_;  // suspended frames of dead lives point to them
  std::uint64_t next_op_ = 1;
  std::uint64_t next_name_ = 1;
  std::uint64_t flush_failures_seen_ = 0;
  pool::BootId life_boot_;       // of the boot in which the last life ran
  bool merge_expected_ = false;  // a snapshot was deleted since cleanup was last waited for
  bool cloned_ = false;
  bool verbose_ = false;
  std::string error_;
};

}  // namespace keelson::sim
