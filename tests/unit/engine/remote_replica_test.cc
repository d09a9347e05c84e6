// RemoteReplica and ReplicaServer together, over the simulated network.
#include "blockstore/engine/remote_replica.h"

#include <algorithm>
#include <deque>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/unit/engine/remote_world.h"

namespace keelson::engine::testing {
namespace {

using Status = std::optional<absl::Status>;

class RemoteReplicaTest : public RemoteTest {};

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST_F(RemoteReplicaTest, PreparesTheReplicaThatItsMemberNames) {
  replica::Configuration configuration;
  configuration.volume = pool::VolumeId(Id(5));
  configuration.volume_name = "pvc";
  configuration.version = {SomeEpoch(), 1};
  configuration.members = {member()};
  configuration.members.front().incarnation = Id(3);
  configuration.members.front().state = replica::MemberState::kInSync;
  configuration.size_bytes = std::uint64_t{8} << 20;
  replica_.configuration = configuration;
  replica_.progress = {4, {SomeEpoch(), 9}};
  StartServer();
  EXPECT_FALSE(remote_->open());
  const absl::StatusOr<replica::PrepareAnswer> answer =
      Run(remote_->Prepare(SomeEpoch(), In(kSecond)));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_TRUE(remote_->open());
  EXPECT_EQ(replica_.promised, SomeEpoch());
  EXPECT_EQ(answer->pool, replica_.pool);
  EXPECT_EQ(answer->replica, replica_.replica);
  EXPECT_EQ(answer->incarnation, replica_.incarnation);
  EXPECT_EQ(answer->configuration, configuration);
  EXPECT_EQ(answer->progress, replica_.progress);
  EXPECT_FALSE(answer->ended_session);
}

TEST_F(RemoteReplicaTest, EveryCallReachesThePortAndItsAnswerComesBack) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  const pool::Generation generation{SomeEpoch(), 41};
  const pool::SnapshotId layer(Id(6));
  replica::Configuration configuration;
  configuration.volume = pool::VolumeId(Id(5));
  configuration.volume_name = "pvc";
  configuration.version = {SomeEpoch(), 12};
  configuration.members = {member()};
  configuration.members.front().state = replica::MemberState::kInSync;
  configuration.size_bytes = std::uint64_t{8} << 20;
  const absl::Status accepted = Run(remote_->Accept(configuration, In(kSecond)));
  EXPECT_TRUE(accepted.ok()) << accepted;
  EXPECT_EQ(replica_.configuration, configuration);
  EXPECT_TRUE(Run(remote_->Heartbeat(In(kSecond))).ok());

