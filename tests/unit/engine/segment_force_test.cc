// The segment's engine when an operator goes on from one copy alone (R14), and what becomes of the
// other copies.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/engine/segment_fixture.h"

namespace keelson::engine {
namespace {

using testing::HasSubstr;

class SegmentForceTest : public SegmentFixture {
 protected:
  static constexpr std::int64_t kSecond = 1'000'000'000;

  // Three copies with 'a' at block 5, and a snapshot of that; then all but the first are gone, and
  // an operator goes on from that one.
  void ForceFromTheFirst() {
    Make(3);
    Attach();
    ASSERT_TRUE(Write(5, 'a').ok());
    ASSERT_TRUE(Must(segment_->HoldWrites(InHalfAMinute())).ok());
    replica::ConfiguredSnapshot snapshot;
    snapshot.id = pool::SnapshotId(world_.MakeId());
    snapshot.name = "s";
    snapshot.complete = true;
    ASSERT_TRUE(Must(segment_->Seal(snapshot)).ok());
    segment_->ReleaseWrites();
    Abandon();
    Cut(1);
    Cut(2);
    ASSERT_TRUE(absl::IsUnavailable(TryAttach())) << "one of three is no majority";
    force_from_ = members_[0].replica;
    Attach();
    force_from_ = {};
  }
  const replica::Configuration& Record(std::size_t index) {
    return *pools_[index]->store->Find(members_[index].replica)->configuration();
  }
};

TEST_F(SegmentForceTest, ServesFromTheNamedCopyAlone) {
  ForceFromTheFirst();
  EXPECT_EQ(Read(5), 'a');
  ASSERT_TRUE(Write(5, 'b').ok());
  ASSERT_TRUE(Must(segment_->Flush()).ok());
  const SegmentStatus status = segment_->Status();
  EXPECT_EQ(status.configuration.members.size(), 1u);
  EXPECT_TRUE(status.configuration.was_forced());
  EXPECT_TRUE(status.waiting_for.empty()) << status.waiting_for;
}

TEST_F(SegmentForceTest, TellsTheOtherCopiesWhenTheyComeBackAndLeavesThemAsTheyAre) {
  ForceFromTheFirst();
  ASSERT_TRUE(Write(5, 'b').ok());
  Heal(1);
  Pass(10 * kSecond);
  EXPECT_TRUE(Record(1).quarantined());
  EXPECT_EQ(Record(1).members.size(), 3u) << "its own record is kept";
  EXPECT_EQ(Record(1).snapshots.size(), 1u);
  EXPECT_FALSE(Record(2).quarantined());
  EXPECT_EQ(ReadAt(1, 5), 'a');
}

TEST_F(SegmentForceTest, ACopyWhosePoolIsNotOpenYetIsToldLater) {
  ForceFromTheFirst();
  pools_[1]->missing = true;
  Heal(1);
  Pass(10 * kSecond);
  EXPECT_FALSE(Record(1).quarantined());
  pools_[1]->missing = false;
  Pass(10 * kSecond);
  EXPECT_TRUE(Record(1).quarantined());
}

TEST_F(SegmentForceTest, ACopyThatWasToldKeepsAnOldHintFromGoingBack) {
  ForceFromTheFirst();
  ASSERT_TRUE(Write(5, 'b').ok());
  Heal(1);
  Pass(10 * kSecond);
  Close();
  Heal(2);
  Cut(0);
  const absl::Status refused = TryAttach();
  EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("an operator went on"));
  Heal(0);
  Attach();
  EXPECT_EQ(Read(5), 'b');
}

TEST_F(SegmentForceTest, WhenTheOthersWentOnUntoldAPersonHasToChoose) {
  ForceFromTheFirst();
  ASSERT_TRUE(Write(5, 'b').ok());
  Close();
  Heal(1);
  Heal(2);
  Cut(0);
  Attach();  // nobody here has heard of the force: nothing protects from this
  ASSERT_TRUE(Write(5, 'c').ok());
  Close();
  Heal(0);
  const absl::Status refused = TryAttach();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_EQ(ReadAt(0, 5), 'b') << "neither history is touched";
  EXPECT_EQ(ReadAt(1, 5), 'c');
  force_from_ = members_[0].replica;
  Attach();
  EXPECT_EQ(Read(5), 'b');
  Pass(10 * kSecond);
  EXPECT_TRUE(Record(1).quarantined());
  EXPECT_EQ(ReadAt(1, 5), 'c');
}

TEST_F(SegmentForceTest, AnOperatorCanGoBackToAQuarantinedCopy) {
  ForceFromTheFirst();
  ASSERT_TRUE(Write(5, 'b').ok());
  Heal(1);
  Pass(10 * kSecond);
  Close();
  force_from_ = members_[1].replica;
  Attach();
  EXPECT_EQ(Read(5), 'a');
  EXPECT_EQ(segment_->Status().configuration.snapshots.size(), 1u);
  Pass(10 * kSecond);
  EXPECT_TRUE(Record(0).quarantined());
  EXPECT_FALSE(Record(1).quarantined());
  EXPECT_EQ(ReadAt(0, 5), 'b');
}

TEST_F(SegmentForceTest, NewCopiesBringItBackToStrengthAndOldOnesAreRefused) {
  ForceFromTheFirst();
  ASSERT_TRUE(Write(6, 'b').ok());
  Heal(1);
  Heal(2);
  for (std::size_t stranger : {std::size_t{1}, std::size_t{2}}) {
    const absl::Status refused = Must(segment_->AddMember(members_[stranger], nullptr));
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  }
  first_.version = {{}, 1};  // a replica that was just made
  first_.snapshots.clear();
  const replica::Member fresh = AddPool();
  ASSERT_TRUE(Must(segment_->AddMember(fresh, nullptr)).ok());
  Pass(10 * kSecond);
  EXPECT_EQ(State(3), replica::MemberState::kInSync);
  Close();
  EXPECT_EQ(ReadAt(3, 5), 'a');
  EXPECT_EQ(ReadAt(3, 6), 'b');
}

}  // namespace
}  // namespace keelson::engine
