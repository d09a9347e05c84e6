#include "blockstore/engine/attach_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/attach_plan_fixture.h"
#include "tests/unit/engine/members.h"

namespace keelson::engine {
namespace {

using testing::HasSubstr;

using AttachPlanTest = AttachPlanFixture;

// --- Closure (R1) ---

TEST_F(AttachPlanTest, PreparesTheMembersOfEveryConfigurationSeenAndOfItsPredecessor) {
  Begin({InSync('A')});
  EXPECT_EQ(ToPrepare(), "A");
  Configuration changing = ConfigurationOf({InSync('A'), Out('B')});
  changing.predecessor = {InSync('A'), Out('B'), Witness('W')};
  Answer('A', changing);
  EXPECT_EQ(ToPrepare(), "BW");
  Configuration older = ConfigurationOf({InSync('B'), Out('D')});
  older.version.counter = 3;
  Answer('B', older);
  EXPECT_EQ(ToPrepare(), "WD");
}

TEST_F(AttachPlanTest, PreparesAgainWhoFailedAndWhoseSessionEnded) {
  Begin({InSync('A'), InSync('B')});
  Answer('A', ConfigurationOf({InSync('A'), InSync('B')}));
  Fail('B');
  EXPECT_EQ(ToPrepare(), "B");
  Fail('A');
  EXPECT_EQ(ToPrepare(), "AB");
}

TEST_F(AttachPlanTest, TheHintsAddressIsUsedAndGoesIntoTheFirstConfiguration) {
  Member moved = InSync('A');
  moved.address = "new:1";
  Begin({moved});
  Answer('A', ConfigurationOf({InSync('A')}));
  EXPECT_EQ(plan_->Decide(0).first->members[0].address, "new:1");
}

// --- Fencing (R1) ---

TEST_F(AttachPlanTest, OfTwoAddressesOfOneReplicaTheFirstIsUsedAndItVotesOnce) {
  std::vector<Member> hint = Three();
  hint.push_back(InSync('A'));
  hint.back().address = "elsewhere:7100";
  Begin(hint);
  EXPECT_EQ(ToPrepare(), "ABC");
  EXPECT_EQ(plan_->ToPrepare()[0].address, "A:7100");
  Answer('A', ConfigurationOf(Three()));
  Answer('A', ConfigurationOf(Three()));
  EXPECT_EQ(KindAt(kMemberWait), Kind::kRefused) << "two answers of one member are no majority";
}

TEST_F(AttachPlanTest, OneMemberThatPromisedAHigherEpochEndsIt) {
  Begin(Three());
  for (const char name : {'A', 'B'}) Answer(name, ConfigurationOf(Three()));
  Fail('C', absl::AbortedError("epoch 3 is promised"));
  const AttachDecision decision = plan_->Decide(5000);
  EXPECT_EQ(decision.kind, Kind::kFenced);
  EXPECT_EQ(decision.status.code(), absl::StatusCode::kAborted);
}

TEST_F(AttachPlanTest, AnEpochIsUsedForOneAttach) {
  Begin(Three());
  Configuration of_this_epoch = ConfigurationOf(Three());
  of_this_epoch.version = {TestEpoch(2), 1};
  Answer('A', of_this_epoch);
  EXPECT_EQ(KindAt(0), Kind::kFenced);
}

// --- Quorum (R1, R2) ---

TEST_F(AttachPlanTest, ServesAtOnceWhenEveryMemberAnswered) {
  Begin(Three());
  for (const char name : {'A', 'B', 'C'}) Answer(name, ConfigurationOf(Three()));
  EXPECT_EQ(FirstAt(0), "A+ B+ C+");
}

TEST_F(AttachPlanTest, WithoutAMajorityNothingIsWritten) {
  Begin(Three());
  Answer('A', ConfigurationOf(Three()));
  Fail('B');
  EXPECT_EQ(KindAt(0), Kind::kWait);
  EXPECT_EQ(plan_->Decide(0).until_ns, kMemberWait);
  const AttachDecision decision = plan_->Decide(kMemberWait);
  EXPECT_EQ(decision.kind, Kind::kRefused);
  EXPECT_EQ(decision.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(decision.status.message()),
              testing::AllOf(HasSubstr("no majority"), HasSubstr("B:7100 (not reached)"),
                             HasSubstr("C:7100 (no answer)"), testing::Not(HasSubstr("A:7100"))));
}

TEST_F(AttachPlanTest, ALaterAnswerMakesARefusedAttachGoOn) {
  Begin(Three());
  Answer('A', ConfigurationOf(Three()));
  EXPECT_EQ(KindAt(5000), Kind::kRefused);
  Answer('B', ConfigurationOf(Three()), 5000);
  EXPECT_EQ(KindAt(5000 + kGrace - 1), Kind::kWait);
  EXPECT_EQ(FirstAt(5000 + kGrace), "A+ B+ C-");
}

TEST_F(AttachPlanTest, AMemberWithoutARecordHasNoVoteAndIsNoSource) {
  Begin(Three());
  Answer('A', ConfigurationOf(Three()));
  Answer('B', std::nullopt);
  Answer('C', std::nullopt);
  EXPECT_EQ(KindAt(0), Kind::kRefused);
  Answer('C', ConfigurationOf(Three()));
  EXPECT_EQ(FirstAt(kMemberWait), "A+ B- C+");
}

TEST_F(AttachPlanTest, ARecordOfAnotherVolumeIsNone) {
  Begin(Three());
  Configuration other = ConfigurationOf({InSync('A'), InSync('B'), InSync('X')});
  other.volume = pool::VolumeId(TestId('v', 'o'));
  other.version.counter = 99;
  Answer('A', ConfigurationOf(Three()));
  Answer('B', other);
  EXPECT_EQ(ToPrepare(), "C") << "the other volume's members are none of ours";
  EXPECT_EQ(KindAt(kMemberWait), Kind::kRefused);
  Configuration other_segment = ConfigurationOf(Three());
  other_segment.segment = 1;
  Answer('B', other_segment);
  EXPECT_EQ(KindAt(kMemberWait), Kind::kRefused);
}

TEST_F(AttachPlanTest, AnAnswerOfAnotherReplicaIsNone) {
  Begin({InSync('A')});
  PrepareAnswer answer;
  answer.pool = pool::PoolId(TestId('p', 'A'));
  answer.replica = ReplicaOf('X');
  answer.configuration = ConfigurationOf({InSync('A')});
  plan_->OnAnswer(InSync('A'), answer, 0);
  EXPECT_EQ(KindAt(kMemberWait), Kind::kRefused);
}

TEST_F(AttachPlanTest, AMemberThatItsOwnConfigurationDoesNotNameHasNoVote) {
  Begin(Three());
  Configuration without_b = ConfigurationOf({InSync('A'), InSync('C')});
  without_b.version.counter = 3;
  Answer('A', ConfigurationOf(Three()));
  Answer('B', without_b);
  EXPECT_EQ(KindAt(kMemberWait), Kind::kRefused);
}

TEST_F(AttachPlanTest, WhenNobodyHasTheSegmentTheHintIsWrong) {
  Begin({InSync('A'), InSync('B')});
  Answer('A', std::nullopt);
  Fail('B', absl::NotFoundError("no such replica"));
  const AttachDecision decision = plan_->Decide(0);
  EXPECT_EQ(decision.kind, Kind::kRefused);
  EXPECT_EQ(decision.status.code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(AttachPlanTest, WhenNobodyAnsweredTheSegmentMayBeThere) {
  Begin({InSync('A')});
  Fail('A');
  EXPECT_EQ(KindAt(kMemberWait - 1), Kind::kWait);
  EXPECT_EQ(plan_->Decide(kMemberWait).status.code(), absl::StatusCode::kUnavailable);
}

TEST_F(AttachPlanTest, AWitnessVotesAndIsNoCopy) {
  const Configuration degraded = ConfigurationOf({InSync('A'), Out('B'), Witness('W')});
  Begin(degraded.members);
  Answer('B', degraded);
  Answer('W', degraded);
  EXPECT_EQ(KindAt(kMemberWait - 1), Kind::kWait);
  const AttachDecision decision = plan_->Decide(kMemberWait);
  EXPECT_EQ(decision.kind, Kind::kRefused) << "nobody of them has every acknowledged write";
  EXPECT_THAT(std::string(decision.status.message()), HasSubstr("InSync"));
  Answer('A', degraded);
  EXPECT_EQ(FirstAt(0), "A+ B- W-");
}

// [A,B] -> [A] -> [] -> [B]: B was left behind, then A died, then B alone came back.
TEST_F(AttachPlanTest, DoesNotServeFromTheCopyThatWasLeftBehind) {
  const Configuration both = ConfigurationOf({InSync('A'), InSync('B'), Witness('W')});
  Configuration without_b = both;
  without_b.version.counter = 11;
  without_b.members[1] = Out('B');
  Begin(both.members);
  Answer('B', both);
  Fail('A');
  EXPECT_EQ(KindAt(kMemberWait), Kind::kRefused) << "B alone is no majority";
  Answer('W', without_b);
  EXPECT_EQ(KindAt(10 * kMemberWait), Kind::kRefused) << "and the witness knows that B is Out";
}

TEST_F(AttachPlanTest, TheHighestConfigurationDecidesWhoIsInSync) {
  Configuration newer = ConfigurationOf({InSync('A'), Out('B'), InSync('C')});
  newer.version.counter = 11;
  Begin(Three());
  Answer('A', ConfigurationOf(Three()));
  Answer('B', ConfigurationOf(Three()));
  Answer('C', newer);
  EXPECT_EQ(FirstAt(0), "A+ B- C+");
}

// --- Membership (R13) ---

TEST_F(AttachPlanTest, AChangeUnderWayIsKeptAndNeedsBothMajorities) {
  Configuration changing = ConfigurationOf({InSync('A'), Out('B'), Witness('W')});
  changing.predecessor = {InSync('A'), InSync('X'), InSync('Y')};
  Begin({InSync('A')});
  Answer('A', changing);
  Answer('W', changing);
  EXPECT_EQ(KindAt(kMemberWait), Kind::kRefused);
  Answer('X', changing, kMemberWait);
  const AttachDecision decision = plan_->Decide(kMemberWait + kGrace);
  ASSERT_EQ(decision.kind, Kind::kReady);
  EXPECT_EQ(decision.first->predecessor, changing.predecessor);
}

// --- Patience (R1) ---

TEST_F(AttachPlanTest, InSyncMembersAreWaitedForAndThenAreOutFromTheCleanGenerationOn) {
  Begin(Three());
  Answer('A', ConfigurationOf(Three()));
  Answer('B', ConfigurationOf(Three()));
  EXPECT_EQ(plan_->Decide(kGrace).until_ns, kMemberWait);
  EXPECT_EQ(KindAt(kMemberWait - 1), Kind::kWait);
  EXPECT_EQ(FirstAt(kMemberWait), "A+ B+ C-");
  EXPECT_EQ(plan_->Decide(kMemberWait).first->members[2].in_sync_through, GenerationOf(1, 5));
}

TEST_F(AttachPlanTest, AMemberThatIsOutIsNotWaitedForBeyondTheGrace) {
  const Configuration degraded = ConfigurationOf({InSync('A'), InSync('B'), Out('C')});
  Begin(Three());
  Answer('A', degraded, 10);
  Answer('B', degraded, 20);
  EXPECT_EQ(FirstAt(20 + kGrace), "A+ B+ C-");
}

TEST_F(AttachPlanTest, AMemberThatIsNamedLateIsWaitedForAsLong) {
  Begin({InSync('A')});
  Answer('A', ConfigurationOf(Three()), 900);
  Answer('B', ConfigurationOf(Three()), 900);
  EXPECT_EQ(plan_->Decide(1000).until_ns, 900 + kMemberWait);
}

TEST_F(AttachPlanTest, AnInSyncMemberWhoseSessionEndedIsWaitedForAgain) {
  Begin({InSync('A'), InSync('B')});
  for (const char name : {'A', 'B'}) Answer(name, ConfigurationOf({InSync('A'), InSync('B')}));
  Fail('B');
  EXPECT_EQ(KindAt(0), Kind::kWait);
  EXPECT_EQ(FirstAt(kMemberWait), "A+ B-") << "B's promise still counts for the majority";
}

// --- Grace (R9) ---

TEST_F(AttachPlanTest, TheGraceRunsFromTheAnswerThatCompletedTheMajority) {
  const Configuration degraded = ConfigurationOf({InSync('A'), InSync('B'), Out('C'), Out('D')});
  Begin(degraded.members);
  Answer('A', degraded, 10);
  Answer('B', degraded, 30);
  Answer('C', degraded, 70);
  EXPECT_EQ(plan_->Decide(70).until_ns, 70 + kGrace);
  EXPECT_EQ(KindAt(70 + kGrace - 1), Kind::kWait);
  EXPECT_EQ(KindAt(70 + kGrace), Kind::kReady);
}

TEST_F(AttachPlanTest, TheGraceIsForgoneOnlyWhenEveryMemberEverNamedAnswered) {
  const Configuration one = ConfigurationOf({InSync('A')});
  Begin({InSync('A'), InSync('X')});
  Answer('A', one, 10);
  EXPECT_EQ(plan_->Decide(10).until_ns, 10 + kGrace) << "X may still serve an older engine's lease";
  Answer('X', ConfigurationOf({InSync('X'), InSync('A')}), 11);
  EXPECT_EQ(KindAt(11), Kind::kReady);
}

TEST_F(AttachPlanTest, AnAnswerWithoutARecordDoesNotForgoTheGrace) {
  Begin({InSync('A'), InSync('X')});
  Answer('A', ConfigurationOf({InSync('A')}), 10);
  Answer('X', std::nullopt, 10);
  EXPECT_EQ(plan_->Decide(10).until_ns, 10 + kGrace);
}

// --- Restarted members (R3) ---

TEST_F(AttachPlanTest, ARestartedMemberIsOutWhenOneAnsweredThatDidNotRestart) {
  Begin(Three());
  Answer('A', ConfigurationOf(Three()));
  Answer('B', ConfigurationOf(Three()), 0, 2);
  Answer('C', ConfigurationOf(Three()));
  EXPECT_EQ(FirstAt(0), "A+ B- C+");
  const AttachDecision decision = plan_->Decide(0);
  EXPECT_FALSE(decision.restarted);
  EXPECT_EQ(decision.first->lost, pool::Epoch());
  EXPECT_EQ(decision.first->members[1].incarnation, TestId(1, 'B'));
  EXPECT_EQ(decision.first->members[1].in_sync_through, GenerationOf(1, 5));
}

TEST_F(AttachPlanTest, WhenAllRestartedTheyStayWithTheirNewIncarnations) {
  Begin(Three());
  for (const char name : {'A', 'B', 'C'}) Answer(name, ConfigurationOf(Three()), 0, 2);
  EXPECT_EQ(FirstAt(0), "A+ B+ C+");
  const AttachDecision decision = plan_->Decide(0);
  EXPECT_TRUE(decision.restarted);
  EXPECT_EQ(decision.first->lost, decision.first->version.epoch);
  EXPECT_EQ(decision.first->members[1].incarnation, TestId(2, 'B'));
}

TEST_F(AttachPlanTest, RestartedMembersWaitForOneThatMayNotHaveRestarted) {
  Begin(Three());
  Answer('A', ConfigurationOf(Three()), 0, 2);
  Answer('B', ConfigurationOf(Three()), 0, 2);
  EXPECT_EQ(KindAt(kMemberWait - 1), Kind::kWait);
  EXPECT_EQ(FirstAt(kMemberWait), "A+ B+ C-");
  Answer('C', ConfigurationOf(Three()), kMemberWait);
  EXPECT_EQ(FirstAt(kMemberWait), "A- B- C+");
}

TEST_F(AttachPlanTest, RestartedMembersAreNotTrustedAfterAnAnswerOfOneThatDidNotRestart) {
  Begin(Three());
  Answer('A', ConfigurationOf(Three()));
  Answer('B', ConfigurationOf(Three()), 0, 2);
  Fail('A');
  EXPECT_EQ(KindAt(kMemberWait), Kind::kRefused) << "A has writes that B may have lost";
  Answer('A', ConfigurationOf(Three()), kMemberWait, 2);
  EXPECT_EQ(FirstAt(kMemberWait), "A+ B+ C-");
}

TEST_F(AttachPlanTest, WhatAMemberAnsweredCountsThoughItsReplicaIsNotFoundAnyMore) {
  Begin(Three());
  Answer('A', ConfigurationOf(Three()));
  Answer('B', ConfigurationOf(Three()), 0, 2);
  Answer('C', ConfigurationOf(Three()), 0, 2);
  Fail('A', absl::NotFoundError("its pool is not open yet"));
  EXPECT_EQ(KindAt(kMemberWait), Kind::kRefused) << "A has writes that B and C may have lost";
  Answer('A', std::nullopt, kMemberWait, 2);
  EXPECT_EQ(KindAt(kMemberWait), Kind::kRefused) << "its record may become readable again";
  Answer('A', ConfigurationOf(Three()), kMemberWait);
  EXPECT_EQ(FirstAt(kMemberWait), "A+ B- C-");
}

TEST_F(AttachPlanTest, ARestartedWitnessVotes) {
  const Configuration two = ConfigurationOf({InSync('A'), InSync('B'), Witness('W')});
  Begin(two.members);
  Answer('A', two);
  Answer('W', two, 0, 2);
  EXPECT_EQ(FirstAt(kMemberWait), "A+ B- W-");
}

// --- The first configuration (R15) ---

TEST_F(AttachPlanTest, TheFirstConfigurationIsTheFirstOfItsEpochAndKeepsTheRest) {
  Configuration before = ConfigurationOf({InSync('A'), Syncing('B'), Out('C')});
  before.members[1].in_sync_through = GenerationOf(1, 2);
  before.members[2].in_sync_through = GenerationOf(1, 3);
  before.snapshots = {SnapshotOf('x', true), SnapshotOf('y', false)};
  before.min_in_sync = 2;
  Begin(before.members);
  for (const char name : {'A', 'B', 'C'}) Answer(name, before);
  const AttachDecision decision = plan_->Decide(0);
  ASSERT_EQ(decision.kind, Kind::kReady);
  Configuration expected = before;
  expected.version = {TestEpoch(2), 1};
  expected.members[1].state = MemberState::kOut;
  expected.snapshots = {SnapshotOf('x', true)};
  EXPECT_EQ(*decision.first, expected);
}

}  // namespace
}  // namespace keelson::engine
