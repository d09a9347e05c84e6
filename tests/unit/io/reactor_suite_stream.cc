// The part of ReactorSuite about streams and listeners.

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "blockstore/io/gate.h"
#include "tests/unit/io/reactor_suite.h"

namespace keelson::io {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::int64_t kMilli = 1'000'000;
constexpr std::int64_t kSecond = 1'000 * kMilli;

Task<absl::Status> WriteString(Stream* stream, const char* text, std::int64_t deadline_ns) {
  iovec part = {const_cast<char*>(text), std::strlen(text)};
  co_return co_await stream->WriteAll({&part, 1}, deadline_ns);
}

// Reads exactly `into`, or fewer bytes at the peer's end.
Task<absl::StatusOr<std::size_t>> ReadFully(Stream* stream, std::span<std::byte> into,
                                            std::int64_t deadline_ns) {
  std::size_t have = 0;
  while (have < into.size()) {
    absl::StatusOr<std::size_t> got = co_await stream->ReadSome(into.subspan(have), deadline_ns);
    if (!got.ok()) co_return got.status();
    if (*got == 0) break;
    have += *got;
  }
  co_return have;
}

struct StreamPair {
  std::unique_ptr<Stream> client;
  std::unique_ptr<Stream> server;
};

Task<void> AcceptInto(Listener* listener, std::unique_ptr<Stream>* stream) {
  auto accepted = co_await listener->Accept();
  EXPECT_TRUE(accepted.ok()) << accepted.status();
  if (accepted.ok()) *stream = *std::move(accepted);
}

Task<StreamPair> Connected(Reactor* reactor, Address address) {
  StreamPair pair;
  auto listener = reactor->Listen(address);
  EXPECT_TRUE(listener.ok()) << listener.status();
  if (!listener.ok()) co_return std::move(pair);
  Gate gate;
  gate.Spawn(AcceptInto(listener->get(), &pair.server));
  const Address to = (*listener)->address();
  auto client = co_await reactor->Connect(to, reactor->NowNanos() + 10 * kSecond);
  EXPECT_TRUE(client.ok()) << client.status();
  if (client.ok()) pair.client = *std::move(client);
  co_await gate.Close();
  co_return std::move(pair);
}

Task<void> Echo(Stream* stream) {
  std::array<std::byte, 512> bytes;
  for (;;) {
    auto got = co_await stream->ReadSome(bytes, kNoDeadline);
    EXPECT_TRUE(got.ok()) << got.status();
    if (!got.ok() || *got == 0) co_return;
    iovec part = {bytes.data(), *got};
    const absl::Status wrote = co_await stream->WriteAll({&part, 1}, kNoDeadline);
    EXPECT_TRUE(wrote.ok()) << wrote;
  }
}

Task<void> EchoOverStream(Reactor* reactor, Address address) {
  StreamPair pair = co_await Connected(reactor, address);
  if (!pair.server || !pair.client) co_return;
  const std::int64_t deadline_ns = reactor->NowNanos() + 10 * kSecond;
  Gate gate;
  gate.Spawn(Echo(pair.server.get()));
  char hello[] = "hello, ";
  char world[] = "world";
  std::array<iovec, 3> parts = {iovec{hello, 7}, iovec{nullptr, 0}, iovec{world, 5}};
  const absl::Status wrote = co_await pair.client->WriteAll(parts, deadline_ns);
  EXPECT_TRUE(wrote.ok()) << wrote;
  std::array<std::byte, 12> answer;
  auto got = co_await ReadFully(pair.client.get(), answer, deadline_ns);
  EXPECT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(std::memcmp(answer.data(), "hello, world", answer.size()), 0);
  EXPECT_FALSE(pair.client->peer().empty());
  pair.client.reset();  // the echo sees the orderly end
  co_await gate.Close();
}

Task<void> ReadAll(Stream* stream, std::span<std::byte> into, std::size_t* got_bytes) {
  auto got = co_await ReadFully(stream, into, kNoDeadline);
  EXPECT_TRUE(got.ok()) << got.status();
  if (got.ok()) *got_bytes = *got;
}

// More than any socket buffer holds, so that the write must be continued.
Task<void> LongWrite(Reactor* reactor, Address address) {
  StreamPair pair = co_await Connected(reactor, address);
  if (!pair.server || !pair.client) co_return;
  std::vector<std::byte> sent(8 * kMiB);
  std::vector<std::byte> received(sent.size());
  for (std::size_t i = 0; i < sent.size(); ++i) {
    sent[i] = static_cast<std::byte>((i * 31 + i / 256) & 0xff);
  }
  std::size_t got_bytes = 0;
  Gate gate;
  gate.Spawn(ReadAll(pair.server.get(), received, &got_bytes));
  std::vector<iovec> parts;
  for (std::size_t start = 0; start < sent.size(); start += 5000) {
    parts.push_back({sent.data() + start, std::min<std::size_t>(5000, sent.size() - start)});
  }
  const absl::Status wrote = co_await pair.client->WriteAll(parts, kNoDeadline);
  EXPECT_TRUE(wrote.ok()) << wrote;
  co_await gate.Close();
  EXPECT_EQ(got_bytes, sent.size());
  EXPECT_TRUE(sent == received);
}

Task<void> DeadlineOfARead(Reactor* reactor, Address address) {
  StreamPair pair = co_await Connected(reactor, address);
  if (!pair.server || !pair.client) co_return;
  std::array<std::byte, 8> bytes;
  const std::int64_t deadline_ns = reactor->NowNanos() + 2 * kMilli;
  auto got = co_await pair.client->ReadSome(bytes, deadline_ns);
  EXPECT_EQ(got.status().code(), absl::StatusCode::kDeadlineExceeded) << got.status();
  EXPECT_GE(reactor->NowNanos(), deadline_ns);
  // The stream is as good as before.
  const std::int64_t later_ns = reactor->NowNanos() + 10 * kSecond;
  const absl::Status wrote = co_await WriteString(pair.server.get(), "late", later_ns);
  EXPECT_TRUE(wrote.ok()) << wrote;
  got = co_await pair.client->ReadSome(bytes, later_ns);
  EXPECT_TRUE(got.ok() && *got == 4) << got.status();
}

Task<void> DeadlineOfAWrite(Reactor* reactor, Address address) {
  StreamPair pair = co_await Connected(reactor, address);
  if (!pair.server || !pair.client) co_return;
  // Nobody reads: the write fills the peer's buffers and then waits.
  std::vector<std::byte> bytes(32 * kMiB);
  iovec part = {bytes.data(), bytes.size()};
  const std::int64_t deadline_ns = reactor->NowNanos() + 20 * kMilli;
  const absl::Status wrote = co_await pair.client->WriteAll({&part, 1}, deadline_ns);
  EXPECT_EQ(wrote.code(), absl::StatusCode::kDeadlineExceeded) << wrote;
}

Task<void> PeerVanishes(Reactor* reactor, Address address) {
  StreamPair pair = co_await Connected(reactor, address);
  if (!pair.server || !pair.client) co_return;
  pair.server.reset();
  std::array<std::byte, 8> bytes;
  const std::int64_t deadline_ns = reactor->NowNanos() + 10 * kSecond;
  auto got = co_await pair.client->ReadSome(bytes, deadline_ns);
  EXPECT_TRUE(got.ok() && *got == 0) << got.status();
  // The first write may still be taken; the peer's refusal of it ends the stream.
  absl::Status wrote;
  for (int i = 0; i < 1000 && wrote.ok(); ++i) {
    wrote = co_await WriteString(pair.client.get(), "anyone?", deadline_ns);
  }
  EXPECT_EQ(wrote.code(), absl::StatusCode::kUnavailable) << wrote;
}

Task<void> ExpectUnavailable(Stream* stream, bool* ended) {
  std::array<std::byte, 8> bytes;
  auto got = co_await stream->ReadSome(bytes, kNoDeadline);
  EXPECT_EQ(got.status().code(), absl::StatusCode::kUnavailable) << got.status();
  *ended = true;
}

Task<void> ShutdownWakesAReader(Reactor* reactor, Address address) {
  StreamPair pair = co_await Connected(reactor, address);
  if (!pair.server || !pair.client) co_return;
  bool ended = false;
  Gate gate;
  gate.Spawn(ExpectUnavailable(pair.client.get(), &ended));
  auto sleep = reactor->SleepFor(kMilli);
  co_await sleep;  // the read is in the kernel now
  EXPECT_FALSE(ended);
  pair.client->Shutdown();
  pair.client->Shutdown();  // idempotent
  co_await gate.Close();
  EXPECT_TRUE(ended);
  const absl::Status wrote = co_await WriteString(pair.client.get(), "x", kNoDeadline);
  EXPECT_EQ(wrote.code(), absl::StatusCode::kUnavailable) << wrote;
}

Task<void> ExpectCancelled(Listener* listener, bool* ended) {
  auto accepted = co_await listener->Accept();
  EXPECT_EQ(accepted.status().code(), absl::StatusCode::kCancelled) << accepted.status();
  *ended = true;
}

Task<void> CloseEndsAnAccept(Reactor* reactor, Address address) {
  auto listener = reactor->Listen(address);
  EXPECT_TRUE(listener.ok()) << listener.status();
  if (!listener.ok()) co_return;
  bool ended = false;
  Gate gate;
  gate.Spawn(ExpectCancelled(listener->get(), &ended));
  auto sleep = reactor->SleepFor(kMilli);
  co_await sleep;
  EXPECT_FALSE(ended);
  const Address at = (*listener)->address();
  (*listener)->Close();
  co_await gate.Close();
  EXPECT_TRUE(ended);
  co_await ExpectCancelled(listener->get(), &ended);
  auto refused = co_await reactor->Connect(at, reactor->NowNanos() + 10 * kSecond);
  EXPECT_FALSE(refused.ok());
  auto again = reactor->Listen(address);  // the address is free
  EXPECT_TRUE(again.ok()) << again.status();
}

Task<void> ConnectToNobody(Reactor* reactor, Address address) {
  auto stream = co_await reactor->Connect(address, reactor->NowNanos() + 10 * kSecond);
  EXPECT_FALSE(stream.ok());
}

}  // namespace

