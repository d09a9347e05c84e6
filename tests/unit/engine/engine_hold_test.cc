// Writes held for snapshots of several volumes at one point in time: when they wait and for how
// long, what is cut under a hold, and what a hold must not stand in the way of.

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "blockstore/replica/extent_reads.h"
#include "tests/unit/engine/engine_fixture.h"

namespace keelson::engine {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

class EngineHoldTest : public EngineFixture {
 protected:
  static pool::Uuid Id(std::uint8_t number) {
    pool::Uuid id;
    id.bytes[15] = number;
    return id;
  }
  void MakeTwoSegments() {
    MakeSegment(0, kSegmentBytes, 2);
    MakeSegment(1, 4 * kMiB, 2);
    AttachAll();
  }
  // A call that is not waited for; empty while it runs.
  struct Pending {
    std::optional<absl::Status> status;
    bool ok() const { return status.has_value() && status->ok(); }
  };
  static io::internal::Detached RunPut(EngineHoldTest* self, std::uint64_t offset, char letter,
                                       Pending* pending) {
    pool::HeaderBlock data(kBlock);
    std::fill(data.span().begin(), data.span().end(), static_cast<std::byte>(letter));
    pending->status = co_await self->engine_->Write(offset, data.span(), false);
  }
  static io::internal::Detached RunHold(Engine* engine, pool::Uuid id, std::int64_t duration_ns,
                                        Pending* pending) {
    pending->status = co_await engine->HoldWrites(id, duration_ns);
  }
  static io::internal::Detached RunCut(Engine* engine, pool::Uuid hold, Pending* pending) {
    absl::StatusOr<pool::SnapshotId> id = co_await engine->Snapshot("s", 0, hold);
    pending->status = id.status();
  }
  absl::Status Hold(std::uint8_t number, std::int64_t duration_ns = 10 * kSecond) {
    return Must(engine_->HoldWrites(Id(number), duration_ns));
  }
  absl::StatusOr<pool::SnapshotId> Cut(const std::string& name, std::uint8_t number) {
    return Must(engine_->Snapshot(name, 0, Id(number)));
  }
  std::size_t SnapshotCount() {
    return engine_->segment(0).Status().configuration.snapshots.size();
  }
  // What the first copy of a segment had at offset 0 of it when the snapshot was cut.
  char InSnapshot(std::size_t segment, pool::SnapshotId id) {
    replica::Replica* replica = pools_[0]->store->Find(hints_[segment].members[0].replica);
    for (const replica::SnapshotState& snapshot : replica->snapshots()) {
      if (snapshot.id != id) continue;
      return replica::FindSource({snapshot.layer}, 0, 0, 1).where == replica::Layer::Where::kPresent
                 ? 'd'
                 : '0';
    }
    ADD_FAILURE() << "segment " << segment << " has no such snapshot";
    return '!';
  }
};

TEST_F(EngineHoldTest, WritesWaitInEverySegmentAndReadsGoOn) {
  MakeTwoSegments();
  ASSERT_TRUE(Put(0, "a").ok());
  ASSERT_TRUE(Hold(1).ok());
  Pending first, second;
  RunPut(this, kBlock, 'b', &first);
  RunPut(this, kSegmentBytes, 'c', &second);
  Pass(2 * kSecond);
  EXPECT_FALSE(first.status.has_value());
  EXPECT_FALSE(second.status.has_value());
  EXPECT_EQ(Get(0, 1), "a");
  EXPECT_TRUE(Must(engine_->Flush()).ok());
  engine_->ReleaseWrites(Id(1));
  Pass(kSecond);
  EXPECT_TRUE(first.ok());
  EXPECT_TRUE(second.ok());
  EXPECT_EQ(Get(0, 2), "ab");
}

TEST_F(EngineHoldTest, TheHoldEndsByItselfAndTheWritesThatWaitedSucceed) {
  MakeTwoSegments();
  ASSERT_TRUE(Hold(1, 3 * kSecond).ok());
  Pending write;
  RunPut(this, 0, 'a', &write);
  Pass(2 * kSecond + kSecond / 2);
  EXPECT_FALSE(write.status.has_value());
  Pass(kSecond);
  EXPECT_TRUE(write.ok());
}

TEST_F(EngineHoldTest, ASnapshotUnderAHoldIsOfTheMomentThatIsHeldInEverySegment) {
  MakeTwoSegments();
  ASSERT_TRUE(Put(0, "a").ok());
  ASSERT_TRUE(Hold(1).ok());
  Pending write;
  RunPut(this, kSegmentBytes, 'b', &write);
  Pass(kSecond);
  const absl::StatusOr<pool::SnapshotId> cut = Cut("s", 1);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_FALSE(write.status.has_value()) << "the hold outlives the cut";
  EXPECT_EQ(*Cut("s", 1), *cut) << "asked again, it is the same one";
  EXPECT_EQ(SnapshotCount(), 1u);
  engine_->ReleaseWrites(Id(1));
  Pass(kSecond);
  EXPECT_TRUE(write.ok());
  EXPECT_EQ(InSnapshot(0, *cut), 'd');
  EXPECT_EQ(InSnapshot(1, *cut), '0');
  EXPECT_TRUE(Must(engine_->DeleteSnapshot(*cut)).ok());
}

TEST_F(EngineHoldTest, NothingIsCutWithoutTheHoldThatWasNamed) {
  MakeTwoSegments();
  EXPECT_TRUE(absl::IsAborted(Cut("s", 1).status())) << "there never was one";
  ASSERT_TRUE(Hold(1, kSecond).ok());
  EXPECT_TRUE(absl::IsAborted(Cut("s", 2).status())) << "it is another one";
  Pass(2 * kSecond);
  EXPECT_TRUE(absl::IsAborted(Cut("s", 1).status())) << "its time is up";
  EXPECT_EQ(SnapshotCount(), 0u);
}

// A call that comes late must not hold a second time: a cut under it would be of another moment.
TEST_F(EngineHoldTest, AnIdIsGoodForOneHold) {
  MakeTwoSegments();
  ASSERT_TRUE(Hold(1, kSecond).ok());
  ASSERT_TRUE(Hold(1, kSecond).ok()) << "while it lasts it is the same one";
  Pass(2 * kSecond);
  EXPECT_TRUE(absl::IsAborted(Hold(1)));
  engine_->ReleaseWrites(Id(2));
  EXPECT_TRUE(absl::IsAborted(Hold(2))) << "released before it came";
  EXPECT_TRUE(Hold(3).ok());
  engine_->ReleaseWrites(Id(1));
  EXPECT_TRUE(Cut("s", 3).ok()) << "the end of another one does not end it";
  engine_->ReleaseWrites(Id(3));
  engine_->ReleaseWrites(Id(3));
  EXPECT_TRUE(Put(0, "a").ok());
}

TEST_F(EngineHoldTest, OneHoldAtATimeAndNoOtherChangeOfSnapshotsBesideIt) {
  MakeTwoSegments();
  const absl::StatusOr<pool::SnapshotId> before = Must(engine_->Snapshot("before", 0));
  ASSERT_TRUE(before.ok());
  ASSERT_TRUE(Hold(1).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Hold(2)));
  EXPECT_TRUE(absl::IsFailedPrecondition(Must(engine_->Snapshot("plain", 0)).status()));
  EXPECT_TRUE(absl::IsUnavailable(Must(engine_->DeleteSnapshot(*before))));
  EXPECT_TRUE(absl::IsUnavailable(Must(engine_->AddSegments({}))));
  EXPECT_TRUE(Cut("s", 1).ok());
  engine_->ReleaseWrites(Id(1));
  EXPECT_TRUE(Must(engine_->DeleteSnapshot(*before)).ok());
}