  const std::vector<std::byte> written = Pattern(12'288, 1);
  EXPECT_TRUE(Run(remote_->Write(8192, written, generation, In(kSecond))).ok());
  std::vector<std::byte> read(12'288);
  EXPECT_TRUE(Run(remote_->Read(8192, read, In(kSecond))).ok());
  EXPECT_EQ(read, written);
  EXPECT_TRUE(Run(remote_->Trim(4096, 1 << 20, generation, In(kSecond))).ok());
  EXPECT_TRUE(Run(remote_->Flush(In(kSecond))).ok());
  EXPECT_TRUE(Run(remote_->EndGeneration(generation, In(kSecond))).ok());
  const auto runs = Run(remote_->Map(0, 1 << 20, 16, In(kSecond)));
  ASSERT_TRUE(runs.ok()) << runs.status();
  ASSERT_EQ(runs->size(), 2u);
  EXPECT_EQ(runs->back().size_bytes, (1u << 20) - 4096);
  EXPECT_TRUE(runs->back().hole);

  replica_.notes = {{3, layer, generation}, {4, {}, generation}};
  const auto notes = Run(remote_->Notes(generation, 3, 100, In(kSecond)));
  ASSERT_TRUE(notes.ok()) << notes.status();
  EXPECT_EQ(*notes, replica_.notes);
  EXPECT_TRUE(Run(remote_->BeginCopy(layer, 3, generation, In(kSecond))).ok());
  replica::ExtentContent content;
  content.data = pool::BlockBits::Range(17, 3);
  content.zeroed = pool::BlockBits::Range(0, 2);
  EXPECT_TRUE(Run(remote_->WriteCopy(layer, 14, content, written, In(kSecond))).ok());
  std::vector<std::byte> extent(pool::kExtentBytes);
  const auto copied = Run(remote_->ReadCopy(layer, 14, extent, In(kSecond)));
  ASSERT_TRUE(copied.ok()) << copied.status();
  EXPECT_EQ(copied->data, content.data);
  EXPECT_EQ(copied->zeroed, content.zeroed);
  EXPECT_TRUE(std::equal(written.begin(), written.end(), extent.begin()));
  const replica::ResyncProgress progress{8, generation};
  EXPECT_TRUE(Run(remote_->RecordProgress(progress, In(kSecond))).ok());
  EXPECT_EQ(replica_.progress, progress);

  const auto verified =
      Run(remote_->Verify(layer, 14, pool::BlockBits::Range(17, 1),
                          std::span<const std::byte>(written).first(4096), In(kSecond)));
  ASSERT_TRUE(verified.ok()) << verified.status();
  EXPECT_EQ(verified->content.zeroed, content.zeroed);
  EXPECT_EQ(verified->mended, pool::BlockBits::Range(17, 1));
  EXPECT_EQ(verified->still_bad(), pool::BlockBits::Range(18, 2));
  EXPECT_EQ(verified->crc32c[17], 4711u);

  const std::string id(32, '0');
  const std::string six = layer.ToString();
  EXPECT_EQ(absl::StrJoin(replica_.log, "\n"),
            absl::StrCat("Prepare 7\nAccept 12\nHeartbeat\nWrite 8192 12288 generation 41\n"
                         "Read 8192 12288\nTrim 4096 1048576 generation 41\nFlush\n"
                         "EndGeneration 41\nMap 0 1048576 16\nNotes 41 3 100\nBeginCopy ",
                         six, " 3 41\nWriteCopy ", six, " 14 12288\nReadCopy ", six,
                         " 14\nRecordProgress 8 41\nVerify ", six, " 14 4096"));
}

TEST_F(RemoteReplicaTest, TheMembersErrorsComeBackAsTheyAre) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  replica_.errors["Write"] = absl::ResourceExhaustedError("the pool is full");
  replica_.errors["Read"] = absl::DataLossError("a block does not match");
  replica_.errors["Map"] = absl::InternalError("the disk failed");
  replica_.errors["ReadCopy"] = absl::FailedPreconditionError("a witness has no data");
  std::vector<std::byte> buffer(pool::kExtentBytes);
  EXPECT_EQ(Run(remote_->Write(0, buffer, {}, In(kSecond))), replica_.errors["Write"]);
  EXPECT_EQ(Run(remote_->Read(0, buffer, In(kSecond))), replica_.errors["Read"]);
  EXPECT_EQ(Run(remote_->Map(0, 4096, 1, In(kSecond))).status(), replica_.errors["Map"]);
  EXPECT_EQ(Run(remote_->ReadCopy({}, 0, buffer, In(kSecond))).status(),
            replica_.errors["ReadCopy"]);
  EXPECT_TRUE(remote_->open());
  EXPECT_TRUE(Run(remote_->Heartbeat(In(kSecond))).ok());
}

TEST_F(RemoteReplicaTest, SaysWhenTheMemberWantsANewGeneration) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  EXPECT_FALSE(remote_->wants_new_generation());
  replica_.wants_new_generation = true;
  EXPECT_TRUE(Run(remote_->Heartbeat(In(kSecond))).ok());
  EXPECT_TRUE(remote_->wants_new_generation());
  replica_.wants_new_generation = false;
  EXPECT_TRUE(Run(remote_->Heartbeat(In(kSecond))).ok());
  EXPECT_FALSE(remote_->wants_new_generation());
}

TEST_F(RemoteReplicaTest, ManyCallsAtOnceAreAnsweredInAnyOrder) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  replica_.delay_ns_max = 50'000'000;
  constexpr std::size_t kCalls = 700;  // more than may be in flight
  const std::vector<std::byte> written = Pattern(kCalls * 4096, 2);
  std::deque<Status> results(2 * kCalls);
  for (std::size_t i = 0; i < kCalls; ++i) {
    const std::span<const std::byte> block(written.data() + i * 4096, 4096);
    Start(remote_->Write(i * 4096, block, {}, In(100 * kSecond)), &results[i]);
  }
  ASSERT_TRUE(Until([&] { return results[kCalls - 1].has_value(); }));
  std::vector<std::byte> read(kCalls * 4096);
  // A read may overtake a write that has not been answered.
  ASSERT_TRUE(Until([&] {
    return std::all_of(results.begin(), results.begin() + kCalls,
                       [](const Status& status) { return status.has_value(); });
  }));
  for (std::size_t i = 0; i < kCalls; ++i) {
    const std::span<std::byte> block(read.data() + i * 4096, 4096);
    Start(remote_->Read(i * 4096, block, In(100 * kSecond)), &results[kCalls + i]);
  }
  ASSERT_TRUE(Until([&] {
    return std::all_of(results.begin(), results.end(),
                       [](const Status& status) { return status.has_value(); });
  }));
  for (const Status& status : results) EXPECT_TRUE(status->ok()) << *status;
  EXPECT_EQ(read, written);
  EXPECT_GT(replica_.running_max, 100u);
  EXPECT_LE(replica_.running_max, 240u);
}

