// The segment's engine over real replicas on simulated disks. All of them are in one process, and
// the engine calls them directly; a switch in between cuts a member off.

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/engine/segment_engine.h"
#include "tests/unit/engine/segment_fixture.h"

namespace keelson::engine {
namespace {

using replica::MemberState;

class SegmentTest : public SegmentFixture {
 protected:
  static io::internal::Detached BeginAttach(SegmentTest* self, bool* ended) {
    const pool::Epoch epoch{++self->attachment_, 0, pool::EngineId(self->world_.MakeId())};
    SegmentHint hint{self->first_.volume, 0, self->members_, {}};
    auto attached = co_await SegmentEngine::Attach(self->process_, self, std::move(hint), epoch,
                                                   self->options_);
    EXPECT_TRUE(attached.ok()) << attached.status();
    if (attached.ok()) self->segment_ = *std::move(attached);
    *ended = true;
  }
  static io::internal::Detached BeginAdd(SegmentTest* self, replica::Member member,
                                         replica::Member witness,
                                         std::optional<absl::Status>* added) {
    *added = co_await self->segment_->AddMember(std::move(member), &witness);
  }
  static io::internal::Detached BeginHold(SegmentTest* self, std::optional<absl::Status>* held) {
    *held = co_await self->segment_->HoldWrites(self->InHalfAMinute());
  }
};

TEST_F(SegmentTest, ReadsBackWhatItWroteFromEveryCopy) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  ASSERT_TRUE(Must(segment_->Flush()).ok());
  EXPECT_EQ(Read(5), 'a');
  EXPECT_EQ(Read(6), '0');
  Close();
  for (std::size_t member = 0; member < 3; ++member) EXPECT_EQ(ReadAt(member, 5), 'a') << member;
}

TEST_F(SegmentTest, MarksAMemberOutBeforeItAcknowledgesWhatTheMemberMissed) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  Cut(2);
  ASSERT_TRUE(Write(5, 'b').ok());
  EXPECT_EQ(State(2), MemberState::kOut);
  EXPECT_EQ(Read(5), 'b');
}

TEST_F(SegmentTest, WaitsWithoutAMajorityAndGoesOnWhenItIsBack) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  Cut(1);
  Cut(2);
  std::optional<absl::Status> written = Begin(5, 'b');
  Pass(5'000'000'000);
  EXPECT_FALSE(done_) << "acknowledged without a majority";
  Heal(1);
  Pass(5'000'000'000);
  ASSERT_TRUE(done_);
  EXPECT_TRUE(done_status_.ok()) << done_status_;
  EXPECT_EQ(Read(5), 'b');
}

TEST_F(SegmentTest, AMemberWhoseDiskFailsStillVotesForItsOwnDegrade) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  Cut(2);
  ASSERT_TRUE(Write(5, 'b').ok());
  pools_[1]->disk->faults().write_error = 1;
  ASSERT_TRUE(Write(5, 'c').ok());
  EXPECT_EQ(State(1), MemberState::kOut);
  EXPECT_EQ(Read(5), 'c');
}

