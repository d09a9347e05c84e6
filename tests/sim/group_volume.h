#pragma once
// GroupVolume: what a client of a replicated volume may see: a RegisterHistory for each block, the
// snapshots as they were taken, and what loss of power everywhere may have taken away. Times are
// the GroupWatch's ticks. A value; one thread.

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "blockstore/replica/configuration.h"
#include "tests/sim/copy_view.h"
#include "tests/sim/register_history.h"

namespace keelson::sim {

struct GroupSnapshot {
  // Being taken, or nobody was told how that ended: it is there, or is not.
  enum class State { kTaking, kComplete };
  State state = State::kTaking;
  std::string name;
  std::uint64_t began = 0, ended = 0;
  std::uint64_t size_blocks = 0;
  bool deleting = false;  // asked to be deleted; the outcome is unknown until it is gone
  std::map<std::uint64_t, RegisterHistory> blocks;  // as they were when it was sealed
};

class GroupVolume {
 public:
  explicit GroupVolume(std::uint64_t size_blocks) : size_blocks_(size_blocks) {}

  std::uint64_t size_blocks() const { return size_blocks_; }
  void set_size_blocks(std::uint64_t blocks) { size_blocks_ = blocks; }
  Versions& versions() { return versions_; }
  std::map<pool::SnapshotId, GroupSnapshot>& snapshots() { return snapshots_; }
  const std::map<std::uint64_t, RegisterHistory>& blocks() const { return blocks_; }

  // Each returns what is wrong, or an empty string.
  void BeginWrite(std::uint64_t op, std::uint64_t first, std::uint64_t count, Version version,
                  std::uint64_t now);
  std::string Acknowledge(std::uint64_t op, std::uint64_t first, std::uint64_t count,
                          std::uint64_t now);
  std::string CheckRead(std::uint64_t first, std::span<const std::byte> bytes, std::uint64_t began,
                        std::uint64_t ended);
  // Everything that was complete when this began is durable everywhere.
  void Flushed(std::uint64_t began) { flushed_ = std::max(flushed_, began); }

  // An engine serves: what older ones left open has happened or never will. What began before
  // `horizon` and was not flushed may be gone. `flush_lied`: every copy is on a disk that lied
  // about its flushes; if it lost something, nothing can be said about contents from then on.
  void Attached(std::uint64_t horizon, bool flush_lied, std::uint64_t now);

  // An operator went on from one copy that missed some of it (R14): what that copy shows, and
  // nothing else, is the volume from now on.
  std::string Adopt(const CopyView& copy, std::uint64_t size_blocks, std::uint64_t now);
  // The same for what that copy has of a snapshot.
  std::string AdoptSnapshot(const CopyView& copy, const replica::ConfiguredSnapshot& snapshot,
                            std::uint64_t now);
  // What lies behind its end is gone.
  void Cut(std::uint64_t size_blocks) {
    blocks_.erase(blocks_.lower_bound(size_blocks), blocks_.end());
  }

  bool contents_unknown() const { return contents_unknown_; }
  // Nothing can be said about contents from now on.
  void ForgetContents() { contents_unknown_ = true; }

  // The snapshot holds what the volume is between its beginning and now.
  void Seal(const pool::SnapshotId& id, std::uint64_t now);
  // What one copy of a snapshot shows in a block; all copies must show the same.
  std::string CheckSnapshot(GroupSnapshot* snapshot, std::uint64_t block,
                            std::span<const std::byte> bytes);

 private:
  RegisterHistory& Block(std::uint64_t block) { return blocks_[block]; }
  std::string Take(const CopyView& copy, const pool::SnapshotId& layer, std::uint64_t size_blocks,
                   std::map<std::uint64_t, RegisterHistory>* into);

  std::uint64_t size_blocks_;
  Versions versions_;
  std::map<std::uint64_t, RegisterHistory> blocks_;  // an absent one has never been written
  std::map<pool::SnapshotId, GroupSnapshot> snapshots_;
  std::uint64_t flushed_ = 0;
  std::uint64_t lost_before_ = 0;  // the last horizon
  std::uint64_t adopted_ = 0;      // when a copy was adopted, flushed or not
  bool contents_unknown_ = false;
};

}  // namespace keelson::sim
