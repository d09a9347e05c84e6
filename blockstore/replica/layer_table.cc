#include "blockstore/replica/layer_table.h"

#include <algorithm>
#include <utility>

#include "blockstore/io/check.h"

namespace keelson::replica {

using pool::BlockBits;
using pool::ExtentState;
using pool::kNoExtent;

bool Layer::Find(std::uint32_t extent, ExtentState* state) const {
  auto it = slots_.find(extent);
  if (it == slots_.end()) return false;
  const Slot& slot = it->second;
  state->pool_extent = slot.pool_extent;
  if (slot.bits == kFull) {
    state->present = BlockBits::All();
    state->zeroed = BlockBits();
  } else {
    state->present = bits_[slot.bits].present;
    state->zeroed = bits_[slot.bits].zeroed;
  }
  return true;
}

Layer::Run Layer::FindRun(std::uint32_t extent, std::uint32_t block, std::uint32_t limit) const {
  auto it = slots_.find(extent);
  if (it == slots_.end()) return {Where::kAbsent, kNoExtent, limit};
  const Slot& slot = it->second;
  if (slot.bits == kFull) return {Where::kPresent, slot.pool_extent, limit};
  const Bits& bits = bits_[slot.bits];
  if (bits.present.Test(block)) {
    return {Where::kPresent, slot.pool_extent, bits.present.RunLength(block, limit)};
  }
  if (bits.zeroed.Test(block)) {
    return {Where::kZeroed, kNoExtent, bits.zeroed.RunLength(block, limit)};
  }
  return {Where::kAbsent, kNoExtent, (bits.present | bits.zeroed).RunLength(block, limit)};
}

std::uint32_t Layer::PoolExtent(std::uint32_t extent) const {
  auto it = slots_.find(extent);
  return it == slots_.end() ? kNoExtent : it->second.pool_extent;
}

bool Layer::AllPresent(std::uint32_t extent, std::uint32_t first, std::uint32_t count) const {
  auto it = slots_.find(extent);
  if (it == slots_.end()) return false;
  if (it->second.bits == kFull) return true;
  const BlockBits& present = bits_[it->second.bits].present;
  return present.Test(first) && present.RunLength(first, count) == count;
}

void Layer::Put(std::uint32_t extent, const ExtentState& state) {
  KEEL_CHECK(!(state.present & state.zeroed).Any(), "a block is present or zeroed, not both");
  auto [it, inserted] = slots_.try_emplace(extent, Slot{kNoExtent, kFull});
  Slot& slot = it->second;
  if (slot.pool_extent != kNoExtent) --allocated_;
  if (state.pool_extent != kNoExtent) ++allocated_;
  slot.pool_extent = state.pool_extent;
  if (state.present.IsAll()) {
    if (slot.bits != kFull) free_bits_.push_back(std::exchange(slot.bits, kFull));
    return;
  }
  if (slot.bits == kFull) slot.bits = TakeBits();
  bits_[slot.bits] = {state.present, state.zeroed};
}

void Layer::Erase(std::uint32_t extent) {
  auto it = slots_.find(extent);
  if (it == slots_.end()) return;
  if (it->second.pool_extent != kNoExtent) --allocated_;
  if (it->second.bits != kFull) free_bits_.push_back(it->second.bits);
  slots_.erase(it);
}

std::uint32_t Layer::TakeBits() {
  if (!free_bits_.empty()) {
    const std::uint32_t index = free_bits_.back();
    free_bits_.pop_back();
    return index;
  }
  bits_.emplace_back();
  return static_cast<std::uint32_t>(bits_.size() - 1);
}

std::vector<std::uint32_t> Layer::Extents() const {
  std::vector<std::uint32_t> extents;
  extents.reserve(slots_.size());
  for (const auto& [extent, slot] : slots_) extents.push_back(extent);
  std::sort(extents.begin(), extents.end());
  return extents;
}

Layer* LayerTable::Add(pool::LayerNumber number, pool::ReplicaNumber owner) {
  std::unique_ptr<Layer>& layer = layers_[number];
  KEEL_CHECK(layer == nullptr, "layer numbers are unique");
  layer = std::make_unique<Layer>(pool_, number, owner);
  return layer.get();
}

void LayerTable::Remove(Layer* layer) {
  KEEL_CHECK(layer->children_.empty(), "a layer with children is not removed");
  SetParent(layer, nullptr);
  layers_.erase(layer->number());
}

Layer* LayerTable::Find(pool::LayerNumber number) const {
  auto it = layers_.find(number);
  return it == layers_.end() ? nullptr : it->second.get();
}

void LayerTable::SetParent(Layer* layer, Layer* parent) {
  if (layer->parent_ != nullptr) std::erase(layer->parent_->children_, layer);
  layer->parent_ = parent;
  if (parent != nullptr) parent->children_.push_back(layer);
}

bool LayerTable::Lookup(const pool::MapKey& key, ExtentState* state) const {
  const Layer* layer = Find(key.layer);
  return layer != nullptr && layer->Find(key.extent, state);
}

BlockBits VisibleData(const Layer* layer, std::uint32_t extent) {
  BlockBits data;
  BlockBits decided;
  for (; layer != nullptr; layer = layer->parent()) {
    ExtentState state;
    if (!layer->Find(extent, &state)) continue;
    data = data | (state.present & ~decided);
    decided = decided | state.present | state.zeroed;
  }
  return data;
}

}  // namespace keelson::replica
