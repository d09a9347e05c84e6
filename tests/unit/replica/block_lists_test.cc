#include "blockstore/replica/block_lists.h"

#include <gtest/gtest.h>

#include "tests/unit/replica/store_fixture.h"

namespace keelson::replica {
namespace {

class BlockListsTest : public StoreFixture {
 protected:
  void SetUp() override {
    StoreFixture::SetUp();
    Create("v", 8 * kMiB);
    engine_ = &Attach("v");
  }
  pool::SnapshotId Cut(const std::string& name) {
    const absl::StatusOr<pool::SnapshotId> id = Must(engine_->Snapshot(name, 0));
    EXPECT_TRUE(id.ok()) << id.status();
    return *id;
  }
  absl::StatusOr<BlockList> Ask(pool::SnapshotId snapshot, std::optional<pool::SnapshotId> base,
                                std::uint64_t from_offset = 0, std::size_t ranges_max = 100) {
    return ListBlocks(*store().FindByName("v"), {snapshot, base, from_offset, ranges_max});
  }
  // "first+count ..." in blocks.
  std::string List(pool::SnapshotId snapshot, std::optional<pool::SnapshotId> base = {},
                   std::uint64_t from_offset = 0) {
    const absl::StatusOr<BlockList> list = Ask(snapshot, base, from_offset);
    EXPECT_TRUE(list.ok()) << list.status();
    EXPECT_EQ(list->next_offset, list->size_bytes);
    std::string text;
    for (const BlockRange& range : list->ranges) {
      text += std::to_string(range.offset / kBlock) + "+" +
              std::to_string(range.size_bytes / kBlock) + " ";
    }
    return text;
  }
  engine::Engine* engine_ = nullptr;
};

TEST_F(BlockListsTest, ListsWhatASnapshotHasAndNoHoles) {
  EXPECT_EQ(List(Cut("empty")), "");
  ASSERT_TRUE(Write(*engine_, 3, 'a').ok());
  ASSERT_TRUE(Write(*engine_, 250, 'b', 12).ok());  // over the end of an extent
  const pool::SnapshotId first = Cut("first");
  ASSERT_TRUE(Must(engine_->Trim(251 * kBlock, 2 * kBlock, false)).ok());
  ASSERT_TRUE(Write(*engine_, 2047, 'c').ok());
  const pool::SnapshotId second = Cut("second");
  ASSERT_TRUE(Write(*engine_, 1000, 'd').ok());
  EXPECT_EQ(List(first), "3+1 250+12 ");
  EXPECT_EQ(List(second), "3+1 250+1 253+9 2047+1 ");
  EXPECT_EQ(List(second, {}, 255 * kBlock), "255+7 2047+1 ");
}

TEST_F(BlockListsTest, ListsWhatChangedBetweenTwoSnapshots) {
  ASSERT_TRUE(Write(*engine_, 10, 'a', 10).ok());
  const pool::SnapshotId first = Cut("first");
  ASSERT_TRUE(Write(*engine_, 12, 'b').ok());
  const pool::SnapshotId second = Cut("second");
  ASSERT_TRUE(Must(engine_->Trim(15 * kBlock, kBlock, false)).ok());
  ASSERT_TRUE(Write(*engine_, 700, 'c').ok());
  const pool::SnapshotId third = Cut("third");
  EXPECT_EQ(List(second, first), "12+1 ");
  EXPECT_EQ(List(third, second), "15+1 700+1 ");
  EXPECT_EQ(List(third, first), "12+1 15+1 700+1 ");
  EXPECT_EQ(List(first, first), "");
  EXPECT_TRUE(absl::IsInvalidArgument(Ask(first, second).status()));
  EXPECT_TRUE(absl::IsNotFound(Ask(first, pool::SnapshotId(world_.MakeId())).status()));
  // What a snapshot between the two had is found where the merge has put it.
  ASSERT_TRUE(Must(engine_->DeleteSnapshot(second)).ok());
  FinishCleanup();
  EXPECT_EQ(List(third, first), "12+1 15+1 700+1 ");
}

TEST_F(BlockListsTest, ComesInPartsThatFitTogether) {
  for (std::uint64_t block = 0; block < 600; block += 2) {
    ASSERT_TRUE(Write(*engine_, block, 'a').ok());
  }
  ASSERT_TRUE(Write(*engine_, 600, 'b', 500).ok());
  const pool::SnapshotId snapshot = Cut("s");
  for (const std::size_t ranges_max : {1u, 7u, 100u, 1000u}) {
    std::vector<BlockRange> all;
    std::uint64_t next = 0;
    while (next < 8 * kMiB) {
      const absl::StatusOr<BlockList> part = Ask(snapshot, {}, next, ranges_max);
      ASSERT_TRUE(part.ok());
      ASSERT_LE(part->ranges.size(), ranges_max);
      ASSERT_GT(part->next_offset, next);
      all.insert(all.end(), part->ranges.begin(), part->ranges.end());
      next = part->next_offset;
    }
    ASSERT_EQ(all.size(), 301u) << ranges_max;
    EXPECT_EQ(all[1], (BlockRange{2 * kBlock, kBlock}));
    EXPECT_EQ(all.back(), (BlockRange{600 * kBlock, 500 * kBlock}));
  }
}

}  // namespace
}  // namespace keelson::replica
