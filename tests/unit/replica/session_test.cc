// The session of a member: who may use it, and what it answers (R1, R2, R3).
#include "blockstore/replica/session.h"

#include <gtest/gtest.h>

#include "tests/unit/replica/member_fixture.h"

namespace keelson::replica {
namespace {

class SessionTest : public MemberFixture {
 protected:
  absl::StatusOr<PrepareAnswer> Prepare(ReplicaPort& port, pool::Epoch epoch) {
    return Must(port.Prepare(epoch, kNoDeadline));
  }
  absl::StatusCode Code(ReplicaPort& port, std::uint64_t attachment) {
    return Prepare(port, EpochOf(attachment)).status().code();
  }
};

constexpr auto kOk = absl::StatusCode::kOk;
constexpr auto kAborted = absl::StatusCode::kAborted;
constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

TEST_F(SessionTest, PrepareAnswersWhatTheMemberIs) {
  const auto answer = Prepare(Port(), EpochOf(5));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->pool, store().pool().id());
  EXPECT_EQ(answer->replica, id_);
  EXPECT_EQ(answer->incarnation, store().pool().incarnation());
  EXPECT_EQ(answer->configuration, MakeConfiguration(1));
  EXPECT_EQ(answer->progress, ResyncProgress());
  EXPECT_FALSE(answer->ended_session);
}

TEST_F(SessionTest, APromiseSurvivesAPowerCutAndALowerEpochIsRefusedForEver) {
  ASSERT_EQ(Code(Port(), 5), kOk);
  CutPower();
  EXPECT_EQ(store().List()[0].promised, EpochOf(5));
  const auto refused = Prepare(Port(), EpochOf(4));
  EXPECT_EQ(refused.status().code(), kAborted);
  EXPECT_NE(refused.status().message().find("promised epoch 5.0"), std::string::npos)
      << refused.status();
  EXPECT_EQ(Code(Port(), 5), kOk);
  ClosePorts();
  EXPECT_EQ(Code(Port(), 4), kAborted);
}

TEST_F(SessionTest, TheAnswerDoesNotComeBeforeThePromiseIsDurable) {
  for (std::uint64_t steps = 0;; ++steps) {
    const std::uint64_t attachment = 10 + steps;
    auto prepared = Start(Port().Prepare(EpochOf(attachment), kNoDeadline));
    world_.RunSteps(steps);
    const bool answered = prepared->result.has_value();
    static_cast<void>(prepared.release());
    CutPower();
    if (!answered) continue;
    EXPECT_EQ(store().List()[0].promised, EpochOf(attachment)) << steps;
    break;
  }
}

TEST_F(SessionTest, AHigherEpochFencesTheSessionBefore) {
  ReplicaPort& old = OpenPort(1);
  ReplicaPort& next = OpenPort(2);
  EXPECT_FALSE(old.open());
  EXPECT_TRUE(next.open());
  EXPECT_EQ(Write(old, 0, 'a', 1).code(), kAborted);
  EXPECT_EQ(Must(old.Heartbeat(kNoDeadline)).code(), kAborted);
  EXPECT_EQ(Read(old, 0), "!");
  EXPECT_TRUE(Write(next, 0, 'b', 2).ok());
  EXPECT_EQ(Read(next, 0), "b");
}

TEST_F(SessionTest, TheSameEpochIsAnsweredAgainAndEndsTheEarlierSessionWhoeverHasIt) {
  ReplicaPort& first = OpenPort(3);
  ReplicaPort& second = OpenPort(3);
  EXPECT_FALSE(first.open());
  EXPECT_EQ(Write(first, 0, 'a', 1).code(), kUnavailable);
  EXPECT_TRUE(Write(second, 0, 'b', 1).ok());
  ASSERT_EQ(Code(second, 3), kOk);  // its own, too
  EXPECT_TRUE(Write(second, 0, 'c', 1).ok());
}

TEST_F(SessionTest, PrepareWaitsUntilAllIoOfTheEarlierSessionHasEnded) {
  ReplicaPort& old = OpenPort(1);
  ASSERT_TRUE(Write(old, 0, 'a', 1).ok());
  disk().faults().stall = 1;
  pool::HeaderBlock data(kBlock);
  std::fill(data.span().begin(), data.span().end(), std::byte{'b'});
  auto write = Start(old.Write(0, data.span(), At(1), kNoDeadline));
  while (disk().in_flight_count() == 0) world_.RunSteps(1);
  auto prepared = Start(Port().Prepare(EpochOf(2), kNoDeadline));
  while (!prepared->result.has_value()) {
    ASSERT_TRUE(world_.Step());
    if (prepared->result.has_value()) break;
  }
  EXPECT_EQ(disk().in_flight_count(), 0U);
  disk().faults().stall = 0;
  ASSERT_TRUE(prepared->result->ok());
  // It ended before, and says nothing more than that.
  ASSERT_TRUE(write->result.has_value());
  EXPECT_EQ(write->result->code(), kAborted);
  EXPECT_EQ(Read(*ports_.back(), 0), "b");
}

TEST_F(SessionTest, OfTwoRacingPreparesTheHigherWinsInEitherOrder) {
  ReplicaPort& low = Port();
  ReplicaPort& high = Port();
  auto low_answer = Start(low.Prepare(EpochOf(5), kNoDeadline));
  auto high_answer = Start(high.Prepare(EpochOf(7), kNoDeadline));
  EXPECT_TRUE(Finish(high_answer.get()).ok());
  Finish(low_answer.get()).IgnoreError();
  EXPECT_TRUE(high.open());
  EXPECT_FALSE(low.open());
  EXPECT_EQ(Write(low, 0, 'a', 1).code(), kAborted);

  ReplicaPort& higher = Port();
  high_answer = Start(higher.Prepare(EpochOf(9), kNoDeadline));
  low_answer = Start(low.Prepare(EpochOf(8), kNoDeadline));
  EXPECT_TRUE(Finish(high_answer.get()).ok());
  EXPECT_EQ(Finish(low_answer.get()).status().code(), kAborted);
  EXPECT_TRUE(higher.open());
}

TEST_F(SessionTest, OfTwoRacingPreparesOfOneEpochTheLastWins) {
  ReplicaPort& first = Port();
  ReplicaPort& last = Port();
  auto first_answer = Start(first.Prepare(EpochOf(5), kNoDeadline));
  auto last_answer = Start(last.Prepare(EpochOf(5), kNoDeadline));
  EXPECT_TRUE(Finish(first_answer.get()).ok());
  EXPECT_TRUE(Finish(last_answer.get()).ok());
  EXPECT_FALSE(first.open());
  EXPECT_TRUE(last.open());
}

TEST_F(SessionTest, NothingIsServedBeforePrepareOrAfterClose) {
  ReplicaPort& port = Port();
  EXPECT_EQ(Write(port, 0, 'a', 1).code(), kUnavailable);
  ASSERT_EQ(Code(port, 1), kOk);
  ASSERT_TRUE(world_.RunTask(port.Close()));
  EXPECT_FALSE(port.open());
  EXPECT_EQ(Write(port, 0, 'a', 1).code(), kUnavailable);
  ASSERT_EQ(Code(port, 1), kOk);
  EXPECT_TRUE(Write(port, 0, 'a', 1).ok());
}

TEST_F(SessionTest, CloseWaitsForCallsAndAPrepareThatItOvertookOpensNothing) {
  ReplicaPort& port = OpenPort(1);
  pool::HeaderBlock data(kBlock);
  auto write = Start(port.Write(0, data.span(), At(1), kNoDeadline));
  ASSERT_TRUE(world_.RunTask(port.Close()));
  ASSERT_TRUE(write->result.has_value());
  EXPECT_EQ(write->result->code(), kUnavailable);
  auto prepared = Start(port.Prepare(EpochOf(2), kNoDeadline));
  ASSERT_TRUE(world_.RunTask(port.Close()));
  ASSERT_TRUE(prepared->result.has_value());
  EXPECT_EQ(prepared->result->status().code(), kUnavailable);
  EXPECT_FALSE(port.open());
}

TEST_F(SessionTest, SaysThatAnotherEnginesSessionWasAliveOnlyWhileItIsHeardFrom) {
  const pool::Epoch other{2, 0, other_engine_};
  OpenPort(1);
  EXPECT_TRUE(Prepare(Port(), other)->ended_session);
  EXPECT_FALSE(Prepare(Port(), other)->ended_session);  // the same engine's
  world_.RunUntil(world_.now_ns() + 2'000'000'000);
  EXPECT_FALSE(Prepare(Port(), EpochOf(3))->ended_session);
}

TEST_F(SessionTest, TheIncarnationChangesWithTheBootAndNotWithTheProcess) {
  const pool::Uuid before = Prepare(Port(), EpochOf(1))->incarnation;
  KillProcess();
  EXPECT_EQ(Prepare(Port(), EpochOf(1))->incarnation, before);
  CutPower();
  EXPECT_NE(Prepare(Port(), EpochOf(1))->incarnation, before);
}

TEST_F(SessionTest, AReplicaThatIsNotThereIsNotFound) {
  EXPECT_EQ(Prepare(Port(peer_), EpochOf(1)).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SessionTest, AReplicaThatIsBeingDeletedIsNotPrepared) {
  auto deleted = Start(store().Delete(id_));
  EXPECT_EQ(Code(Port(), 1), absl::StatusCode::kNotFound);
  EXPECT_TRUE(Finish(deleted.get()).ok());
  EXPECT_EQ(Code(Port(), 1), absl::StatusCode::kNotFound);
}

TEST_F(SessionTest, AnUnreadableConfigurationIsAbsentAndNoneIsTakenInItsPlace) {
  pool::MetaBatch batch;
  batch.Put(pool::Table::kObjects,
            pool::ObjectKey(pool::kConfigurationPrefix, replica().number().value), "garbage");
  const auto commit = [](pool::MetaStore* meta, pool::MetaBatch* b) -> io::Task<absl::Status> {
    co_return co_await meta->Commit(b, true);
  };
  ASSERT_TRUE(Must(commit(&store().pool().meta(), &batch)).ok());
  Reopen();
  ReplicaPort& port = Port();
  const auto answer = Prepare(port, EpochOf(1));
  ASSERT_TRUE(answer.ok());
  EXPECT_FALSE(answer->configuration.has_value());
  EXPECT_EQ(Accept(port, MakeConfiguration(9)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(store().List()[0].configuration.has_value());
  EXPECT_NE(Check().find("does not parse"), std::string::npos);
}

TEST_F(SessionTest, AFailedPoolPromisesNothingAndItsCallsAreInternalErrors) {
  ReplicaPort& port = OpenPort(1);
  ASSERT_TRUE(Write(port, 0, 'a', 1).ok());
  disk().faults().flush_error = 1;
  EXPECT_EQ(Must(port.Flush(kNoDeadline)).code(), absl::StatusCode::kInternal);
  disk().faults().flush_error = 0;
  EXPECT_EQ(Write(port, 0, 'b', 1).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Trim(port, 0, 1).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Accept(port, MakeConfiguration(2)).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(EndGeneration(port, 1).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Code(Port(), 2), absl::StatusCode::kInternal);
  EXPECT_EQ(store().List()[0].promised, EpochOf(1));
  EXPECT_EQ(Read(port, 0), "a");  // its session goes on, for reads
}

// The pool is the same incarnation when it is opened again: what is not there then nobody has seen.
TEST_F(SessionTest, AChangeThatDidNotReachTheLogIsNotSeen) {
  pool::Epoch epoch = EpochOf(1);
  for (const bool trim : {false, true}) {
    ReplicaPort& port = Port();
    ASSERT_TRUE(Prepare(port, epoch).ok());
    ASSERT_TRUE(Write(port, 0, 'a', 1, 4).ok());
    ASSERT_TRUE(Write(port, 256, 'b', 1).ok());
    sim::MetaFaults& faults = world_.AddMetaDisk(sim::kMetaPath)->faults();
    faults.commit_error = 1;
    const absl::Status changed = trim ? Trim(port, 3, 1) : Write(port, 4, 'c', 1);
    EXPECT_EQ(changed.code(), absl::StatusCode::kInternal);
    faults.commit_error = 0;
    EXPECT_EQ(Read(port, trim ? 3 : 4), "!");
    EXPECT_EQ(last_read_.code(), absl::StatusCode::kInternal);
    EXPECT_EQ(Must(port.Map(0, kMiB, 2, kNoDeadline)).status().code(), absl::StatusCode::kInternal);
    EXPECT_EQ(Read(port, 256), "b");
    KillProcess();
    ++epoch.restart;
  }
}

TEST_F(SessionTest, AFullPoolAndRotAreErrorsOfTheirOwn) {
  const pool::ReplicaId target = AddTarget();
  ReplicaPort& port = OpenPort();
  ReplicaPort& other = Open(target);
  for (std::uint64_t extent = 0; extent < 8; ++extent) {
    ASSERT_TRUE(Write(port, extent * 256, 'a', 1).ok());
    ASSERT_TRUE(Write(other, extent * 256, 'b', 1).ok());
  }
  Configuration sealed = MakeConfiguration(2);
  sealed.snapshots = {MakeSnapshot("s", 1)};
  ASSERT_TRUE(Accept(port, sealed).ok());
  EXPECT_EQ(Write(port, 0, 'c', 2).code(), absl::StatusCode::kResourceExhausted);
  for (std::uint64_t block = 256; block < disk().block_count(); ++block) {
    if (disk().Current(block)[0] == std::byte{'a'}) disk().FlipBit(block, 9);
  }
  EXPECT_EQ(Read(port, 0), "!");
  EXPECT_EQ(last_read_.code(), absl::StatusCode::kDataLoss);
}

TEST_F(SessionTest, RefusesWhatIsNotWholeBlocksOfTheVolume) {
  ReplicaPort& port = OpenPort();
  pool::HeaderBlock data(2 * kBlock);
  const auto read = [&](std::uint64_t offset, std::uint64_t size) {
    return Must(port.Read(offset, data.span().first(size), kNoDeadline)).code();
  };
  EXPECT_EQ(read(512, kBlock), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(read(0, 512), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(read(0, 0), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(read(8 * kMiB - kBlock, 2 * kBlock), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(read(UINT64_MAX - kBlock + 1, 2 * kBlock), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(BeginCopy(port, kHead, 2, 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(WriteCopy(port, kHead, 8, "a").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(BeginCopy(port, pool::SnapshotId(world_.MakeId()), 0, 1).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(SessionTest, AnAcknowledgedWriteSurvivesTheDeathOfTheProcess) {
  ASSERT_TRUE(Write(OpenPort(), 5, 'a', 1).ok());
  KillProcess();
  EXPECT_EQ(Read(OpenPort(), 4, 3), "0a0");
}

TEST_F(SessionTest, AFlushedWriteSurvivesAPowerCut) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 5, 'a', 1).ok());
  ASSERT_TRUE(Must(port.Flush(kNoDeadline)).ok());
  disk().faults().survives_cut = 0;
  CutPower();
  EXPECT_EQ(Read(OpenPort(), 5), "a");
}

TEST_F(SessionTest, MapSaysWhereDataIs) {
  ReplicaPort& port = OpenPort();
  ASSERT_TRUE(Write(port, 2, 'a', 1, 3).ok());
  const auto runs = Must(port.Map(0, 8 * kMiB, 2, kNoDeadline));
  ASSERT_TRUE(runs.ok());
  ASSERT_EQ(runs->size(), 2U);
  EXPECT_EQ((*runs)[0].size_bytes, 2 * kBlock);
  EXPECT_TRUE((*runs)[0].hole);
  EXPECT_EQ((*runs)[1].size_bytes, 3 * kBlock);
  EXPECT_FALSE((*runs)[1].hole);
}

TEST_F(SessionTest, AReplicaInASessionIsNeitherDeletedNorAttachedWithoutOne) {
  ReplicaPort& port = OpenPort();
  EXPECT_EQ(Must(store().Delete(id_)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Must(engine::Engine::Attach(&store(), id_, {})).status().code(),
            absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(world_.RunTask(port.Close()));
  ASSERT_TRUE(Must(store().Delete(id_)).ok());
  EXPECT_EQ(Code(port, 9), absl::StatusCode::kNotFound);
  FinishCleanup();
  EXPECT_EQ(Check(), "");
}

TEST_F(SessionTest, AWitnessVotesAndHasNoData) {
  NewMember witness = NewReplica(pool::ReplicaId(world_.MakeId()));
  witness.witness = true;
  witness.segment = 3;
  witness.configuration.segment = 3;
  ASSERT_TRUE(Must(store().CreateMember(witness)).ok());
  Reopen();
  ASSERT_EQ(store().List().size(), 2U);
  const ReplicaInfo info = store().List()[1];
  EXPECT_TRUE(info.witness);
  EXPECT_EQ(info.segment, 3U);
  EXPECT_EQ(info.configuration, witness.configuration);
  EXPECT_EQ(info.allocated_bytes, 0U);

  ReplicaPort& port = Open(witness.replica, 4);
  Configuration next = witness.configuration;
  next.version.counter = 2;
  next.snapshots = {MakeSnapshot("s", 1)};
  next.size_bytes = 16 * kMiB;
  ASSERT_TRUE(Accept(port, next).ok());
  EXPECT_TRUE(Must(port.Heartbeat(kNoDeadline)).ok());
  constexpr auto kNoData = absl::StatusCode::kFailedPrecondition;
  EXPECT_EQ(Write(port, 0, 'a', 1).code(), kNoData);
  EXPECT_EQ(Read(port, 0), "!");
  EXPECT_EQ(Must(port.Flush(kNoDeadline)).code(), kNoData);
  EXPECT_EQ(EndGeneration(port, 1).code(), kNoData);
  EXPECT_EQ(Must(port.Notes({}, 0, 1, kNoDeadline)).status().code(), kNoData);
  EXPECT_EQ(BeginCopy(port, kHead, 0, 1).code(), kNoData);
  EXPECT_EQ(Must(port.RecordProgress({1, At(1)}, kNoDeadline)).code(), kNoData);
  CutPower();
  EXPECT_EQ(Code(Port(witness.replica), 3), kAborted);
  EXPECT_EQ(Prepare(Port(witness.replica), EpochOf(4))->configuration, next);
  EXPECT_EQ(Check(), "");
  ClosePorts();
  ASSERT_TRUE(Must(store().Delete(witness.replica)).ok());
  EXPECT_EQ(store().List().size(), 1U);
  EXPECT_EQ(Check(), "");
}

}  // namespace
}  // namespace keelson::replica