TEST_F(EngineHoldTest, ACutThatFailsEndsTheHoldAndLeavesNothing) {
  MakeTwoSegments();
  ASSERT_TRUE(Must(engine_->Snapshot("s", 0)).ok());
  ASSERT_TRUE(Hold(1).ok());
  Pending write;
  RunPut(this, 0, 'a', &write);
  EXPECT_TRUE(absl::IsAlreadyExists(Cut("s", 1).status()));
  EXPECT_EQ(SnapshotCount(), 1u);
  Pass(kSecond);
  EXPECT_TRUE(write.ok());
  EXPECT_TRUE(absl::IsAborted(Cut("t", 1).status()));
}

TEST_F(EngineHoldTest, DetachDoesNotWaitForTheHold) {
  MakeTwoSegments();
  ASSERT_TRUE(Hold(1).ok());
  Pending write;
  RunPut(this, 0, 'a', &write);
  Pass(kSecond / 10);
  engine_->LetGo();
  Pass(kSecond / 10);
  EXPECT_TRUE(write.ok()) << "clients can be waited for";
  ASSERT_TRUE(Hold(2).ok());
  const std::int64_t before_ns = world_.now_ns();
  EXPECT_TRUE(Must(engine_->Detach()).ok());
  EXPECT_LT(world_.now_ns() - before_ns, kSecond);
  engine_.reset();
}

TEST_F(EngineHoldTest, DetachDoesNotWaitForRequestsThatExceedTheLimits) {
  MakeTwoSegments();
  engine_->SetQos({.iops = 10});
  std::vector<Pending> writes(100);
  for (Pending& write : writes) RunPut(this, 0, 'a', &write);
  Pass(kSecond);
  const auto done = [&writes] {
    return std::count_if(writes.begin(), writes.end(), [](const Pending& w) { return w.ok(); });
  };
  EXPECT_NEAR(static_cast<double>(done()), 11, 1);
  EXPECT_GT(engine_->limiter().counters().delayed_requests, 80u);
  engine_->LetGo();
  Pass(kSecond);
  EXPECT_EQ(done(), 100);
}

