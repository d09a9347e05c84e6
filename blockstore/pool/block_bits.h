#pragma once
// BlockBits: one bit for each of the 256 blocks of an extent. A plain value.

#include <array>
#include <bit>
#include <cstdint>

#include "blockstore/pool/ids.h"

namespace keelson::pool {

class BlockBits {
 public:
  static constexpr BlockBits All() {
    BlockBits bits;
    bits.words_.fill(~std::uint64_t{0});
    return bits;
  }
  // The bits first .. first + count - 1.
  static constexpr BlockBits Range(std::uint32_t first, std::uint32_t count) {
    BlockBits bits;
    for (std::uint32_t word = 0; word < kWords; ++word) {
      const std::uint32_t begin = word * 64;
      const std::uint32_t from = first > begin ? first - begin : 0;
      const std::uint32_t end = first + count;
      const std::uint32_t to = end <= begin ? 0 : (end - begin < 64 ? end - begin : 64);
      if (from >= to) continue;
      const std::uint64_t below_to = to == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << to) - 1;
      bits.words_[word] = below_to & (~std::uint64_t{0} << from);
    }
    return bits;
  }

  bool Test(std::uint32_t block) const { return (words_[block / 64] >> (block % 64)) & 1; }
  bool Any() const { return (words_[0] | words_[1] | words_[2] | words_[3]) != 0; }
  bool IsAll() const {
    return (words_[0] & words_[1] & words_[2] & words_[3]) == ~std::uint64_t{0};
  }
  bool Contains(const BlockBits& other) const { return (other & ~*this).Any() == false; }
  std::uint32_t Count() const {
    return static_cast<std::uint32_t>(std::popcount(words_[0]) + std::popcount(words_[1]) +
                                      std::popcount(words_[2]) + std::popcount(words_[3]));
  }
  // How many consecutive blocks from `block` on have the same value as it, up to `limit`.
  std::uint32_t RunLength(std::uint32_t block, std::uint32_t limit) const {
    const bool value = Test(block);
    std::uint32_t at = block;
    const std::uint32_t end = block + limit < kBlocksPerExtent ? block + limit : kBlocksPerExtent;
    while (at < end) {
      const std::uint64_t word =
          value ? ~words_[at / 64] : words_[at / 64];  // 1: the run ends here
      const std::uint64_t rest = word >> (at % 64);
      if (rest != 0) {
        at += static_cast<std::uint32_t>(std::countr_zero(rest));
        break;
      }
      at += 64 - at % 64;
    }
    return (at < end ? at : end) - block;
  }

  friend constexpr BlockBits operator&(BlockBits a, const BlockBits& b) {
    for (std::uint32_t i = 0; i < kWords; ++i) a.words_[i] &= b.words_[i];
    return a;
  }
  friend constexpr BlockBits operator|(BlockBits a, const BlockBits& b) {
    for (std::uint32_t i = 0; i < kWords; ++i) a.words_[i] |= b.words_[i];
    return a;
  }
  friend constexpr BlockBits operator~(BlockBits a) {
    for (std::uint64_t& word : a.words_) word = ~word;
    return a;
  }
  bool operator==(const BlockBits&) const = default;

  static constexpr std::uint32_t kWords = 4;
  std::array<std::uint64_t, kWords>& words() { return words_; }
  const std::array<std::uint64_t, kWords>& words() const { return words_; }

 private:
  std::array<std::uint64_t, kWords> words_{};
};

}  // namespace keelson::pool
