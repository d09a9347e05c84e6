// What a resync reads and writes: notes and the exact content of layers (R5, R12, R17, R18).
#include <gtest/gtest.h>

#include "blockstore/replica/copied_extents.h"
#include "tests/unit/replica/member_fixture.h"

namespace keelson::replica {
namespace {

class CopyTest : public MemberFixture {
 protected:
  void SetUp() override {
    MemberFixture::SetUp();
    target_id_ = AddTarget();
    OpenBoth();
  }
  void OpenBoth() {
    source_ = &Open(id_);
    target_ = &Open(target_id_);
  }
  Configuration TargetConfiguration(std::uint64_t counter) {
    Configuration configuration = MakeConfiguration(counter);
    configuration.volume = store().Find(target_id_)->volume_id();
    configuration.members[0].replica = target_id_;
    return configuration;
  }
  // Gives both the snapshots.
  void Snapshots(std::uint64_t counter, const std::vector<ConfiguredSnapshot>& snapshots) {
    Configuration configuration = MakeConfiguration(counter);
    configuration.snapshots = snapshots;
    ASSERT_TRUE(Accept(*source_, configuration).ok());
    configuration = TargetConfiguration(counter);
    configuration.snapshots = snapshots;
    ASSERT_TRUE(Accept(*target_, configuration).ok());
  }
  std::vector<RegionNote> Notes(ReplicaPort& port, std::uint64_t above = 0, std::uint32_t first = 0,
                                std::size_t count = 1000) {
    auto notes =
        Must(port.Notes(above == 0 ? pool::Generation() : At(above), first, count, kNoDeadline));
    EXPECT_TRUE(notes.ok()) << notes.status();
    return *notes;
  }
  // As an engine does it: by region, layer by layer.
  void CopyAll() {
    pool::HeaderBlock data(kMiB);
    for (const RegionNote& note : Notes(*source_)) {
      ASSERT_TRUE(
          Must(target_->BeginCopy(note.layer, note.region, note.generation, kNoDeadline)).ok());
      for (std::uint32_t i = 0; i < pool::kExtentsPerRegion; ++i) {
        const std::uint32_t extent = note.region * pool::kExtentsPerRegion + i;
        auto content = Must(source_->ReadCopy(note.layer, extent, data.span(), kNoDeadline));
        ASSERT_TRUE(content.ok()) << content.status();
        const std::span<const std::byte> packed = data.span().first(content->data.Count() * kBlock);
        const absl::Status written =
            Must(target_->WriteCopy(note.layer, extent, *content, packed, kNoDeadline));
        ASSERT_TRUE(written.ok()) << written;
      }
    }
  }
  // A snapshot was deleted, and one of them missed a configuration of it: it has the layer still.
  void CopyAcrossADeletion(bool source_has_it) {
    const ConfiguredSnapshot one = MakeSnapshot("one", 1);
    const ConfiguredSnapshot two = MakeSnapshot("two", 2);
    ASSERT_TRUE(Write(*source_, 0, 'a', 1, 8).ok());
    Snapshots(2, {one});
    ASSERT_TRUE(Write(*source_, 1, 'b', 2).ok());
    ASSERT_TRUE(Trim(*source_, 2, 2).ok());
    Snapshots(3, {one, two});
    CopyAll();
    ASSERT_TRUE(Write(*source_, 3, 'c', 3).ok());
    Snapshots(4, {two});
    Configuration again = source_has_it ? TargetConfiguration(5) : MakeConfiguration(5);
    again.snapshots = {two};
    ASSERT_TRUE(Accept(source_has_it ? *target_ : *source_, again).ok());
    FinishCleanup();
    ASSERT_NE(store().Find(id_)->snapshots().size(), store().Find(target_id_)->snapshots().size());
    for (const RegionNote& note : Notes(*source_)) EXPECT_NE(note.layer, one.id);
    CopyAll();
    EXPECT_EQ(Read(*target_, 0, 8), "ab0caaaa");
    EXPECT_EQ(Difference(two.id), "");
    EXPECT_EQ(Difference(kHead), "");
    EXPECT_EQ(Check(), "");
  }
  // "" when every extent of the layer is the same at both.
  std::string Difference(pool::SnapshotId layer) {
    for (std::uint32_t extent = 0; extent < 8; ++extent) {
      const std::string source = Content(*source_, layer, extent, 256);
      const std::string target = Content(*target_, layer, extent, 256);
      if (source != target) return source + " is not " + target;
    }
    return "";
  }

