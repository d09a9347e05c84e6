#include "blockstore/replica/replica_store.h"

#include <gtest/gtest.h>

#include "blockstore/replica/check.h"
#include "tests/unit/replica/store_fixture.h"

namespace keelson {

namespace replica {
namespace {

using ReplicaStoreTest = StoreFixture;

pool::SnapshotId TakeSnapshot(StoreFixture*, absl::StatusOr<pool::SnapshotId> snapshot) {
  EXPECT_TRUE(snapshot.ok()) << snapshot.status();
  return *snapshot;
}

TEST_F(ReplicaStoreTest, RefusesBadNamesAndSizesAndSaysWhatIsAllowed) {
  const auto code = [this](const std::string& name, std::uint64_t size) {
    return Must(store().Create(name, size, 0)).status().code();
  };
  EXPECT_EQ(code("", 4 * kMiB), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code("a/b", 4 * kMiB), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code("..", 4 * kMiB), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(std::string(254, 'a'), 4 * kMiB), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code("v", 0), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code("v", 4 * kMiB + 512), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code("v", kVolumeSizeMax + kBlock), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(store().List().empty());
  Create("v", 4 * kMiB);
  EXPECT_EQ(code("v", 4 * kMiB), absl::StatusCode::kAlreadyExists);
}

TEST_F(ReplicaStoreTest, KeepsVolumesAndTheirDataAcrossAReopen) {
  Create("v", 4 * kMiB);
  ASSERT_TRUE(Write(Attach("v"), 3, 'a').ok());
  Close();
  Open();
  ASSERT_EQ(store().List().size(), 1U);
  EXPECT_EQ(store().List()[0].name, "v");
  EXPECT_EQ(store().List()[0].size_bytes, 4 * kMiB);
  engine::Engine& engine = Attach("v");
  EXPECT_EQ(ReadBlocks(engine, 2, 3), "0a0");
  EXPECT_EQ(Check(), "");
}

TEST_F(ReplicaStoreTest, ASnapshotKeepsWhatWasThereAndACloneOfItGoesItsOwnWay) {
  const pool::ReplicaId id = Create("v", 4 * kMiB);
  engine::Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 0, 'a', 3).ok());
  const auto snapshot = TakeSnapshot(this, Must(engine.Snapshot("s", 1)));
  ASSERT_TRUE(Write(engine, 1, 'b').ok());
  ASSERT_TRUE(Must(engine.Trim(2 * kBlock, kBlock, false)).ok());
  EXPECT_EQ(ReadBlocks(engine, 0, 4), "ab00");
  ASSERT_TRUE(Must(store().Clone(id, snapshot, "c", 0, 2)).ok());
  engine::Engine& clone = Attach("c");
  EXPECT_EQ(ReadBlocks(clone, 0, 4), "aaa0");
  ASSERT_TRUE(Write(clone, 0, 'c').ok());
  EXPECT_EQ(ReadBlocks(engine, 0, 4), "ab00");
  EXPECT_EQ(ReadBlocks(clone, 0, 4), "caa0");
  EXPECT_EQ(Check(), "");
}

TEST_F(ReplicaStoreTest, ACloneOutlivesItsParentVolume) {
  const pool::ReplicaId id = Create("v", 4 * kMiB);
  engine::Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 0, 'a', 300).ok());
  const auto snapshot = TakeSnapshot(this, Must(engine.Snapshot("s", 1)));
  ASSERT_TRUE(Must(store().Clone(id, snapshot, "c", 8 * kMiB, 2)).ok());
  ASSERT_TRUE(Write(engine, 0, 'b', 300).ok());
  Detach("v");
  ASSERT_TRUE(Must(store().Delete(id)).ok());
  FinishCleanup();
  EXPECT_EQ(space().used_bytes, 2 * kMiB);  // the clone's; v's own two extents are gone
  engine::Engine& clone = Attach("c");
  EXPECT_EQ(ReadBlocks(clone, 0, 2), "aa");
  EXPECT_EQ(Read(clone, 299), 'a');
  EXPECT_EQ(Read(clone, 300), '0');
  EXPECT_EQ(Check(), "");
  Close();
  Open();
  EXPECT_EQ(Read(Attach("c"), 299), 'a');
}

