// The scrub of a segment, and the repair of what a read found bad, over real replicas on simulated
// disks whose blocks rot.

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/engine/segment_fixture.h"

namespace keelson::engine {
namespace {

using Kind = ScrubFinding::Kind;

class SegmentScrubTest : public SegmentFixture {
 protected:
  // Flips a bit of each block of the member's disk that holds nothing but this letter.
  int Rot(std::size_t index, char letter) {
    sim::SimDisk* const disk = pools_[index]->disk;
    int rotten = 0;
    for (std::uint64_t block = 256; block < disk->block_count(); ++block) {
      if (LetterOf(disk->Current(block)) != letter) continue;
      disk->FlipBit(block, 77);
      ++rotten;
    }
    return rotten;
  }
  void Snapshot() {
    replica::ConfiguredSnapshot snapshot;
    snapshot.id = pool::SnapshotId(world_.MakeId());
    snapshot.name = snapshot.id.ToString();
    ASSERT_TRUE(Must(segment_->HoldWrites(InHalfAMinute())).ok());
    ASSERT_TRUE(Must(segment_->Seal(snapshot)).ok());
    segment_->ReleaseWrites();
    ASSERT_TRUE(Must(segment_->CompleteSnapshot(snapshot.id)).ok());
    snapshot_ = snapshot.id;
  }
  ScrubStatus Scrub(ScrubOptions options = {}) {
    const absl::Status started = segment_->StartScrub(options);
    EXPECT_TRUE(started.ok()) << started;
    for (int i = 0; i < 1000 && segment_->Status().scrub->running; ++i) Pass(10'000'000);
    EXPECT_FALSE(segment_->Status().scrub->running);
    return *segment_->Status().scrub;
  }
  // The member's whole extent of the layer, past the engine, when nothing else has a session.
  absl::Status VerifyAt(std::size_t index, pool::SnapshotId layer, std::uint32_t extent) {
    pool::HeaderBlock data(kMiB);
    std::unique_ptr<replica::ReplicaPort> port =
        pools_[index]->store->MakePort(members_[index].replica);
    const pool::Epoch epoch{++attachment_, 0, pool::EngineId(world_.MakeId())};
    EXPECT_TRUE(Must(port->Prepare(epoch, io::kNoDeadline)).ok());
    const absl::Status read =
        Must(port->ReadCopy(layer, extent, data.span(), io::kNoDeadline)).status();
    EXPECT_TRUE(world_.RunTask(port->Close()));
    return read;
  }
  pool::SnapshotId snapshot_;
};

TEST_F(SegmentScrubTest, ReadsEveryCopyAndFindsNothingWhereNothingIs) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  ASSERT_TRUE(Write(3000, 'b').ok());
  const ScrubStatus scrub = Scrub();
  EXPECT_EQ(scrub.ended_early, "");
  EXPECT_EQ(scrub.regions, 2u);
  EXPECT_EQ(scrub.regions_skipped, 0u);
  EXPECT_EQ(scrub.read_bytes, 3 * 2 * kBlock);
  EXPECT_EQ(scrub.position_bytes, kSizeBytes);
  EXPECT_EQ(scrub.bad_blocks + scrub.different_blocks, 0u);
}

TEST_F(SegmentScrubTest, RepairsWhatRottedOnOneCopy) {
  Make(3);
  Attach();
  for (std::uint64_t block = 0; block < 9; ++block) {
    ASSERT_TRUE(Write(block, static_cast<char>('a' + block)).ok());
  }
  ASSERT_EQ(Rot(1, 'c'), 1);
  ASSERT_EQ(Rot(1, 'd'), 1);
  const ScrubStatus scrub = Scrub();
  EXPECT_EQ(scrub.bad_blocks, 2u);
  EXPECT_EQ(scrub.repaired_blocks, 2u);
  EXPECT_EQ(scrub.unrepairable_blocks, 0u);
  EXPECT_EQ(scrub.different_blocks, 0u);
  ASSERT_EQ(scrub.findings.size(), 2u);
  EXPECT_EQ(scrub.findings[0].kind, Kind::kRepaired);
  EXPECT_EQ(scrub.findings[0].offset, 2 * kBlock);
  EXPECT_EQ(scrub.findings[0].replica, members_[1].replica);
  EXPECT_EQ(segment_->counters().scrub_repaired_blocks, 2u);
  EXPECT_EQ(Scrub().bad_blocks, 0u);
  Close();
  EXPECT_EQ(ReadAt(1, 2), 'c');
  EXPECT_EQ(ReadAt(1, 3), 'd');
}

TEST_F(SegmentScrubTest, RepairsTwoCopiesThatEachHaveWhatTheOtherLost) {
  Make(2);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  ASSERT_TRUE(Write(6, 'b').ok());
  ASSERT_EQ(Rot(0, 'a'), 1);
  ASSERT_EQ(Rot(1, 'b'), 1);
  const ScrubStatus scrub = Scrub();
  EXPECT_EQ(scrub.bad_blocks, 2u);
  EXPECT_EQ(scrub.repaired_blocks, 2u);
  Close();
  EXPECT_EQ(ReadAt(0, 5), 'a');
  EXPECT_EQ(ReadAt(1, 6), 'b');
}

TEST_F(SegmentScrubTest, FindsAndRepairsRotInALayerThatOnlyASnapshotShows) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  Snapshot();
  ASSERT_TRUE(Write(5, 'b').ok());
  ASSERT_EQ(Rot(2, 'a'), 1);
  const ScrubStatus scrub = Scrub();
  EXPECT_EQ(scrub.repaired_blocks, 1u);
  EXPECT_EQ(scrub.different_blocks, 0u);
  ASSERT_EQ(scrub.findings.size(), 1u);
  EXPECT_EQ(scrub.findings[0].layer, snapshot_);
  EXPECT_EQ(scrub.findings[0].offset, 5 * kBlock);
  Close();
  EXPECT_TRUE(VerifyAt(2, snapshot_, 0).ok());
}

