// The engine of a volume of several segments, each with two copies in the same two pools.

#include <gtest/gtest.h>

#include "tests/unit/engine/engine_fixture.h"

namespace keelson::engine {
namespace {

class EngineSegmentsTest : public EngineFixture {};

TEST_F(EngineSegmentsTest, ARequestGoesAcrossTheBoundaryOfTwoSegments) {
  MakeSegment(0, kSegmentBytes, 2);
  MakeSegment(1, 4 * kMiB, 2);
  AttachAll();
  EXPECT_EQ(engine_->size_bytes(), 12 * kMiB);
  ASSERT_TRUE(Put(kSegmentBytes - 2 * kBlock, "abcd").ok());
  ASSERT_TRUE(Must(engine_->Flush()).ok());
  Detach();
  AttachAll();
  EXPECT_EQ(Get(kSegmentBytes - 3 * kBlock, 6), "0abcd0");
}

TEST_F(EngineSegmentsTest, IsNotAttachedWithoutAllOfItsSegments) {
  MakeSegment(0, kSegmentBytes, 2);
  MakeSegment(1, 4 * kMiB, 2);
  const absl::Status fewer = TryAttachAll({hints_[0]});
  EXPECT_TRUE(absl::IsFailedPrecondition(fewer)) << fewer;
  MakeSegment(2, 4 * kMiB, 3);
  const absl::Status more = TryAttachAll(hints_);
  EXPECT_TRUE(absl::IsFailedPrecondition(more)) << more;
}

TEST_F(EngineSegmentsTest, GrowsByFurtherSegments) {
  MakeSegment(0, 4 * kMiB, 1);
  AttachAll();
  MakeSegment(1, kSegmentBytes, 3);
  MakeSegment(2, 4 * kMiB, 3);
  const std::vector<SegmentHint> further = {hints_[1], hints_[2]};
  EXPECT_TRUE(absl::IsFailedPrecondition(Must(engine_->AddSegments(further))))
      << "there is room in the last one";
  EXPECT_TRUE(absl::IsOutOfRange(Must(engine_->Grow(9 * kMiB))));
  ASSERT_TRUE(Must(engine_->Grow(kSegmentBytes)).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Must(engine_->AddSegments({hints_[2]}))));
  EXPECT_EQ(engine_->segment_count(), 1u);
  ASSERT_TRUE(Must(engine_->AddSegments(further)).ok());
  EXPECT_EQ(engine_->size_bytes(), 20 * kMiB);
  EXPECT_EQ(engine_->segment(0).Status().configuration.segment_count, 3u);
  ASSERT_TRUE(Put(2 * kSegmentBytes - kBlock, "xy").ok());
  Detach();
  EXPECT_TRUE(absl::IsFailedPrecondition(TryAttachAll({hints_[0]}))) << "it has three by now";
  AttachAll();
  EXPECT_EQ(Get(2 * kSegmentBytes - kBlock, 2), "xy");
}

TEST_F(EngineSegmentsTest, NothingIsAddedWhenANewSegmentIsNotReached) {
  MakeSegment(0, kSegmentBytes, 1);
  AttachAll();
  SegmentHint missing = hints_[0];
  missing.segment = 1;
  for (replica::Member& member : missing.members) {
    member.replica = pool::ReplicaId(world_.MakeId());
  }
  EXPECT_FALSE(Must(engine_->AddSegments({missing})).ok());
  EXPECT_EQ(engine_->segment_count(), 1u);
  EXPECT_EQ(engine_->segment(0).Status().configuration.segment_count, 1u);
  EXPECT_TRUE(Put(0, "a").ok());
}

TEST_F(EngineSegmentsTest, ASnapshotIsOfAllSegmentsThatThereAre) {
  MakeSegment(0, kSegmentBytes, 2);
  MakeSegment(1, kSegmentBytes, 2);
  AttachAll();
  const auto snapshot = Must(engine_->Snapshot("s", 1));
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  MakeSegment(2, 4 * kMiB, 3);
  ASSERT_TRUE(Must(engine_->AddSegments({hints_[2]})).ok());
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& snapshots = engine_->segment(i).Status().configuration.snapshots;
    ASSERT_EQ(snapshots.size(), i < 2 ? 1u : 0u) << i;
    for (const auto& one : snapshots) EXPECT_TRUE(one.complete);
  }
  EXPECT_TRUE(Must(engine_->DeleteSnapshot(*snapshot)).ok());
}

}  // namespace
}  // namespace keelson::engine
