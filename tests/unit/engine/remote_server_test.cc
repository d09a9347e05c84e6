// ReplicaServer against engines made by hand: what is refused, what ends a connection, and that one
// that misbehaves hurts only itself.
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/unit/engine/remote_world.h"

namespace keelson::engine::testing {
namespace {

using wire::FrameHead;
using wire::FrameType;

class RemoteServerTest : public RemoteTest {
 protected:
  FrameHead Head(std::uint64_t request_id) const {
    FrameHead head;
    head.request_id = request_id;
    head.epoch = SomeEpoch();
    head.incarnation = replica_.incarnation;
    return head;
  }
  template <typename Request>
  std::string Bytes(std::uint64_t request_id, const Request& request) const {
    wire::EncodedFrame frame;
    wire::Encode(Head(request_id), request, &frame);
    return Flat(frame);
  }
  std::string WriteBytes(FrameHead head, std::uint64_t offset, std::size_t size_bytes) const {
    const std::string data(size_bytes, 'w');
    wire::EncodedFrame frame;
    wire::Encode(head, wire::WriteRequest{offset, {}},
                 std::as_bytes(std::span(data.data(), data.size())), &frame);
    return Flat(frame);
  }
  std::string PrepareBytes() const {
    FrameHead head = Head(1);
    head.incarnation = {};
    wire::EncodedFrame frame;
    wire::Encode(head, wire::PrepareRequest{replica_.pool, replica_.replica}, &frame);
    return Flat(frame);
  }
  void Send(RawPeer* peer, std::string bytes) {
    EXPECT_TRUE(Run(peer->Send(std::move(bytes))).ok());
  }
  absl::StatusOr<RawFrame> Receive(RawPeer* peer) { return Run(peer->Receive(In(100 * kSecond))); }
  // The status in the next frame, which must be an answer to that request.
  absl::Status AnswerTo(RawPeer* peer, std::uint64_t request_id) {
    const absl::StatusOr<RawFrame> frame = Receive(peer);
    if (!frame.ok()) return frame.status();
    EXPECT_TRUE(frame->header.answer);
    EXPECT_EQ(frame->header.request_id, request_id);
    const auto parts =
        wire::ParseAnswer(std::as_bytes(std::span(frame->message.data(), frame->message.size())));
    return parts.ok() ? parts->status : parts.status();
  }
  std::unique_ptr<RawPeer> PreparedByHand() {
    std::unique_ptr<RawPeer> peer = ConnectByHand();
    Send(peer.get(), PrepareBytes());
    EXPECT_TRUE(AnswerTo(peer.get(), 1).ok());
    return peer;
  }
  // The connection ends, after a Bye that says `how`.
  void ExpectBye(RawPeer* peer, std::string_view how) {
    const absl::StatusOr<RawFrame> bye = Receive(peer);
    ASSERT_TRUE(bye.ok()) << bye.status();
    EXPECT_EQ(bye->header.type, FrameType::kBye);
    EXPECT_NE(bye->message.find(how), std::string::npos) << bye->message;
    EXPECT_TRUE(absl::IsUnavailable(Receive(peer).status()));
    EXPECT_TRUE(Until([&] { return server_->counters().connections == 0; }));
    EXPECT_EQ(server_->counters().protocol_errors, 1u);
    EXPECT_EQ(replica_.ports, 0u);
  }
};

TEST_F(RemoteServerTest, ServesARequestWhoseBytesComeOneByOne) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  for (const char byte : WriteBytes(Head(2), 4096, 4096)) Send(peer.get(), std::string(1, byte));
  EXPECT_TRUE(AnswerTo(peer.get(), 2).ok());
  EXPECT_EQ(replica_.data[4096], std::byte{'w'});
}

TEST_F(RemoteServerTest, RequestsOfALowerEpochAreAbortedAndDoNothing) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  FrameHead head = Head(2);
  --head.epoch.attachment;
  Send(peer.get(), WriteBytes(head, 0, 8192));
  EXPECT_TRUE(absl::IsAborted(AnswerTo(peer.get(), 2)));
  head.epoch.attachment += 2;
  Send(peer.get(), WriteBytes(head, 0, 8192));
  EXPECT_TRUE(absl::IsUnavailable(AnswerTo(peer.get(), 2)));
  EXPECT_EQ(replica_.log.size(), 1u);
  EXPECT_EQ(replica_.data[0], std::byte{0});
  EXPECT_EQ(server_->counters().requests_refused, 2u);
  // The connection is as good as before.
  Send(peer.get(), Bytes(3, wire::FlushRequest{}));
  EXPECT_TRUE(AnswerTo(peer.get(), 3).ok());
}

