#pragma once
// Sets of members and small look-ups, shared by SmallModel's files. No state.

#include <cstddef>

#include "blockstore/replica/configuration.h"
#include "tests/sim/small_model_state.h"

namespace keelson::sim {

inline constexpr auto kModelOut = static_cast<std::uint8_t>(replica::MemberState::kOut);
inline constexpr auto kModelSyncing = static_cast<std::uint8_t>(replica::MemberState::kSyncing);
inline constexpr auto kModelInSync = static_cast<std::uint8_t>(replica::MemberState::kInSync);

inline std::size_t At(int index) { return static_cast<std::size_t>(index); }
inline Bits Bit(int index) { return static_cast<Bits>(1U << index); }
inline bool Has(Bits bits, int index) { return (bits >> index & 1) != 0; }
inline void Add(Bits* bits, int index) { *bits = static_cast<Bits>(*bits | Bit(index)); }
inline void Drop(Bits* bits, int index) { *bits = static_cast<Bits>(*bits & ~Bit(index)); }
inline bool Covers(Bits bits, Bits wanted) { return (wanted & ~bits) == 0; }

inline Bits InSyncOf(const ModelConfiguration& configuration) {
  Bits bits = 0;
  for (int m = 0; m < kModelMembers; ++m) {
    if (configuration.epoch != 0 && configuration.state[At(m)] == kModelInSync) Add(&bits, m);
  }
  return bits;
}

// From the moment that a configuration is sent its InSync members count (R12).
inline Bits InSyncOf(const ModelEngine& engine) {
  return static_cast<Bits>(InSyncOf(engine.in_force) | InSyncOf(engine.under_way));
}

inline int VersionOf(const ModelConfiguration& configuration) {
  return configuration.epoch * 256 + configuration.counter;
}

inline std::uint8_t EpochNumber(int e) { return static_cast<std::uint8_t>(e + 1); }

// The order of two values of a block: those of a later engine are later.
inline bool IsOlder(const ModelState& state, std::uint8_t value, std::uint8_t than) {
  const auto key = [&state](std::uint8_t v) {
    return v == 0 ? 0 : state.writes[std::size_t{v} - 1].epoch * 16 + v;
  };
  return key(value) < key(than);
}

// Whether a write of this engine holds the block's range.
inline bool IsHeld(const ModelState& state, int e, int block) {
  for (const ModelWrite& write : state.writes) {
    if (write.outstanding != 0 && write.epoch == EpochNumber(e) && write.block == block)
      return true;
  }
  return false;
}

}  // namespace keelson::sim
