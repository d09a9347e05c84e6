#pragma once
// StoreModel: what the volumes and snapshots of a simulated pool must be, block by block. Pure
// bookkeeping; the harness tells it what it did and asks it what may be seen.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "blockstore/pool/ids.h"
#include "tests/sim/block_model.h"

namespace keelson::sim {

struct SnapshotModel {
  pool::SnapshotId id;
  std::uint64_t size_blocks = 0;
  BlockMap blocks;
};

struct VolumeModel {
  std::string name;
  pool::ReplicaId id;
  std::uint64_t tag = 0;  // in the stamps of its writes
  std::uint64_t size_blocks = 0;
  BlockMap blocks;
  std::map<std::string, SnapshotModel> snapshots;
  bool attached = false;
  bool busy = false;                   // a structural change of it runs
  std::size_t in_flight = 0;           // reads, writes, trims and flushes
  std::uint64_t flushed = 0;           // when the last flush that completed began
  std::multiset<std::uint64_t> reads;  // when those in flight began
  std::map<std::uint64_t, std::uint64_t> region_changed;  // when the last change ended
  std::uint64_t rolled = 0;         // when the last complete RollGeneration began
  std::set<std::uint64_t> unclean;  // regions that a crash may have caught unclean
};

// A bit of a block was flipped on the disk.
struct Flip {
  std::uint32_t bit = 0;
  bool known = true;  // its checksum was known then, and no later change of the region undid that
  bool fragile =
      false;  // a merge may have taken its extent since: a crash then forgets the checksum
};

class StoreModel {
 public:
  std::uint64_t Tick() { return ++clock_; }
  std::uint64_t now() const { return clock_; }

  VolumeModel* Add(const std::string& name, pool::ReplicaId id, std::uint64_t size_blocks);
  void Remove(const std::string& name) { volumes_.erase(name); }
  VolumeModel* Find(const std::string& name);
  std::map<std::string, std::unique_ptr<VolumeModel>>& volumes() { return volumes_; }

  void BeginChange(VolumeModel* volume, std::uint64_t first, std::uint64_t count, Version version,
                   std::uint64_t op);
  void EndChange(VolumeModel* volume, std::uint64_t first, std::uint64_t count, std::uint64_t op,
                 bool ok, bool durable);
  void Flushed(VolumeModel* volume, std::uint64_t began);

  // Judges what a read, begun at `began` and ending now, returned. `observe`: it narrows what later
  // reads may show. Returns what is wrong, or an empty string.
  std::string CheckRead(const std::string& what, BlockMap* blocks, std::uint64_t first,
                        std::span<const std::byte> bytes, std::uint64_t began, bool observe);
  // True when DATA_LOSS is a right answer for the range.
  bool MayBeLost(const BlockMap& blocks, std::uint64_t first, std::uint64_t count,
                 std::uint64_t began) const;

  static BlockMap Freeze(const VolumeModel& volume, std::uint64_t began, std::uint64_t now);
  // A process died; afterwards a power cut, or the loss of what a failed flush had covered.
  void ProcessDied();
  void LoseUnflushed(bool final);

  Versions& versions() { return versions_; }
  std::map<std::pair<std::uint64_t, Version>, Flip>& flips() { return flips_; }
  // Extents that all volumes and snapshots may occupy at most, and must at least.
  std::uint64_t ExtentsMax() const;
  std::uint64_t BlocksMin() const;

 private:
  std::string CheckBlock(const std::string& what, BlockHistory* history, std::uint64_t block,
                         std::span<const std::byte> bytes, std::uint64_t began, bool observe);
  // The sector is what one of `visible` wrote, but for a bit that was flipped on the disk.
  bool IsFlipped(const std::vector<BlockHistory::Entry>& visible, std::uint64_t block,
                 std::size_t sector, std::span<const std::byte> bytes, bool* known) const;

  std::uint64_t clock_ = 1;
  std::uint64_t next_tag_ = 1;
  Versions versions_;
  std::map<std::string, std::unique_ptr<VolumeModel>> volumes_;
  std::map<std::pair<std::uint64_t, Version>, Flip> flips_;  // by block and version
};

}  // namespace keelson::sim
