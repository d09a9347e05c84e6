// The attach of a segment that an operator goes on from one copy alone with, and of what that
// leaves behind (R14).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/attach_plan_fixture.h"

namespace keelson::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class AttachForceTest : public AttachPlanFixture {
 protected:
  std::string WhyRefused(std::int64_t now_ns = kMemberWait) const {
    const AttachDecision decision = plan_->Decide(now_ns);
    EXPECT_EQ(decision.kind, Kind::kRefused);
    return std::string(decision.status.message());
  }
  absl::StatusCode CodeAt(std::int64_t now_ns) const { return plan_->Decide(now_ns).status.code(); }
};

// What an operator made out of A alone, under attachment 1.
Configuration ForcedA() {
  Configuration forced = ConfigurationOf({InSync('A')});
  forced.version = {TestEpoch(1), 1};
  forced.forced = TestEpoch(1);
  return forced;
}

// The record of a member of A, B and C from before that.
Configuration Before(std::uint64_t counter = 10) {
  Configuration before = ConfigurationOf(Three());
  before.version = {TestEpoch(0), counter};
  return before;
}

Configuration QuarantinedBefore() {
  Configuration marked = Before();
  marked.succeeded_by = TestEpoch(1);
  marked.successors = {InSync('A')};
  return marked;
}

// --- Going on from one copy ---

TEST_F(AttachForceTest, TheNamedReplicaBecomesTheOnlyMemberWithWhatItHas) {
  Configuration own = ConfigurationOf({Out('A'), InSync('B'), InSync('C')});
  own.members[0].in_sync_through = GenerationOf(1, 2);
  own.predecessor = own.members;
  own.snapshots = {SnapshotOf('x', true), SnapshotOf('y', false)};
  own.min_in_sync = 2;
  Begin(Three(), 'A');
  Answer('A', own);
  Fail('B');
  EXPECT_EQ(KindAt(kMemberWait - 1), Kind::kWait);
  EXPECT_EQ(FirstAt(kMemberWait), "A+");
  Configuration expected = own;
  expected.version = {TestEpoch(2), 1};
  expected.members = {InSync('A')};
  expected.predecessor.clear();
  expected.snapshots = {SnapshotOf('x', true)};
  expected.min_in_sync = 1;
  expected.min_in_sync_wanted = 2;
  expected.forced = TestEpoch(2);
  EXPECT_EQ(*plan_->Decide(kMemberWait).first, expected);
}

TEST_F(AttachForceTest, ItTakesTheIncarnationThatAnswered) {
  Begin(Three(), 'A');
  Answer('A', ConfigurationOf(Three()), 0, 2);
  const AttachDecision decision = plan_->Decide(kMemberWait);
  ASSERT_EQ(decision.kind, Kind::kReady);
  EXPECT_TRUE(decision.restarted);
  EXPECT_EQ(decision.first->members[0].incarnation, TestId(2, 'A'));
}

TEST_F(AttachForceTest, TheOthersAreAskedFirstAndTheGraceIsWaitedFor) {
  Begin(Three(), 'A');
  EXPECT_EQ(ToPrepare(), "ABC") << "whoever promises this epoch serves no older engine";
  Answer('A', ConfigurationOf(Three()), kMemberWait - 10);
  EXPECT_EQ(plan_->Decide(kMemberWait - 10).until_ns, kMemberWait);
  EXPECT_EQ(plan_->Decide(kMemberWait).until_ns, kMemberWait - 10 + kGrace);
  EXPECT_EQ(FirstAt(kMemberWait - 10 + kGrace), "A+");
}

TEST_F(AttachForceTest, IsRefusedWhileAnAttachWithoutItWouldDo) {
  Begin(Three(), 'A');
  Answer('A', ConfigurationOf(Three()));
  Answer('B', ConfigurationOf(Three()));
  EXPECT_THAT(WhyRefused(), HasSubstr("a majority"));
  EXPECT_EQ(CodeAt(kMemberWait), absl::StatusCode::kFailedPrecondition);
}

TEST_F(AttachForceTest, GoesOnFromACopyThatMissedSomethingWhenNoOtherAnswers) {
  const Configuration degraded = ConfigurationOf({InSync('A'), Out('B'), Witness('W')});
  Begin(degraded.members, 'B');
  Answer('B', degraded);
  Answer('W', degraded);
  EXPECT_EQ(FirstAt(kMemberWait), "B+");
}

TEST_F(AttachForceTest, AWitnessCannotBeGoneOnFrom) {
  const Configuration two = ConfigurationOf({InSync('A'), InSync('B'), Witness('W')});
  Begin(two.members, 'W');
  Answer('W', two);
  EXPECT_THAT(WhyRefused(0), HasSubstr("witness"));
}

