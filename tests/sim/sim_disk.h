#pragma once
// SimDisk: a disk of a World with a volatile cache, and every way of failing that a pool must
// survive. It outlives files and processes. Each 4 KiB block has a *durable* image (what a power
// cut leaves at worst) and a *current* one (what a read sees); between them lies the list of writes
// no flush covered.
//
// Rules, as Linux and a disk give them: a flush covers the writes that completed before it was
// submitted; un-flushed writes survive a power cut each by chance, independent of order, whole or
// torn at 512 bytes; a process's death keeps all that completed, and what was in flight happened or
// not, wholly or torn; a failed flush says nothing more about the writes it covered: no later flush
// makes them durable, and they may be gone when the disk is opened again. Overlapping writes in
// flight at the same time are a bug of the caller and abort.

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/io/file.h"
#include "tests/sim/sim_reactor.h"

namespace keelson::sim {

// Probabilities of one operation's faults, and what else may happen to a disk.
struct FaultMix {
  double read_error = 0;
  double write_error = 0;  // the write may have happened, wholly or torn
  double flush_error = 0;
  bool sticky_errors = false;  // after the first error of a kind, all fail until reopened
  double write_full = 0;  // -ENOSPC of a write or an allocation: no room below; nothing is done
  std::uint64_t backing_blocks_max =
      UINT64_MAX;  // -ENOSPC for a write that needs more 4 KiB blocks
  double stall = 0;
  std::int64_t stall_ns = 50'000'000;
  std::int64_t latency_ns_max = 200'000;
  double survives_cut = 0.5;  // an un-flushed write at a power cut, when not torn
  double torn = 0.2;          // an un-flushed or in-flight write is torn
  bool lose_after_failed_flush = false;
  bool lying_flush = false;  // says OK and makes nothing durable
};

class SimDisk {
 public:
  SimDisk(World* world, std::string path, std::uint64_t size_bytes);

  // FAILED_PRECONDITION while another file holds the lock. Ends sticky errors.
  absl::StatusOr<std::unique_ptr<io::File>> Open(SimReactor* process,
                                                 const io::FileOptions& options);
  void ProcessDied(SimReactor* process);
  void PowerCut();

  FaultMix& faults() { return faults_; }
  // Ends sticky errors, as opening the disk again does.
  void Heal() { sticky_read_ = sticky_write_ = sticky_flush_ = 0; }
  // Shortens or lengthens the disk (a truncated data file).
  void Resize(std::uint64_t size_bytes);
  void set_sector_bytes(std::uint32_t sector_bytes) { sector_bytes_ = sector_bytes; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  const std::string& path() const { return path_; }

  // Rot: flips one bit of the block, as it is now and for good.
  void FlipBit(std::uint64_t block, std::uint32_t bit);
  // What a read of the block would return; what a power cut that keeps nothing would leave.
  std::span<const std::byte> Current(std::uint64_t block) const;
  std::span<const std::byte> Durable(std::uint64_t block) const;
  std::uint64_t block_count() const { return current_.size(); }
  // Blocks that have been written or allocated, and not discarded.
  std::uint64_t backed_count() const;
  // Flushes that failed so far.
  std::uint64_t flush_failures() const { return flush_failures_; }
  // When the last of the flushes that ended well was submitted; 0: none did.
  std::int64_t flushed_at_ns() const { return flushed_at_ns_; }
  std::uint64_t largest_discard_bytes() const { return largest_discard_bytes_; }
  // Told of every write and every discard when it is submitted.
  using ChangeObserver = std::function<void(const io::IoOp&)>;
  void set_change_observer(ChangeObserver observer) { on_change_ = std::move(observer); }
  // Keeps what a failed flush covered after all: it is as any other write not yet flushed.
  void Forgive();
  std::size_t unflushed_count() const { return unflushed_.size(); }
  std::size_t in_flight_count() const { return in_flight_.size(); }

 private:
  friend class SimFile;
  static constexpr std::size_t kSectorBytes = 512;

  struct Block {
    alignas(8) std::byte bytes[io::kIoAlignment] = {};
  };
  using BlockPtr = std::shared_ptr<const Block>;  // shared by both images; null is zeroes

  // A write or discard that no flush covered. Kept in the order of effect.
  struct Unflushed {
    std::vector<std::pair<std::uint64_t, BlockPtr>> blocks;
    std::uint64_t completed_at = 0;  // a number of completions; 0: still in flight
    bool doomed = false;             // a flush that covered it failed
  };
  struct InFlight {
    io::IoOp* op;
    SimReactor* process;
    int result = 0;                  // decided at submission
    std::uint64_t flush_covers = 0;  // completions before the flush was submitted
    std::int64_t submitted_ns = 0;
    std::list<Unflushed>::iterator effect;  // of a write that took effect before it completed
    bool effect_done = false;
  };

  void Submit(SimReactor* process, io::IoOp* op);
  int Validate(const io::IoOp& op) const;
  int DrawError(const io::IoOp& op);
  std::int64_t DrawLatency();
  void Complete(std::list<InFlight>::iterator in_flight);
  void CompleteFlush(const InFlight& in_flight);
  void MakeDurable(std::list<Unflushed>::iterator unflushed);
  bool ExceedsBacking(const io::IoOp& op) const;
  void Read(const io::IoOp& op) const;
  void Allocate(const io::IoOp& op);
  // Makes the write or discard visible, as much of it as `torn` leaves.
  std::list<Unflushed>::iterator TakeEffect(const io::IoOp& op, bool torn);
  BlockPtr Torn(const BlockPtr& before, const BlockPtr& after);
  void Settle(Unflushed* unflushed, double survives, double torn);
  void RebuildCurrent();
  static std::span<const std::byte> Bytes(const BlockPtr& block);

  World* world_;  // owns this
  std::string path_;
  std::uint64_t size_bytes_;
  std::uint32_t sector_bytes_ = 4096;
  FaultMix faults_;
  std::vector<BlockPtr> durable_;
  std::vector<BlockPtr> current_;
  std::list<Unflushed> unflushed_;
  std::list<InFlight> in_flight_;
  std::uint64_t completions_ = 0;
  std::uint64_t flush_failures_ = 0;
  std::int64_t flushed_at_ns_ = 0;
  std::uint64_t largest_discard_bytes_ = 0;
  ChangeObserver on_change_;
  SimReactor* locked_by_ = nullptr;
  int sticky_read_ = 0, sticky_write_ = 0, sticky_flush_ = 0;
};

}  // namespace keelson::sim
