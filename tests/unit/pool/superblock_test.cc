#include "blockstore/pool/superblock.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>

namespace keelson::pool {
namespace {

using HeaderBytes = std::array<std::byte, kHeaderBlockBytes>;

Superblock Sample() {
  Superblock superblock;
  superblock.pool_id.bytes = {1, 2, 3};
  superblock.extent_count = 77;
  return superblock;
}

HeaderBytes Encoded(const Superblock& superblock) {
  HeaderBytes block;
  EncodeSuperblock(superblock, block);
  return block;
}

TEST(SuperblockTest, ReadsBackWhatWasWritten) {
  const HeaderBytes block = Encoded(Sample());
  const auto decoded = DecodeSuperblock(block);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->pool_id, Sample().pool_id);
  EXPECT_EQ(decoded->extent_count, 77U);
}

TEST(SuperblockTest, CallsForeignBytesNotAPool) {
  HeaderBytes block{};
  std::memcpy(block.data(), "\xeb\x3c\x90mkfs.fat", 11);
  const auto decoded = DecodeSuperblock(block);
  EXPECT_EQ(decoded.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(decoded.status().message().find("not a pool"), std::string::npos);
}

TEST(SuperblockTest, NoticesEveryFlippedBit) {
  const HeaderBytes block = Encoded(Sample());
  for (std::size_t bit = 64; bit < kHeaderBlockBytes * 8; bit += 37) {  // past the magic
    HeaderBytes damaged = block;
    damaged[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_EQ(DecodeSuperblock(damaged).status().code(), absl::StatusCode::kDataLoss) << bit;
  }
}

TEST(SuperblockTest, RefusesANewerFormatAndSaysSo) {
  Superblock newer = Sample();
  newer.format_version = kFormatVersion + 1;
  const auto decoded = DecodeSuperblock(Encoded(newer));
  EXPECT_EQ(decoded.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(decoded.status().message().find("newer keelson-blockstore"), std::string::npos);
}

TEST(SuperblockTest, RefusesAnUnknownIncompatibleFeatureButNotACompatibleOne) {
  Superblock superblock = Sample();
  superblock.compatible_features = 1ULL << 40;
  EXPECT_TRUE(DecodeSuperblock(Encoded(superblock)).ok());
  superblock.incompatible_features = 1ULL << 40;
  EXPECT_EQ(DecodeSuperblock(Encoded(superblock)).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(SuperblockTest, RefusesImpossibleGeometry) {
  Superblock superblock = Sample();
  superblock.extent_count = 0;
  EXPECT_EQ(DecodeSuperblock(Encoded(superblock)).status().code(), absl::StatusCode::kDataLoss);
}

TEST(MarkTest, TellsNeverWrittenFromTorn) {
  HeaderBytes block{};
  EXPECT_EQ(DecodeMark(block).status().code(), absl::StatusCode::kNotFound);
  EncodeMark({Sample().pool_id, 9}, block);
  ASSERT_TRUE(DecodeMark(block).ok());
  EXPECT_EQ(DecodeMark(block)->stamp, 9U);
  HeaderBytes newer;
  EncodeMark({Sample().pool_id, 10}, newer);
  std::memcpy(block.data(), newer.data(), 32);  // a cut between the pool id and the stamp
  EXPECT_EQ(DecodeMark(block).status().code(), absl::StatusCode::kDataLoss);
}

TEST(Crc32cTest, MatchesTheVectorsOfRfc3720) {
  std::array<std::byte, 32> bytes{};
  EXPECT_EQ(Crc32c(bytes), 0x8a9136aaU);
  bytes.fill(std::byte{0xff});
  EXPECT_EQ(Crc32c(bytes), 0x62a8ab43U);
}

}  // namespace
}  // namespace keelson::pool