// A copy that comes back needs the ranges that the hold has: neither waits for the other for ever.
TEST_F(EngineHoldTest, AMemberThatIsLostDuringAHoldIsMissedByNobody) {
  MakeTwoSegments();
  ASSERT_TRUE(Put(0, "a").ok());
  ASSERT_TRUE(Must(engine_->SetMinInSync(2)).ok());
  ASSERT_TRUE(Hold(1, 8 * kSecond).ok());
  Pending write;
  RunPut(this, 0, 'b', &write);
  SegmentFixture::Cut(1);
  // Two copies and no witness: without a majority the snapshot waits, and the hold with it.
  Pass(2 * kSecond);
  Heal(1);
  Pass(2 * kSecond);
  const absl::StatusOr<pool::SnapshotId> cut = Cut("s", 1);
  EXPECT_TRUE(cut.ok()) << cut.status();
  Pass(20 * kSecond);
  EXPECT_TRUE(write.ok());
  EXPECT_TRUE(engine_->health().ok()) << engine_->health();
  for (const MemberStatus& member : engine_->segment(0).Status().members) {
    EXPECT_EQ(member.member.state, replica::MemberState::kInSync);
  }
}

TEST_F(EngineHoldTest, AHoldThatCannotBeginInTimeFailsAndHoldsNothing) {
  MakeTwoSegments();
  ASSERT_TRUE(Must(engine_->SetMinInSync(2)).ok());
  SegmentFixture::Cut(1);
  Pass(3 * kSecond);
  Pending hold;
  RunHold(engine_.get(), Id(1), 4 * kSecond, &hold);
  Pass(10 * kSecond);
  ASSERT_TRUE(hold.status.has_value());
  EXPECT_FALSE(hold.status->ok());
  EXPECT_TRUE(absl::IsAborted(Cut("s", 1).status()));
  Heal(1);
  Pass(10 * kSecond);
  EXPECT_TRUE(Put(0, "a").ok());
  EXPECT_TRUE(engine_->health().ok()) << engine_->health();
}

// The first segment's seal waits for a majority; the second one is not sealed yet.
TEST_F(EngineHoldTest, ALimitThatPassesWhileASnapshotIsSealedWaitsForIt) {
  MakeTwoSegments();
  ASSERT_TRUE(Hold(1, 2 * kSecond).ok());
  Pending cut, write;
  SegmentFixture::Cut(1);
  RunCut(engine_.get(), Id(1), &cut);
  RunPut(this, kSegmentBytes, 'a', &write);
  Pass(5 * kSecond);
  EXPECT_FALSE(cut.status.has_value());
  Heal(1);
  Pass(10 * kSecond);
  ASSERT_TRUE(cut.ok());
  EXPECT_TRUE(write.ok());
  const auto snapshots = engine_->segment(0).Status().configuration.snapshots;
  ASSERT_EQ(snapshots.size(), 1u);
  EXPECT_EQ(InSnapshot(1, snapshots[0].id), '0') << "the write came after the hold began";
  EXPECT_TRUE(absl::IsAborted(Cut("t", 1).status())) << "it is over by now";
}

// The segments are held one after the other: those that are must not be kept because one hangs.
TEST_F(EngineHoldTest, AReleaseEndsAHoldThatIsStillBeginning) {
  MakeTwoSegments();
  Pending hold, write;
  SegmentFixture::Cut(1);
  RunHold(engine_.get(), Id(1), 10 * kSecond, &hold);
  Pass(kSecond / 10);
  EXPECT_FALSE(hold.status.has_value());
  engine_->ReleaseWrites(Id(1));
  Heal(1);
  Pass(3 * kSecond);
  ASSERT_TRUE(hold.status.has_value());
  EXPECT_TRUE(absl::IsAborted(*hold.status)) << *hold.status;
  RunPut(this, 0, 'a', &write);
  Pass(3 * kSecond);
  EXPECT_TRUE(write.ok());
}

TEST_F(EngineHoldTest, ARequestThatIsStuckDoesNotMakeTheHoldLonger) {
  MakeTwoSegments();
  Pending stuck, hold, behind;
  SegmentFixture::Cut(1);
  RunPut(this, 0, 'a', &stuck);  // waits for a majority
  Pass(kSecond / 10);
  RunHold(engine_.get(), Id(1), 2 * kSecond, &hold);
  RunPut(this, kSegmentBytes, 'b', &behind);
  Pass(3 * kSecond);
  ASSERT_TRUE(hold.status.has_value());
  EXPECT_FALSE(hold.status->ok());
  Heal(1);
  Pass(10 * kSecond);
  EXPECT_TRUE(stuck.ok());
  EXPECT_TRUE(behind.ok());
}

}  // namespace
}  // namespace keelson::engine