TEST_F(RemoteServerTest, RequestsForAnotherIncarnationDoNothing) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  FrameHead head = Head(2);
  head.incarnation = Id(99);
  Send(peer.get(), WriteBytes(head, 0, 4096));
  EXPECT_TRUE(absl::IsUnavailable(AnswerTo(peer.get(), 2)));
  EXPECT_EQ(replica_.log.size(), 1u);
}

TEST_F(RemoteServerTest, RequestsBeforePrepareDoNothing) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = ConnectByHand();
  Send(peer.get(), WriteBytes(Head(2), 0, 4096));
  EXPECT_TRUE(absl::IsUnavailable(AnswerTo(peer.get(), 2)));
  EXPECT_TRUE(replica_.log.empty());
}

TEST_F(RemoteServerTest, ASecondPrepareEndsTheConnection) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  Send(peer.get(), PrepareBytes());
  ExpectBye(peer.get(), "a connection carries one session");
}

TEST_F(RemoteServerTest, AnAnswerFromAnEngineEndsTheConnection) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  FrameHead head = Head(2);
  head.type = FrameType::kFlush;
  wire::EncodedFrame frame;
  wire::EncodeAnswer(head, absl::OkStatus(), &frame);
  Send(peer.get(), Flat(frame));
  ExpectBye(peer.get(), "an engine does not send answers");
}

TEST_F(RemoteServerTest, GarbageEndsTheConnection) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  Send(peer.get(), std::string(100, 'g'));
  ExpectBye(peer.get(), "does not begin with the frame magic");
}

TEST_F(RemoteServerTest, AMessageThatMakesNoSenseEndsTheConnection) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  Send(peer.get(), Bytes(2, wire::ReadRequest{512, 4096}));
  ExpectBye(peer.get(), "is not one of whole blocks");
  EXPECT_EQ(replica_.log.size(), 1u);
}

TEST_F(RemoteServerTest, DamagedDataEndTheConnectionAndAreNotWritten) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  std::string bytes = WriteBytes(Head(2), 0, 4096);
  bytes.back() ^= 1;
  Send(peer.get(), std::move(bytes));
  ExpectBye(peer.get(), "the data of a Write frame does not match its checksum");
  EXPECT_EQ(replica_.log.size(), 1u);
}

TEST_F(RemoteServerTest, AStrangerIsTurnedAway) {
  StartServer();
  io::Address address;
  address.host = "10.0.0.2";
  address.port = 4711;
  RawPeer peer(&world_, *Run(engine_->Connect(address, In(kSecond))));
  Send(&peer, "GET / HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(absl::IsUnavailable(Receive(&peer).status()));
  ASSERT_TRUE(Until([&] { return server_->counters().connections == 0; }));
  EXPECT_EQ(server_->counters().handshakes_failed, 1u);
}

TEST_F(RemoteServerTest, AnEngineOfAnotherVersionIsToldSoAndServedNothing) {
  StartServer();
  io::Address address;
  address.host = "10.0.0.2";
  address.port = 4711;
  RawPeer peer(&world_, *Run(engine_->Connect(address, In(kSecond))));
  wire::Hello hello;
  hello.version_min = hello.version_max = 9;
  Send(&peer, wire::EncodeHello(hello) + PrepareBytes());
  const absl::StatusOr<wire::Hello> answer = Run(peer.reader().ReceiveHello(In(kSecond)));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->version_chosen, 0u);
  EXPECT_EQ(answer->text,
            "the engine speaks data protocol versions 9 to 9 and this member 1 to 1; upgrade the "
            "older one");
  EXPECT_TRUE(absl::IsUnavailable(Receive(&peer).status()));
  ASSERT_TRUE(Until([&] { return server_->counters().connections == 0; }));
  EXPECT_EQ(server_->counters().handshakes_failed, 1u);
  EXPECT_TRUE(replica_.log.empty());
}

TEST_F(RemoteServerTest, AConfigurationThatDoesNotParseEndsTheConnection) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  wire::EncodedFrame frame;
  const wire::AcceptRequest none;  // it names no volume and has no members
  ASSERT_TRUE(wire::Encode(Head(2), none, &frame).ok());
  Send(peer.get(), Flat(frame));
  ExpectBye(peer.get(), "configuration");
  EXPECT_EQ(replica_.log.size(), 1u);
}