TEST_F(ReplicaStoreTest, DeletingASnapshotMergesItAndGivesItsSpaceBack) {
  Create("v", 8 * kMiB);
  engine::Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 0, 'a', 512).ok());  // extents 0 and 1
  const auto snapshot = TakeSnapshot(this, Must(engine.Snapshot("s", 1)));
  ASSERT_TRUE(Write(engine, 5, 'b').ok());  // the head has extent 0 in part, 1 not at all
  ASSERT_TRUE(Must(engine.Trim(10 * kBlock, kBlock, false)).ok());
  EXPECT_EQ(space().used_bytes, 3 * kMiB);
  ASSERT_TRUE(Must(engine.DeleteSnapshot(snapshot)).ok());
  FinishCleanup();
  EXPECT_EQ(space().used_bytes, 2 * kMiB);
  EXPECT_EQ(space().reclaiming_bytes, 0U);
  EXPECT_EQ(ReadBlocks(engine, 4, 8), "abaaaa0a");
  EXPECT_EQ(Read(engine, 511), 'a');
  EXPECT_EQ(Check(), "");
}

// A merge that held one extent and asked for the next deadlocked with a write over both.
TEST_F(ReplicaStoreTest, AMergeDoesNotBlockAWriteOverTwoOfItsExtents) {
  Create("v", 8 * kMiB);
  engine::Engine& engine = Attach("v");
  ASSERT_TRUE(Write(engine, 0, 'a', 512).ok());
  const auto snapshot = TakeSnapshot(this, Must(engine.Snapshot("s", 1)));
  ASSERT_TRUE(Write(engine, 0, 'b').ok());
  ASSERT_TRUE(Write(engine, 256, 'b').ok());
  ASSERT_TRUE(Must(engine.DeleteSnapshot(snapshot)).ok());
  ASSERT_TRUE(Write(engine, 250, 'c', 12).ok());
  FinishCleanup();
  EXPECT_EQ(ReadBlocks(engine, 249, 14), "acccccccccccca");
  EXPECT_EQ(Check(), "");
}

TEST_F(ReplicaStoreTest, AnUnfinishedDeletionGoesOnAfterACrash) {
  const pool::ReplicaId id = Create("v", 8 * kMiB);
  ASSERT_TRUE(Write(Attach("v"), 0, 'a', 1000).ok());
  Detach("v");
  ASSERT_TRUE(Must(store().Delete(id)).ok());
  PowerCut();
  Open();
  EXPECT_TRUE(store().List().empty());
  FinishCleanup();
  EXPECT_EQ(space().used_bytes, 0U);
  EXPECT_EQ(Check(), "");
}

// One large discard holds up every other request of the file for as long as it takes.
TEST_F(ReplicaStoreTest, GivesALargeVolumesSpaceBackInSmallPieces) {
  constexpr std::uint64_t kWritten = kExtents - 2;
  const pool::ReplicaId id = Create("large", kWritten * kMiB);
  engine::Engine& engine = Attach("large");
  for (std::uint64_t extent = 0; extent < kWritten; ++extent) {
    ASSERT_TRUE(Write(engine, extent * (kMiB / kBlock), 'a').ok());
  }
  Detach("large");
  ASSERT_TRUE(Must(store().Delete(id)).ok());
  FinishCleanup();
  EXPECT_EQ(space().used_bytes, 0u);
  const std::uint64_t largest = world_.FindDisk(sim::kDataPath)->largest_discard_bytes();
  EXPECT_GT(largest, kMiB);
  EXPECT_LE(largest, 8 * kMiB);
}

