#include "blockstore/frontend/nbd_server.h"

#include <gtest/gtest.h>

#include <deque>

#include "tests/unit/frontend/nbd_conversation.h"

namespace keelson::frontend::testing {
namespace {

using nbd::Command;

TEST(NbdServerTest, RefusesConnectionsBeyondItsLimit) {
  NbdOptions options;
  options.connections_max = 2;
  NbdConversation talk(options);
  MemoryPeer* second = talk.Connect();
  MemoryPeer* third = talk.Connect();
  EXPECT_FALSE(second->closed_by_server());
  EXPECT_TRUE(third->closed_by_server());
  EXPECT_EQ(talk.counters().connections_refused, 1u);
  second->Vanish();
  talk.reactor().Settle();
  EXPECT_FALSE(talk.Connect()->closed_by_server());
  EXPECT_EQ(talk.counters().connections, 2u);
  EXPECT_EQ(talk.counters().connections_total, 3u);
}

TEST(NbdServerTest, DropExportWaitsForItsRequestsAndLeavesOthersAlone) {
  NbdConversation talk;
  MemoryDevice other_device(1 << 20);
  talk.directory().Add("other", &other_device);
  talk.Open();
  MemoryPeer* other = talk.Connect();
  talk.OpenAs(other, false, "other");

  talk.device().Hold();
  talk.Say(RequestBytes(Command::kRead, 1, 0, 4096) + RequestBytes(Command::kFlush, 2, 0, 0));
  talk.directory().Remove("vol");
  const std::shared_ptr<bool> dropped = talk.Start(talk.server().DropExport("vol"));
  EXPECT_TRUE(talk.closed());
  EXPECT_FALSE(*dropped);
  talk.device().Release();
  talk.reactor().Settle();
  EXPECT_TRUE(*dropped);

  other->Send(RequestBytes(Command::kFlush, 3, 0, 0));
  talk.reactor().Settle();
  EXPECT_EQ(ReplyReader(other->Receive()).Reply().cookie, 3u);
}

TEST(NbdServerTest, AnExportBeingDroppedIsUnknown) {
  NbdConversation talk;
  talk.Open();
  talk.device().Hold();
  talk.Say(RequestBytes(Command::kFlush, 1, 0, 0));
  const std::shared_ptr<bool> dropped = talk.Start(talk.server().DropExport("vol"));
  MemoryPeer* late = talk.Connect();
  late->Send(ClientFlags(nbd::kClientFixedNewstyle) + OptionBytes(nbd::Option::kList, {}) +
             OptionBytes(nbd::Option::kGo, InfoPayload("vol", {})));
  talk.reactor().Settle();
  ReplyReader reader(late->Receive());
  reader.Text(18);
  EXPECT_EQ(reader.OptionReply().type, nbd::OptionReply::kAck) << "the list is empty";
  EXPECT_EQ(reader.OptionReply().type, nbd::OptionReply::kErrUnknown);
  EXPECT_FALSE(*dropped);
}

TEST(NbdServerTest, DropExportOfANameWithoutConnectionsCompletesAtOnce) {
  NbdConversation talk;
  EXPECT_TRUE(*talk.Start(talk.server().DropExport("vol")));
  EXPECT_FALSE(talk.closed()) << "a connection that has not chosen yet is not the export's";
  talk.Open();
}

TEST(NbdServerTest, DropExportEndsAConnectionThatWaitsForRoom) {
  NbdConversation talk;
  talk.Open();
  talk.device().Hold();
  std::string stream;
  for (int i = 0; i < 500; ++i) stream += RequestBytes(Command::kFlush, 1, 0, 0);
  talk.Say(stream);
  const std::shared_ptr<bool> dropped = talk.Start(talk.server().DropExport("vol"));
  EXPECT_FALSE(*dropped);
  talk.device().Release();
  talk.reactor().Settle();
  EXPECT_TRUE(*dropped);
  EXPECT_EQ(talk.device().flushes(), 128u);
}

// Hands out the streams it is given; fails first if told to.
class QueueListener : public io::Listener {
 public:
  QueueListener(std::deque<std::unique_ptr<io::Stream>>* streams, int failures, bool* closed)
      : streams_(streams), failures_(failures), closed_(closed) {}

  io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> Accept() override {
    if (failures_-- > 0) co_return absl::ResourceExhaustedError("too many open files");
    if (streams_->empty() && !*closed_) co_await waiting_.Wait();
    if (*closed_) co_return absl::CancelledError("closed");
    std::unique_ptr<io::Stream> stream = std::move(streams_->front());
    streams_->pop_front();
    co_return stream;
  }
  void Close() override {
    *closed_ = true;
    waiting_.WakeAll();
  }
  io::Address address() const override { return {}; }

 private:
  std::deque<std::unique_ptr<io::Stream>>* streams_;
  int failures_;
  bool* closed_;
  io::WaitList waiting_;
};

io::Task<void> ServeAndNote(NbdServer* server, std::unique_ptr<io::Listener> listener,
                            bool* served) {
  const absl::Status status = co_await server->Serve(std::move(listener));
  *served = status.ok();
}

TEST(NbdServerTest, ServesAListenerUntilClosedInSpiteOfFailedAccepts) {
  ManualReactor reactor;
  MemoryDevice device(1 << 20);
  MemoryDirectory directory;
  directory.Add("vol", &device);
  NbdServer server(&reactor, &directory, {});
  MemoryPeer peer(&reactor);
  std::deque<std::unique_ptr<io::Stream>> streams;
  streams.push_back(peer.MakeStream());
  bool listener_closed = false;
  bool served = false;
  io::Gate gate;
  gate.Spawn(ServeAndNote(&server, std::make_unique<QueueListener>(&streams, 2, &listener_closed),
                          &served));
  reactor.Settle();
  EXPECT_EQ(server.counters().connections, 0u);
  reactor.Advance(kSecond);
  EXPECT_EQ(server.counters().connections, 1u);
  EXPECT_EQ(peer.Receive().size(), 18u);

  gate.Spawn(server.Close());
  reactor.Settle();
  EXPECT_TRUE(listener_closed);
  EXPECT_TRUE(served);
  EXPECT_TRUE(peer.closed_by_server());
  EXPECT_EQ(gate.running(), 0u);
  MemoryPeer late(&reactor);
  EXPECT_FALSE(server.Adopt(late.MakeStream())) << "a closed server takes no more";
}

}  // namespace
}  // namespace keelson::frontend::testing