TEST_P(ReactorSuite, EchoesOverAStream) {
  RunToEnd(EchoOverStream(reactor_.get(), {GetParam().data_path(), "", 0}));
}

TEST_P(ReactorSuite, EchoesOverTcp) {
  RunToEnd(EchoOverStream(reactor_.get(), {"", "127.0.0.1", 0}));
}

TEST_P(ReactorSuite, ContinuesAShortWrite) {
  RunToEnd(LongWrite(reactor_.get(), {GetParam().data_path(), "", 0}));
}

TEST_P(ReactorSuite, EndsAReadAtItsDeadline) {
  RunToEnd(DeadlineOfARead(reactor_.get(), {GetParam().data_path(), "", 0}));
}

TEST_P(ReactorSuite, EndsAWriteAtItsDeadline) {
  RunToEnd(DeadlineOfAWrite(reactor_.get(), {GetParam().data_path(), "", 0}));
}

TEST_P(ReactorSuite, SeesThatThePeerVanished) {
  RunToEnd(PeerVanishes(reactor_.get(), {GetParam().data_path(), "", 0}));
}

TEST_P(ReactorSuite, WakesAReaderByShutdown) {
  RunToEnd(ShutdownWakesAReader(reactor_.get(), {GetParam().data_path(), "", 0}));
}

TEST_P(ReactorSuite, EndsAnAcceptByClose) {
  RunToEnd(CloseEndsAnAccept(reactor_.get(), {GetParam().data_path(), "", 0}));
}

TEST_P(ReactorSuite, EndsAnAcceptByCloseOverTcp) {
  RunToEnd(CloseEndsAnAccept(reactor_.get(), {"", "127.0.0.1", 0}));
}

TEST_P(ReactorSuite, CannotConnectWhereNobodyListens) {
  RunToEnd(ConnectToNobody(reactor_.get(), {GetParam().data_path(), "", 0}));
}

}  // namespace keelson::io
