#include "blockstore/frontend/remote_volume.h"

#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "tests/unit/frontend/remote_world.h"

namespace keelson::frontend::testing {
namespace {

constexpr EngineState kFirst = {.engine = {5, 0}, .lost = {}};
constexpr EngineState kResumed = {.engine = {5, 1}, .lost = {}};

TEST(ClientNameTest, TakesWhatItFormats) {
  const ClientName name{"vol-1", 77, *engine::Ticket::Parse(kTicket)};
  const absl::StatusOr<ClientName> parsed = ParseClientName(FormatClientName(name));
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->volume, "vol-1");
  EXPECT_EQ(parsed->attachment, 77u);
  EXPECT_TRUE(parsed->ticket.Matches(name.ticket));
  for (const std::string& bad :
       {std::string(), std::string("vol"), absl::StrCat("vol/5/", std::string(kTicket), "/"),
        absl::StrCat("/5/", std::string(kTicket)), absl::StrCat("vol/-5/", std::string(kTicket)),
        absl::StrCat("vol/ 5/", std::string(kTicket)), std::string("vol/5/0"),
        absl::StrCat("vol/99999999999999999999/", std::string(kTicket))}) {
    const absl::Status status = ParseClientName(bad).status();
    EXPECT_FALSE(status.ok()) << bad;
    EXPECT_EQ(std::string(status.message()).find(kTicket), std::string::npos);
  }
}

TEST(EngineStateTest, TakesWhatItFormatsAndNothingElse) {
  const EngineState state{.engine = {7, 3}, .lost = {6, 1}};
  EXPECT_EQ(*ParseEngineState(FormatEngineState(state)), state);
  for (const char* bad : {"", "attachment=7 restart=3", "attachment=7 restart=3 lost=6",
                          "attachment=7 restart=4294967296 lost=6.1", "Keelson volume vol",
                          "attachment=7 restart=+3 lost=6.1"}) {
    EXPECT_FALSE(ParseEngineState(bad).ok()) << bad;
  }
}

TEST_F(RemoteVolumeTest, ReadsWhatItWroteAndPassesOnFlushesZeroesAndFua) {
  EngineNode* const engine = StartEngine();
  StartRemote();
  ASSERT_TRUE(Connects());
  EXPECT_EQ(remote_->size_bytes(), kVolumeBytes);
  EXPECT_FALSE(remote_->read_only());
  EXPECT_TRUE(Run(Write(3, 'x')).ok());
  EXPECT_EQ(Read(3), 'x');
  EXPECT_EQ(engine->device().fua_calls(), 0u);
  EXPECT_TRUE(Run(Write(4, 'y', /*fua=*/true)).ok());
  EXPECT_EQ(engine->device().fua_calls(), 1u);
  EXPECT_TRUE(Run(Flush()).ok());
  EXPECT_EQ(engine->device().flushes(), 1u);
  EXPECT_TRUE(world_.RunTask(remote_->Trim(0, kVolumeBytes, false))->ok());
  EXPECT_EQ(Read(3), '\0');
  EXPECT_TRUE(absl::IsOutOfRange(*world_.RunTask(remote_->Trim(kVolumeBytes, 4096, false))));
}

TEST_F(RemoteVolumeTest, AWrongTicketAttachmentOrVolumeIsNoSuchExport) {
  EngineNode* const engine = StartEngine();
  const io::Address address = TargetAt(world_.machine()).address;
  const std::string ticket(kTicket);
  const auto ask = [&](std::string name) {
    const auto talk = [](sim::SimReactor* client, io::Address to,
                         std::string asked) -> io::Task<absl::Status> {
      auto stream = co_await client->Connect(to, io::kNoDeadline);
      NbdReader reader(stream->get());
      const auto info = co_await NbdHandshake(stream->get(), &reader, std::move(asked),
                                              /*only_ask=*/false, io::kNoDeadline);
      co_return info.status();
    };
    return *world_.RunTask(talk(client_, address, std::move(name)));
  };
  EXPECT_TRUE(ask("vol/5/" + ticket).ok());
  for (const std::string& wrong :
       {"vol/5/" + std::string(32, 'f'), "vol/6/" + ticket, "vol/4/" + ticket, "other/5/" + ticket,
        std::string("vol"), std::string(), std::string("vol/5/")}) {
    const absl::Status status = ask(wrong);
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    EXPECT_EQ(std::string(status.message()).find(ticket), std::string::npos);
  }
  engine->Fence();
  EXPECT_TRUE(absl::IsNotFound(ask("vol/5/" + ticket)));
}

TEST_F(RemoteVolumeTest, AReadOnlyClientCannotWrite) {
  EngineNode* const engine = StartEngine();
  engine->clients().Replace({{"client", *engine::Ticket::Parse(kTicket), true}});
  StartRemote();
  ASSERT_TRUE(Connects());
  EXPECT_TRUE(remote_->read_only());
  EXPECT_TRUE(absl::IsPermissionDenied(Run(Write(0, 'x'))));
  EXPECT_EQ(Read(0), '\0');
  EXPECT_EQ(engine->device().writes(), 0u);
}

TEST_F(RemoteVolumeTest, HasMoreCallsThanItSendsAtOnce) {
  EngineNode* const engine = StartEngine();
  StartRemote();
  ASSERT_TRUE(Connects());
  engine->device().Hold();
  std::vector<Result*> writes;
  for (std::uint64_t i = 0; i < 500; ++i) writes.push_back(Write(i, static_cast<char>(i)));
  ASSERT_TRUE(Until([&] { return engine->device().running() == 100; }));
  EXPECT_EQ(remote_->requests_in_flight(), 500u);
  engine->device().Release();
  for (Result* const write : writes) EXPECT_TRUE(Run(write).ok());
  EXPECT_EQ(engine->device().writes(), 500u);
}

TEST_F(RemoteVolumeTest, SendsAgainWhatWasUnderWayWhenTheEnginesProcessDied) {
  EngineNode* engine = StartEngine(kFirst);
  StartRemote();
  ASSERT_TRUE(Connects());
  EXPECT_TRUE(Run(Write(0, 'a')).ok());
  engine->device().Hold();
  std::vector<Result*> writes;
  for (std::uint64_t i = 1; i < 150; ++i)
    writes.push_back(Write(i, static_cast<char>('a' + i % 9)));
  ASSERT_TRUE(Until([&] { return engine->device().running() == 100; }));
  engine = RestartEngine(engine, kResumed);
  for (Result* const write : writes) EXPECT_TRUE(Run(write).ok());
  EXPECT_EQ(engine->device().writes(), 149u);
  EXPECT_EQ(Read(0), 'a');
  EXPECT_EQ(Read(149 - 5), static_cast<char>('a' + (149 - 5) % 9));
  EXPECT_EQ(remote_->reconnects(), 1u);
  EXPECT_TRUE(Run(Flush()).ok()) << "nothing was lost";
}

TEST_F(RemoteVolumeTest, ANewConnectionWaitsForWhatTheOldOneHasUnderWayAtTheEngine) {
  EngineNode* const engine = StartEngine();
  StartRemote();
  ASSERT_TRUE(Connects());
  engine->device().Hold();
  Result* const write = Write(1, 'x');
  ASSERT_TRUE(Until([&] { return engine->device().running() == 1; }));
  // The way breaks for longer than the client listens to silence.
  world_.network().Block(world_.machine(), client_->machine());
  world_.network().Block(client_->machine(), world_.machine());
  ASSERT_TRUE(Until([this] { return !remote_->connected(); }));
  world_.network().HealAll();
  world_.RunUntil(world_.now_ns() + 5 * kSecond);
  EXPECT_FALSE(remote_->connected()) << "the earlier session still has a request";
  EXPECT_EQ(engine->device().running(), 1u);
  engine->device().Release();
  EXPECT_TRUE(Run(write).ok());
  EXPECT_EQ(engine->device().writes(), 2u) << "both times with the same bytes";
  EXPECT_EQ(engine->clients().session_count(), 1u);
}

TEST_F(RemoteVolumeTest, FailsAfterTheOutageLimitAndServesAgainLater) {
  EngineNode* const engine = StartEngine(kFirst);
  RemoteVolumeOptions options;
  options.outage_limit_ns = 7 * kSecond;
  StartRemote(options);
  ASSERT_TRUE(Connects());
  engine->device().Hold();
  Result* const write = Write(1, 'x');
  ASSERT_TRUE(Until([&] { return engine->device().running() == 1; }));
  const std::int64_t died_ns = world_.now_ns();
  Kill(engine);
  EXPECT_TRUE(absl::IsUnavailable(Run(write)));
  EXPECT_GE(world_.now_ns() - died_ns, 7 * kSecond);
  EXPECT_LE(world_.now_ns() - died_ns, 8 * kSecond);
  EXPECT_FALSE(remote_->health().ok());
  EXPECT_TRUE(absl::IsUnavailable(Run(Write(1, 'y')))) << "at once";
  StartEngine(kResumed);
  ASSERT_TRUE(Connects());
  EXPECT_TRUE(remote_->health().ok());
  EXPECT_TRUE(Run(Write(1, 'z')).ok());
  EXPECT_EQ(Read(1), 'z');
}

TEST_F(RemoteVolumeTest, GoesOnWithAnotherEngineInPlace) {
  EngineNode* const engine = StartEngine(kFirst);
  EngineNode* const next = StartEngine({.engine = {6, 0}, .lost = {}}, other_machine_);
  StartRemote();
  ASSERT_TRUE(Connects());
  EXPECT_TRUE(Run(Write(0, 'a')).ok());
  engine->device().Hold();
  Result* const write = Write(1, 'b');
  ASSERT_TRUE(Until([&] { return engine->device().running() == 1; }));
  remote_->Repoint(TargetAt(other_machine_, 6));
  EXPECT_TRUE(Run(write).ok());
  EXPECT_EQ(next->device().writes(), 1u);
  EXPECT_EQ(Read(1), 'b');
  engine->device().Release();
}

TEST_F(RemoteVolumeTest, TakesAnEngineThatIsGoingForALostConnection) {
  EngineNode* const engine = StartEngine();
  StartRemote();
  ASSERT_TRUE(Connects());
  engine->device().FailAfter(0, absl::AbortedError("another engine has the volume"));
  Result* const write = Write(1, 'x');
  ASSERT_TRUE(Until([this] { return !remote_->connected(); }));
  EXPECT_FALSE(write->has_value());
  engine->device().FailAfter(0, absl::OkStatus());
  EXPECT_TRUE(Run(write).ok());
}

TEST_F(RemoteVolumeTest, PassesOnTheEnginesErrors) {
  EngineNode* const engine = StartEngine();
  StartRemote();
  ASSERT_TRUE(Connects());
  engine->device().FailAfter(0, absl::ResourceExhaustedError("full"));
  EXPECT_TRUE(absl::IsResourceExhausted(Run(Write(1, 'x'))));
  engine->device().FailAfter(0, absl::DataLossError("rot"));
  EXPECT_TRUE(absl::IsInternal(Run(Write(1, 'x'))));
  EXPECT_TRUE(remote_->connected());
}

TEST_F(RemoteVolumeTest, EndsInErrorsWhenAnsweredWritesMayBeLostThatNoFlushCovers) {
  EngineNode* engine = StartEngine(kFirst);
  StartRemote();
  ASSERT_TRUE(Connects());
  EXPECT_TRUE(Run(Write(0, 'a')).ok());
  EXPECT_TRUE(Run(Flush()).ok());
  EXPECT_TRUE(Run(Write(1, 'b', /*fua=*/true)).ok());
  engine = RestartEngine(engine, {.engine = {5, 1}, .lost = {5, 1}});
  EXPECT_TRUE(Run(Flush()).ok()) << "everything that was answered had been flushed";
  EXPECT_TRUE(Run(Write(2, 'c')).ok());
  engine = RestartEngine(engine, {.engine = {5, 2}, .lost = {5, 1}});
  EXPECT_TRUE(Run(Write(3, 'd')).ok()) << "that loss was before the write";
  // An engine that it never saw has lost them, and the next one knows.
  RestartEngine(engine, {.engine = {5, 4}, .lost = {5, 3}});
  EXPECT_TRUE(absl::IsUnavailable(Run(Flush())));
  EXPECT_TRUE(remote_->ended());
  EXPECT_TRUE(absl::IsUnavailable(Run(Write(4, 'e'))));
}

TEST_F(RemoteVolumeTest, AFlushThatBeganBeforeAWriteDoesNotCoverIt) {
  EngineNode* engine = StartEngine(kFirst);
  StartRemote();
  ASSERT_TRUE(Connects());
  engine->device().Hold();
  Result* const flush = Flush();
  ASSERT_TRUE(Until([&] { return engine->device().running() == 1; }));
  Result* const write = Write(0, 'a');
  engine->device().Release();
  EXPECT_TRUE(Run(write).ok());
  EXPECT_TRUE(Run(flush).ok());
  RestartEngine(engine, {.engine = {5, 1}, .lost = {5, 1}});
  EXPECT_TRUE(absl::IsUnavailable(Run(Write(1, 'b'))));
}

TEST_F(RemoteVolumeTest, RefusesAVolumeThatIsSmallerThanItWas) {
  EngineNode* const engine = StartEngine(kFirst);
  StartRemote();
  ASSERT_TRUE(Connects());
  Kill(engine);
  auto* const small = new EngineNode(world_.StartProcess(std::size_t{8} << 20), kResumed, 1 << 20);
  small->Serve();
  EXPECT_TRUE(Until([this] { return remote_->ended(); }));
}

TEST_F(RemoteVolumeTest, LearnsThatTheVolumeHasGrown) {
  EngineNode* const engine = StartEngine(kFirst);
  StartRemote();
  ASSERT_TRUE(Connects());
  Kill(engine);
  auto* const large =
      new EngineNode(world_.StartProcess(std::size_t{8} << 20), kResumed, 2 * kVolumeBytes);
  large->Serve();
  ASSERT_TRUE(Until([this] { return remote_->reconnects() == 1; }));
  EXPECT_EQ(remote_->size_bytes(), 2 * kVolumeBytes);
  EXPECT_TRUE(world_.RunTask(remote_->RefreshSize())->ok());
  EXPECT_EQ(remote_->reconnects(), 1u) << "asking does not end the connection";
}

TEST_F(RemoteVolumeTest, WhatWaitsFailsWhenItIsClosed) {
  EngineNode* const engine = StartEngine();
  StartRemote();
  ASSERT_TRUE(Connects());
  engine->device().Hold();
  Result* const write = Write(1, 'x');
  ASSERT_TRUE(Until([&] { return engine->device().running() == 1; }));
  ASSERT_TRUE(world_.RunTask(remote_->Close()));
  EXPECT_TRUE(absl::IsUnavailable(Run(write)));
  remote_.reset();
  engine->device().Release();
}

// A peer that speaks what no engine does. Each time it is taken for a lost connection.
class BadPeerTest : public RemoteVolumeTest {
 protected:
  // Listens as the engine; each connection gets these bytes and is read until it ends.
  void ServeBytes(std::vector<std::string> to_say) {
    sim::SimReactor* const process = world_.StartProcess(std::size_t{4} << 20);
    io::Address address = TargetAt(world_.machine()).address;
    auto listener = process->Listen(address);
    ASSERT_TRUE(listener.ok());
    auto* const gate = new io::Gate;
    gate->Spawn(Accept(std::move(*listener), std::move(to_say), &accepted_));
  }
  static io::Task<void> Accept(std::unique_ptr<io::Listener> listener,
                               std::vector<std::string> to_say, std::size_t* accepted) {
    while (true) {
      auto stream = co_await listener->Accept();
      if (!stream.ok()) co_return;
      std::string bytes = to_say[*accepted % to_say.size()];
      ++*accepted;
      iovec part{bytes.data(), bytes.size()};
      const std::span<iovec> parts(&part, 1);
      (void)co_await (*stream)->WriteAll(parts, io::kNoDeadline);
      std::vector<std::byte> sink(4096);
      while (true) {
        const auto got = co_await (*stream)->ReadSome(sink, io::kNoDeadline);
        if (!got.ok() || *got == 0) break;
      }
    }
  }
  static std::string Greeting() {
    std::string bytes;
    AppendGreeting(&bytes);
    return bytes;
  }
  static std::string Handshake() {
    std::string bytes = Greeting();
    std::string info;
    NbdWriter(&info)
        .U16(nbd::kInfoExport)
        .U64(kVolumeBytes)
        .U16(nbd::kFlagHasFlags | nbd::kFlagSendFlush | nbd::kFlagSendFua |
             nbd::kFlagSendWriteZeroes);
    AppendOptionReply(nbd::Option::kGo, nbd::OptionReply::kInfo, info, &bytes);
    std::string text;
    NbdWriter(&text).U16(nbd::kInfoDescription).Text(FormatEngineState(kFirst));
    AppendOptionReply(nbd::Option::kGo, nbd::OptionReply::kInfo, text, &bytes);
    AppendOptionReply(nbd::Option::kGo, nbd::OptionReply::kAck, "", &bytes);
    return bytes;
  }
  static std::string Reply(std::uint32_t error, std::uint64_t cookie) {
    std::string bytes;
    NbdWriter(&bytes).U32(nbd::kSimpleReplyMagic).U32(error).U64(cookie);
    return bytes;
  }