TEST_F(RemoteReplicaTest, AHeartbeatFindsRoomBesideManyCalls) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  replica_.held = true;
  std::deque<Status> results(500);
  for (Status& result : results) Start(remote_->Flush(In(100 * kSecond)), &result);
  ASSERT_TRUE(Until([&] { return replica_.running == 240; }));
  Status beat;
  Start(remote_->Heartbeat(In(kSecond)), &beat);
  ASSERT_TRUE(Until([&] { return replica_.log.back() == "Heartbeat"; }));
  replica_.Release();
  ASSERT_TRUE(Until([&] { return results.back().has_value() && beat.has_value(); }));
  EXPECT_TRUE(beat->ok());
}

TEST_F(RemoteReplicaTest, LargeTransfersTravelInPieces) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  replica_.delay_ns_max = 1'000'000;
  const std::size_t size_bytes = (std::size_t{5} << 20) + 4096;
  const std::vector<std::byte> written = Pattern(size_bytes, 3);
  const absl::Status wrote =
      Run(remote_->Write(4096, written, {SomeEpoch(), 1}, In(1000 * kSecond)));
  EXPECT_TRUE(wrote.ok()) << wrote;
  std::vector<std::byte> read(size_bytes);
  const absl::Status got = Run(remote_->Read(4096, read, In(1000 * kSecond)));
  EXPECT_TRUE(got.ok()) << got;
  EXPECT_EQ(read, written);
  EXPECT_EQ(std::count_if(replica_.log.begin(), replica_.log.end(),
                          [](const std::string& line) { return line.starts_with("Read"); }),
            6);
}

TEST_F(RemoteReplicaTest, ALargeTransferFailsWithOneOfItsPieces) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  replica_.errors["Write"] = absl::ResourceExhaustedError("the pool is full");
  const std::vector<std::byte> written = Pattern(std::size_t{2} << 20, 3);
  EXPECT_EQ(Run(remote_->Write(0, written, {}, In(100 * kSecond))), replica_.errors["Write"]);
}

TEST_F(RemoteReplicaTest, ManyNotesComeInSeveralAnswers) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  const std::size_t count = wire::kNotesPerAnswerMax + 5;
  for (std::uint32_t region = 0; region < count; ++region) {
    replica_.notes.push_back({region, {}, {SomeEpoch(), region}});
  }
  const auto notes = Run(remote_->Notes({}, 0, 1'000'000, In(1000 * kSecond)));
  ASSERT_TRUE(notes.ok()) << notes.status();
  EXPECT_EQ(*notes, replica_.notes);
  EXPECT_EQ(replica_.log.back(), "Notes 0 60000 60000");
}

