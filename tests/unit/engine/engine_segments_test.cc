// The engine of a volume of several segments, each with two copies in the same two pools.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/engine/engine.h"
#include "tests/unit/engine/segment_fixture.h"

namespace keelson::engine {
namespace {

class EngineSegmentsTest : public SegmentFixture {
 protected:
  static constexpr std::uint64_t kSegmentBytes = 8 * kMiB;

  void SetUp() override {
    first_.volume = pool::VolumeId(world_.MakeId());
    first_.volume_name = "v";
    first_.version = {{}, 1};
    first_.segment_bytes = kSegmentBytes;
    for (int i = 0; i < 2; ++i) members_.push_back(NewMember());
  }
  void TearDown() override {
    if (engine_ != nullptr) Detach();
    SegmentFixture::TearDown();
  }

  void MakeSegment(std::uint32_t number, std::uint64_t size_bytes, std::uint32_t count) {
    replica::NewMember made;
    made.volume = first_.volume;
    made.name = "v";
    made.segment = number;
    made.size_bytes = size_bytes;
    made.configuration = first_;
    made.configuration.segment = number;
    made.configuration.size_bytes = size_bytes;
    made.configuration.segment_count = count;
    for (replica::Member member : members_) {
      member.replica = pool::ReplicaId(world_.MakeId());
      member.state = replica::MemberState::kInSync;
      made.configuration.members.push_back(member);
    }
    for (std::size_t i = 0; i < members_.size(); ++i) {
      made.replica = made.configuration.members[i].replica;
      const absl::Status created = Must(pools_[i]->store->CreateMember(made));
      ASSERT_TRUE(created.ok()) << created;
    }
    hints_.push_back({first_.volume, number, made.configuration.members, {}});
  }
  absl::Status TryAttachAll(const std::vector<SegmentHint>& hints) {
    AttachTarget target;
    target.name = "v";
    target.epoch = {++attachment_, 0, pool::EngineId(world_.MakeId())};
    target.segments = hints;
    target.segment_bytes = kSegmentBytes;
    absl::AnyInvocable<pool::Uuid()> make_id = [this] { return world_.MakeId(); };
    auto engine = Must(Engine::Attach(process_, this, target, std::move(make_id), {}));
    if (engine.ok()) engine_ = *std::move(engine);
    return engine.status();
  }
  void AttachAll() {
    const absl::Status attached = TryAttachAll(hints_);
    ASSERT_TRUE(attached.ok()) << attached;
  }
  void Detach() {
    (void)Must(engine_->Detach());
    engine_.reset();
  }
  // The letters fill a block each.
  absl::Status Put(std::uint64_t offset, const std::string& letters) {
    pool::HeaderBlock data(letters.size() * kBlock);
    for (std::size_t i = 0; i < letters.size(); ++i) {
      const auto block = data.span().subspan(i * kBlock, kBlock);
      std::fill(block.begin(), block.end(), static_cast<std::byte>(letters[i]));
    }
    return Must(engine_->Write(offset, data.span(), false));
  }
  std::string Get(std::uint64_t offset, std::size_t blocks) {
    pool::HeaderBlock data(blocks * kBlock);
    const absl::Status read = Must(engine_->Read(offset, data.span()));
    EXPECT_TRUE(read.ok()) << read;
    std::string letters;
    for (std::size_t i = 0; i < blocks; ++i) {
      letters += LetterOf(data.span().subspan(i * kBlock, kBlock));
    }
    return letters;
  }

  std::vector<SegmentHint> hints_;
  std::unique_ptr<Engine> engine_;
};

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
