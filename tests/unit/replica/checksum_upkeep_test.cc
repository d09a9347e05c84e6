// What keeps notes, checksums and maps right when generations end, layers merge, and things fail.
#include <gtest/gtest.h>

#include "tests/unit/replica/member_fixture.h"

namespace keelson::replica {
namespace {

class ChecksumUpkeepTest : public MemberFixture {
 protected:
  // Drops the only snapshot (the second configuration without it does), and stops while the merge
  // holds the extents it moves.
  void BeginMerge(ReplicaPort& port) {
    ASSERT_TRUE(Accept(port, MakeConfiguration(3)).ok());
    ASSERT_TRUE(Accept(port, MakeConfiguration(4)).ok());
    ASSERT_FALSE(replica().extent_locks().idle());
  }
  void WriteAndSeal(ReplicaPort& port) {
    ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
    Configuration configuration = MakeConfiguration(2);
    configuration.snapshots = {MakeSnapshot("s", 1)};
    ASSERT_TRUE(Accept(port, configuration).ok());
    ASSERT_TRUE(Write(port, 256, 'b', 2).ok());  // the region is noted in the head
  }
  // One write that succeeds, and one to another extent that fails.
  void FailAWrite(ReplicaPort& port) {
    ASSERT_TRUE(Write(port, 256, 'a', 1).ok());
    disk().faults().write_error = 1;
    EXPECT_EQ(Write(port, 0, 'a', 1).code(), absl::StatusCode::kInternal);
    disk().faults().write_error = 0;
    ASSERT_EQ(space().used_bytes, 2 * kMiB);
  }
  void RunBackground() { world_.RunUntil(world_.now_ns() + 1'000'000'000); }
  std::uint64_t FindOnDisk(char letter) {
    for (std::uint64_t block = 256; block < disk().block_count(); ++block) {
      if (disk().Current(block)[0] == static_cast<std::byte>(letter)) return block;
    }
    return 0;
  }
};

// --- A merge that failed ---

TEST_F(ChecksumUpkeepTest, AWriteThatWaitedForAMergeThatFailedDoesNotOverwriteInPlace) {
  ReplicaPort& port = OpenPort();
  WriteAndSeal(port);
  BeginMerge(port);
  disk().faults().flush_error = 1;
  EXPECT_EQ(Write(port, 0, 'z', 2).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(FindOnDisk('z'), 0U);
  EXPECT_EQ(Read(port, 0), "a");
}

TEST_F(ChecksumUpkeepTest, ATrimThatWaitedForAMergeThatFailedChangesNothing) {
  ReplicaPort& port = OpenPort();
  WriteAndSeal(port);
  BeginMerge(port);
  disk().faults().flush_error = 1;
  EXPECT_EQ(Trim(port, 0, 2).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Read(port, 0), "a");
}

// --- Notes ---

TEST_F(ChecksumUpkeepTest, ARegionWhoseFirstWriterIsNotDoneNotingItIsNotCarriedOver) {
  RegionNotes& notes = replica().head()->notes();
  // A first writer came by, and is still taking the region's checksums into memory.
  EXPECT_FALSE(notes.Touch(1, 1, At(1)));
  ASSERT_TRUE(Must(notes.Ensure(0, 0, At(1))).ok());
  ASSERT_TRUE(Must(notes.CarryOver(At(1), At(2))).ok());
  EXPECT_EQ(notes.Get(0), At(2));
  EXPECT_EQ(notes.Get(1), pool::Generation());
  ASSERT_TRUE(Must(notes.Ensure(1, 1, At(1))).ok());
  ASSERT_TRUE(Must(notes.CarryOver(At(1), At(3))).ok());
  EXPECT_EQ(notes.Get(1), At(3));
}

TEST_F(ChecksumUpkeepTest, AMergeCarriesTheNotesOfTheLayerToItsChild) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 0, 'a', 3).ok());
  ASSERT_TRUE(EndGeneration(port, 3).ok());
  ASSERT_TRUE(Write(port, 1024, 'a', 4).ok());
  Configuration configuration = MakeConfiguration(2);
  configuration.snapshots = {MakeSnapshot("s", 5)};  // sealed later: nothing is noted in the head
  ASSERT_TRUE(Accept(port, configuration).ok());
  ASSERT_TRUE(replica().head()->notes().Regions().empty());
  ASSERT_TRUE(Accept(port, MakeConfiguration(3)).ok());
  ASSERT_TRUE(Accept(port, MakeConfiguration(4)).ok());
  FinishCleanup();
  const std::vector<RegionNote> expected = {{0, kHead, At(3)}, {1, kHead, At(4)}};
  EXPECT_EQ(*Must(port.Notes({}, 0, 100, kNoDeadline)), expected);
  CutPower();
  EXPECT_EQ(*Must(OpenPort().Notes({}, 0, 100, kNoDeadline)), expected);
}

TEST_F(ChecksumUpkeepTest, ABusyRegionIsNotedForTheNextGenerationByItsFirstWriter) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  ASSERT_TRUE(Write(port, 1024, 'a', 1).ok());
  ASSERT_TRUE(Write(port, 0, 'b', 2).ok());
  EXPECT_EQ(replica().head()->notes().Get(1), At(2));
  // Not once the generation has ended: its checksums are stored, and stay in force.
  ASSERT_TRUE(EndGeneration(port, 2).ok());
  ASSERT_TRUE(Write(port, 0, 'c', 3).ok());
  EXPECT_EQ(replica().head()->notes().Get(1), At(2));
}

// --- After a crash ---

TEST_F(ChecksumUpkeepTest, AnEndedGenerationKeepsItsChecksumsAcrossAPowerCut) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  ASSERT_TRUE(EndGeneration(port, 1).ok());
  CutPower();
  disk().FlipBit(FindOnDisk('a'), 1);
  EXPECT_EQ(Read(OpenPort(), 0), "!");
}

