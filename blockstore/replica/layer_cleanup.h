#pragma once
// LayerCleanup: gets rid of layers that no replica names any more (deleted volumes and snapshots).
// A layer without children is freed; one with a single child is merged into it: extents the child
// has not are handed over, the blocks it lacks of others are copied. A layer with several children
// (clones) stays until all but one are gone. It never allocates space, so it works in a full pool;
// each step is short, and a crash between or within steps loses nothing: the next open goes on. One
// reactor; run by ReplicaStore under its structure lock.

#include <array>
#include <cstdint>
#include <list>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "blockstore/replica/copied_extents.h"
#include "blockstore/replica/replica.h"

namespace keelson::replica {

class LayerCleanup {
 public:
  LayerCleanup(pool::Pool* pool, LayerTable* layers, CopiedExtents* copied)
      : pool_(pool), layers_(layers), copied_(copied) {}

  // A layer to work on, or nullptr when nothing is left to do.
  Layer* Next();
  // Works on `layer` for some milliseconds. `writer` is the replica whose head or snapshot is its
  // only child, if it is one: its writes, and copies, to the extents in hand wait. False when the
  // pool has failed.
  io::Task<bool> Step(Layer* layer, Replica* writer);

 private:
  // What becomes of one extent of the layer at the cut.
  struct Move {
    std::uint32_t extent = 0;
    pool::ExtentState child;  // its state afterwards
    std::uint32_t freed = pool::kNoExtent;
    pool::ChecksumRef checksums;  // of the extent handed over or copied to
    bool handed_over = false;
    pool::BlockBits copied;
    std::array<std::uint32_t, pool::kBlocksPerExtent> crc32c{};
  };
  io::Task<absl::Status> Free(Layer* layer);
  io::Task<absl::Status> Merge(Layer* layer, Layer* child, Replica* writer);
  io::Task<absl::Status> CarryNotes(const Layer* layer, Layer* child);
  io::Task<absl::Status> Prepare(Layer* layer, Layer* child, std::uint32_t extent, Move* move);
  io::Task<absl::Status> Copy(const Layer* layer, std::uint32_t from, std::uint32_t to, Move* move);
  void Apply(Layer* layer, Layer* child, Move* move);
  // The checksums of what the child took over, stored with the move itself: until the next
  // generation ends nothing else would, and a crash before that would forget them for good.
  void StoreChecksums(const Layer* child, const Replica* writer, const Move& move,
                      pool::MetaBatch* batch);
  std::vector<std::uint32_t> NextExtents(const Layer* layer, std::size_t count_max);
  void RemoveLayer(Layer* layer, pool::MetaBatch* batch);

  pool::Pool* pool_;                                // outlives this
  LayerTable* layers_;                              // outlives this
  CopiedExtents* copied_;                           // outlives this
  absl::flat_hash_set<pool::LayerNumber> skipped_;  // an I/O error: until the pool is opened again
  pool::LayerNumber cursor_layer_;                  // whose extents are listed below
  std::vector<std::uint32_t> cursor_;               // yet to do, last first
  bool notes_carried_ = false;
  std::string scratch_;
};

}  // namespace keelson::replica