TEST_F(RemoteReplicaTest, ALateAnswerEndsTheSessionForEveryCall) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  world_.RunUntil(In(3 * kSecond));  // the deadline of Prepare has passed, too
  replica_.held = true;
  const std::int64_t deadline_ns = In(2 * kSecond);
  Status late;
  Status other;
  Start(remote_->Flush(In(100 * kSecond)), &other);
  Start(remote_->Flush(deadline_ns), &late);
  world_.RunUntil(deadline_ns - 1000);
  EXPECT_FALSE(late.has_value() || other.has_value());
  EXPECT_TRUE(remote_->open());
  ASSERT_TRUE(Until([&] { return late.has_value() && other.has_value(); }));
  EXPECT_LT(world_.now_ns(), deadline_ns + 1'000'000);
  EXPECT_TRUE(absl::IsDeadlineExceeded(*late)) << *late;
  EXPECT_TRUE(absl::IsUnavailable(*other)) << *other;
  EXPECT_NE(Message(*other).find("did not answer a Flush in time"), std::string::npos) << *other;
  EXPECT_FALSE(remote_->open());
  EXPECT_TRUE(absl::IsUnavailable(Run(remote_->Heartbeat(In(kSecond)))));
  replica_.Release();
  // Another Prepare brings it back.
  EXPECT_TRUE(PrepareRemote().ok());
  EXPECT_TRUE(Run(remote_->Flush(In(kSecond))).ok());
}

TEST_F(RemoteReplicaTest, AnsweredCallsDoNotEndTheSessionAtTheirDeadlines) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(Run(remote_->Heartbeat(In(kSecond))).ok());
    world_.RunUntil(In(kSecond / 2));
  }
  world_.RunUntil(In(5 * kSecond));
  EXPECT_TRUE(remote_->open());
}

TEST_F(RemoteReplicaTest, AResetConnectionCompletesEveryCall) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  replica_.held = true;
  std::vector<std::byte> buffer(1 << 20);
  Status read;
  Status flush;
  Start(remote_->Read(0, buffer, In(100 * kSecond)), &read);
  ASSERT_TRUE(Until([&] { return replica_.running == 1; }));
  world_.network().faults().reset = 1;
  Start(remote_->Flush(In(100 * kSecond)), &flush);
  ASSERT_TRUE(Until([&] { return read.has_value() && flush.has_value(); }));
  EXPECT_TRUE(absl::IsUnavailable(*read)) << *read;
  EXPECT_TRUE(absl::IsUnavailable(*flush)) << *flush;
  EXPECT_FALSE(remote_->open());
  world_.network().faults().reset = 0;
}

TEST_F(RemoteReplicaTest, ADeadMemberCompletesEveryCall) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  replica_.held = true;
  Status flush;
  Start(remote_->Flush(In(100 * kSecond)), &flush);
  ASSERT_TRUE(Until([&] { return replica_.running == 1; }));
  EXPECT_TRUE(world_.RunTask(server_->Close()));
  server_.reset();
  ASSERT_TRUE(Until([&] { return flush.has_value(); }));
  EXPECT_TRUE(absl::IsUnavailable(*flush)) << *flush;
  EXPECT_NE(Message(*flush).find("closed the connection"), std::string::npos) << *flush;
}

TEST_F(RemoteReplicaTest, AFencedSessionIsAborted) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  replica_.held = true;
  Status flush;
  Start(remote_->Flush(In(100 * kSecond)), &flush);
  ASSERT_TRUE(Until([&] { return replica_.running == 1; }));
  replica_.Fence();
  ASSERT_TRUE(Until([&] { return flush.has_value(); }));
  EXPECT_TRUE(absl::IsAborted(*flush)) << *flush;
  EXPECT_EQ(Message(*flush), "attachment 99 has fenced this one");
  EXPECT_FALSE(remote_->open());
  const std::size_t calls = replica_.log.size();
  EXPECT_TRUE(absl::IsAborted(Run(remote_->Heartbeat(In(kSecond)))));
  EXPECT_EQ(replica_.log.size(), calls);
}

TEST_F(RemoteReplicaTest, AnIdleFencedSessionLearnsItFromItsNextHeartbeat) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  replica_.Fence();
  EXPECT_TRUE(remote_->open());
  EXPECT_TRUE(absl::IsAborted(Run(remote_->Heartbeat(In(kSecond)))));
  EXPECT_FALSE(remote_->open());
}

TEST_F(RemoteReplicaTest, AnotherPrepareOfTheSameEpochEndsTheFirstSession) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  RemoteReplica second(engine_, member());
  EXPECT_TRUE(Run(second.Prepare(SomeEpoch(), In(kSecond))).ok());
  EXPECT_TRUE(absl::IsUnavailable(Run(remote_->Flush(In(kSecond)))));
  EXPECT_FALSE(remote_->open());
  EXPECT_TRUE(Run(second.Flush(In(kSecond))).ok());
  EXPECT_TRUE(world_.RunTask(second.Close()));
}

