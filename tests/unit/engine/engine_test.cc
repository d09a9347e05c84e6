#include "blockstore/engine/engine.h"

#include <gtest/gtest.h>

#include "tests/unit/replica/store_fixture.h"

namespace keelson::engine {
namespace {

class EngineTest : public StoreFixture {
 protected:
  void SetUp() override {
    StoreFixture::SetUp();
    Create("v", 8 * kMiB);
  }
  sim::SimDisk& disk() { return *world_.FindDisk(sim::kDataPath); }
  // Where a block filled with `letter` lies on the disk.
  std::uint64_t FindOnDisk(char letter) {
    for (std::uint64_t block = 256; block < disk().block_count(); ++block) {
      if (disk().Current(block)[0] == static_cast<std::byte>(letter)) return block;
    }
    ADD_FAILURE() << "no block holds " << letter;
    return 0;
  }
};

TEST_F(EngineTest, ReadsZeroesWhereNothingWasWritten) {
  EXPECT_EQ(ReadBlocks(Attach("v"), 0, 5), "00000");
}

TEST_F(EngineTest, RefusesRangesThatAreUnalignedOrPastTheEnd) {
  Engine& engine = Attach("v");
  pool::HeaderBlock data(kBlock);
  EXPECT_EQ(Must(engine.Write(512, data.span(), false)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Must(engine.Read(8 * kMiB, data.span())).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Must(engine.Trim(UINT64_MAX - 4095, kBlock, false)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(engine.counters().errors, 3U);
}

TEST_F(EngineTest, AnAcknowledgedWriteSurvivesTheDeathOfTheProcess) {
  ASSERT_TRUE(Write(Attach("v"), 9, 'a').ok());
  Kill();
  Open();
  EXPECT_EQ(Read(Attach("v"), 9), 'a');
}

TEST_F(EngineTest, AFlushedWriteSurvivesAPowerCutAndAnAllocationThatWasNotFlushedLeavesZeroes) {
  Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 9, 'a').ok());
  ASSERT_TRUE(Must(engine.Flush()).ok());
  disk().faults().survives_cut = 1;  // the data reaches the disk, the map does not
  ASSERT_TRUE(Write(engine, 10, 'b').ok());
  PowerCut();
  Open();
  EXPECT_EQ(ReadBlocks(Attach("v"), 9, 2), "a0");
}

TEST_F(EngineTest, FuaIsDurableWithoutAFlush) {
  Engine& engine = Attach("v");
  pool::HeaderBlock data(kBlock);
  std::fill(data.span().begin(), data.span().end(), std::byte{'f'});
  ASSERT_TRUE(Must(engine.Write(0, data.span(), true)).ok());
  disk().faults().survives_cut = 0;
  disk().faults().torn = 0;
  PowerCut();
  Open();
  EXPECT_EQ(Read(Attach("v"), 0), 'f');
}

TEST_F(EngineTest, AfterAFailedFlushNoFlushSucceedsUntilThePoolIsOpenedAgain) {
  Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 0, 'a').ok());
  ASSERT_TRUE(Must(engine.Flush()).ok());
  ASSERT_TRUE(Write(engine, 0, 'b').ok());
  disk().faults().flush_error = 1;
  EXPECT_FALSE(Must(engine.Flush()).ok());
  disk().faults().flush_error = 0;
  EXPECT_EQ(Must(engine.Flush()).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Write(engine, 0, 'c').code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(Read(engine, 0), '!');  // reads go on
  Kill();
  Open();
  EXPECT_TRUE(Must(Attach("v").Flush()).ok());
}

TEST_F(EngineTest, ABitFlippedOnDiskIsAnErrorAndIsCountedAndNeverReturned) {
  Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 3, 'a').ok());
  ASSERT_TRUE(Write(engine, 4, 'q').ok());
  ASSERT_TRUE(Must(engine.RollGeneration()).ok());
  disk().FlipBit(FindOnDisk('q'), 12345);
  EXPECT_EQ(Read(engine, 4), '!');
  EXPECT_EQ(last_read_.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(store().pool().counters().checksum_errors, 1U);
  EXPECT_EQ(Read(engine, 3), 'a');
  ASSERT_TRUE(Write(engine, 4, 'r').ok());  // writing it again heals it
  EXPECT_EQ(Read(engine, 4), 'r');
}

TEST_F(EngineTest, ABitFlippedWhileThePoolWasClosedIsFound) {
  ASSERT_TRUE(Write(Attach("v"), 4, 'q').ok());
  Close();
  disk().FlipBit(FindOnDisk('q'), 1);
  Open();
  EXPECT_EQ(Read(Attach("v"), 4), '!');
}

TEST_F(EngineTest, ChecksumsAreKnownAgainAfterACrashOnceReconciled) {
  Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 4, 'q').ok());
  ASSERT_TRUE(Must(engine.Flush()).ok());
  Kill();
  Open();
  Engine& again = Attach("v");
  world_.RunUntil(world_.now_ns() + 1'000'000'000);  // the background pass
  disk().FlipBit(FindOnDisk('q'), 1);
  EXPECT_EQ(Read(again, 4), '!');
}