TEST_F(RemoteServerTest, SilenceInTheHandshakeEndsTheConnection) {
  StartServer();
  io::Address address;
  address.host = "10.0.0.2";
  address.port = 4711;
  const std::int64_t began_ns = world_.now_ns();
  RawPeer peer(&world_, *Run(engine_->Connect(address, In(kSecond))));
  EXPECT_TRUE(absl::IsUnavailable(Receive(&peer).status()));
  EXPECT_GE(world_.now_ns(), began_ns + 10 * kSecond);
  EXPECT_LT(world_.now_ns(), began_ns + 11 * kSecond);
}

TEST_F(RemoteServerTest, AnEngineThatStopsInTheMiddleOfAFrameHurtsOnlyItself) {
  StartServer();
  ASSERT_TRUE(PrepareRemote().ok());
  const std::string write = WriteBytes(Head(2), 0, 8192);
  for (const std::size_t cut : {std::size_t{10}, std::size_t{100}, write.size() - 1}) {
    const std::uint64_t stalled = server_->counters().stalled_peers;
    const std::unique_ptr<RawPeer> peer = PreparedByHand();
    Send(peer.get(), write.substr(0, cut));
    const std::int64_t began_ns = world_.now_ns();
    // The other connection was replaced by this one's Prepare, but is served.
    EXPECT_TRUE(absl::IsUnavailable(Run(remote_->Heartbeat(In(kSecond)))));
    EXPECT_TRUE(absl::IsUnavailable(Receive(peer.get()).status()));
    EXPECT_GE(world_.now_ns(), began_ns + 29 * kSecond);
    EXPECT_LT(world_.now_ns(), began_ns + 31 * kSecond);
    EXPECT_EQ(server_->counters().stalled_peers, stalled + 1);
    ASSERT_TRUE(PrepareRemote().ok());
    EXPECT_TRUE(Run(remote_->Flush(In(kSecond))).ok());
  }
  EXPECT_EQ(replica_.data[0], std::byte{0});
}

TEST_F(RemoteServerTest, AnIdleConnectionEnds) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  for (std::uint64_t id = 2; id < 6; ++id) {
    world_.RunUntil(In(50 * kSecond));
    Send(peer.get(), Bytes(id, wire::HeartbeatRequest{}));
    EXPECT_TRUE(AnswerTo(peer.get(), id).ok());
  }
  const std::int64_t began_ns = world_.now_ns();
  EXPECT_TRUE(absl::IsUnavailable(Receive(peer.get()).status()));
  EXPECT_GE(world_.now_ns(), began_ns + 59 * kSecond);
  EXPECT_LT(world_.now_ns(), began_ns + 61 * kSecond);
  EXPECT_TRUE(Until([&] { return replica_.ports == 0; }));
}

TEST_F(RemoteServerTest, AnEngineThatDoesNotReadItsAnswersIsDropped) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  for (std::uint64_t id = 2; id < 12; ++id) {
    Send(peer.get(), Bytes(id, wire::ReadRequest{0, 1 << 20}));
  }
  const std::int64_t began_ns = world_.now_ns();
  ASSERT_TRUE(Until([&] { return server_->counters().connections == 0; }));
  EXPECT_GE(world_.now_ns(), began_ns + 29 * kSecond);
  EXPECT_LT(world_.now_ns(), began_ns + 31 * kSecond);
  EXPECT_EQ(server_->counters().stalled_peers, 1u);
  EXPECT_EQ(node_->buffers().free_bytes(), node_->buffers().arena().size());
}

TEST_F(RemoteServerTest, TakesNoMoreRequestsThanItsBound) {
  ReplicaServerOptions options;
  options.requests_in_flight_max = 16;
  StartServer(options);
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  replica_.held = true;
  std::string bytes;
  for (std::uint64_t id = 2; id < 102; ++id) bytes += Bytes(id, wire::FlushRequest{});
  Send(peer.get(), std::move(bytes));
  world_.RunUntil(In(kSecond));
  EXPECT_EQ(replica_.running, 16u);
  replica_.Release();
  for (std::uint64_t id = 2; id < 102; ++id) EXPECT_TRUE(Receive(peer.get()).ok());
  EXPECT_EQ(replica_.running_max, 16u);
}

