#include "blockstore/pool/allocator.h"

#include <bit>

#include "blockstore/io/check.h"

namespace keelson::pool {

void Allocator::Reset(std::uint32_t extent_count) {
  extent_count_ = free_count_ = extent_count;
  reclaiming_count_ = 0;
  next_ = 0;
  free_.assign((extent_count + 63) / 64, ~std::uint64_t{0});
  without_space_.assign(free_.size(), ~std::uint64_t{0});
  if (extent_count % 64 != 0) free_.back() = (std::uint64_t{1} << (extent_count % 64)) - 1;
}

std::optional<std::uint32_t> Allocator::Take() {
  if (free_count_ == 0) return std::nullopt;
  const std::size_t words = free_.size();
  std::size_t word = next_ / 64;
  std::uint64_t candidates = free_[word] & (~std::uint64_t{0} << (next_ % 64));
  while (candidates == 0) {  // ends: free_count_ > 0
    word = word + 1 == words ? 0 : word + 1;
    candidates = free_[word];
  }
  const auto bit = static_cast<std::uint32_t>(std::countr_zero(candidates));
  const std::uint32_t extent = static_cast<std::uint32_t>(word) * 64 + bit;
  free_[word] &= ~(std::uint64_t{1} << bit);
  --free_count_;
  next_ = extent + 1 == extent_count_ ? 0 : extent + 1;
  return extent;
}

bool Allocator::MarkUsed(std::uint32_t extent) {
  if (extent >= extent_count_ || !IsFree(extent)) return false;
  free_[extent / 64] &= ~(std::uint64_t{1} << (extent % 64));
  --free_count_;
  return true;
}

std::uint32_t Allocator::NeedsSpaceRun(std::uint32_t extent, std::uint32_t count_max) const {
  std::uint32_t count = 0;
  while (count < count_max && extent + count < extent_count_ && NeedsSpace(extent + count) &&
         (count == 0 || IsFree(extent + count))) {
    ++count;
  }
  return count;
}

void Allocator::SetNeedsSpace(std::uint32_t extent, bool needs_space) {
  const std::uint64_t bit = std::uint64_t{1} << (extent % 64);
  std::uint64_t& word = without_space_[extent / 64];
  word = needs_space ? word | bit : word & ~bit;
}

void Allocator::BeginReclaim(std::uint32_t extent) {
  KEEL_CHECK(extent < extent_count_ && !IsFree(extent), "only a used extent is reclaimed");
  ++reclaiming_count_;
}

void Allocator::EndReclaim(std::uint32_t extent) {
  KEEL_CHECK(extent < extent_count_ && !IsFree(extent) && reclaiming_count_ > 0,
             "only a reclaiming extent becomes free");
  free_[extent / 64] |= std::uint64_t{1} << (extent % 64);
  ++free_count_;
  --reclaiming_count_;
}

}  // namespace keelson::pool