TEST_F(RemoteReplicaTest, AMemberThatStopsEndsTheSessionAtTheDeadline) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  world_.Pause(node_, 60 * kSecond);
  const std::int64_t deadline_ns = In(3 * kSecond);
  // More than the network holds: the write itself is stuck.
  auto written = std::make_unique<std::vector<std::byte>>(Pattern(std::size_t{4} << 20, 4));
  Status wrote;
  Status beat;
  Start(remote_->Write(0, *written, {}, deadline_ns), &wrote);
  Start(remote_->Heartbeat(In(50 * kSecond)), &beat);
  ASSERT_TRUE(Until([&] { return wrote.has_value() && beat.has_value(); }));
  EXPECT_LT(world_.now_ns(), deadline_ns + 1'000'000);
  EXPECT_TRUE(absl::IsDeadlineExceeded(*wrote)) << *wrote;
  EXPECT_TRUE(absl::IsUnavailable(*beat)) << *beat;
  // The caller's memory is the caller's again: what the member gets of it later must not matter.
  written.reset();
  world_.RunUntil(In(70 * kSecond));
}

TEST_F(RemoteReplicaTest, NothingWritesToABufferOnceItsCallHasCompleted) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    if (server_ == nullptr) StartServer();
    ASSERT_TRUE(PrepareRemote().ok());
    replica_.data = Pattern(replica_.data.size(), seed);
    auto into = std::make_unique<std::vector<std::byte>>(std::size_t{1} << 20);
    Status read;
    // So short that it passes in the middle of the data.
    const auto wait_ns = static_cast<std::int64_t>(world_.random().Between(100'000, 1'500'000));
    Start(remote_->Read(0, *into, In(wait_ns)), &read);
    ASSERT_TRUE(Until([&] { return read.has_value(); }));
    const std::vector<std::byte> then = *into;
    if (seed % 2 == 0) {
      into.reset();  // an address sanitizer sees a late access
      world_.RunUntil(In(kSecond));
    } else {
      world_.RunUntil(In(kSecond));
      EXPECT_EQ(*into, then);
    }
  }
}

TEST_F(RemoteReplicaTest, WritesCutOffAtAnyMomentLeaveBothSidesWhole) {
  StartServer();
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    ASSERT_TRUE(PrepareRemote().ok());
    auto from = std::make_unique<std::vector<std::byte>>(Pattern(std::size_t{2} << 20, seed));
    Status wrote;
    const auto wait_ns = static_cast<std::int64_t>(world_.random().Between(100'000, 3'000'000));
    Start(remote_->Write(0, *from, {}, In(wait_ns)), &wrote);
    ASSERT_TRUE(Until([&] { return wrote.has_value(); }));
    from.reset();
    world_.RunUntil(In(kSecond));
  }
  EXPECT_EQ(server_->counters().protocol_errors, 0u);
}

TEST_F(RemoteReplicaTest, CloseCompletesTheCallsInFlightAndClosesThePort) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  replica_.held = true;
  Status flush;
  Start(remote_->Flush(In(100 * kSecond)), &flush);
  ASSERT_TRUE(Until([&] { return replica_.running == 1; }));
  EXPECT_EQ(replica_.ports, 1u);
  EXPECT_TRUE(world_.RunTask(remote_->Close()));
  ASSERT_TRUE(flush.has_value());
  EXPECT_TRUE(absl::IsUnavailable(*flush)) << *flush;
  EXPECT_NE(Message(*flush).find("was closed"), std::string::npos) << *flush;
  EXPECT_FALSE(remote_->open());
  ASSERT_TRUE(Until([&] { return replica_.ports == 0; }));
  EXPECT_EQ(server_->counters().protocol_errors, 0u);
  EXPECT_TRUE(absl::IsUnavailable(Run(remote_->Flush(In(kSecond)))));
  replica_.Release();
  EXPECT_TRUE(PrepareRemote().ok());
  EXPECT_TRUE(Run(remote_->Flush(In(kSecond))).ok());
}