TEST_F(AttachForceTest, NorCanOneWithoutAReadableRecordOrThatIsNotNamed) {
  Begin(Three(), 'A');
  Answer('A', std::nullopt);
  EXPECT_THAT(WhyRefused(0), HasSubstr("no readable record"));
  Begin(Three(), 'A');
  Answer('A', ConfigurationOf({InSync('B')}));
  EXPECT_THAT(WhyRefused(0), HasSubstr("not named"));
  Begin(Three(), 'X');
  EXPECT_THAT(WhyRefused(0), HasSubstr("no member has that id"));
}

TEST_F(AttachForceTest, WaitsForTheNamedReplicaAndSaysSo) {
  Begin(Three(), 'A');
  Answer('B', ConfigurationOf(Three()));
  EXPECT_EQ(KindAt(kMemberWait - 1), Kind::kWait);
  EXPECT_THAT(WhyRefused(), HasSubstr("does not answer"));
  EXPECT_EQ(CodeAt(kMemberWait), absl::StatusCode::kUnavailable);
}

TEST_F(AttachForceTest, AHigherPromiseEndsItToo) {
  Begin(Three(), 'A');
  Answer('A', ConfigurationOf(Three()));
  Fail('B', absl::AbortedError("epoch 3 is promised"));
  EXPECT_EQ(KindAt(kMemberWait), Kind::kFenced);
}

// --- What is left behind ---

TEST_F(AttachForceTest, AnOldHintLeadsToTheForcedMember) {
  Begin(Three());
  Answer('A', ForcedA());
  Answer('B', Before());
  Answer('C', Before());
  EXPECT_EQ(FirstAt(0), "A+") << "a majority of the members of before is none";
  EXPECT_EQ(plan_->Decide(0).first->forced, TestEpoch(1)) << "it stays of that history";
}

TEST_F(AttachForceTest, OneThatWasToldKeepsTheMajorityOfBeforeFromGoingOn) {
  Begin(Three());
  Answer('B', QuarantinedBefore());
  Answer('C', Before());
  EXPECT_THAT(WhyRefused(), AllOf(HasSubstr("an operator went on"), HasSubstr("A:7100")));
  EXPECT_EQ(CodeAt(kMemberWait), absl::StatusCode::kUnavailable);
  Answer('A', ForcedA(), kMemberWait);
  EXPECT_EQ(FirstAt(kMemberWait), "A+");
}

TEST_F(AttachForceTest, LearnsFromOneThatWasToldWhoTheMembersAre) {
  Begin({InSync('B')});
  Configuration told = QuarantinedBefore();
  told.successors = {InSync('D')};
  Answer('B', told);
  EXPECT_EQ(ToPrepare(), "ACD");
}

TEST_F(AttachForceTest, ACopyOfBeforeHasNoVoteInTheForcedHistory) {
  Configuration grown = ForcedA();
  grown.version.counter = 9;
  grown.members = {InSync('A'), InSync('B'), Out('D')};
  Begin(grown.members);
  Answer('A', grown);
  Answer('B', Before());
  EXPECT_EQ(KindAt(kMemberWait), Kind::kRefused);
}

TEST_F(AttachForceTest, TwoHistoriesThatBothWentOnAreAPersonsToChoose) {
  Begin(Three());
  Answer('A', ForcedA());
  Configuration went_on = Before();
  went_on.version = {{1, 1, pool::EngineId(TestId('e', 'e'))}, 4};  // after the force
  Answer('B', went_on);
  Answer('C', went_on);
  EXPECT_THAT(WhyRefused(0), HasSubstr("two histories"));
  EXPECT_EQ(CodeAt(0), absl::StatusCode::kFailedPrecondition);
  Begin(Three(), 'B');
  Answer('A', ForcedA());
  Answer('B', went_on);
  EXPECT_EQ(FirstAt(kMemberWait), "B+");
  EXPECT_EQ(plan_->Decide(kMemberWait).first->forced, TestEpoch(2));
}

TEST_F(AttachForceTest, AnOperatorMayGoBackToACopyThatWasLeftBehind) {
  Begin({InSync('A'), InSync('B')}, 'B');
  Answer('A', ForcedA());
  Answer('B', QuarantinedBefore());
  Answer('C', QuarantinedBefore());
  ASSERT_EQ(FirstAt(0), "B+") << "although A alone could be attached";
  EXPECT_FALSE(plan_->Decide(0).first->quarantined());
}

}  // namespace
}  // namespace keelson::engine
