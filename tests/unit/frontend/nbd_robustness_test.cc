// Clients that stall, vanish, or ask for more than their share.

#include <gtest/gtest.h>

#include "tests/unit/frontend/nbd_conversation.h"

namespace keelson::frontend::testing {
namespace {

using nbd::Command;

constexpr std::uint32_t kMiB = 1 << 20;

std::string Reads(int count, std::uint32_t length) {
  std::string stream;
  for (int i = 0; i < count; ++i) {
    stream += RequestBytes(Command::kRead, static_cast<std::uint64_t>(i), 0, length);
  }
  return stream;
}

TEST(NbdRobustnessTest, RequestsInFlightAreBounded) {
  NbdConversation talk;
  talk.Open();
  talk.device().Hold();
  talk.Say(Reads(1000, 4096));
  EXPECT_EQ(talk.device().running(), 128u);
  talk.device().Release();
  talk.reactor().Settle();
  EXPECT_EQ(talk.Hear().size(), 1000 * (nbd::kSimpleReplyBytes + 4096));
}

TEST(NbdRobustnessTest, AClientThatDoesNotReadHoldsABoundedShareOfTheBuffers) {
  NbdConversation talk;
  talk.Open();
  talk.client().set_window_bytes(1000);
  talk.Say(Reads(100, kMiB));
  EXPECT_EQ(talk.reactor().buffers().arena().size() - talk.reactor().buffers().free_bytes(),
            std::size_t{8} * kMiB);

  MemoryPeer* other = talk.Connect();
  talk.OpenAs(other, false, "vol");
  other->Send(RequestBytes(Command::kRead, 9, 0, kMiB));
  talk.reactor().Settle();
  EXPECT_EQ(other->Receive().size(), nbd::kSimpleReplyBytes + kMiB);
}

TEST(NbdRobustnessTest, NoConnectionHoldsMoreThanAQuarterOfTheBuffers) {
  NbdConversation talk({}, 64 * kMiB, 8 * kMiB);
  talk.Open();
  talk.client().set_window_bytes(0);
  talk.Say(Reads(100, kMiB));
  EXPECT_EQ(talk.reactor().buffers().free_bytes(), std::size_t{6} * kMiB);
}

TEST(NbdRobustnessTest, AClientThatDoesNotReadIsDroppedAtTheDeadline) {
  NbdConversation talk;
  talk.Open();
  talk.client().set_window_bytes(1000);
  talk.Say(Reads(100, kMiB));
  talk.reactor().Advance(29 * kSecond);
  EXPECT_FALSE(talk.closed());
  talk.reactor().Advance(2 * kSecond);
  EXPECT_TRUE(talk.closed());
  EXPECT_EQ(talk.counters().stalled_clients, 1u);
  EXPECT_EQ(talk.counters().connections, 0u);
}

TEST(NbdRobustnessTest, AStalledClientInTheMiddleOfALargeSimpleReadIsDropped) {
  NbdConversation talk;
  talk.Open();
  talk.client().set_window_bytes(kMiB + 1000);
  talk.Say(RequestBytes(Command::kRead, 1, 0, 8 * kMiB) + Reads(5, 4096));
  talk.reactor().Advance(31 * kSecond);
  EXPECT_TRUE(talk.closed());
  EXPECT_EQ(talk.counters().connections, 0u);
}

TEST(NbdRobustnessTest, AnIdleClientMayStay) {
  NbdConversation talk;
  talk.Open();
  talk.Say(RequestBytes(Command::kFlush, 1, 0, 0).substr(0, 10));
  talk.reactor().Advance(100'000 * kSecond);
  EXPECT_FALSE(talk.closed());
}

TEST(NbdRobustnessTest, APayloadThatStallsIsDropped) {
  NbdConversation talk;
  talk.Open();
  talk.Say(RequestBytes(Command::kWrite, 1, 0, 8192) + std::string(5000, 'x'));
  talk.reactor().Advance(29 * kSecond);
  EXPECT_FALSE(talk.closed());
  talk.reactor().Advance(2 * kSecond);
  EXPECT_TRUE(talk.closed());
  EXPECT_EQ(talk.device().writes(), 0u);
  EXPECT_EQ(talk.counters().stalled_clients, 1u);
}

TEST(NbdRobustnessTest, ASkippedPayloadThatStallsIsDropped) {
  NbdConversation talk;
  talk.Open();
  talk.Say(RequestBytes(Command::kWrite, 1, 512, 8192) + std::string(5000, 'x'));
  talk.reactor().Advance(31 * kSecond);
  EXPECT_TRUE(talk.closed());
  EXPECT_EQ(talk.Hear(), "");
}

TEST(NbdRobustnessTest, APayloadCutOffWritesNothingOfItsPiece) {
  NbdConversation talk;
  talk.Open();
  talk.Say(RequestBytes(Command::kWrite, 1, 0, 8192) + std::string(8191, 'x'));
  talk.client().CloseSending();
  talk.reactor().Settle();
  EXPECT_TRUE(talk.closed());
  EXPECT_EQ(talk.Hear(), "");
  EXPECT_EQ(talk.device().writes(), 0u);
}

TEST(NbdRobustnessTest, APayloadCutOffInALargeWriteFinishesThePiecesUnderWay) {
  NbdConversation talk;
  talk.Open();
  talk.device().Hold();
  talk.Say(RequestBytes(Command::kWrite, 1, 0, 4 * kMiB) + std::string(3 * kMiB, 'x'));
  talk.client().Vanish();
  talk.reactor().Settle();
  EXPECT_EQ(talk.device().running(), 3u);
  EXPECT_EQ(talk.counters().connections, 1u) << "requests in flight keep the session";
  talk.device().Release();
  talk.reactor().Settle();
  EXPECT_EQ(talk.counters().connections, 0u);
}

TEST(NbdRobustnessTest, AnEndOfStreamStillAnswersWhatWasAsked) {
  NbdConversation talk;
  talk.Open();
  talk.device().Hold();
  talk.Say(Reads(3, 4096));
  talk.client().CloseSending();
  talk.reactor().Settle();
  talk.device().Release();
  talk.reactor().Settle();
  EXPECT_EQ(talk.Hear().size(), 3 * (nbd::kSimpleReplyBytes + 4096));
  EXPECT_TRUE(talk.closed());
}

TEST(NbdRobustnessTest, AClientMayVanishWithRequestsInFlight) {
  for (const bool structured : {false, true}) {
    NbdConversation talk;
    talk.Open(structured);
    talk.device().Hold();
    talk.Say(Reads(20, 4096) + Reads(2, 3 * kMiB) +
             RequestBytes(Command::kWriteZeroes, 1, 0, 4 * kMiB, nbd::kCommandNoHole) +
             RequestBytes(Command::kFlush, 2, 0, 0) + RequestBytes(Command::kTrim, 3, 0, 4096));
    EXPECT_GT(talk.device().running(), 20u);
    talk.client().Vanish();
    talk.reactor().Settle();
    EXPECT_EQ(talk.counters().connections, 1u);
    talk.device().Release();
    talk.reactor().Settle();
    EXPECT_EQ(talk.counters().connections, 0u);
  }
}

TEST(NbdRobustnessTest, LargeRequestsFinishWithTheSmallestArena) {
  NbdOptions options;
  options.held_bytes_max = std::size_t{64} * kMiB;
  NbdConversation talk(options, 64 * kMiB, 4 * kMiB);
  talk.Open();
  std::vector<MemoryPeer*> peers;
  for (int i = 0; i < 8; ++i) {
    peers.push_back(talk.Connect());
    talk.OpenAs(peers.back(), false, "vol");
  }
  for (MemoryPeer* peer : peers) {
    peer->Send(RequestBytes(Command::kWrite, 100, 0, 8 * kMiB) + std::string(8 * kMiB, 'y') +
               Reads(4, 8 * kMiB));
  }
  talk.reactor().Settle();
  for (MemoryPeer* peer : peers) {
    EXPECT_EQ(peer->Receive().size(),
              nbd::kSimpleReplyBytes + 4 * (nbd::kSimpleReplyBytes + std::size_t{8} * kMiB));
  }
}

}  // namespace
}  // namespace keelson::frontend::testing