  std::size_t accepted_ = 0;
};

TEST_F(BadPeerTest, GarbageInTheHandshakeIsNoEngine) {
  std::string wrong_option = Greeting();
  AppendOptionReply(nbd::Option::kList, nbd::OptionReply::kAck, "", &wrong_option);
  std::string too_long = Greeting();
  NbdWriter(&too_long).U64(nbd::kOptionReplyMagic).U32(7).U32(3).U32(0xffffffff);
  std::string endless = Greeting();
  for (int i = 0; i < 100; ++i) {
    AppendOptionReply(nbd::Option::kGo, nbd::OptionReply::kInfo, std::string(2, '\7'), &endless);
  }
  std::string short_info = Greeting();
  AppendOptionReply(nbd::Option::kGo, nbd::OptionReply::kInfo, "x", &short_info);
  std::string nothing = Greeting();
  AppendOptionReply(nbd::Option::kGo, nbd::OptionReply::kAck, "", &nothing);
  ServeBytes({std::string(100, 'g'), wrong_option, too_long, endless, short_info, nothing, ""});
  RemoteVolumeOptions options;
  options.outage_limit_ns = 60 * kSecond;
  StartRemote(options);
  ASSERT_TRUE(Until([this] { return accepted_ > 7; }));
  EXPECT_FALSE(remote_->connected());
  EXPECT_FALSE(remote_->known());
}

TEST_F(BadPeerTest, AnAnswerToNothingEndsTheConnection) {
  ServeBytes({Handshake() + Reply(0, 0), Handshake() + Reply(0, 0xffff),
              Handshake() + Reply(0, UINT64_MAX), Handshake() + std::string(16, 'z')});
  StartRemote();
  ASSERT_TRUE(Until([this] { return accepted_ > 4; }));
  EXPECT_GE(remote_->reconnects(), 3u);
}

TEST_F(BadPeerTest, ASilentEngineIsGivenUpAndTheCallFailsInTheEnd) {
  ServeBytes({Handshake()});
  RemoteVolumeOptions options;
  options.outage_limit_ns = 20 * kSecond;
  StartRemote(options);
  ASSERT_TRUE(Connects());
  const std::int64_t began_ns = world_.now_ns();
  EXPECT_TRUE(absl::IsUnavailable(Run(Write(0, 'x'))));
  EXPECT_LE(world_.now_ns() - began_ns, 60 * kSecond);
}

// The connection breaks now and then. Every block shows,
// at each read, what was written last: nothing old comes after a newer answer.
TEST_F(RemoteVolumeTest, NothingOldLandsAfterALaterAnswer) {
  EngineNode* const engine = StartEngine();
  world_.network().faults().reset = 0.01;
  world_.network().faults().stall = 0.01;
  StartRemote();
  ASSERT_TRUE(Connects());
  sim::Random random(7);
  std::map<std::uint64_t, char> last;
  for (int round = 0; round < 400; ++round) {
    std::vector<Result*> writes;
    const std::uint64_t first = random.Below(40);
    for (std::uint64_t i = 0; i < 4; ++i) {
      const char fill = static_cast<char>('a' + random.Below(26));
      last[first + i * 40] = fill;
      writes.push_back(Write(first + i * 40, fill));
    }
    for (Result* const write : writes) ASSERT_TRUE(Run(write).ok());
    const std::uint64_t block =
        std::next(last.begin(), static_cast<std::ptrdiff_t>(random.Below(last.size())))->first;
    ASSERT_EQ(Read(block), last[block]) << "round " << round;
  }
  EXPECT_GT(remote_->reconnects(), 5u);
  EXPECT_GE(engine->device().writes(), 1600u);
}

}  // namespace
}  // namespace keelson::frontend::testing
