// Membership records: the first configuration, later ones with what follows from them (R15), resync
// progress (R12).
#include <gtest/gtest.h>

#include <array>

#include "tests/unit/replica/member_fixture.h"

namespace keelson::replica {
namespace {

class AcceptTest : public MemberFixture {
 protected:
  Configuration With(std::uint64_t counter, std::vector<ConfiguredSnapshot> snapshots) {
    Configuration configuration = MakeConfiguration(counter);
    configuration.snapshots = std::move(snapshots);
    return configuration;
  }
  std::vector<std::string> SnapshotNames() {
    std::vector<std::string> names;
    const std::vector<ReplicaInfo> replicas = store().List();
    for (const SnapshotInfo& snapshot : replicas[0].snapshots) names.push_back(snapshot.name);
    return names;
  }
};

using Names = std::vector<std::string>;

TEST_F(AcceptTest, CreatingAMemberAgainIsOkAndAnotherOneOfTheSameNameIsNot) {
  EXPECT_TRUE(Must(store().CreateMember(NewReplica(id_))).ok());
  ASSERT_EQ(store().List().size(), 1U);
  NewMember other = NewReplica(pool::ReplicaId(world_.MakeId()));
  EXPECT_EQ(Must(store().CreateMember(other)).code(), absl::StatusCode::kAlreadyExists);
  other.segment = 1;
  other.configuration.segment = 1;
  EXPECT_TRUE(Must(store().CreateMember(other)).ok());
  EXPECT_EQ(store().FindByName("v")->id(), id_);
  NewMember changed = NewReplica(id_);
  changed.witness = true;
  EXPECT_EQ(Must(store().CreateMember(changed)).code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(AcceptTest, RefusesAFirstConfigurationThatIsBrokenOrOfAnotherSegment) {
  const auto code = [this](const NewMember& member) {
    return Must(store().CreateMember(member)).code();
  };
  NewMember member = NewReplica(pool::ReplicaId(world_.MakeId()));
  member.name = "w";
  member.segment = 2;
  EXPECT_EQ(code(member), absl::StatusCode::kInvalidArgument);
  member.configuration.segment = 2;
  member.configuration.members.clear();
  EXPECT_EQ(code(member), absl::StatusCode::kInvalidArgument);
  member.configuration = MakeConfiguration(1);
  member.segment = 0;
  member.replica = pool::ReplicaId();
  EXPECT_EQ(code(member), absl::StatusCode::kInvalidArgument);
}

TEST_F(AcceptTest, AMemberIsThereWithItsConfigurationOrNotAtAll) {
  for (std::uint64_t steps = 0; store().List().size() == 1; ++steps) {
    NewMember member = NewReplica(pool::ReplicaId(world_.MakeId()));
    member.segment = 1;
    member.configuration.segment = 1;
    static_cast<void>(Start(store().CreateMember(member)).release());
    world_.RunSteps(steps);
    CutPower();
    ASSERT_LT(steps, 1000U);
    if (store().List().size() == 1) continue;
    EXPECT_EQ(store().List()[1].configuration, member.configuration);
  }
  EXPECT_EQ(Check(), "");
}

TEST_F(AcceptTest, KeepsTheHighestConfigurationDurablyAndIgnoresOthers) {
  ReplicaPort& port = OpenPort();
  const Configuration newer = MakeConfiguration(7);
  ASSERT_TRUE(Accept(port, newer).ok());
  ASSERT_TRUE(Accept(port, With(6, {MakeSnapshot("s", 1)})).ok());
  ASSERT_TRUE(Accept(port, With(7, {MakeSnapshot("s", 1)})).ok());
  CutPower();
  EXPECT_EQ(store().List()[0].configuration, newer);
  EXPECT_EQ(SnapshotNames(), Names());
  Configuration of_another = MakeConfiguration(8);
  of_another.volume = pool::VolumeId(world_.MakeId());
  EXPECT_EQ(Accept(OpenPort(), of_another).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AcceptTest, AConfigurationWithoutSnapshotOrSizeChangeNeedsNoDataFlush) {
  ReplicaPort& port = OpenPort();
  const std::uint64_t before = store().pool().counters().flushes;
  ASSERT_TRUE(Accept(port, MakeConfiguration(2)).ok());
  EXPECT_EQ(store().pool().counters().flushes, before);
}

TEST_F(AcceptTest, StoresAConfigurationThatDoesNotNameIt) {
  Configuration without = MakeConfiguration(2);
  without.members.erase(without.members.begin());
  ASSERT_TRUE(Accept(OpenPort(), without).ok());
  CutPower();
  EXPECT_EQ(store().List()[0].configuration, without);
}

TEST_F(AcceptTest, GrowsWithItsConfigurationAndNeverShrinks) {
  ReplicaPort& port = OpenPort();
  Configuration grown = MakeConfiguration(2);
  grown.size_bytes = 10 * kMiB;
  ASSERT_TRUE(Accept(port, grown).ok());
  EXPECT_TRUE(Write(port, 10 * 256 - 1, 'a', 1).ok());
  ASSERT_TRUE(Accept(port, MakeConfiguration(3)).ok());
  EXPECT_EQ(Read(port, 10 * 256 - 1), "a");
  Reopen();
  EXPECT_EQ(store().List()[0].size_bytes, 10 * kMiB);
}

TEST_F(AcceptTest, NewSnapshotsSealTheHeadInOrderAndAbsentOnesAreDropped) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 0, 'a', 1, 3).ok());
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  const ConfiguredSnapshot two = MakeSnapshot("two", 1);
  const ConfiguredSnapshot three = MakeSnapshot("three", 2);
  ASSERT_TRUE(Accept(port, With(2, {one, two})).ok());
  EXPECT_EQ(SnapshotNames(), (Names{"one", "two"}));
  EXPECT_EQ(Content(port, one.id, 0, 4), "aaa.");
  EXPECT_EQ(Content(port, two.id, 0, 4), "....");
  ASSERT_TRUE(Write(port, 1, 'b', 2).ok());
  ASSERT_TRUE(Trim(port, 2, 2).ok());
  EXPECT_EQ(Content(port, kHead, 0, 4), ".bz.");
  EXPECT_EQ(Read(port, 0, 4), "ab00");
  // One goes, and another comes; what the head had is what it seals. The one that goes is kept
  // until a second configuration without it shows that the first came into force.
  ASSERT_TRUE(Accept(port, With(3, {two, three})).ok());
  EXPECT_EQ(SnapshotNames(), (Names{"two", "three"}));
  ASSERT_TRUE(Accept(port, With(4, {two, three})).ok());
  EXPECT_EQ(Content(port, two.id, 0, 4), "aaa.");  // with what the deleted one left
  EXPECT_EQ(Content(port, three.id, 0, 4), ".bz.");
  FinishCleanup();
  EXPECT_EQ(Content(port, two.id, 0, 4), "aaa.");
  EXPECT_EQ(Content(port, three.id, 0, 4), ".bz.");
  EXPECT_EQ(Content(port, kHead, 0, 4), "....");
  EXPECT_EQ(Read(port, 0, 4), "ab00");
  EXPECT_EQ(Check(), "");
  Reopen();
  ReplicaPort& again = OpenPort();
  EXPECT_EQ(Content(again, three.id, 0, 4), ".bz.");
  EXPECT_EQ(Read(again, 0, 4), "ab00");
  ASSERT_TRUE(Accept(again, With(5, {})).ok());
  ASSERT_TRUE(Accept(again, With(6, {})).ok());
  FinishCleanup();
  EXPECT_EQ(Read(again, 0, 4), "ab00");
  EXPECT_EQ(space().used_bytes, kMiB);
}

// A deletion that never came into force: the snapshot is wanted again, and it is still there.
TEST_F(AcceptTest, KeepsASnapshotThatOnlyOneConfigurationIsWithout) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  const ConfiguredSnapshot one = MakeSnapshot("one", 1);
  const ConfiguredSnapshot two = MakeSnapshot("two", 1);
  ASSERT_TRUE(Accept(port, With(2, {one, two})).ok());
  ASSERT_TRUE(Accept(port, With(3, {two})).ok());
  EXPECT_EQ(SnapshotNames(), (Names{"two"}));
  Configuration next_engine = With(1, {one, two});
  next_engine.version.epoch = EpochOf(2);
  ASSERT_TRUE(Accept(port, next_engine).ok());
  EXPECT_EQ(SnapshotNames(), (Names{"one", "two"}));
  EXPECT_EQ(Content(port, one.id, 0, 1), "a");
}

TEST_F(AcceptTest, RefusesASnapshotThatIsNewButOlderThanOneItHas) {
  ReplicaPort& port = OpenPort();
  const ConfiguredSnapshot late = MakeSnapshot("late", 5);
  ASSERT_TRUE(Accept(port, With(2, {late})).ok());
  EXPECT_EQ(Accept(port, With(3, {MakeSnapshot("early", 4), late})).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store().List()[0].configuration->version.counter, 2U);
}

TEST_F(AcceptTest, ASnapshotAndItsConfigurationSurviveAPowerCutTogetherOrNotAtAll) {
  std::uint64_t counter = 2;
  std::vector<ConfiguredSnapshot> snapshots;
  bool sealed = false, not_sealed = false;
  for (std::uint64_t steps = 0; !sealed || !not_sealed; ++steps) {
    ASSERT_LT(steps, 1000U);
    ReplicaPort& port = OpenPort(counter);
    ASSERT_TRUE(Write(port, 0, 'a', counter).ok());
    ASSERT_TRUE(Must(port.Flush(kNoDeadline)).ok());
    std::vector<ConfiguredSnapshot> more = snapshots;
    more.push_back(MakeSnapshot("s" + std::to_string(counter), counter));
    static_cast<void>(Start(port.Accept(With(counter, more), kNoDeadline)).release());
    world_.RunSteps(steps);
    CutPower();
    const bool accepted = store().List()[0].configuration->version.counter == counter;
    EXPECT_EQ(store().List()[0].snapshots.size(), accepted ? more.size() : snapshots.size());
    (accepted ? sealed : not_sealed) = true;
    if (accepted) {
      EXPECT_EQ(Content(OpenPort(counter), more.back().id, 0, 1), "a");
      snapshots = more;
    }
    EXPECT_EQ(Check(), "");
    ++counter;
  }
}

TEST_F(AcceptTest, AWriteInFlightIsInTheSnapshotAndALaterOneIsNot) {
  ReplicaPort& port = OpenPort();
  std::array<pool::HeaderBlock, 2> data{pool::HeaderBlock(kBlock), pool::HeaderBlock(kBlock)};
  std::fill(data[0].span().begin(), data[0].span().end(), std::byte{'a'});
  std::fill(data[1].span().begin(), data[1].span().end(), std::byte{'b'});
  const ConfiguredSnapshot snapshot = MakeSnapshot("s", 1);
  auto early = Start(port.Write(0, data[0].span(), At(1), kNoDeadline));
  auto accept = Start(port.Accept(With(2, {snapshot}), kNoDeadline));
  auto late = Start(port.Write(kBlock, data[1].span(), At(2), kNoDeadline));
  EXPECT_TRUE(Finish(early.get()).ok());
  EXPECT_TRUE(Finish(accept.get()).ok());
  EXPECT_TRUE(Finish(late.get()).ok());
  EXPECT_EQ(Content(port, snapshot.id, 0, 2), "a.");
  EXPECT_EQ(Content(port, kHead, 0, 2), ".b");
  // Noted in the layer it is in.
  EXPECT_EQ(replica().head()->notes().Get(0), At(2));
  EXPECT_EQ(Check(), "");
}

TEST_F(AcceptTest, ProgressIsDurableWithTheDataBeforeItAndGoneOnceInSync) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Accept(port, MakeConfiguration(2, MemberState::kSyncing)).ok());
  ASSERT_TRUE(BeginCopy(port, kHead, 0, 4).ok());
  ASSERT_TRUE(WriteCopy(port, kHead, 0, "abc").ok());
  disk().faults().survives_cut = 0;
  disk().faults().torn = 0;
  ASSERT_TRUE(Must(port.RecordProgress({1, At(4)}, kNoDeadline)).ok());
  CutPower();
  ReplicaPort& again = Port();
  const ResyncProgress progress{1, At(4)};
  EXPECT_EQ(Must(again.Prepare(EpochOf(1), kNoDeadline))->progress, progress);
  EXPECT_EQ(Read(again, 0, 4), "abc0");
  // Still Syncing: it stays.
  ASSERT_TRUE(Accept(again, MakeConfiguration(3, MemberState::kSyncing)).ok());
  EXPECT_EQ(Must(again.Prepare(EpochOf(1), kNoDeadline))->progress, progress);
  ASSERT_TRUE(Accept(again, MakeConfiguration(4, MemberState::kInSync)).ok());
  EXPECT_EQ(Must(again.Prepare(EpochOf(1), kNoDeadline))->progress, ResyncProgress());
  CutPower();
  EXPECT_EQ(Must(Port().Prepare(EpochOf(1), kNoDeadline))->progress, ResyncProgress());
}

