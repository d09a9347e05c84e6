#pragma once
// Big-endian integers in memory, for the two sides of the NBD protocol. No I/O; nothing fails: the
// caller has checked that the bytes are there.

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace keelson::frontend {

static_assert(std::endian::native == std::endian::little, "the byte swaps below assume it");

inline std::uint16_t Swap(std::uint16_t value) { return __builtin_bswap16(value); }
inline std::uint32_t Swap(std::uint32_t value) { return __builtin_bswap32(value); }
inline std::uint64_t Swap(std::uint64_t value) { return __builtin_bswap64(value); }

template <std::unsigned_integral T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return Swap(value);
}

// Returns where the next one goes.
template <std::unsigned_integral T>
std::byte* Store(T value, std::byte* to) {
  const T swapped = Swap(value);
  std::memcpy(to, &swapped, sizeof(swapped));
  return to + sizeof(swapped);
}

}  // namespace keelson::frontend
