#include "blockstore/engine/transitions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/members.h"

namespace keelson::engine {
namespace {

using absl::StatusCode;
using replica::Configuration;
using replica::Member;
using replica::MemberState;

const Member& MemberIn(const NextConfiguration& next, char name) {
  const Member* member = next->Find(pool::PoolId(TestId('p', name)), ReplicaOf(name));
  EXPECT_NE(member, nullptr) << name;
  static const Member kNone;
  return member == nullptr ? kNone : *member;
}

bool Has(const NextConfiguration& next, char name) {
  return next->Find(pool::PoolId(TestId('p', name)), ReplicaOf(name)) != nullptr;
}

TEST(TransitionsTest, EveryStepIsTheNextVersionOfTheSameEpochAndNothingElseChanges) {
  const Configuration from = ConfigurationOf({InSync('A'), InSync('B'), InSync('C')});
  const NextConfiguration next = MarkOut(from, ReplicaOf('B'));
  ASSERT_TRUE(next.ok()) << next.status();
  Configuration expected = from;
  expected.version.counter = 11;
  expected.members[1].state = MemberState::kOut;
  expected.members[1].in_sync_through = from.clean;
  EXPECT_EQ(*next, expected);
}

TEST(TransitionsTest, AnInSyncMemberThatGoesOutHasWhatWasClean) {
  const auto next = MarkOut(ConfigurationOf({InSync('A'), InSync('B')}), ReplicaOf('A'));
  EXPECT_EQ(MemberIn(next, 'A').in_sync_through, GenerationOf(1, 5));
}

TEST(TransitionsTest, ASyncingMemberThatGoesOutHasNoMoreThanBefore) {
  Member syncing = Syncing('B');
  syncing.in_sync_through = GenerationOf(1, 2);
  const auto next = MarkOut(ConfigurationOf({InSync('A'), syncing}), ReplicaOf('B'));
  EXPECT_EQ(MemberIn(next, 'B').state, MemberState::kOut);
  EXPECT_EQ(MemberIn(next, 'B').in_sync_through, GenerationOf(1, 2));
}

TEST(TransitionsTest, WhatAMemberHasOnlyFallsUntilItIsInSyncAgain) {
  NextConfiguration next = MarkOut(ConfigurationOf({InSync('A'), InSync('B')}), ReplicaOf('B'));
  next = AdvanceClean(*next, GenerationOf(1, 8));
  next = StartSync(*next, ReplicaOf('B'), TestId(2, 'B'), "b:1");
  EXPECT_EQ(MemberIn(next, 'B').in_sync_through, GenerationOf(1, 5));
  next = MarkOut(*next, ReplicaOf('B'));
  EXPECT_EQ(MemberIn(next, 'B').in_sync_through, GenerationOf(1, 5));
  next = StartSync(*next, ReplicaOf('B'), TestId(2, 'B'), "b:1");
  next = MarkInSync(*next, ReplicaOf('B'));
  next = MarkOut(*next, ReplicaOf('B'));
  EXPECT_EQ(MemberIn(next, 'B').in_sync_through, GenerationOf(1, 8));
}

TEST(TransitionsTest, TheLastInSyncMemberStays) {
  const Configuration from = ConfigurationOf({InSync('A'), Syncing('B'), Out('C')});
  EXPECT_EQ(MarkOut(from, ReplicaOf('A')).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(RemoveMember(from, ReplicaOf('A')).status().code(), StatusCode::kFailedPrecondition);
}

TEST(TransitionsTest, OnlyAMemberCanChange) {
  const Configuration from = ConfigurationOf({InSync('A')});
  EXPECT_EQ(MarkOut(from, ReplicaOf('X')).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(MarkInSync(from, ReplicaOf('X')).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(RemoveMember(from, ReplicaOf('X')).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(StartSync(from, ReplicaOf('X'), TestId(2, 'X'), "").status().code(),
            StatusCode::kNotFound);
}

TEST(TransitionsTest, AMemberThatIsOutCannotGoOutAgain) {
  EXPECT_EQ(MarkOut(ConfigurationOf({InSync('A'), Out('B')}), ReplicaOf('B')).status().code(),
            StatusCode::kFailedPrecondition);
}

TEST(TransitionsTest, SyncBeginsWithTheIncarnationAndAddressThatWerePrepared) {
  const auto next =
      StartSync(ConfigurationOf({InSync('A'), Out('B')}), ReplicaOf('B'), TestId(2, 'B'), "b:2");
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(MemberIn(next, 'B').state, MemberState::kSyncing);
  EXPECT_EQ(MemberIn(next, 'B').incarnation, TestId(2, 'B'));
  EXPECT_EQ(MemberIn(next, 'B').address, "b:2");
}

TEST(TransitionsTest, AWitnessIsNeverWrittenToAndNeverInSync) {
  const Configuration from = ConfigurationOf({InSync('A'), InSync('B'), Witness('W')});
  EXPECT_EQ(StartSync(from, ReplicaOf('W'), TestId(1, 'W'), "").status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(MarkInSync(from, ReplicaOf('W')).status().code(), StatusCode::kFailedPrecondition);
}

TEST(TransitionsTest, OnlyASyncingMemberBecomesInSync) {
  const Configuration from = ConfigurationOf({InSync('A'), Out('B'), Syncing('C')});
  EXPECT_EQ(MarkInSync(from, ReplicaOf('B')).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(StartSync(from, ReplicaOf('A'), TestId(1, 'A'), "").status().code(),
            StatusCode::kFailedPrecondition);
  const auto next = MarkInSync(from, ReplicaOf('C'));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(MemberIn(next, 'C').state, MemberState::kInSync);
}

TEST(TransitionsTest, TheCleanGenerationOnlyRises) {
  const Configuration from = ConfigurationOf({InSync('A')});
  EXPECT_EQ(AdvanceClean(from, GenerationOf(1, 6))->clean, GenerationOf(1, 6));
  EXPECT_EQ(AdvanceClean(from, GenerationOf(1, 5)).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(AdvanceClean(from, GenerationOf(0, 9)).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(AdvanceClean(from, GenerationOf(2, 1)).status().code(),
            StatusCode::kFailedPrecondition);
}

TEST(TransitionsTest, AnAddedMemberHasNothingAndTheMembersBeforeAreNamed) {
  const Configuration from = ConfigurationOf({InSync('A'), InSync('B')});
  Member added = InSync('C');
  added.in_sync_through = GenerationOf(1, 5);
  const auto next = AddMember(from, added);
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(next->predecessor, from.members);
  EXPECT_EQ(MemberIn(next, 'C').state, MemberState::kOut);
  EXPECT_EQ(MemberIn(next, 'C').in_sync_through, pool::Generation{});
}

TEST(TransitionsTest, OneCopyMovesWithAWitness) {
  auto next = AddMember(ConfigurationOf({InSync('A')}), Out('B'), Witness('W'));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(MemberIn(next, 'W').witness);
  next = FinishMembership(*next);
  next = StartSync(*next, ReplicaOf('B'), TestId(1, 'B'), "b");
  next = MarkInSync(*next, ReplicaOf('B'));
  next = RemoveMember(*next, ReplicaOf('A'), Witness('W'));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(next->members.size(), 1U);
  EXPECT_EQ(next->predecessor.size(), 3U);
  next = FinishMembership(*next);
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(next->predecessor.empty());
  EXPECT_TRUE(Has(next, 'B'));
}

TEST(TransitionsTest, AThirdCopyReplacesTheWitness) {
  const Configuration from = ConfigurationOf({InSync('A'), InSync('B'), Witness('W')});
  const auto next = AddMember(from, Out('C'), Witness('W'));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(Has(next, 'C'));
  EXPECT_FALSE(Has(next, 'W'));
}

TEST(TransitionsTest, TheWitnessThatTwoCopiesNeedComesWithTheirChange) {
  const Configuration from = ConfigurationOf({InSync('A'), InSync('B'), InSync('C')});
  const auto next = RemoveMember(from, ReplicaOf('C'), Witness('W'));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_FALSE(Has(next, 'C'));
  EXPECT_TRUE(MemberIn(next, 'W').witness);
  EXPECT_EQ(next->predecessor, from.members);
}

TEST(TransitionsTest, OneCopyFewerNeedsNoMoreCopiesThanMayBeLeft) {
  Configuration from = ConfigurationOf({InSync('A'), InSync('B'), InSync('C'), InSync('D')});
  from.min_in_sync = 2;
  auto next = RemoveMember(from, ReplicaOf('D'));
  EXPECT_EQ(next->min_in_sync, 2U) << "of three one may fail";
  next = RemoveMember(*FinishMembership(*next), ReplicaOf('C'), Witness('W'));
  EXPECT_EQ(next->min_in_sync, 1U);
  next = RemoveMember(*FinishMembership(*next), ReplicaOf('B'), Witness('W'));
  EXPECT_EQ(next->min_in_sync, 1U);
}

TEST(TransitionsTest, WhatWasAskedForCountsAgainWhenCopiesHaveComeBack) {
  Configuration from = ConfigurationOf({InSync('A'), InSync('B'), InSync('C')});
  from.min_in_sync = 2;
  auto next = RemoveMember(from, ReplicaOf('C'), Witness('W'));
  EXPECT_EQ(next->min_in_sync, 1U);
  EXPECT_EQ(next->min_in_sync_wanted, 2U);
  next = AddMember(*FinishMembership(*next), Out('D'), Witness('W'));
  EXPECT_EQ(next->min_in_sync, 1U) << "writes do not wait for a copy that is still empty";
  next = StartSync(*FinishMembership(*next), ReplicaOf('D'), TestId(1, 'D'), "D:7100");
  next = MarkInSync(*next, ReplicaOf('D'));
  EXPECT_EQ(next->min_in_sync, 2U);
  EXPECT_EQ(next->min_in_sync_wanted, 0U);
}

TEST(TransitionsTest, WhatWasAskedForDoesNotCountBeforeThereAreInSyncCopiesEnough) {
  Configuration from = ConfigurationOf({InSync('A'), Out('B'), Out('C'), Syncing('D')});
  from.min_in_sync_wanted = 3;
  const auto next = MarkInSync(from, ReplicaOf('D'));
  EXPECT_EQ(next->min_in_sync, 1U);
  EXPECT_EQ(next->min_in_sync_wanted, 3U);
  EXPECT_EQ(SetMinInSync(from, 2)->min_in_sync_wanted, 0U) << "that is asked for now";
}

TEST(TransitionsTest, AWitnessThatGoesLowersNothing) {
  Configuration from = ConfigurationOf({InSync('A'), InSync('B'), Witness('W')});
  from.min_in_sync = 2;  // as somebody wanted
  EXPECT_EQ(RemoveMember(from, ReplicaOf('W'))->min_in_sync, 2U);
}

TEST(TransitionsTest, MinInSyncIsANumberOfCopiesThatThereAre) {
  const Configuration from = ConfigurationOf({InSync('A'), Out('B'), Witness('W')});
  EXPECT_EQ(SetMinInSync(from, 2)->min_in_sync, 2U);
  EXPECT_EQ(SetMinInSync(from, 3).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(SetMinInSync(from, 0).status().code(), StatusCode::kInvalidArgument);
}

TEST(TransitionsTest, AWitnessCanBeAddedAndRemovedAlone) {
  auto next = AddMember(ConfigurationOf({InSync('A'), InSync('B')}), Witness('W'));
  ASSERT_TRUE(next.ok()) << next.status();
  next = RemoveMember(*FinishMembership(*next), ReplicaOf('W'));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_FALSE(Has(next, 'W'));
}

TEST(TransitionsTest, OneDataMemberChangesAtATime) {
  const Configuration from = ConfigurationOf({InSync('A'), InSync('B'), Witness('W')});
  EXPECT_FALSE(AddMember(from, Out('C'), Out('D')).ok());
  EXPECT_FALSE(AddMember(from, Out('C'), InSync('B')).ok());
  EXPECT_FALSE(AddMember(from, Witness('X'), Witness('Y')).ok());
  EXPECT_FALSE(RemoveMember(from, ReplicaOf('A'), Out('B')).ok());
  EXPECT_FALSE(RemoveMember(from, ReplicaOf('W'), Witness('X')).ok());
  EXPECT_EQ(AddMember(from, Out('B')).status().code(), StatusCode::kAlreadyExists);
}

TEST(TransitionsTest, NoChangeOfMembersBeginsWhileOneIsUnderWay) {
  const auto changing = AddMember(ConfigurationOf({InSync('A'), InSync('B')}), Out('C'));
  ASSERT_TRUE(changing.ok()) << changing.status();
  EXPECT_EQ(AddMember(*changing, Out('D')).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(RemoveMember(*changing, ReplicaOf('B')).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_TRUE(MarkOut(*changing, ReplicaOf('B')).ok()) << "degrading cannot wait";
  const auto finished = FinishMembership(*changing);
  EXPECT_TRUE(AddMember(*finished, Out('D')).ok());
  EXPECT_EQ(FinishMembership(*finished).status().code(), StatusCode::kFailedPrecondition);
}

TEST(TransitionsTest, ASnapshotIsCompleteOnlyWhenItIsSaidTo) {
  const Configuration from = ConfigurationOf({InSync('A')});
  auto next = AddSnapshot(from, SnapshotOf('x', false));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_FALSE(next->snapshots[0].complete);
  EXPECT_EQ(AddSnapshot(*next, SnapshotOf('x', true)).status().code(), StatusCode::kAlreadyExists);
  next = CompleteSnapshot(*next, SnapshotOf('x', true).id);
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(next->snapshots[0].complete);
  EXPECT_FALSE(CompleteSnapshot(*next, SnapshotOf('x', true).id).ok());
  next = RemoveSnapshot(*next, SnapshotOf('x', true).id);
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(next->snapshots.empty());
  EXPECT_EQ(RemoveSnapshot(*next, SnapshotOf('x', true).id).status().code(), StatusCode::kNotFound);
}

TEST(TransitionsTest, ASegmentGrowsAndNeverShrinks) {
  const Configuration from = ConfigurationOf({InSync('A')});
  EXPECT_EQ(Grow(from, std::uint64_t{9} << 20)->size_bytes, std::uint64_t{9} << 20);
  EXPECT_FALSE(Grow(from, from.size_bytes).ok());
  EXPECT_FALSE(Grow(from, 4096).ok());
  EXPECT_EQ(Grow(from, from.size_bytes + 1).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace keelson::engine
