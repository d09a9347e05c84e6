#pragma once
// The identifiers of the data plane. Each is a type of its own: a VolumeId does not convert to a
// ReplicaId, nor an extent index to a block index.

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace keelson::pool {

inline constexpr std::uint64_t kBlockBytes = 4096;
inline constexpr std::uint64_t kExtentBytes = std::uint64_t{1} << 20;
inline constexpr std::uint32_t kBlocksPerExtent = 256;
inline constexpr std::uint64_t kRegionBytes = std::uint64_t{4} << 20;
inline constexpr std::uint32_t kExtentsPerRegion = 4;

// 16 bytes, shown as 32 lower-case hexadecimal digits.
struct Uuid {
  std::array<std::uint8_t, 16> bytes{};

  // From the kernel's random source. Not for simulated code: there ids come from the seed.
  static Uuid Random();
  // INVALID_ARGUMENT unless `text` is exactly 32 hexadecimal digits.
  static absl::StatusOr<Uuid> Parse(std::string_view text);
  // INVALID_ARGUMENT unless `raw` is exactly 16 bytes.
  static absl::StatusOr<Uuid> FromBytes(std::string_view raw);

  std::string ToString() const;
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  bool is_nil() const { return *this == Uuid{}; }
  auto operator<=>(const Uuid&) const = default;
};

template <typename Tag>
struct UuidOf : Uuid {
  UuidOf() = default;
  explicit UuidOf(const Uuid& uuid) : Uuid(uuid) {}
  auto operator<=>(const UuidOf&) const = default;
  template <typename H>
  friend H AbslHashValue(H state, const UuidOf& id) {
    return H::combine_contiguous(std::move(state), id.bytes.data(), id.bytes.size());
  }
};
using PoolId = UuidOf<struct PoolTag>;
using VolumeId = UuidOf<struct VolumeTag>;
using ReplicaId = UuidOf<struct ReplicaTag>;
using SnapshotId = UuidOf<struct SnapshotTag>;
using EngineId = UuidOf<struct EngineTag>;
using BootId = UuidOf<struct BootTag>;

// A small integer that names an object inside one pool; 0 names none. Never reused.
template <typename Tag>
struct NumberOf {
  std::uint64_t value = 0;
  explicit operator bool() const { return value != 0; }
  auto operator<=>(const NumberOf&) const = default;
  template <typename H>
  friend H AbslHashValue(H state, NumberOf number) {
    return H::combine(std::move(state), number.value);
  }
};
using LayerNumber = NumberOf<struct LayerNumberTag>;
using ReplicaNumber = NumberOf<struct ReplicaNumberTag>;

// protocol.md: compared in this order; a higher epoch fences every lower one.
struct Epoch {
  std::uint64_t attachment = 0;
  std::uint32_t restart = 0;
  EngineId engine;
  auto operator<=>(const Epoch&) const = default;
};

// The number of a write interval; the default value is below every real one.
struct Generation {
  Epoch epoch;
  std::uint64_t counter = 0;
  auto operator<=>(const Generation&) const = default;
};

}  // namespace keelson::pool