TEST_F(ChecksumUpkeepTest, WhatACrashLeftUnknownIsReadAgainByASession) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  ASSERT_TRUE(Must(port.Flush(kNoDeadline)).ok());
  CutPower();
  ReplicaPort& again = OpenPort();
  RunBackground();
  disk().FlipBit(FindOnDisk('a'), 1);
  EXPECT_EQ(Read(again, 0), "!");
}

TEST_F(ChecksumUpkeepTest, UntilThatIsDoneAGenerationEndsWithoutBecomingClean) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  ASSERT_TRUE(Must(port.Flush(kNoDeadline)).ok());
  CutPower();
  disk().faults().read_error = 1;
  ReplicaPort& again = OpenPort();
  ASSERT_TRUE(Write(again, 1024, 'b', 2).ok());
  const std::uint64_t flushes = store().pool().counters().flushes;
  RunBackground();
  ASSERT_TRUE(EndGeneration(again, 2).ok());
  EXPECT_GT(store().pool().counters().flushes, flushes);
  EXPECT_EQ(replica().clean_generation(), pool::Generation());
  RunBackground();
  disk().faults().read_error = 0;
  ASSERT_TRUE(EndGeneration(again, 2).ok());  // not yet, but this begins it once more
  EXPECT_EQ(replica().clean_generation(), pool::Generation());
  RunBackground();
  ASSERT_TRUE(EndGeneration(again, 2).ok());
  EXPECT_EQ(replica().clean_generation(), At(2));
}

TEST_F(ChecksumUpkeepTest, ARegionThatCouldNotBeReadIsTriedAgainAtTheNextStart) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  ASSERT_TRUE(Must(port.Flush(kNoDeadline)).ok());
  CutPower();
  disk().faults().read_error = 1;
  ReplicaPort& failing = OpenPort();
  RunBackground();
  ASSERT_TRUE(EndGeneration(failing, 2).ok());
  disk().faults().read_error = 0;
  CutPower();
  ReplicaPort& again = OpenPort();
  RunBackground();
  disk().FlipBit(FindOnDisk('a'), 1);
  EXPECT_EQ(Read(again, 0), "!");
}

