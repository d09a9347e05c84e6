// Which blocks a snapshot has, or which changed: of several segments, page by page, by the copies
// that can be asked.

#include <tuple>

#include "tests/unit/provisioner/service/provisioner_fixture.h"

namespace keelson::provisioner {
namespace {

constexpr std::uint64_t kBlock = 4096;

class BlockListsTest : public ProvisionerFixture {
 protected:
  void SetUp() override {
    options_.segment_bytes_max = kGiB;
    ProvisionerFixture::SetUp();
    volume_ = MustCreate(Ask("pvc-1", 2 * kGiB + kGiB / 2)).id();
    first_ = MustSnapshot(volume_, "first");
    second_ = MustSnapshot(volume_, "second");
    nodes_.blocks().Set(0, "", first_, {{0, kBlock}, {5 * kBlock, 3 * kBlock}});
    nodes_.blocks().Set(2, "", first_, {{2 * kGiB, kBlock}, {2 * kGiB + 2 * kBlock, kBlock}});
    nodes_.blocks().Set(1, first_, second_, {{kGiB + 7 * kBlock, kBlock}});
  }
  std::string MustSnapshot(const std::string& volume, const std::string& name) {
    const absl::StatusOr<api::Snapshot> snapshot = Snapshot(volume, name);
    EXPECT_TRUE(snapshot.ok()) << snapshot.status();
    return snapshot.ok() ? snapshot->id() : "";
  }
  absl::StatusOr<api::ListSnapshotBlocksResponse> Page(const std::string& base,
                                                       const std::string& snapshot,
                                                       std::uint64_t from_offset = 0,
                                                       std::uint32_t count_max = 0) {
    api::ListSnapshotBlocksRequest request;
    request.set_base_snapshot_id(base);
    request.set_snapshot_id(snapshot);
    request.set_from_offset(from_offset);
    request.set_count_max(count_max);
    return controller_->ListSnapshotBlocks(request);
  }
  absl::StatusCode Code(const std::string& base, const std::string& snapshot,
                        std::uint64_t from_offset = 0) {
    return Page(base, snapshot, from_offset).status().code();
  }
  // "BLOCK+COUNT ..." and the block where the next page begins.
  static std::string Text(const absl::StatusOr<api::ListSnapshotBlocksResponse>& page) {
    if (!page.ok()) return page.status().ToString();
    std::string text;
    for (const api::BlockRange& range : page->ranges()) {
      absl::StrAppend(&text, range.offset() / kBlock, "+", range.size_bytes() / kBlock, " ");
    }
    return absl::StrCat(text, "then ", page->next_offset() / kBlock, " of ",
                        page->volume_size_bytes() / kBlock);
  }
  // The nodes that were asked for lists since the last call of this.
  std::vector<std::string> Asked() {
    std::vector<std::string> asked;
    const std::vector<std::string> calls = nodes_.calls();
    for (std::size_t i = seen_; i < calls.size(); ++i) {
      if (calls[i].rfind("List", 0) == 0 && calls[i].rfind("ListSnapshots", 0) != 0) {
        asked.push_back(calls[i].substr(calls[i].find(' ') + 1));
      }
    }
    seen_ = calls.size();
    return asked;
  }

