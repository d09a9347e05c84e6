// What a scrub asks of a replica: which blocks are bad, and putting them right (R17).
#include <gtest/gtest.h>

#include "tests/unit/replica/member_fixture.h"

namespace keelson::replica {
namespace {

using pool::BlockBits;

class VerifyTest : public MemberFixture {
 protected:
  void SetUp() override {
    MemberFixture::SetUp();
    port_ = &Open(id_);
  }
  void Rot(char letter, std::uint32_t bit = 3) {
    for (std::uint64_t block = 256; block < disk().block_count(); ++block) {
      if (Letter(disk().Current(block)) == letter) return disk().FlipBit(block, bit);
    }
    FAIL() << "no block holds " << letter;
  }
  VerifyAnswer Verify(pool::SnapshotId layer, BlockBits offered = {}, char letter = '-') {
    pool::HeaderBlock packed(std::max<std::size_t>(kBlock, offered.Count() * kBlock));
    std::fill(packed.span().begin(), packed.span().end(), static_cast<std::byte>(letter));
    auto answer = Must(port_->Verify(layer, 0, offered,
                                     packed.span().first(offered.Count() * kBlock), kNoDeadline));
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? *answer : VerifyAnswer();
  }
  static BlockBits Bit(std::uint32_t block) { return BlockBits::Range(block, 1); }
  ReplicaPort* port_ = nullptr;
};

TEST_F(VerifyTest, NamesTheBlocksThatAreBadAndTheChecksumsOfTheOthers) {
  ASSERT_TRUE(Write(*port_, 2, 'a', 1).ok());
  ASSERT_TRUE(Write(*port_, 3, 'b', 1).ok());
  ASSERT_TRUE(Write(*port_, 9, 'b', 1).ok());
  Rot('a');
  const VerifyAnswer answer = Verify(kHead);
  EXPECT_EQ(answer.content.data, BlockBits::Range(2, 2) | Bit(9));
  EXPECT_EQ(answer.bad, Bit(2));
  EXPECT_EQ(answer.mended, BlockBits());
  EXPECT_EQ(answer.crc32c[2], 0u);
  EXPECT_NE(answer.crc32c[3], 0u);
  EXPECT_EQ(answer.crc32c[3], answer.crc32c[9]);
  EXPECT_EQ(Read(*port_, 2), "!");
}

TEST_F(VerifyTest, MendsABlockWithExactlyTheBytesThatWereLost) {
  ASSERT_TRUE(Write(*port_, 2, 'a', 1).ok());
  Rot('a');
  EXPECT_EQ(Verify(kHead, Bit(2), 'x').mended, BlockBits()) << "other bytes than were lost";
  EXPECT_EQ(Read(*port_, 2), "!");
  const VerifyAnswer answer = Verify(kHead, Bit(2), 'a');
  EXPECT_EQ(answer.bad, Bit(2));
  EXPECT_EQ(answer.still_bad(), BlockBits());
  EXPECT_EQ(Read(*port_, 2), "a");
}

TEST_F(VerifyTest, LeavesAGoodBlockAloneWhateverIsOffered) {
  ASSERT_TRUE(Write(*port_, 2, 'a', 1).ok());
  const VerifyAnswer answer = Verify(kHead, Bit(2) | Bit(5), 'x');
  EXPECT_EQ(answer.bad | answer.mended, BlockBits());
  EXPECT_EQ(Read(*port_, 0, 6), "00a000");
}

TEST_F(VerifyTest, WhatWasMendedIsStillToldFromRotAfterAPowerCut) {
  ASSERT_TRUE(Write(*port_, 2, 'a', 1).ok());
  ASSERT_TRUE(EndGeneration(*port_, 1).ok());
  Rot('a');
  ASSERT_EQ(Verify(kHead, Bit(2), 'a').mended, Bit(2));
  // Nothing was flushed since: the disk may have either of the two, and never says "good" of rot.
  CutPower();
  port_ = &Open(id_);
  const VerifyAnswer answer = Verify(kHead);
  EXPECT_EQ(Read(*port_, 2), answer.bad.Any() ? "!" : "a");
  EXPECT_EQ(Verify(kHead, Bit(2), 'a').still_bad(), BlockBits());
  EXPECT_EQ(Read(*port_, 2), "a");
}

TEST_F(VerifyTest, MendsASealedLayerWithoutTouchingTheOnesAboveIt) {
  ASSERT_TRUE(Write(*port_, 2, 'a', 1).ok());
  Configuration configuration = MakeConfiguration(2);
  const ConfiguredSnapshot snapshot = MakeSnapshot("s", 1);
  configuration.snapshots = {snapshot};
  ASSERT_TRUE(Accept(*port_, configuration).ok());
  ASSERT_TRUE(Write(*port_, 2, 'b', 2).ok());
  Rot('a');
  EXPECT_EQ(Verify(kHead).bad, BlockBits());
  EXPECT_EQ(Verify(snapshot.id).bad, Bit(2));
  EXPECT_EQ(Verify(snapshot.id, Bit(2), 'a').mended, Bit(2));
  EXPECT_EQ(Content(*port_, snapshot.id, 0, 4), "..a.");
  EXPECT_EQ(Read(*port_, 2), "b");
}

TEST_F(VerifyTest, RotOutlivesTheMergeOfItsLayerAndCanStillBeMended) {
  ASSERT_TRUE(Write(*port_, 2, 'a', 1).ok());
  Configuration configuration = MakeConfiguration(2);
  configuration.snapshots = {MakeSnapshot("s", 1)};
  ASSERT_TRUE(Accept(*port_, configuration).ok());
  ASSERT_TRUE(Write(*port_, 3, 'b', 2).ok());
  Rot('a');
  for (std::uint64_t counter = 3; counter <= 4; ++counter) {  // gone when two in a row are without
    configuration = MakeConfiguration(counter);
    ASSERT_TRUE(Accept(*port_, configuration).ok());
  }
  ASSERT_TRUE(world_.RunTask(store().WaitForCleanup()));
  EXPECT_EQ(Read(*port_, 2, 2), "!b");
  EXPECT_EQ(Verify(kHead, Bit(2), 'a').mended, Bit(2));
  EXPECT_EQ(Read(*port_, 2, 2), "ab");
}

TEST_F(VerifyTest, AnOfferThatIsNotWhatItNamesIsRefused) {
  pool::HeaderBlock packed(kBlock);
  EXPECT_TRUE(absl::IsInvalidArgument(
      Must(port_->Verify(kHead, 0, BlockBits::Range(0, 2), packed.span(), kNoDeadline)).status()));
}

}  // namespace
}  // namespace keelson::replica