// A generation that became clean before the regions of a crash were read again hid them for good.
TEST_F(EngineTest, NoGenerationBecomesCleanBeforeACrashIsReconciled) {
  Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 4, 'q').ok());
  ASSERT_TRUE(Must(engine.Flush()).ok());
  Kill();
  Open();
  disk().faults().stall =
      1;  // every operation takes ten seconds, until the background's read is under way
  disk().faults().stall_ns = 10'000'000'000;
  Engine& second = Attach("v");
  ASSERT_TRUE(world_.StepWhile([this] { return disk().in_flight_count() == 0; }));
  disk().faults().stall = 0;
  ASSERT_TRUE(Must(second.RollGeneration()).ok());
  ASSERT_FALSE(replica::ReplicaStore::Resummed(*store().FindByName("v")));
  Kill();
  Open();
  EXPECT_FALSE(store().FindByName("v")->UncleanRegions().empty());
  Engine& third = Attach("v");
  world_.RunUntil(world_.now_ns() + 60'000'000'000);
  EXPECT_TRUE(replica::ReplicaStore::Resummed(*store().FindByName("v")));
  disk().FlipBit(FindOnDisk('q'), 1);
  EXPECT_EQ(Read(third, 4), '!');
}

TEST_F(EngineTest, AFirstWriteAfterASnapshotLeavesTheChecksumsOfTheSnapshotInForce) {
  Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 0, 'a').ok());
  ASSERT_TRUE(Write(engine, 1, 'q').ok());
  ASSERT_TRUE(Must(engine.Snapshot("s", 0)).ok());
  ASSERT_TRUE(Write(engine, 0, 'b').ok());  // the same region
  ASSERT_TRUE(Must(engine.RollGeneration()).ok());
  Close();
  disk().FlipBit(FindOnDisk('q'), 1);
  Open();
  Engine& again = Attach("v");
  EXPECT_EQ(Read(again, 0), 'b');
  EXPECT_EQ(Read(again, 1), '!');
}

TEST_F(EngineTest, AFailedFirstWriteGivesItsExtentBackAndAFailedOverwriteStaysVerified) {
  Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 4, 'q').ok());
  disk().faults().write_full = 1;
  EXPECT_EQ(Write(engine, 4, 'r').code(), absl::StatusCode::kResourceExhausted);
  disk().faults().write_full = 0;
  disk().faults().write_error = 1;
  EXPECT_EQ(Write(engine, 300, 's').code(), absl::StatusCode::kInternal);
  disk().faults().write_error = 0;
  EXPECT_EQ(space().used_bytes, 2 * kMiB);
  ASSERT_TRUE(Must(engine.RollGeneration()).ok());
  EXPECT_EQ(space().used_bytes, kMiB);
  EXPECT_EQ(Read(engine, 4), 'q');
  disk().FlipBit(FindOnDisk('q'), 9);
  EXPECT_EQ(Read(engine, 4), '!');
}

