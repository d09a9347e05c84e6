#pragma once
// LayerCopy: what a resync or a reconcile reads from and writes to the layers of a replica (R11,
// R12): region notes and the exact content of extents, layer by layer.
//
// A configured layer is a snapshot, named by its id, or the head (nil). Physically it may be
// several: a snapshot that was deleted leaves its layer behind until it is merged, and for good
// while a clone stands on it; the oldest one also comprises what the replica, if it is a clone,
// shares with its source. Reading takes all of these together; writing changes the uppermost only,
// so that the sum is what is wanted.
//
// One reactor. Made for one call by Session, which keeps the replica alive; the engine's range lock
// is held around calls that copy.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "blockstore/replica/extent_reads.h"
#include "blockstore/replica/replica_store.h"

namespace keelson::replica {

class LayerCopy {
 public:
  LayerCopy(ReplicaStore* store, Replica* replica)
      : store_(store), replica_(replica), pool_(&store->pool()) {}

  // As of ReplicaPort, which says what each does; errors of the pool are UNAVAILABLE here.
  std::vector<RegionNote> Notes(pool::Generation above, std::uint32_t first_region,
                                std::size_t count_max) const;
  io::Task<absl::StatusOr<ExtentContent>> Read(pool::SnapshotId layer, std::uint32_t extent,
                                               std::span<std::byte> into);
  io::Task<absl::Status> Begin(pool::SnapshotId layer, std::uint32_t region,
                               pool::Generation generation);
  io::Task<absl::Status> Write(pool::SnapshotId layer, std::uint32_t extent, ExtentContent content,
                               std::span<const std::byte> packed);
  // layer_verify.cc
  io::Task<absl::StatusOr<VerifyAnswer>> Verify(pool::SnapshotId layer, std::uint32_t extent,
                                                pool::BlockBits offered,
                                                std::span<const std::byte> packed);

 private:
  // A configured layer: [top, end), and whether it is the oldest.
  struct Target {
    Layer* top = nullptr;
    const Layer* end = nullptr;
    LayerSpan span() const { return {top, end}; }
    // What of it cannot be changed: all but the top.
    LayerSpan rest() const { return {top->parent(), end}; }
    bool oldest() const { return end == nullptr; }
  };
  // The state an extent of the top is to have, and the blocks of it that are taken from older
  // layers because the rest of the target shows something else there.
  struct Plan {
    pool::BlockBits present;
    pool::BlockBits zeroed;
    pool::BlockBits taken;
  };
  // A snapshot that the configuration has not any more belongs to the layer above it, whether its
  // own layer is there still or not: others may have dropped it already (docs/decisions/0002).
  bool IsBoundary(const SnapshotState& snapshot) const;
  absl::StatusOr<Target> Find(pool::SnapshotId id) const;
  // Waits while the rest of the target is being merged into its top.
  io::Task<absl::StatusOr<Target>> FindMerged(pool::SnapshotId id);
  static ExtentContent ContentOf(LayerSpan span, std::uint32_t extent);
  Plan MakePlan(const Target& target, std::uint32_t extent, const ExtentContent& content) const;
  // Reads the blocks `wanted` of an extent, packed; what the span has not, is zero.
  io::Task<absl::Status> ReadBlocks(LayerSpan span, std::uint32_t extent, pool::BlockBits wanted,
                                    std::byte* packed);
  // Takes the stored checksums of extents of one region out of force, and raises its note.
  io::Task<absl::Status> VoidChecksums(Layer* layer, std::uint32_t first, std::uint32_t count,
                                       pool::Generation generation);
  // Writes the blocks `data`, and those the plan takes from older layers, into the top's extent.
  io::Task<absl::Status> WriteData(Target target, std::uint32_t extent, Plan plan,
                                   pool::BlockBits data, std::span<const std::byte> packed);
  io::Task<absl::Status> WriteBlocks(std::uint32_t pool_extent, pool::BlockBits blocks,
                                     std::span<const std::byte> packed);
  // Into `answer`: how the blocks of the source are, the first of which is `first`.
  io::Task<absl::Status> VerifyRun(BlockSource source, std::uint32_t extent, std::uint32_t first,
                                   std::span<std::byte> buffer, VerifyAnswer* answer);
  io::Task<absl::Status> MendBlock(LayerSpan span, std::uint32_t extent, std::uint32_t block,
                                   std::span<const std::byte> bytes, std::span<std::byte> buffer,
                                   VerifyAnswer* answer);

  ReplicaStore* store_;  // outlives this
  Replica* replica_;     // outlives this
  pool::Pool* pool_;
};

}  // namespace keelson::replica