  std::string volume_, first_, second_;
  std::size_t seen_ = 0;
};

TEST_F(BlockListsTest, ListsWhatASnapshotHasInAllItsSegments) {
  EXPECT_EQ(Text(Page("", first_)), "0+1 5+3 524288+1 524290+1 then 655360 of 655360");
  EXPECT_EQ(Text(Page(first_, second_)), "262151+1 then 655360 of 655360");
  EXPECT_EQ(Text(Page("", second_)), "then 655360 of 655360");
}

TEST_F(BlockListsTest, PagesFitTogetherAndBeginWithTheBlockOfTheirOffset) {
  EXPECT_EQ(Text(Page("", first_, 0, 1)), "0+1 then 1 of 655360");
  EXPECT_EQ(Text(Page("", first_, kBlock, 2)), "5+3 524288+1 then 524289 of 655360");
  EXPECT_EQ(Text(Page("", first_, 524289 * kBlock, 2)), "524290+1 then 655360 of 655360");
  EXPECT_EQ(Text(Page("", first_, 8 * kBlock - 1, 1)), "7+1 then 8 of 655360");
  EXPECT_EQ(Text(Page("", first_, 655360 * kBlock)), "then 655360 of 655360");
  EXPECT_EQ(Code("", first_, 655360 * kBlock + 1), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Code("", first_, UINT64_MAX), absl::StatusCode::kOutOfRange);
}

TEST_F(BlockListsTest, APageOfAnEmptyVolumeOfManySegmentsEndsBeforeItsEnd) {
  const std::string empty = MustCreate(Ask("empty", 40 * kGiB)).id();
  const absl::StatusOr<api::ListSnapshotBlocksResponse> page = Page("", MustSnapshot(empty, "e"));
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->ranges_size(), 0);
  EXPECT_EQ(page->next_offset(), 32 * kGiB);
  EXPECT_EQ(page->volume_size_bytes(), 40 * kGiB);
}

TEST_F(BlockListsTest, RefusesSnapshotsThatDoNotGoTogether) {
  const std::string other = MustSnapshot(MustCreate(Ask("other")).id(), "other");
  EXPECT_EQ(Code(second_, first_), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Code(second_, first_, 655360 * kBlock), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Code(first_, first_), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Code(other, first_), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Code("", ""), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Code("", "kss-00000000000000000000-0-00000000"), absl::StatusCode::kNotFound);
  EXPECT_EQ(Code("whatever", first_), absl::StatusCode::kNotFound);
  ASSERT_TRUE(DeleteSnapshot(first_).ok());
  EXPECT_EQ(Code(first_, second_), absl::StatusCode::kNotFound);
}

TEST_F(BlockListsTest, ASnapshotThatIsNotCutYetIsWorthAnotherTry) {
  nodes_.FailNext("CreateSnapshot", absl::UnavailableError("not now"), 1000);
  EXPECT_FALSE(Snapshot(volume_, "third").ok());
  std::string third;
  for (const auto& row : reconciler_->records().snapshots().All()) {
    if (row.value.name() == "third") third = row.value.id();
  }
  EXPECT_EQ(Code("", third), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Code(third, first_), absl::StatusCode::kUnavailable);
}

TEST_F(BlockListsTest, OutlivesItsVolume) {
  ASSERT_TRUE(Delete(volume_).ok());
  Pass(10);
  EXPECT_EQ(Text(Page(first_, second_)), "262151+1 then 655360 of 655360");
}

TEST_F(BlockListsTest, AsksAnotherCopyWhenOneCannotTell) {
  const std::string id = MustCreate(Ask("small")).id();
  const std::string snapshot = MustSnapshot(id, "s");
  nodes_.blocks().Set(0, "", snapshot, {{0, kBlock}});
  const std::string listed = "0+1 then 262144 of 262144";
  const std::vector<std::string> copies = CopiesOf(id);
  ASSERT_EQ(copies.size(), 3u);
  using Nodes = std::vector<std::string>;
  Asked();
  EXPECT_EQ(Text(Page("", snapshot)), listed);
  EXPECT_EQ(Asked(), Nodes({copies[0]}));
  // It does not answer, and that is not known yet; then it is.
  nodes_.SetDown(copies[0], true);
  EXPECT_EQ(Text(Page("", snapshot)), listed);
  EXPECT_EQ(Asked(), Nodes({copies[1]})) << "the first is silent";
  // Nor has the second one everything, and what the third has is of an earlier cut.
  nodes_.SetLacking(copies[1], true);
  EXPECT_EQ(Text(Page("", snapshot)), listed);
  EXPECT_EQ(Asked(), Nodes({copies[1], copies[2]}));
  nodes_.MakeStale(copies[2], id, snapshot);
  const absl::Status none = Page("", snapshot).status();
  EXPECT_TRUE(absl::IsUnavailable(none)) << none;
  for (const std::string& node : copies) {
    EXPECT_NE(none.message().find(absl::StrCat("node ", node, ":")), std::string::npos) << none;
  }
  nodes_.SetDown(copies[0], false);
  EXPECT_EQ(Text(Page("", snapshot)), listed);
  // Known to be away, it is asked last.
  nodes_.SetDown(copies[0], true);
  nodes_.SetLacking(copies[1], false);
  Pass(5);
  Asked();
  EXPECT_EQ(Text(Page("", snapshot)), listed);
  EXPECT_EQ(Asked(), Nodes({copies[1]}));
}

TEST_F(BlockListsTest, DoesNotPassOnWhatCannotBe) {
  const std::vector<std::vector<std::pair<std::uint64_t, std::uint64_t>>> lies = {
      {{kGiB, kBlock}},
      {{kGiB - kBlock, 2 * kBlock}},
      {{0, 0}},
      {{0, 100}},
      {{100, kBlock}},
      {{2 * kBlock, kBlock}, {kBlock, kBlock}},
      {{kBlock, UINT64_MAX - kBlock + 1}},
  };
  for (const auto& ranges : lies) {
    nodes_.blocks().Set(0, "", second_, ranges);
    EXPECT_EQ(Code("", second_), absl::StatusCode::kUnavailable);
  }
}

}  // namespace
}  // namespace keelson::provisioner