TEST_F(ReplicaStoreTest, RefusesToDeleteOrCloneWhatIsInUseOrUnknown) {
  const pool::ReplicaId id = Create("v", 4 * kMiB);
  engine::Engine& engine = Attach("v");
  EXPECT_EQ(Must(store().Delete(id)).code(), absl::StatusCode::kFailedPrecondition);
  const pool::ReplicaId unknown(world_.MakeId());
  EXPECT_EQ(Must(store().Delete(unknown)).code(), absl::StatusCode::kNotFound);
  const pool::SnapshotId no_snapshot(world_.MakeId());
  EXPECT_EQ(Must(store().Clone(id, no_snapshot, "c", 0, 0)).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(Must(engine.DeleteSnapshot(no_snapshot)).code(), absl::StatusCode::kNotFound);
}

TEST_F(ReplicaStoreTest, GrowsAndNeverShrinks) {
  Create("v", 4 * kMiB);
  engine::Engine& engine = Attach("v");
  EXPECT_EQ(Must(engine.Grow(2 * kMiB)).code(), absl::StatusCode::kOutOfRange);
  ASSERT_TRUE(Must(engine.Grow(8 * kMiB)).ok());
  ASSERT_TRUE(Write(engine, 8 * 256 - 1, 'z').ok());
  EXPECT_EQ(Write(engine, 8 * 256, 'z').code(), absl::StatusCode::kOutOfRange);
}

TEST_F(ReplicaStoreTest, AFullPoolSaysSoKeepsItsDataAndRecoversBySomethingDeleted) {
  Create("big", 64 * kMiB);
  const pool::ReplicaId other = Create("other", 4 * kMiB);
  ASSERT_TRUE(Write(Attach("other"), 0, 'o').ok());
  Detach("other");
  engine::Engine& engine = Attach("big");
  std::uint64_t extent = 0;
  while (Write(engine, extent * 256, 'a').ok()) ++extent;
  EXPECT_EQ(extent, kExtents - 1);
  EXPECT_EQ(Write(engine, extent * 256, 'a').code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Write(engine, 0, 'b').ok());  // no new space needed
  EXPECT_TRUE(Must(engine.Flush()).ok());
  EXPECT_EQ(Read(engine, 256), 'a');
  ASSERT_TRUE(Must(store().Delete(other)).ok());
  FinishCleanup();
  EXPECT_TRUE(Write(engine, extent * 256, 'a').ok());
  EXPECT_EQ(Check(), "");
}

TEST_F(ReplicaStoreTest, ReadsOfANewVolumeNeverShowADeletedOnesData) {
  const pool::ReplicaId id = Create("old", 16 * kMiB);
  engine::Engine& old = Attach("old");
  for (std::uint64_t extent = 0; extent < kExtents; ++extent) {
    ASSERT_TRUE(Write(old, extent * 256, 's', 256).ok());
  }
  Detach("old");
  ASSERT_TRUE(Must(store().Delete(id)).ok());
  FinishCleanup();
  Create("new", 16 * kMiB);
  engine::Engine& engine = Attach("new");
  for (std::uint64_t extent = 0; extent < kExtents; ++extent) {
    ASSERT_TRUE(Write(engine, extent * 256 + 7, 'n').ok());
    EXPECT_EQ(ReadBlocks(engine, extent * 256 + 6, 3), "0n0");
  }
}

TEST_F(ReplicaStoreTest, ACancelledCheckEndsAndSaysSo) {
  Create("v", 4 * kMiB);
  const std::atomic<bool> cancel{true};
  EXPECT_EQ(Must(CheckPool(&store(), {.verify_data = true, .cancel = &cancel})).status().code(),
            absl::StatusCode::kCancelled);
}

TEST_F(ReplicaStoreTest, CheckFindsAndRemovesAnOrphanChecksum) {
  pool::SumRecord record;
  record.owner = {{99}, 0};
  std::string value;
  pool::EncodeSumRecord(record, &value);
  pool::MetaBatch batch;
  batch.Put(pool::Table::kSums, pool::EncodeSumKey(3), value);
  const auto commit = [](pool::MetaStore* meta, pool::MetaBatch* b) -> io::Task<absl::Status> {
    co_return co_await meta->Commit(b, true);
  };
  ASSERT_TRUE(Must(commit(&store().pool().meta(), &batch)).ok());
  EXPECT_NE(Check(), "");
  auto repaired = Must(CheckPool(&store(), {.repair = true}));
  ASSERT_TRUE(repaired.ok());
  EXPECT_EQ(repaired->repaired.size(), 1U);
  EXPECT_EQ(Check(), "");
}

}  // namespace
}  // namespace replica
}  // namespace keelson
