#pragma once
// Allocator: which extents of a pool are free. Memory only: the truth on disk is the extent maps,
// and the allocator is rebuilt from them whenever the pool is opened, so the two cannot disagree.
// An extent is free, used, or reclaiming (freed, but not yet given out again: R18). One reactor.

#include <cstdint>
#include <optional>
#include <vector>

namespace keelson::pool {

class Allocator {
 public:
  // All of `extent_count` extents free.
  void Reset(std::uint32_t extent_count);

  // A free extent, which is then used: the next one after the last given out, so that data written
  // in order lies in order. Empty when none is free.
  std::optional<std::uint32_t> Take();
  // Marks a free extent used; false if it is out of range or not free (two owners: a damaged map).
  bool MarkUsed(std::uint32_t extent);
  // used -> reclaiming.
  void BeginReclaim(std::uint32_t extent);
  // reclaiming -> free.
  void EndReclaim(std::uint32_t extent);

  // An extent whose space underneath is not known to be reserved: all free ones of a pool just
  // opened, and every one that was discarded. The pool reserves it before the first write.
  bool NeedsSpace(std::uint32_t extent) const {
    return (without_space_[extent / 64] >> (extent % 64)) & 1;
  }
  // How many extents from `extent` on are free or just taken, and need space; at most `count_max`.
  std::uint32_t NeedsSpaceRun(std::uint32_t extent, std::uint32_t count_max) const;
  void SetNeedsSpace(std::uint32_t extent, bool needs_space);

  std::uint32_t extent_count() const { return extent_count_; }
  std::uint32_t free_count() const { return free_count_; }
  std::uint32_t reclaiming_count() const { return reclaiming_count_; }
  std::uint32_t used_count() const { return extent_count_ - free_count_ - reclaiming_count_; }

 private:
  bool IsFree(std::uint32_t extent) const { return (free_[extent / 64] >> (extent % 64)) & 1; }

  std::uint32_t extent_count_ = 0;
  std::uint32_t free_count_ = 0;
  std::uint32_t reclaiming_count_ = 0;
  std::uint32_t next_ = 0;  // where the search begins
  std::vector<std::uint64_t> free_;
  std::vector<std::uint64_t> without_space_;
};

}  // namespace keelson::pool
