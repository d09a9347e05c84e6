#pragma once
// Layer: the writable head or one snapshot of a replica: where each of its extents lies and which
// blocks of it belong to this layer. LayerTable: all layers of a pool, a forest: a layer's parent
// is the older snapshot it was taken on, and a snapshot with clones has several children. Memory
// only; the ChangeLog reads states from here and makes them durable. One reactor. Owned by
// ReplicaStore.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "blockstore/pool/pool.h"
#include "blockstore/replica/region_notes.h"

namespace keelson::replica {

class Layer {
 public:
  Layer(pool::Pool* pool, pool::LayerNumber number, pool::ReplicaNumber owner)
      : number_(number), owner_(owner), notes_(pool, number) {}

  pool::LayerNumber number() const { return number_; }
  // The replica that wrote it; it may have been deleted since, while clones keep the layer.
  pool::ReplicaNumber owner() const { return owner_; }
  RegionNotes& notes() { return notes_; }
  const RegionNotes& notes() const { return notes_; }
  Layer* parent() const { return parent_; }
  std::size_t child_count() const { return children_.size(); }
  const std::vector<Layer*>& children() const { return children_; }
  // Set when the layer is a snapshot (or was one): the last generation that may have written it.
  const std::optional<pool::Generation>& sealed() const { return sealed_; }
  void Seal(const pool::Generation& generation) { sealed_ = generation; }
  // True while a replica names it as its head or as a snapshot.
  bool referenced() const { return referenced_; }
  void set_referenced(bool referenced) { referenced_ = referenced; }

  // The state of an extent; false when the map has none. O(1).
  bool Find(std::uint32_t extent, pool::ExtentState* state) const;
  // What `block` of `extent` is in this layer alone, and for how many blocks (up to `limit`) it
  // stays so.
  enum class Where { kAbsent, kPresent, kZeroed };
  struct Run {
    Where where = Where::kAbsent;
    std::uint32_t pool_extent = pool::kNoExtent;
    std::uint32_t count = 0;
  };
  Run FindRun(std::uint32_t extent, std::uint32_t block, std::uint32_t limit) const;
  // The pool extent of `extent`, kNoExtent when it has none.
  std::uint32_t PoolExtent(std::uint32_t extent) const;
  bool AllPresent(std::uint32_t extent, std::uint32_t first, std::uint32_t count) const;

  void Put(std::uint32_t extent, const pool::ExtentState& state);
  void Erase(std::uint32_t extent);

  std::size_t extent_count() const { return slots_.size(); }
  // Extents that occupy space.
  std::uint64_t allocated_extents() const { return allocated_; }
  std::vector<std::uint32_t> Extents() const;  // sorted

  // A stored checksum record of this layer's `extent` holds if its generation is at least this.
  pool::Generation ChecksumsValidFrom(std::uint32_t extent) const {
    return notes_.Get(extent / pool::kExtentsPerRegion);
  }

 private:
  friend class LayerTable;
  struct Bits {
    pool::BlockBits present;
    pool::BlockBits zeroed;
  };
  static constexpr std::uint32_t kFull = UINT32_MAX;  // all present: no bitmap is kept
  struct Slot {
    std::uint32_t pool_extent;
    std::uint32_t bits;  // index into bits_, or kFull
  };
  std::uint32_t TakeBits();

  pool::LayerNumber number_;
  pool::ReplicaNumber owner_;
  RegionNotes notes_;
  Layer* parent_ = nullptr;
  std::vector<Layer*> children_;
  std::optional<pool::Generation> sealed_;
  bool referenced_ = false;
  std::uint64_t allocated_ = 0;
  absl::flat_hash_map<std::uint32_t, Slot> slots_;
  std::vector<Bits> bits_;
  std::vector<std::uint32_t> free_bits_;
};

class LayerTable final : public pool::MapSource {
 public:
  explicit LayerTable(pool::Pool* pool) : pool_(pool) {}

  Layer* Add(pool::LayerNumber number, pool::ReplicaNumber owner);
  void Remove(Layer* layer);  // REQUIRES: no children
  Layer* Find(pool::LayerNumber number) const;
  static void SetParent(Layer* layer, Layer* parent);
  const std::map<pool::LayerNumber, std::unique_ptr<Layer>>& layers() const { return layers_; }

  bool Lookup(const pool::MapKey& key, pool::ExtentState* state) const override;

 private:
  pool::Pool* pool_;  // outlives the table
  // Ordered, so that a simulated run does the same every time.
  std::map<pool::LayerNumber, std::unique_ptr<Layer>> layers_;
};

// The blocks of `extent` that read as data from `layer` or one of its ancestors (nullptr: none).
pool::BlockBits VisibleData(const Layer* layer, std::uint32_t extent);

}  // namespace keelson::replica