TEST_F(EngineTest, TrimFreesWholeExtentsAndReadsAsZeroes) {
  Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 0, 'a', 600).ok());
  ASSERT_TRUE(Must(engine.Flush()).ok());
  EXPECT_EQ(space().used_bytes, 3 * kMiB);
  ASSERT_TRUE(Must(engine.Trim(10 * kBlock, 510 * kBlock, false)).ok());
  ASSERT_TRUE(Must(engine.Flush()).ok());
  world_.RunUntil(world_.now_ns() + 1'000'000'000);
  EXPECT_EQ(space().used_bytes, 2 * kMiB);
  EXPECT_EQ(space().free_bytes, (kExtents - 2) * kMiB);
  EXPECT_EQ(ReadBlocks(engine, 9, 2), "a0");
  EXPECT_EQ(ReadBlocks(engine, 519, 2), "0a");
}

TEST_F(EngineTest, ATrimOverASnapshotHidesItsBlocks) {
  Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 0, 'a', 4).ok());
  ASSERT_TRUE(Must(engine.Snapshot("s", 0)).ok());
  ASSERT_TRUE(Must(engine.Trim(kBlock, 2 * kBlock, true)).ok());
  EXPECT_EQ(ReadBlocks(engine, 0, 4), "a00a");
  PowerCut();
  Open();
  EXPECT_EQ(ReadBlocks(Attach("v"), 0, 4), "a00a");
}

TEST_F(EngineTest, StatusTellsHolesFromDataThroughLayers) {
  Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 1, 'a', 2).ok());
  ASSERT_TRUE(Must(engine.Snapshot("s", 0)).ok());
  ASSERT_TRUE(Write(engine, 3, 'b').ok());
  const std::vector<BlockRun> runs = *Must(engine.Status(0, 8 * kMiB, 10));
  ASSERT_EQ(runs.size(), 3U);
  EXPECT_TRUE(runs[0].hole);
  EXPECT_EQ(runs[0].size_bytes, kBlock);
  EXPECT_FALSE(runs[1].hole);
  EXPECT_EQ(runs[1].size_bytes, 3 * kBlock);
  EXPECT_TRUE(runs[2].hole);
  EXPECT_EQ(runs[2].size_bytes, 8 * kMiB - 4 * kBlock);
}

TEST_F(EngineTest, AReadOnlyAttachmentRefusesWrites) {
  EngineOptions options;
  options.read_only = true;
  auto engine = Must(Engine::Attach(&store(), store().FindByName("v")->id(), options));
  ASSERT_TRUE(engine.ok());
  life_.engines["v"] = *std::move(engine);
  EXPECT_EQ(Write(*life_.engines["v"], 0, 'a').code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Read(*life_.engines["v"], 0), '0');
}

TEST_F(EngineTest, OneEngineAtATimeAndEachHasAHigherEpoch) {
  Engine& engine = Attach("v");
  const pool::Epoch first = engine.epoch();
  EXPECT_EQ(Must(Engine::Attach(&store(), store().FindByName("v")->id(), {})).status().code(),
            absl::StatusCode::kFailedPrecondition);
  Detach("v");
  EXPECT_GT(Attach("v").epoch(), first);
}

TEST_F(EngineTest, AGenerationEndsByItselfSomeSecondsAfterWrites) {
  Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 0, 'a').ok());
  EXPECT_EQ(engine.segment(0).counters().generations, 0U);
  world_.RunUntil(world_.now_ns() + 20'000'000'000);
  EXPECT_GE(engine.segment(0).counters().generations, 1U);
  const std::uint64_t ended = engine.segment(0).counters().generations;
  world_.RunUntil(world_.now_ns() + 60'000'000'000);
  EXPECT_EQ(engine.segment(0).counters().generations, ended);  // and not without writes
}

}  // namespace
}  // namespace keelson::engine