TEST_F(SegmentTest, EndsTheAttachmentWhenTheBacklogLimitHasPassed) {
  Make(3);
  options_.backlog_limit_ns = 3'000'000'000;
  Attach();
  Cut(1);
  Cut(2);
  Begin(5, 'b');
  Pass(10'000'000'000);
  ASSERT_TRUE(done_);
  EXPECT_TRUE(absl::IsUnavailable(done_status_)) << done_status_;
  EXPECT_FALSE(segment_->health().ok());
}

TEST_F(SegmentTest, CopiesWhatAReturningMemberMissedAndOnlyThat) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  ASSERT_TRUE(Must(segment_->RollGeneration()).ok());
  Cut(2);
  ASSERT_TRUE(Write(2000, 'b').ok());
  ASSERT_TRUE(Must(segment_->Trim(5 * kBlock, kBlock)).ok());
  Heal(2);
  Pass(20'000'000'000);
  EXPECT_EQ(State(2), MemberState::kInSync);
  EXPECT_LE(segment_->counters().resync_copied_bytes, 2 * kBlock);
  ASSERT_TRUE(Write(5, 'c').ok());
  Close();
  for (std::size_t member = 0; member < 3; ++member) {
    EXPECT_EQ(ReadAt(member, 2000), 'b') << member;
    EXPECT_EQ(ReadAt(member, 5), 'c') << member;
  }
}

TEST_F(SegmentTest, AResyncNeedsNoneOfTheBuffersThatItsClientsMayHoldWhileTheyWaitForIt) {
  Make(3);
  Attach();
  Cut(2);
  ASSERT_TRUE(Write(5, 'a').ok());
  std::vector<io::Buffer> all;
  for (io::Buffer one = process_->buffers().TryTake(kMiB); one;
       one = process_->buffers().TryTake(kMiB)) {
    all.push_back(std::move(one));
  }
  ASSERT_FALSE(all.empty());
  Heal(2);
  Pass(10'000'000'000);
  EXPECT_EQ(State(2), MemberState::kInSync);
}

TEST_F(SegmentTest, AMemberWithoutSpaceIsTriedNowAndThenAndSaysWhy) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  Cut(2);
  ASSERT_TRUE(Write(2000, 'b').ok());
  pools_[2]->disk->faults().backing_blocks_max = 0;
  const std::uint64_t before = segment_->Status().configuration.version.counter;
  Heal(2);
  Pass(60'000'000'000);
  const SegmentStatus status = segment_->Status();
  EXPECT_NE(State(2), MemberState::kInSync);
  EXPECT_LT(status.configuration.version.counter - before, 60u) << "it is tried without a pause";
  EXPECT_NE(status.members[2].problem.find("space"), std::string::npos)
      << status.members[2].problem;
  pools_[2]->disk->faults().backing_blocks_max = UINT64_MAX;
  Pass(10'000'000'000);
  EXPECT_EQ(State(2), MemberState::kInSync);
  EXPECT_EQ(segment_->Status().members[2].problem, "");
}

// Two of three machines restarted: the one that is back is to be marked out, and its own vote makes
// the majority for that.
TEST_F(SegmentTest, AMemberThatRestartedStillVotesForItsOwnDegrade) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  Cut(1);
  Cut(2);
  Begin(5, 'b');
  Pass(3'000'000'000);
  EXPECT_FALSE(done_) << "acknowledged without a majority";
  Restart(1);
  Heal(1);
  Pass(5'000'000'000);
  ASSERT_TRUE(done_);
  EXPECT_TRUE(done_status_.ok()) << done_status_;
  EXPECT_EQ(State(2), MemberState::kOut);
  Pass(10'000'000'000);
  EXPECT_EQ(State(1), MemberState::kInSync) << "it has caught up by now";
  Close();
  EXPECT_EQ(ReadAt(1, 5), 'b');
}

TEST_F(SegmentTest, AMemberWhoseDiskFailedAndWhoseSessionEndedComesBackToVote) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  Cut(2);
  pools_[1]->disk->faults().write_error = 1;
  Begin(5, 'b');
  while (pools_[1]->disk->in_flight_count() == 0) Pass(1'000);
  Cut(1);
  Pass(3'000'000'000);
  EXPECT_FALSE(done_) << "acknowledged without a majority";
  // Another session of the epoch ends the engine's.
  std::unique_ptr<replica::ReplicaPort> other = pools_[1]->store->MakePort(members_[1].replica);
  const pool::Epoch epoch = segment_->Status().configuration.version.epoch;
  ASSERT_TRUE(Must(other->Prepare(epoch, io::kNoDeadline)).ok());
  Heal(1);
  Pass(5'000'000'000);
  ASSERT_TRUE(done_);
  EXPECT_TRUE(done_status_.ok()) << done_status_;
  EXPECT_NE(State(1), MemberState::kInSync);
  ASSERT_TRUE(world_.RunTask(other->Close()));
}

// Its promise counts, but the first configuration needs its vote too.
TEST_F(SegmentTest, AnAttachGoesOnWhenAMemberIsBackThatWasLostAfterItHadAnswered) {
  Make(3);
  Cut(2);
  options_.backlog_limit_ns = 0;
  bool ended = false;
  BeginAttach(this, &ended);
  Pass(options_.grace_ns / 2);
  Cut(1);
  Pass(options_.member_wait_ns + options_.grace_ns);
  EXPECT_FALSE(ended);
  Heal(1);
  Pass(5'000'000'000);
  ASSERT_TRUE(ended);
  ASSERT_NE(segment_, nullptr);
  EXPECT_TRUE(Write(5, 'a').ok());
}

// It waited for the third copy's answer for ever, and with it every write of its range.
TEST_F(SegmentTest, AWriteThatHasRoomNowhereEndsWhenTheMemberThatMightHaveItIsOut) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  for (const std::size_t full : {0, 1}) pools_[full]->disk->faults().backing_blocks_max = 0;
  Cut(2);
  Begin(2000, 'b');
  Pass(5'000'000'000);
  ASSERT_TRUE(done_);
  EXPECT_TRUE(absl::IsResourceExhausted(done_status_)) << done_status_;
  EXPECT_EQ(State(2), MemberState::kOut);
  for (const std::size_t full : {0, 1}) {
    pools_[full]->disk->faults().backing_blocks_max = UINT64_MAX;
  }
  ASSERT_TRUE(Write(2000, 'c').ok());
  EXPECT_EQ(Read(2000), 'c');
}

TEST_F(SegmentTest, ANewAttachmentFencesTheOldOne) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  std::unique_ptr<SegmentEngine> old = std::move(segment_);
  Attach();
  EXPECT_EQ(Read(5), 'a');
  EXPECT_TRUE(absl::IsAborted(WriteTo(*old, 5, 'x')));
  EXPECT_EQ(Read(5), 'a');
  (void)Must(old->Close());
}

TEST_F(SegmentTest, AttachesWithoutAMemberAndRefusesWithoutAMajority) {
  Make(3);
  Cut(0);
  Attach();
  EXPECT_EQ(State(0), MemberState::kOut);
  ASSERT_TRUE(Write(5, 'a').ok());
  Close();
  Cut(1);
  const absl::Status refused = TryAttach();
  EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
}

TEST_F(SegmentTest, NeverServesFromAMemberThatMissedSomething) {
  // [A,B,C] -> [A] -> [] -> [B,C]: a majority without the one that has the last writes.
  Make(3);
  Attach();
  Cut(1);
  ASSERT_TRUE(Write(5, 'a').ok());
  Cut(2);
  ASSERT_TRUE(!Begin(5, 'b').has_value());
  Pass(3'000'000'000);
  Cut(0);
  Heal(1);
  Heal(2);
  std::unique_ptr<SegmentEngine> old = std::move(segment_);
  const absl::Status attached = TryAttach();
  if (attached.ok()) {
    EXPECT_EQ(Read(5), 'a');
    EXPECT_NE(State(1), MemberState::kInSync);
  }
  (void)Must(old->Close());
}

TEST_F(SegmentTest, MakesCopiesEqualAfterAnEngineDiedInMidWrite) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  // A write that reached one member only.
  ASSERT_TRUE(WriteAt(1, 5, 'x').ok());
  Abandon();
  Attach();
  const char found = Read(5);
  EXPECT_TRUE(found == 'a' || found == 'x') << found;
  Pass(5'000'000'000);
  EXPECT_EQ(Read(5), found);
  Close();
  for (std::size_t member = 0; member < 3; ++member) EXPECT_EQ(ReadAt(member, 5), found) << member;
}

TEST_F(SegmentTest, ADetachRightAfterACrashReconcilesFirstAndIsClean) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  ASSERT_TRUE(WriteAt(1, 5, 'x').ok());
  Abandon();
  Attach();
  EXPECT_EQ(segment_->Status().regions_to_reconcile, 1u);
  const absl::Status closed = Must(segment_->Close());
  EXPECT_TRUE(closed.ok()) << closed;
  segment_.reset();
  Attach();
  EXPECT_EQ(segment_->Status().regions_to_reconcile, 0u);
}

TEST_F(SegmentTest, ADetachIsCleanThoughTwoMembersComeBackOnlyWhileItRuns) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  Cut(1);
  Cut(2);
  BeginClose();
  Pass(options_.reconnect_interval_ns);
  EXPECT_FALSE(done_) << "no majority could say that its last generation is clean";
  Heal(1);
  Heal(2);
  Pass(2 * options_.reconnect_interval_ns);
  ASSERT_TRUE(done_);
  EXPECT_TRUE(done_status_.ok()) << done_status_;
}

TEST_F(SegmentTest, SealsASnapshotOnEveryMember) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  ASSERT_TRUE(Must(segment_->HoldWrites(InHalfAMinute())).ok());
  replica::ConfiguredSnapshot snapshot;
  snapshot.id = pool::SnapshotId(world_.MakeId());
  snapshot.name = "s";
  ASSERT_TRUE(Must(segment_->Seal(snapshot)).ok());
  segment_->ReleaseWrites();
  ASSERT_TRUE(Must(segment_->CompleteSnapshot(snapshot.id)).ok());
  ASSERT_TRUE(Write(5, 'b').ok());
  EXPECT_EQ(segment_->Status().configuration.snapshots.size(), 1u);
  for (auto& pool : pools_) EXPECT_EQ(pool->store->List()[0].snapshots.size(), 1u);
  ASSERT_TRUE(Must(segment_->DeleteSnapshot(snapshot.id)).ok());
  EXPECT_EQ(Read(5), 'b');
}

// The resync that brings the copy back needs every range, and the snapshot held them all.
TEST_F(SegmentTest, ASnapshotThatLosesACopyLetsItComeBackAndGoesOn) {
  Make(3);
  Attach();
  ASSERT_TRUE(Must(segment_->SetMinInSync(3)).ok());
  ASSERT_TRUE(Write(5, 'a').ok());
  Cut(1);
  std::optional<absl::Status> held;
  BeginHold(this, &held);
  Pass(20'000'000'000);
  EXPECT_FALSE(held.has_value()) << *held;
  EXPECT_EQ(State(1), MemberState::kOut);
  Heal(1);
  Pass(10'000'000'000);
  ASSERT_TRUE(held.has_value());
  EXPECT_TRUE(held->ok()) << *held;
  EXPECT_EQ(State(1), MemberState::kInSync);
  segment_->ReleaseWrites();
  EXPECT_TRUE(Write(5, 'b').ok());
}

TEST_F(SegmentTest, ASnapshotWithoutEnoughCopiesFailsAndTheAttachmentDoesNot) {
  Make(3);
  Attach();
  ASSERT_TRUE(Must(segment_->SetMinInSync(3)).ok());
  Cut(1);
  std::optional<absl::Status> held;
  BeginHold(this, &held);
  Pass(60'000'000'000);
  ASSERT_TRUE(held.has_value());
  EXPECT_TRUE(absl::IsUnavailable(*held)) << *held;
  EXPECT_TRUE(segment_->health().ok()) << segment_->health();
  Begin(5, 'b');
  Heal(1);
  Pass(10'000'000'000);
  EXPECT_TRUE(done_ && done_status_.ok()) << done_status_;
}

TEST_F(SegmentTest, AClonesMembersAreEqualFromTheBeginningAndShareTheirSpace) {
  Make(3);
  Attach();
  for (std::uint64_t block = 0; block < 8 * 256; block += 256) {
    ASSERT_TRUE(Write(block, 'a').ok());
  }
  ASSERT_TRUE(Must(segment_->HoldWrites(InHalfAMinute())).ok());
  replica::ConfiguredSnapshot snapshot;
  snapshot.id = pool::SnapshotId(world_.MakeId());
  snapshot.name = "s";
  snapshot.complete = true;
  ASSERT_TRUE(Must(segment_->Seal(snapshot)).ok());
  segment_->ReleaseWrites();
  ASSERT_TRUE(Write(0, 'b').ok());
  Close();
  const std::vector<replica::Member> sources = members_;
  first_.volume = pool::VolumeId(world_.MakeId());
  first_.version = {{}, 1};
  for (replica::Member& member : members_) member.replica = pool::ReplicaId(world_.MakeId());
  first_.members = members_;
  for (std::size_t i = 0; i < 3; ++i) {
    replica::NewMember made;
    made.volume = first_.volume;
    made.replica = members_[i].replica;
    made.name = "clone";
    made.size_bytes = kSizeBytes;
    made.configuration = first_;
    made.clone_of = sources[i].replica;
    made.clone_snapshot = snapshot.id;
    ASSERT_TRUE(Must(pools_[i]->store->CreateMember(made)).ok());
  }
  const std::uint64_t used_bytes = pools_[2]->store->pool().space().used_bytes;
  ++attachment_;  // the source's are promised by the clone's members, too
  Attach();
  EXPECT_EQ(segment_->Status().regions_to_reconcile, 0u);
  EXPECT_EQ(Read(0), 'a');
  Cut(2);
  ASSERT_TRUE(Write(256, 'c').ok());
  Heal(2);
  Pass(10'000'000'000);
  EXPECT_EQ(State(2), MemberState::kInSync);
  Close();
  EXPECT_EQ(ReadAt(2, 256), 'c');
  EXPECT_EQ(ReadAt(2, 512), 'a');
  EXPECT_LE(pools_[2]->store->pool().space().used_bytes, used_bytes + 4 * kMiB)
      << "only the region that it missed was copied";
}

TEST_F(SegmentTest, AddsAReplicaAndRemovesOne) {
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  const replica::Member fresh = AddPool();
  ASSERT_TRUE(Must(segment_->AddMember(fresh, nullptr)).ok());
  Pass(10'000'000'000);
  EXPECT_EQ(State(3), MemberState::kInSync);
  ASSERT_TRUE(Must(segment_->RemoveMember(members_[0].replica, nullptr)).ok());
  ASSERT_TRUE(Write(6, 'b').ok());
  EXPECT_EQ(Read(5), 'a');
  Close();
  EXPECT_EQ(ReadAt(3, 5), 'a');
  EXPECT_EQ(ReadAt(3, 6), 'b');
  EXPECT_EQ(ReadAt(0, 6), '0');
}

TEST_F(SegmentTest, NewMembersWhoseSessionsEndedComeBackToVoteForThemselves) {
  options_.backlog_limit_ns = 0;
  Make(1);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  const replica::Member fresh = AddPool();
  members_.push_back(NewMember());
  members_.back().witness = true;
  CreateAt(2);
  std::optional<absl::Status> added;
  BeginAdd(this, fresh, members_.back(), &added);
  const pool::Epoch epoch = segment_->Status().configuration.version.epoch;
  while (pools_[2]->store->List()[0].promised != epoch) Pass(1'000);
  Cut(1);
  Cut(2);
  Pass(3'000'000'000);
  EXPECT_FALSE(added.has_value()) << *added;
  Heal(1);
  Heal(2);
  Pass(10'000'000'000);
  ASSERT_TRUE(added.has_value());
  EXPECT_TRUE(added->ok()) << *added;
  EXPECT_EQ(State(1), MemberState::kInSync);
}

TEST_F(SegmentTest, AWitnessTakesThePlaceOfACopyAndWritesDoNotWaitForMoreThanAreLeft) {
  first_.min_in_sync = 2;
  Make(3);
  Attach();
  ASSERT_TRUE(Write(5, 'a').ok());
  members_.push_back(NewMember());
  members_.back().witness = true;
  CreateAt(3);
  const replica::Member witness = members_.back();
  ASSERT_TRUE(Must(segment_->RemoveMember(members_[2].replica, &witness)).ok());
  EXPECT_EQ(segment_->Status().configuration.min_in_sync, 1u);
  Cut(1);
  ASSERT_TRUE(Write(5, 'b').ok()) << "the witness makes the majority";
  EXPECT_EQ(State(1), MemberState::kOut);
  EXPECT_EQ(Read(5), 'b');
  // And back: it can be deleted then.
  const replica::Member third = AddPool();
  ASSERT_TRUE(Must(segment_->AddMember(third, &witness)).ok());
  const absl::Status deleted = Must(pools_[3]->store->Delete(witness.replica));
  EXPECT_TRUE(deleted.ok()) << deleted;
}

TEST_F(SegmentTest, MinInSyncTakesEffectAtOnce) {
  Make(2);
  Attach();
  ASSERT_TRUE(Must(segment_->SetMinInSync(2)).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Must(segment_->SetMinInSync(3))));
  // With a majority, so that only the copies are missing.
  members_.push_back(NewMember());
  members_.back().witness = true;
  CreateAt(2);
  ASSERT_TRUE(Must(segment_->AddMember(members_.back(), nullptr)).ok());
  Cut(1);
  Begin(5, 'a');
  Pass(5'000'000'000);
  EXPECT_FALSE(done_) << "acknowledged with one copy";
  ASSERT_TRUE(Must(segment_->SetMinInSync(1)).ok());
  Pass(1'000'000'000);
  ASSERT_TRUE(done_);
  EXPECT_TRUE(done_status_.ok()) << done_status_;
}

TEST_F(SegmentTest, NeverRemovesTheLastCopy) {
  Make(1);
  Attach();
  EXPECT_TRUE(
      absl::IsFailedPrecondition(Must(segment_->RemoveMember(members_[0].replica, nullptr))));
}

}  // namespace
}  // namespace keelson::engine