// An operator went on without it (R14).
TEST_F(AcceptTest, AConfigurationThatAnOperatorMadeWithoutItOnlyMarksIt) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  const Configuration own = With(2, {MakeSnapshot("s", 1)});
  ASSERT_TRUE(Accept(port, own).ok());
  Configuration forced = MakeConfiguration(1);
  forced.version = {EpochOf(5), 1};
  forced.members.erase(forced.members.begin());
  forced.size_bytes = 2 * own.size_bytes;
  forced.forced = EpochOf(5);
  ASSERT_TRUE(Accept(port, forced).ok());
  CutPower();
  const Configuration& kept = *replica().configuration();
  EXPECT_TRUE(kept.quarantined());
  EXPECT_EQ(kept.succeeded_by, EpochOf(5));
  EXPECT_EQ(kept.successors, forced.members);
  EXPECT_EQ(kept.version, own.version);
  EXPECT_EQ(kept.members, own.members);
  EXPECT_EQ(replica().size_bytes(), own.size_bytes);
  EXPECT_EQ(SnapshotNames(), Names{"s"});
}

TEST_F(AcceptTest, AQuarantinedReplicaIsLostToTheHistoryOfBeforeAndMayBeGoneOnFrom) {
  ReplicaPort& port = OpenPort();
  Configuration forced = MakeConfiguration(1);
  forced.version = {EpochOf(5), 1};
  forced.members.erase(forced.members.begin());
  forced.forced = EpochOf(5);
  ASSERT_TRUE(Accept(port, forced).ok());
  Configuration before = MakeConfiguration(1);
  before.version = {EpochOf(7), 1};
  EXPECT_TRUE(absl::IsFailedPrecondition(Accept(port, before)));
  before.forced = EpochOf(7);
  ASSERT_TRUE(Accept(port, before).ok());
  EXPECT_FALSE(replica().configuration()->quarantined());
}

TEST_F(AcceptTest, DeletingAMemberLeavesNothingOfIt) {
  ReplicaPort& port = OpenPort(3);
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  ASSERT_TRUE(Accept(port, With(2, {MakeSnapshot("s", 1)})).ok());
  ASSERT_TRUE(Must(port.RecordProgress({1, At(1)}, kNoDeadline)).ok());
  ClosePorts();
  ASSERT_TRUE(Must(store().Delete(id_)).ok());
  FinishCleanup();
  EXPECT_EQ(space().used_bytes, 0U);
  EXPECT_EQ(Check(), "");
  Reopen();
  EXPECT_TRUE(store().List().empty());
  EXPECT_EQ(Check(), "");
}

}  // namespace
}  // namespace keelson::replica
