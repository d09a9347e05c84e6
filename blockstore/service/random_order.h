#pragma once
// RandomOrder: the numbers 0 .. count-1 in a random-looking order, each once, without memory for
// them: a four-round Feistel network over the next even power of two, walked until it lands in
// range. A plain value.

#include <bit>
#include <cstdint>

namespace keelson::service {

class RandomOrder {
 public:
  // `count` is at least 1.
  RandomOrder(std::uint64_t count, std::uint64_t seed)
      : count_(count),
        half_bits_((static_cast<unsigned>(std::bit_width(count)) + 1) / 2),
        seed_(seed) {}

  // The `index`th number; index < count.
  std::uint64_t At(std::uint64_t index) const {
    std::uint64_t value = index;
    do {
      value = Permute(value);
    } while (value >= count_);
    return value;
  }

 private:
  std::uint64_t Permute(std::uint64_t value) const {
    const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
    std::uint64_t left = value >> half_bits_;
    std::uint64_t right = value & mask;
    for (std::uint64_t round = 0; round < 4; ++round) {
      const std::uint64_t mixed = left ^ (Mix(right + (round << 32) + seed_) & mask);
      left = right;
      right = mixed;
    }
    return (left << half_bits_) | right;
  }
  // splitmix64's finisher.
  static std::uint64_t Mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }

  std::uint64_t count_;
  unsigned half_bits_;
  std::uint64_t seed_;
};

}  // namespace keelson::service
