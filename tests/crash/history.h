#pragma once
// What a recorded run asked of the store and when: the model that a recovered state is held
// against. Moments are positions of the CrashTrace. An act that was issued before a cut may have
// taken effect; one that was acknowledged before it must have, as far as its promise goes (a flush,
// or the mere acknowledgement when only the process died).

#include <cstddef>
#include <cstdint>
#include <deque>
#include <iosfwd>
#include <limits>
#include <string>
#include <vector>

#include "tests/crash/crash_image.h"
#include "tests/crash/crash_trace.h"

namespace keelson::crash {

inline constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

// What a block's content says about itself: which write of which block of which volume. seq 0:
// zeroes.
struct Stamp {
  std::uint32_t volume = 0;
  std::uint32_t block = 0;
  std::uint64_t seq = 0;
  bool operator==(const Stamp&) const = default;
};

// Fills every sector of `block` so that it says whose it is.
void FillBlock(const Stamp& stamp, std::byte* block);
// Whether the 512 bytes at `sector` are sector `index` of a block filled with `stamp`.
bool IsSectorOf(const Stamp& stamp, std::size_t index, const std::byte* sector);
// For messages: what 512 bytes say they are.
std::string DescribeSector(const std::byte* sector);

struct Act {
  std::uint64_t issued = kNever;
  std::uint64_t acked = kNever;
  bool MayHaveHappened(std::uint64_t cut) const { return issued <= cut && issued != kNever; }
  bool MustHaveHappened(std::uint64_t cut) const { return acked <= cut && acked != kNever; }
};

// One content of a block. Several stamps: any of them (a clone of a snapshot that was taken while
// the block was being written).
struct Version {
  std::vector<Stamp> stamps;
  Act written;
  bool fua = false;
};

struct SnapshotHistory {
  std::string name;
  Act made;
  Act removed;
  std::vector<std::vector<Stamp>> blocks;  // each is exactly one of these, as a whole
};

struct VolumeHistory {
  std::uint32_t number = 0;
  std::string name;
  Act made;
  Act removed;
  struct Size {
    std::uint64_t block_count = 0;
    Act set;
  };
  std::vector<Size> sizes;
  std::vector<std::vector<Version>> blocks;  // each begins with what the volume was made with
  std::vector<Act> flushes;
  std::deque<SnapshotHistory> snapshots;

  // The contents that sector-wise may be in `block` after a cut.
  std::vector<Stamp> Allowed(std::size_t block, std::uint64_t cut, CutKind kind) const;

 private:
  std::uint64_t FlushedUntil(std::uint64_t cut) const;
};

struct History {
  std::deque<VolumeHistory> volumes;
};

void SaveHistory(std::ostream* out, const History& history);
void LoadHistory(std::istream* in, History* history);

}  // namespace keelson::crash