TEST_F(RemoteServerTest, TakesNoMorePayloadThanItsBound) {
  ReplicaServerOptions options;
  options.payload_in_flight_bytes_max = 64 << 10;
  StartServer(options);
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  replica_.held = true;
  std::string bytes;
  for (std::uint64_t id = 2; id < 12; ++id) bytes += WriteBytes(Head(id), 0, 16'384);
  // Larger than the bound, but alone it may go.
  bytes += Bytes(12, wire::ReadRequest{0, 256 << 10});
  Send(peer.get(), std::move(bytes));
  world_.RunUntil(In(kSecond));
  EXPECT_EQ(replica_.running, 4u);
  EXPECT_EQ(node_->buffers().arena().size() - node_->buffers().free_bytes(), 64u << 10);
  replica_.Release();
  for (std::uint64_t id = 2; id < 13; ++id) EXPECT_TRUE(Receive(peer.get()).ok());
  EXPECT_EQ(replica_.running_max, 4u);
}

TEST_F(RemoteServerTest, ARequestThatIsCancelledBeforeItBeginsDoesNotReachThePort) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  // Every buffer is taken, so that reads wait.
  std::deque<io::Buffer> buffers;
  while (true) {
    buffers.push_back(node_->buffers().TryTake(4096));
    if (!buffers.back()) break;
  }
  Send(peer.get(), Bytes(2, wire::ReadRequest{0, 4096}) + Bytes(3, wire::ReadRequest{0, 4096}) +
                       Bytes(4, wire::CancelRequest{2}) + Bytes(5, wire::FlushRequest{}));
  EXPECT_TRUE(AnswerTo(peer.get(), 5).ok());
  buffers.clear();
  EXPECT_TRUE(absl::IsCancelled(AnswerTo(peer.get(), 2)));
  EXPECT_TRUE(AnswerTo(peer.get(), 3).ok());
  EXPECT_EQ(replica_.log.size(), 3u);
}

TEST_F(RemoteServerTest, TheRequestsInFlightEndBeforeTheirPortIsDestroyed) {
  StartServer();
  std::unique_ptr<RawPeer> peer = PreparedByHand();
  replica_.held = true;
  replica_.delay_ns_max = kSecond;
  Send(peer.get(), WriteBytes(Head(2), 0, 4096) + Bytes(3, wire::ReadRequest{0, 4096}) +
                       Bytes(4, wire::FlushRequest{}));
  ASSERT_TRUE(Until([&] { return replica_.running == 3; }));
  peer.reset();
  ASSERT_TRUE(Until([&] { return server_->counters().connections == 0; }));
  EXPECT_EQ(replica_.ports, 0u);
  EXPECT_EQ(replica_.running, 0u);
  EXPECT_EQ(node_->buffers().free_bytes(), node_->buffers().arena().size());
}

TEST_F(RemoteServerTest, CloseEndsEveryConnectionAndItsPort) {
  StartServer();
  const std::unique_ptr<RawPeer> peer = PreparedByHand();
  replica_.held = true;
  Send(peer.get(), Bytes(2, wire::FlushRequest{}));
  ASSERT_TRUE(Until([&] { return replica_.running == 1; }));
  EXPECT_TRUE(world_.RunTask(server_->Close()));
  EXPECT_EQ(replica_.ports, 0u);
  EXPECT_EQ(server_->counters().connections, 0u);
  server_.reset();
}

TEST_F(RemoteServerTest, ResetsAndStallsOfTheNetworkLeaveNothingBehind) {
  // Splits, stalls and resets of any seed: every call completes and nothing is left behind.
  StartServer();
  world_.network().faults().reset = 0.003;
  world_.network().faults().stall = 0.02;
  replica_.delay_ns_max = 3'000'000;
  std::size_t good = 0;
  for (int round = 0; round < 60; ++round) {
    if (!remote_->open() && !PrepareRemote().ok()) continue;
    auto buffers = std::make_unique<std::vector<std::byte>>(40 * 16'384);
    std::deque<std::optional<absl::Status>> results(40);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const std::span<std::byte> buffer(buffers->data() + i * 16'384, 16'384);
      const std::int64_t deadline_ns = In(kSecond);
      if (i % 2 == 0) {
        Start(remote_->Write(i * 16'384, buffer, {}, deadline_ns), &results[i]);
      } else {
        Start(remote_->Read(i * 16'384, buffer, deadline_ns), &results[i]);
      }
    }
    for (const auto& result : results) {
      ASSERT_TRUE(Until([&] { return result.has_value(); }));
      good += result->ok() ? 1 : 0;
      EXPECT_TRUE(result->ok() || absl::IsUnavailable(*result) || absl::IsDeadlineExceeded(*result))
          << *result;
    }
    buffers.reset();
  }
  EXPECT_GT(good, 200u);
  EXPECT_EQ(server_->counters().protocol_errors, 0u);
  world_.network().faults().reset = 0;
  world_.network().faults().stall = 0;
}

}  // namespace
}  // namespace keelson::engine::testing