  pool::ReplicaId target_id_;
  ReplicaPort* source_ = nullptr;
  ReplicaPort* target_ = nullptr;
};

TEST_F(CopyTest, ACopyIsEqualLayerByLayerWithItsAbsencesAndAgainAfterChanges) {
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  const ConfiguredSnapshot two = MakeSnapshot("two", 2);
  ASSERT_TRUE(Write(*source_, 0, 'a', 1, 10).ok());
  ASSERT_TRUE(Write(*source_, 250, 'b', 1, 12).ok());  // over two extents
  ASSERT_TRUE(Write(*source_, 1100, 'c', 1).ok());     // the second region
  // What the target has and the source has not must go.
  ASSERT_TRUE(Write(*target_, 8, 'x', 1, 8).ok());
  ASSERT_TRUE(Write(*target_, 700, 'x', 1, 5).ok());
  Snapshots(2, {one});
  ASSERT_TRUE(Write(*source_, 3, 'd', 2, 2).ok());
  ASSERT_TRUE(Trim(*source_, 5, 2, 2).ok());
  ASSERT_TRUE(Write(*target_, 6, 'y', 2, 3).ok());
  Snapshots(3, {one, two});
  ASSERT_TRUE(Trim(*source_, 0, 3, 2).ok());
  ASSERT_TRUE(Write(*source_, 2000, 'e', 3).ok());
  CopyAll();
  EXPECT_EQ(Difference(one.id), "");
  EXPECT_EQ(Difference(two.id), "");
  EXPECT_EQ(Difference(kHead), "");
  EXPECT_EQ(Content(*target_, one.id, 0, 12), "aaaaaaaaaa..");
  EXPECT_EQ(Content(*target_, two.id, 0, 12), "...ddzz.....");
  EXPECT_EQ(Content(*target_, kHead, 0, 12), "zz..........");
  EXPECT_EQ(Read(*target_, 0, 12), "00add00aaa00");
  EXPECT_EQ(Read(*target_, 700, 5), "00000");
  EXPECT_EQ(Check(), "");
  // Again, after more of both.
  ASSERT_TRUE(Write(*target_, 0, 'x', 4, 256).ok());
  ASSERT_TRUE(Trim(*source_, 250, 4, 12).ok());
  CopyAll();
  EXPECT_EQ(Difference(kHead), "");
  EXPECT_EQ(Difference(one.id), "");
  EXPECT_EQ(Check(), "");
}

TEST_F(CopyTest, ANewMemberIsFilledFromNothing) {
  ASSERT_TRUE(Write(*source_, 0, 'a', 1, 300).ok());
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  Snapshots(2, {one});
  ASSERT_TRUE(Write(*source_, 2, 'b', 2).ok());
  CopyAll();
  EXPECT_EQ(Difference(one.id), "");
  EXPECT_EQ(Difference(kHead), "");
  // Only what was written takes space: two extents of the snapshot and one of the head, twice.
  EXPECT_EQ(space().used_bytes, 6 * kMiB);
}

TEST_F(CopyTest, NotesComeByRegionThenByLayerAndAPageHoldsAllOfARegion) {
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  const ConfiguredSnapshot two = MakeSnapshot("two", 2);
  ASSERT_TRUE(Write(*source_, 1024, 'a', 1).ok());  // region 1
  ASSERT_TRUE(Write(*source_, 0, 'a', 1).ok());
  Snapshots(2, {one});
  // The region that was busy is noted in the new head at once, for the next generation.
  ASSERT_TRUE(Write(*source_, 0, 'b', 2).ok());
  Snapshots(3, {one, two});
  const std::vector<RegionNote> all = Notes(*source_);
  const std::vector<RegionNote> expected = {
      {0, one.id, At(1)}, {0, two.id, At(2)}, {0, kHead, At(3)},
      {1, one.id, At(1)}, {1, two.id, At(2)},
  };
  EXPECT_EQ(all, expected);
  const std::span<const RegionNote> first(expected.data(), 3);
  const std::vector<RegionNote> page = Notes(*source_, 0, 0, 4);
  EXPECT_TRUE(std::equal(page.begin(), page.end(), first.begin(), first.end()));
  EXPECT_EQ(Notes(*source_, 0, 0, 1).size(), 3U);  // always all of a region
  EXPECT_EQ(Notes(*source_, 0, 1).size(), 2U);
  EXPECT_EQ(Notes(*source_, 2), (std::vector<RegionNote>{{0, kHead, At(3)}}));
  EXPECT_TRUE(Notes(*source_, 3).empty());
}

TEST_F(CopyTest, ASealedLayerTakesACopyAndTheLayersAboveItStay) {
  ASSERT_TRUE(Write(*target_, 0, 'a', 1, 4).ok());
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  Snapshots(2, {one});
  ASSERT_TRUE(Write(*target_, 1, 'b', 2).ok());
  ASSERT_TRUE(BeginCopy(*target_, one.id, 0, 1).ok());
  ASSERT_TRUE(WriteCopy(*target_, one.id, 0, "xx.x").ok());
  EXPECT_EQ(Content(*target_, one.id, 0, 5), "xx.x.");
  EXPECT_EQ(Content(*target_, kHead, 0, 5), ".b...");
  EXPECT_EQ(Read(*target_, 0, 5), "xb0x0");
  ASSERT_TRUE(Must(target_->Flush(kNoDeadline)).ok());
  CutPower();
  OpenBoth();
  EXPECT_EQ(Content(*target_, one.id, 0, 5), "xx.x.");
  EXPECT_EQ(Check(), "");
}

TEST_F(CopyTest, ASnapshotThatTheConfigurationHasNotAndTheSourceHasIsNoLayer) {
  CopyAcrossADeletion(/*source_has_it=*/true);
}

TEST_F(CopyTest, ASnapshotThatTheConfigurationHasNotAndTheTargetHasIsNoLayer) {
  CopyAcrossADeletion(/*source_has_it=*/false);
}

TEST_F(CopyTest, AnExtentThatTheSourceHasNotIsFreed) {
  ASSERT_TRUE(Write(*target_, 0, 'a', 1, 4).ok());
  ASSERT_TRUE(Must(target_->Flush(kNoDeadline)).ok());
  EXPECT_EQ(space().used_bytes, kMiB);
  ASSERT_TRUE(BeginCopy(*target_, kHead, 0, 2).ok());
  ASSERT_TRUE(WriteCopy(*target_, kHead, 0, "").ok());
  EXPECT_EQ(space().used_bytes, 0U);
  EXPECT_EQ(space().reclaiming_bytes, kMiB);  // until the batch is durable (R18)
  FinishCleanup();
  EXPECT_EQ(space().reclaiming_bytes, 0U);
  EXPECT_EQ(Read(*target_, 0, 4), "0000");
  EXPECT_EQ(Check(), "");
}

TEST_F(CopyTest, BeginCopyRaisesTheNoteDurablyAndNeverLowersIt) {
  EXPECT_EQ(WriteCopy(*target_, kHead, 0, "a").code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(BeginCopy(*target_, kHead, 1, 5).ok());
  ASSERT_TRUE(BeginCopy(*target_, kHead, 1, 3).ok());
  CutPower();
  OpenBoth();
  EXPECT_EQ(Notes(*target_), (std::vector<RegionNote>{{1, kHead, At(5)}}));
}

TEST_F(CopyTest, AWriteOverACopiedBlockSurvivesTheDeathOfTheProcess) {
  ASSERT_TRUE(BeginCopy(*target_, kHead, 0, 1).ok());
  ASSERT_TRUE(WriteCopy(*target_, kHead, 0, "abc").ok());
  ASSERT_TRUE(Write(*target_, 1, 'x', 1).ok());
  KillProcess();
  OpenBoth();
  EXPECT_EQ(Read(*target_, 0, 4), "axc0");
}

TEST_F(CopyTest, AFailedCopyGivesBackWhatItTook) {
  for (std::uint64_t extent = 0; extent < 8; ++extent) {
    ASSERT_TRUE(Write(*source_, extent * 256, 'a', 1).ok());
  }
  ASSERT_TRUE(BeginCopy(*target_, kHead, 0, 1).ok());
  ASSERT_TRUE(WriteCopy(*target_, kHead, 0, "a").ok());
  disk().faults().write_error = 1;
  EXPECT_EQ(WriteCopy(*target_, kHead, 1, "b").code(), absl::StatusCode::kInternal);
  EXPECT_EQ(WriteCopy(*target_, kHead, 0, "b").code(), absl::StatusCode::kInternal);
  disk().faults().write_error = 0;
  EXPECT_EQ(space().used_bytes, 9 * kMiB);
  EXPECT_TRUE(WriteCopy(*target_, kHead, 1, "b").ok());
  EXPECT_TRUE(WriteCopy(*target_, kHead, 0, "b").ok());
  EXPECT_EQ(Read(*target_, 0), "b");
  EXPECT_EQ(Check(), "");
}

TEST_F(CopyTest, ACloneHidesWhatItSharesByZeroedMarksAndItsSourceKeepsIt) {
  ASSERT_TRUE(Write(*source_, 0, 'a', 1, 4).ok());
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  Snapshots(2, {one});
  NewMember clone = NewReplica(pool::ReplicaId(world_.MakeId()));
  clone.volume = pool::VolumeId(world_.MakeId());
  clone.name = "clone";
  clone.configuration.volume = clone.volume;
  clone.clone_of = id_;
  clone.clone_snapshot = one.id;
  ASSERT_TRUE(Must(store().CreateMember(clone)).ok());
  ReplicaPort& port = Open(clone.replica, 2);
  // All of it is the content, and the notes, of the clone's oldest layer.
  EXPECT_EQ(Content(port, kHead, 0, 5), "aaaa.");
  EXPECT_EQ(Notes(port), (std::vector<RegionNote>{{0, kHead, At(1)}}));
  ASSERT_TRUE(BeginCopy(port, kHead, 0, 7).ok());
  ASSERT_TRUE(WriteCopy(port, kHead, 0, ".b..c").ok());
  EXPECT_EQ(Content(port, kHead, 0, 5), ".b..c");
  EXPECT_EQ(Read(port, 0, 5), "0b00c");
  EXPECT_EQ(Read(*source_, 0, 5), "aaaa0");
  EXPECT_EQ(Content(*source_, one.id, 0, 5), "aaaa.");
  EXPECT_EQ(Check(), "");
}

TEST_F(CopyTest, AMemberOfACloneIsCleanThroughItsSnapshot) {
  ASSERT_TRUE(Write(*source_, 0, 'a', 1, 4).ok());
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  Snapshots(2, {one});
  NewMember clone = NewReplica(pool::ReplicaId(world_.MakeId()));
  clone.name = "clone";
  clone.clone_of = id_;
  clone.clone_snapshot = one.id;
  ASSERT_TRUE(Must(store().CreateMember(clone)).ok());
  CutPower();
  const Replica& made = *store().Find(clone.replica);
  EXPECT_EQ(made.configuration()->clean, At(1)) << "what it shares need not be reconciled";
  ASSERT_TRUE(Must(store().Delete(id_)).ok());
  FinishCleanup();
  EXPECT_EQ(Read(Open(clone.replica, 2), 0, 5), "aaaa0") << "it outlives what it was made from";
}

// Its generations would be below what it is clean through, or among the source's.
TEST_F(CopyTest, AMemberOfACloneServesNoEpochOfItsSourcesAttachment) {
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  Snapshots(2, {one});
  NewMember clone = NewReplica(pool::ReplicaId(world_.MakeId()));
  clone.name = "clone";
  clone.clone_of = id_;
  clone.clone_snapshot = one.id;
  ASSERT_TRUE(Must(store().CreateMember(clone)).ok());
  pool::EngineId highest;
  highest.bytes.fill(0xff);
  CutPower();
  ReplicaPort& port = Port(clone.replica);
  EXPECT_TRUE(absl::IsAborted(Must(port.Prepare({1, 0, highest}, kNoDeadline)).status()));
  EXPECT_TRUE(absl::IsAborted(Must(port.Prepare({1, 9, highest}, kNoDeadline)).status()));
  const pool::Epoch next{2, 0, pool::EngineId()};
  EXPECT_TRUE(Must(port.Prepare(next, kNoDeadline)).ok());
  EXPECT_GT(next, store().Find(clone.replica)->configuration()->clean.epoch);
}

TEST_F(CopyTest, ACloneIsOfACompleteSnapshotOfAReplicaThatHasEverything) {
  ConfiguredSnapshot one = MakeSnapshot("one", 1);
  one.complete = false;
  Snapshots(2, {one});
  NewMember clone = NewReplica(pool::ReplicaId(world_.MakeId()));
  clone.name = "clone";
  clone.clone_of = id_;
  clone.clone_snapshot = one.id;
  EXPECT_TRUE(absl::IsFailedPrecondition(Must(store().CreateMember(clone))));
  one.complete = true;
  Configuration syncing = MakeConfiguration(3, MemberState::kSyncing);
  syncing.snapshots = {one};
  ASSERT_TRUE(Accept(*source_, syncing).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Must(store().CreateMember(clone))));
  syncing.members[0].state = MemberState::kInSync;
  ++syncing.version.counter;
  ASSERT_TRUE(Accept(*source_, syncing).ok());
  EXPECT_TRUE(Must(store().CreateMember(clone)).ok());
}

// A deleted snapshot's layer stays while a clone stands on it; it is part of the next layer then.
TEST_F(CopyTest, AnAbsentBlockShowsTheOlderLayerThroughADeletedOneThatACloneKeeps) {
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  const ConfiguredSnapshot two = MakeSnapshot("two", 2);
  ASSERT_TRUE(Write(*target_, 0, 'a', 1, 2).ok());
  Snapshots(2, {one});
  ASSERT_TRUE(Write(*target_, 0, 'b', 2, 4).ok());
  Snapshots(3, {one, two});
  NewMember clone = NewReplica(pool::ReplicaId(world_.MakeId()));
  clone.volume = pool::VolumeId(world_.MakeId());
  clone.name = "clone";
  clone.configuration.volume = clone.volume;
  clone.clone_of = target_id_;
  clone.clone_snapshot = two.id;
  ASSERT_TRUE(Must(store().CreateMember(clone)).ok());
  Snapshots(4, {one});
  Snapshots(5, {one});
  FinishCleanup();
  EXPECT_EQ(Content(*target_, kHead, 0, 5), "bbbb.");
  ASSERT_TRUE(BeginCopy(*target_, kHead, 0, 3).ok());
  ASSERT_TRUE(WriteCopy(*target_, kHead, 0, ".c..").ok());
  EXPECT_EQ(Read(*target_, 0, 5), "ac000");
  EXPECT_EQ(Read(Open(clone.replica, 2), 0, 5), "bbbb0");
  EXPECT_EQ(Check(), "");
}

TEST_F(CopyTest, ACopyWaitsForTheMergeOfDeletedLayersSoThatAbsencesAreKept) {
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  const ConfiguredSnapshot two = MakeSnapshot("two", 2);
  const ConfiguredSnapshot three = MakeSnapshot("three", 3);
  ASSERT_TRUE(Write(*target_, 0, 'a', 1, 4).ok());
  Snapshots(2, {one});
  ASSERT_TRUE(Write(*target_, 0, 'b', 2).ok());
  Snapshots(3, {one, two});
  ASSERT_TRUE(Write(*target_, 1, 'c', 3).ok());
  Snapshots(4, {one, two, three});
  ASSERT_TRUE(Write(*target_, 3, 'd', 4).ok());
  Configuration without = TargetConfiguration(5);
  without.snapshots = {one};
  ASSERT_TRUE(Accept(*target_, without).ok());
  ++without.version.counter;
  ASSERT_TRUE(Accept(*target_, without).ok());
  ASSERT_TRUE(store().cleaning());
  ASSERT_TRUE(WriteCopy(*target_, kHead, 0, "...e").ok());
  EXPECT_EQ(Content(*target_, kHead, 0, 4), "...e");
  EXPECT_EQ(Read(*target_, 0, 4), "aaae");
  EXPECT_EQ(Check(), "");
}

// --- Checksums (R17) ---

// The records of a clean region described what a half-made copy had overwritten: after a crash an
// intact block was reported as rot.
TEST_F(CopyTest, AnInterruptedCopyIsNotTakenForRot) {
  for (const double survives : {0.0, 1.0}) {
    ASSERT_TRUE(Write(*target_, 0, 'a', 5, 8).ok());
    ASSERT_TRUE(EndGeneration(*target_, 5).ok());
    ASSERT_TRUE(BeginCopy(*target_, kHead, 0, 3).ok());  // a note below the region's own
    ASSERT_TRUE(WriteCopy(*target_, kHead, 0, "bbbbbbbb").ok());
    // Another replica's generation ends, and stores what may be stored.
    ASSERT_TRUE(EndGeneration(*source_, 9).ok());
    ASSERT_TRUE(WriteCopy(*target_, kHead, 0, "cccccccc").ok());
    disk().faults().survives_cut = survives;
    disk().faults().torn = 0;
    CutPower();
    OpenBoth();
    EXPECT_EQ(Read(*target_, 0, 8), survives == 0 ? "bbbbbbbb" : "cccccccc");
    EXPECT_EQ(Check(), "");
  }
}

TEST_F(CopyTest, ChecksumsOfACopyThatNoFlushCoveredAreNotStored) {
  ASSERT_TRUE(Write(*target_, 0, 'a', 1).ok());
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  Snapshots(2, {one});
  ASSERT_TRUE(BeginCopy(*target_, one.id, 0, 1).ok());
  ASSERT_TRUE(WriteCopy(*target_, one.id, 0, "b").ok());
  // The pool's checksums are stored, because of another replica.
  ASSERT_TRUE(Must(store().CommitClean(id_, At(1))).ok());
  disk().faults().survives_cut = 0;
  disk().faults().torn = 0;
  CutPower();
  OpenBoth();
  EXPECT_EQ(Read(*target_, 0), "a");
}

TEST_F(CopyTest, WhatAFailedCopyLeftIsNotTakenForRot) {
  ASSERT_TRUE(Write(*target_, 0, 'a', 1).ok());
  ASSERT_TRUE(BeginCopy(*target_, kHead, 0, 1).ok());
  disk().faults().write_error = 1;  // the write may have happened, in part or not
  for (const char* letter : {"b", "c", "d", "e", "f", "g", "h", "i"}) {
    EXPECT_EQ(WriteCopy(*target_, kHead, 0, letter).code(), absl::StatusCode::kInternal);
    EXPECT_NE(Read(*target_, 0), "!") << last_read_;
  }
}

TEST_F(CopyTest, ChecksumsOfACopyAndOfItsNeighboursAreKnownAfterTheGeneration) {
  ASSERT_TRUE(Write(*target_, 256, 'n', 1).ok());  // not copied, of the same region
  ASSERT_TRUE(EndGeneration(*target_, 1).ok());
  Reopen();  // so that they are in the store only
  OpenBoth();
  ASSERT_TRUE(BeginCopy(*target_, kHead, 0, 1).ok());
  ASSERT_TRUE(WriteCopy(*target_, kHead, 0, "abc").ok());
  ASSERT_TRUE(EndGeneration(*target_, 2).ok());
  CutPower();
  OpenBoth();
  for (std::uint64_t block = 256; block < disk().block_count(); ++block) {
    const std::byte letter = disk().Current(block)[0];
    if (letter == std::byte{'b'} || letter == std::byte{'n'}) disk().FlipBit(block, 3);
  }
  EXPECT_EQ(Read(*target_, 0, 3), "a!c");
  EXPECT_EQ(Read(*target_, 256), "!");
}

// They were stored while the block was on its way to the disk, as unknown, and never again: what a
// disk lost that had lied about its flush was read as it was.
TEST_F(CopyTest, ChecksumsOfACopyThatWasUnderWayWhenOthersWereStoredAreStoredLater) {
  ASSERT_TRUE(Write(*target_, 0, 'a', 1).ok());
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  Snapshots(2, {one});
  ASSERT_TRUE(BeginCopy(*target_, one.id, 0, 1).ok());
  ExtentContent content;
  content.data = pool::BlockBits::Range(0, 1);
  pool::HeaderBlock data(kBlock);
  std::fill(data.span().begin(), data.span().end(), std::byte{'b'});
  disk().faults().stall = 1;
  auto copied = Start(target_->WriteCopy(one.id, 0, content, data.span(), kNoDeadline));
  ASSERT_TRUE(world_.StepWhile([this] { return disk().in_flight_count() == 0; }));
  disk().faults().stall = 0;
  ASSERT_TRUE(Must(store().CommitClean(id_, At(1))).ok());
  ASSERT_FALSE(copied->result.has_value());
  ASSERT_TRUE(Finish(copied.get()).ok());
  ASSERT_TRUE(Must(target_->RecordProgress({1, At(1)}, kNoDeadline)).ok());
  CutPower();
  OpenBoth();
  for (std::uint64_t block = 256; block < disk().block_count(); ++block) {
    if (disk().Current(block)[0] == std::byte{'b'}) disk().FlipBit(block, 3);
  }
  EXPECT_EQ(Read(*target_, 0), "!");
}

TEST_F(CopyTest, ProgressLetsGoOfTheChecksumsOfWhatWasCopied) {
  ASSERT_TRUE(BeginCopy(*target_, kHead, 0, 1).ok());
  ASSERT_TRUE(WriteCopy(*target_, kHead, 0, "abc").ok());
  EXPECT_EQ(store().pool().checksums().dirty_count(), 1U);
  ASSERT_TRUE(Must(target_->RecordProgress({1, At(1)}, kNoDeadline)).ok());
  EXPECT_EQ(store().pool().checksums().dirty_count(), 0U);
}

TEST(CopiedExtentsTest, ChecksumsAreStoredOnlyAfterAFlushThatBeganAfterTheCopy) {
  CopiedExtents copied;
  const pool::MapKey key{{1}, 2};
  copied.Changed(key);
  const std::uint64_t mark = copied.Mark();
  copied.Changed(key);  // again, while the flush runs
  copied.Flushed(mark);
  EXPECT_FALSE(copied.MayStore(key));
  copied.Flushed(copied.Mark());
  EXPECT_TRUE(copied.MayStore(key));
}

}  // namespace
}  // namespace keelson::replica