TEST_F(SegmentScrubTest, SaysWhereAllCopiesAreRottenAndClaimsNothing) {
  Make(2);
  Attach();
  ASSERT_TRUE(Write(7, 'a').ok());
  ASSERT_EQ(Rot(0, 'a'), 1);
  ASSERT_EQ(Rot(1, 'a'), 1);
  const ScrubStatus scrub = Scrub();
  EXPECT_EQ(scrub.bad_blocks, 2u);
  EXPECT_EQ(scrub.repaired_blocks, 0u);
  EXPECT_EQ(scrub.unrepairable_blocks, 2u);
  ASSERT_EQ(scrub.findings.size(), 2u);
  for (const ScrubFinding& finding : scrub.findings) {
    EXPECT_EQ(finding.kind, Kind::kUnrepairable);
    EXPECT_EQ(finding.offset, 7 * kBlock);
  }
}

TEST_F(SegmentScrubTest, OneCopyIsVerifiedThoughNothingCanRepairIt) {
  Make(1);
  Attach();
  ASSERT_TRUE(Write(7, 'a').ok());
  ASSERT_TRUE(Write(8, 'b').ok());
  ASSERT_EQ(Rot(0, 'b'), 1);
  const ScrubStatus scrub = Scrub();
  EXPECT_EQ(scrub.unrepairable_blocks, 1u);
  ASSERT_EQ(scrub.findings.size(), 1u);
  EXPECT_EQ(scrub.findings[0].offset, 8 * kBlock);
  EXPECT_EQ(scrub.different_blocks, 0u);
}

TEST_F(SegmentScrubTest, ReportsCopiesThatDifferWithoutChangingThem) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  ASSERT_TRUE(WriteAt(1, 5, 'x').ok());  // past the engine: what must never happen
  const ScrubStatus scrub = Scrub();
  EXPECT_EQ(scrub.bad_blocks, 0u);
  EXPECT_EQ(scrub.different_blocks, 1u);
  ASSERT_EQ(scrub.findings.size(), 1u);
  EXPECT_EQ(scrub.findings[0].kind, Kind::kDifferent);
  EXPECT_EQ(scrub.findings[0].replica, members_[1].replica);
  Close();
  EXPECT_EQ(ReadAt(0, 5), 'a');
  EXPECT_EQ(ReadAt(1, 5), 'x');
}