TEST_F(RemoteReplicaTest, CloseDoesNotWaitForAMemberThatIsSilent) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  world_.Pause(node_, 60 * kSecond);
  const std::vector<std::byte> written = Pattern(std::size_t{4} << 20, 4);
  Status wrote;
  Start(remote_->Write(0, written, {}, In(50 * kSecond)), &wrote);
  world_.RunUntil(In(kSecond));
  const std::int64_t began_ns = world_.now_ns();
  EXPECT_TRUE(world_.RunTask(remote_->Close()));
  EXPECT_LT(world_.now_ns(), began_ns + kSecond);
  ASSERT_TRUE(wrote.has_value());
  EXPECT_TRUE(absl::IsUnavailable(*wrote)) << *wrote;
  world_.RunUntil(In(70 * kSecond));
}

TEST_F(RemoteReplicaTest, CloseEndsAPrepareThatIsUnderWay) {
  StartServer();
  replica_.held = true;
  std::optional<absl::StatusOr<replica::PrepareAnswer>> answer;
  Start(remote_->Prepare(SomeEpoch(), In(100 * kSecond)), &answer);
  ASSERT_TRUE(Until([&] { return replica_.running == 1; }));
  const std::int64_t began_ns = world_.now_ns();
  EXPECT_TRUE(world_.RunTask(remote_->Close()));
  EXPECT_LT(world_.now_ns(), began_ns + kSecond);
  ASSERT_TRUE(answer.has_value());
  EXPECT_TRUE(absl::IsUnavailable(answer->status())) << answer->status();
  EXPECT_FALSE(remote_->open());
}

TEST_F(RemoteReplicaTest, PrepareAnswersWhatTheMemberSays) {
  StartServer();
  replica_.promised = SomeEpoch(8);
  const absl::Status fenced = PrepareRemote(7);
  EXPECT_TRUE(absl::IsAborted(fenced)) << fenced;
  EXPECT_FALSE(remote_->open());
  replica::Member stranger = member();
  stranger.replica = pool::ReplicaId(Id(77));
  RemoteReplica other(engine_, stranger);
  const absl::Status missing = Run(other.Prepare(SomeEpoch(9), In(kSecond))).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  EXPECT_TRUE(PrepareRemote(8).ok());
}

TEST_F(RemoteReplicaTest, PrepareSaysWhyAMemberIsNotReached) {
  const absl::Status nobody = PrepareRemote();
  EXPECT_TRUE(absl::IsUnavailable(nobody)) << nobody;
  EXPECT_NE(Message(nobody).find("is not reached"), std::string::npos) << nobody;
  for (const std::string address : {"", "somewhere", "10.0.0.2:", "10.0.0.2:70000", ":1"}) {
    replica::Member lost = member();
    lost.address = address;
    RemoteReplica replica(engine_, lost);
    const absl::Status status = Run(replica.Prepare(SomeEpoch(), In(kSecond))).status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_NE(Message(status).find("not an address"), std::string::npos) << status;
  }
}

TEST_F(RemoteReplicaTest, PrepareKeepsItsDeadlineWhereNobodyAnswers) {
  StartServer();
  world_.Pause(node_, 60 * kSecond);
  const std::int64_t began_ns = world_.now_ns();
  const absl::Status status = PrepareRemote();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_LT(world_.now_ns(), began_ns + 2 * kSecond);
  world_.RunUntil(In(70 * kSecond));
}

TEST_F(RemoteReplicaTest, AMemberOfAnotherVersionSaysSo) {
  ReplicaServerOptions options;
  options.hello.version_min = options.hello.version_max = 9;
  StartServer(options);
  const absl::Status status = PrepareRemote();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_NE(Message(status).find(
                "the engine speaks data protocol versions 1 to 1 and this member 9 to 9"),
            std::string::npos)
      << status;
  ASSERT_TRUE(Until([&] { return server_->counters().connections == 0; }));
  EXPECT_EQ(server_->counters().handshakes_failed, 1u);
}

TEST_F(RemoteReplicaTest, ConnectionsBeyondTheBoundAreRefused) {
  ReplicaServerOptions options;
  options.connections_max = 1;
  StartServer(options);
  ASSERT_TRUE(PrepareRemote().ok());
  RemoteReplica second(engine_, member());
  EXPECT_TRUE(absl::IsUnavailable(Run(second.Prepare(SomeEpoch(), In(kSecond))).status()));
  EXPECT_EQ(server_->counters().connections_refused, 1u);
  EXPECT_TRUE(Run(remote_->Flush(In(kSecond))).ok());
}

}  // namespace
}  // namespace keelson::engine::testing
