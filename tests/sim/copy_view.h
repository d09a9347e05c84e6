#pragma once
// CopyView: what a replica shows at this moment, in its head and its snapshots, taken from its maps
// in memory and from its simulated disk, without a call that would take time or change anything.
// Of one thread; good until the simulation goes on.

#include <cstdint>
#include <optional>
#include <span>

#include "blockstore/replica/replica.h"
#include "tests/sim/sim_disk.h"

namespace keelson::sim {

class CopyView {
 public:
  // REQUIRES: a replica with data, in an open pool on `disk`.
  CopyView(const replica::Replica* replica, const SimDisk* disk) : replica_(replica), disk_(disk) {}

  // A block of the head (nil) or of a snapshot, which it has. Empty: it reads as zeroes.
  std::span<const std::byte> Block(const pool::SnapshotId& layer, std::uint64_t block) const;
  // Of a block in the head and in every snapshot: what it is stamped with, and its region's note.
  std::string Describe(std::uint64_t block) const;
  std::uint64_t size_blocks() const { return replica_->size_bytes() / pool::kBlockBytes; }
  const replica::Replica& replica() const { return *replica_; }

  // The first block, of the head or of a snapshot of both, that is another one in `other` although
  // neither copy has noted its region above `through`.
  std::optional<std::uint64_t> Differs(const CopyView& other,
                                       const pool::Generation& through) const;

 private:
  // The layer; null: it has no such snapshot.
  const replica::Layer* Top(const pool::SnapshotId& layer) const;
  std::span<const std::byte> Show(const replica::Layer* top, std::uint32_t extent,
                                  std::uint32_t block) const;
  std::optional<std::uint64_t> Differs(const replica::Layer* own, const CopyView& other,
                                       const replica::Layer* others,
                                       const pool::Generation& through) const;

  const replica::Replica* replica_;
  const SimDisk* disk_;
};

}  // namespace keelson::sim