TEST_F(SegmentScrubTest, DoesNotJudgeARegionThatIsNotReconciled) {
  Make(2);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  ASSERT_TRUE(Write(9, 'q').ok());
  ASSERT_TRUE(WriteAt(1, 5, 'x').ok());
  Abandon();
  // No copy can give all of the region, so it stays as the crash left it.
  ASSERT_EQ(Rot(0, 'q'), 1);
  ASSERT_EQ(Rot(1, 'q'), 1);
  Attach();
  Pass(1'000'000'000);
  ASSERT_EQ(segment_->Status().regions_to_reconcile, 1u);
  const ScrubStatus scrub = Scrub();
  EXPECT_EQ(scrub.ended_early, "");
  EXPECT_EQ(scrub.regions, 1u);
  EXPECT_EQ(scrub.regions_skipped, 1u);
  EXPECT_EQ(scrub.bad_blocks, 0u);
  EXPECT_EQ(scrub.different_blocks, 0u);
}

TEST_F(SegmentScrubTest, KeepsToItsRateAndShowsHowFarItIs) {
  Make(2);
  Attach();
  for (std::uint64_t block = 0; block < 8; ++block) {
    ASSERT_TRUE(Write(512 * block, 'a').ok());
  }
  ASSERT_TRUE(segment_->StartScrub({.bytes_per_second = kBlock}).ok());
  Pass(7'500'000'000);
  const ScrubStatus half = *segment_->Status().scrub;
  EXPECT_TRUE(half.running);
  EXPECT_GE(half.read_bytes, 6 * kBlock);
  EXPECT_LE(half.read_bytes, 10 * kBlock);
  EXPECT_GT(half.position_bytes, 0u);
  EXPECT_LT(half.position_bytes, kSizeBytes);
  EXPECT_TRUE(absl::IsFailedPrecondition(segment_->StartScrub({})));
  ASSERT_TRUE(Write(1, 'b').ok()) << "it is in the way of writes";
}

TEST_F(SegmentScrubTest, ADetachEndsIt) {
  Make(2);
  Attach();
  for (std::uint64_t block = 0; block < 8; ++block) {
    ASSERT_TRUE(Write(512 * block, 'a').ok());
  }
  ASSERT_TRUE(segment_->StartScrub({.bytes_per_second = 1}).ok());
  Pass(1'000'000'000);
  const std::int64_t began_ns = world_.now_ns();
  EXPECT_TRUE(Must(segment_->Close()).ok());
  EXPECT_LT(world_.now_ns() - began_ns, 2'000'000'000);
  EXPECT_FALSE(segment_->Status().scrub->running);
  EXPECT_NE(segment_->Status().scrub->ended_early, "");
  segment_.reset();
}

TEST_F(SegmentScrubTest, GoesOnWithoutAMemberThatFails) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  ASSERT_EQ(Rot(0, 'a'), 1);
  Cut(2);
  const ScrubStatus scrub = Scrub();
  EXPECT_EQ(scrub.ended_early, "");
  EXPECT_EQ(scrub.repaired_blocks, 1u);
}

// --- What a read found bad ---

TEST_F(SegmentScrubTest, ARepairAfterAReadLeavesTheChecksumsOfItsRegionInForce) {
  Make(2);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  ASSERT_TRUE(Must(segment_->RollGeneration()).ok());
  ASSERT_TRUE(Must(segment_->RollGeneration()).ok());
  const pool::Generation clean = segment_->Status().configuration.clean;
  ASSERT_EQ(Rot(0, 'a'), 1);
  EXPECT_EQ(Read(5), 'a');
  Pass(100'000'000);
  EXPECT_EQ(segment_->counters().repairs, 1u);
  EXPECT_EQ(ReadAt(0, 5), 'a');
  // Nothing says that the region has changed since it was clean: nothing was voided.
  Abandon();
  std::unique_ptr<replica::ReplicaPort> port = pools_[0]->store->MakePort(members_[0].replica);
  const pool::Epoch epoch{++attachment_, 0, pool::EngineId(world_.MakeId())};
  ASSERT_TRUE(Must(port->Prepare(epoch, io::kNoDeadline)).ok());
  const auto notes = Must(port->Notes(clean, 0, 10, io::kNoDeadline));
  ASSERT_TRUE(notes.ok()) << notes.status();
  EXPECT_TRUE(notes->empty());
  EXPECT_TRUE(world_.RunTask(port->Close()));
}

TEST_F(SegmentScrubTest, ARepairAfterAReadMendsTheLayerThatShowsTheBlock) {
  Make(2);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  Snapshot();
  ASSERT_TRUE(Write(6, 'b').ok());
  ASSERT_EQ(Rot(0, 'a'), 1);
  EXPECT_EQ(Read(5), 'a');
  Pass(100'000'000);
  EXPECT_EQ(segment_->counters().repairs, 1u);
  Close();
  EXPECT_TRUE(VerifyAt(0, snapshot_, 0).ok());
}

}  // namespace
}  // namespace keelson::engine