// --- After a failed write ---

TEST_F(ChecksumUpkeepTest, WhatAFailedWriteLeftIsSettledWhenTheGenerationEnds) {
  ReplicaPort& port = OpenPort();
  FailAWrite(port);
  ASSERT_TRUE(EndGeneration(port, 1).ok());
  EXPECT_EQ(space().used_bytes, kMiB);
  EXPECT_EQ(Check(), "");
}

TEST_F(ChecksumUpkeepTest, WhatAFailedWriteLeftIsSettledWhenTheHeadIsSealed) {
  ReplicaPort& port = OpenPort();
  FailAWrite(port);
  Configuration configuration = MakeConfiguration(2);
  configuration.snapshots = {MakeSnapshot("s", 1)};
  ASSERT_TRUE(Accept(port, configuration).ok());
  EXPECT_EQ(space().used_bytes, kMiB);
  EXPECT_EQ(Check(), "");
}

TEST_F(ChecksumUpkeepTest, AFailedWriteDoesNotMakeARottenBlockGood) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  disk().FlipBit(FindOnDisk('a'), 1);
  disk().faults().write_full = 1;
  EXPECT_EQ(Write(port, 0, 'b', 1).code(), absl::StatusCode::kResourceExhausted);
  disk().faults().write_full = 0;
  EXPECT_EQ(Read(port, 0), "!");
  ASSERT_TRUE(EndGeneration(port, 1).ok());
  EXPECT_EQ(Read(port, 0), "!");
  ASSERT_TRUE(Write(port, 0, 'b', 1).ok());
  EXPECT_EQ(Read(port, 0), "b");
}

TEST_F(ChecksumUpkeepTest, WhatAFailedWriteDidNotChangeKeepsItsChecksum) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  disk().faults().write_full = 1;
  EXPECT_EQ(Write(port, 0, 'b', 1).code(), absl::StatusCode::kResourceExhausted);
  disk().faults().write_full = 0;
  EXPECT_EQ(Read(port, 0), "a");
  disk().FlipBit(FindOnDisk('a'), 1);
  EXPECT_EQ(Read(port, 0), "!");
}

TEST_F(ChecksumUpkeepTest, ATornWriteIsNotTakenForRot) {
  ReplicaPort& port = OpenPort();
  for (std::uint64_t block = 0; block < 64; ++block) {
    ASSERT_TRUE(Write(port, block, 'a', 1).ok());
  }
  disk().faults().write_error = 1;  // each may have happened, in part, or not
  for (std::uint64_t block = 0; block < 64; ++block) {
    EXPECT_EQ(Write(port, block, 'b', 1).code(), absl::StatusCode::kInternal);
  }
  disk().faults().write_error = 0;
  for (std::uint64_t block = 0; block < 64; ++block) EXPECT_NE(Read(port, block), "!");
}

TEST_F(ChecksumUpkeepTest, AnExtentTakenForAWriteThatFailedIsNoDisagreement) {
  ReplicaPort& port = OpenPort();
  Configuration configuration = MakeConfiguration(2);
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  configuration.snapshots = {MakeSnapshot("s", 1)};
  ASSERT_TRUE(Accept(port, configuration).ok());
  ASSERT_TRUE(Trim(port, 0, 2).ok());  // the head's entry hides the snapshot's block
  disk().faults().write_full = 1;
  EXPECT_EQ(Write(port, 1, 'b', 2).code(), absl::StatusCode::kResourceExhausted);
  disk().faults().write_full = 0;
  EXPECT_EQ(Check(), "");
}

}  // namespace
}  // namespace keelson::replica
