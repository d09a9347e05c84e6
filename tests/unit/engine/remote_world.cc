#include "tests/unit/engine/remote_world.h"

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/wire/hello.h"

namespace keelson::engine::testing {
namespace {

constexpr std::size_t kReplicaBytes = std::size_t{8} << 20;
constexpr std::size_t kArenaBytes = std::size_t{8} << 20;
constexpr std::uint16_t kPort = 4711;

}  // namespace

std::vector<std::byte> Pattern(std::size_t size_bytes, std::uint64_t seed) {
  std::vector<std::byte> bytes(size_bytes);
  sim::Random random(seed);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.Below(256));
  return bytes;
}

std::string Flat(const wire::EncodedFrame& frame) {
  std::string bytes(reinterpret_cast<const char*>(frame.head.data()), frame.head_bytes);
  bytes += frame.body;
  bytes.append(reinterpret_cast<const char*>(frame.data.data()), frame.data.size());
  return bytes;
}

io::Task<absl::Status> RawPeer::Send(std::string bytes) {
  iovec part{bytes.data(), bytes.size()};
  const std::span<iovec> parts(&part, 1);
  const absl::Status status = co_await stream_->WriteAll(parts, world_->now_ns() + 100 * kSecond);
  co_return status;
}

io::Task<absl::StatusOr<RawFrame>> RawPeer::Receive(std::int64_t deadline_ns) {
  while (true) {
    const wire::FrameDecoder::Event event = reader_.Next();
    if (event == wire::FrameDecoder::Event::kBad) co_return reader_.error();
    if (event == wire::FrameDecoder::Event::kFrame) break;
    const absl::Status filled = co_await reader_.Fill(deadline_ns);
    CO_RETURN_IF_ERROR(filled);
  }
  RawFrame frame;
  frame.header = reader_.header();
  frame.message.assign(reinterpret_cast<const char*>(reader_.message().data()),
                       reader_.message().size());
  frame.data.resize(frame.header.data_bytes);
  const std::span<std::byte> into =
      std::as_writable_bytes(std::span(frame.data.data(), frame.data.size()));
  const absl::Status received = co_await reader_.ReceiveData(into, deadline_ns);
  CO_RETURN_IF_ERROR(received);
  co_return frame;
}

RemoteTest::RemoteTest()
    : engine_(world_.StartProcess(kArenaBytes)),
      node_(world_.StartProcess(kArenaBytes)),
      replica_(node_, kReplicaBytes) {
  replica_.pool = pool::PoolId(Id(1));
  replica_.replica = pool::ReplicaId(Id(2));
  replica_.incarnation = Id(3);
  replica_.random = &world_.random();
  remote_ = std::make_unique<RemoteReplica>(engine_, member());
}

RemoteTest::~RemoteTest() {
  replica_.Release();
  EXPECT_TRUE(world_.RunTask(remote_->Close()));
  EXPECT_TRUE(server_ == nullptr || world_.RunTask(server_->Close()));
  if (script_listener_ != nullptr) StopScriptedMember();
  EXPECT_TRUE(world_.RunTask(gate_.Close()));
  EXPECT_EQ(replica_.ports, 0u);
  EXPECT_EQ(replica_.running, 0u);
  EXPECT_TRUE(server_ == nullptr || server_->counters().connections == 0);
}

replica::Member RemoteTest::member() const {
  replica::Member member;
  member.pool = replica_.pool;
  member.replica = replica_.replica;
  member.address = absl::StrCat("10.0.0.2:", kPort);
  return member;
}

std::unique_ptr<io::Listener> RemoteTest::Listen() {
  io::Address address;
  address.host = "10.0.0.2";
  address.port = kPort;
  return *node_->Listen(address);
}

void RemoteTest::StartServer(ReplicaServerOptions options) {
  server_ = std::make_unique<ReplicaServer>(node_, &source_, options);
  gate_.Spawn(Serve(Listen()));
}

io::Task<void> RemoteTest::Serve(std::unique_ptr<io::Listener> listener) {
  const absl::Status status = co_await server_->Serve(std::move(listener));
  EXPECT_TRUE(status.ok());
}

void RemoteTest::StartScriptedMember(
    OnRequest on_request, std::function<std::string(const wire::FrameHeader&)> on_prepare) {
  on_request_ = std::move(on_request);
  on_prepare_ = std::move(on_prepare);
  script_listener_ = Listen();
  gate_.Spawn(ServeScript());
}

void RemoteTest::StopScriptedMember() {
  script_listener_->Close();
  script_listener_.reset();
}

io::Task<void> RemoteTest::ServeScript() {
  absl::StatusOr<std::unique_ptr<io::Stream>> stream = co_await script_listener_->Accept();
  if (!stream.ok()) co_return;
  RawPeer peer(&world_, *std::move(stream));
  const absl::StatusOr<wire::Hello> hello = co_await peer.reader().ReceiveHello(io::kNoDeadline);
  if (!hello.ok()) co_return;
  std::string answer = wire::EncodeHello(wire::AnswerHello(*hello, wire::Hello{}));
  absl::Status status = co_await peer.Send(std::move(answer));
  while (status.ok()) {
    const absl::StatusOr<RawFrame> frame = co_await peer.Receive(io::kNoDeadline);
    if (!frame.ok()) co_return;
    std::string bytes;
    if (frame->header.type != wire::FrameType::kPrepare) {
      bytes = on_request_(frame->header);
    } else if (on_prepare_) {
      bytes = on_prepare_(frame->header);
    } else {
      replica::PrepareAnswer prepared;
      prepared.pool = replica_.pool;
      prepared.replica = replica_.replica;
      prepared.incarnation = replica_.incarnation;
      wire::EncodedFrame encoded;
      wire::EncodeAnswer(frame->header, prepared, &encoded);
      bytes = Flat(encoded);
    }
    status = co_await peer.Send(std::move(bytes));
  }
}

std::unique_ptr<RawPeer> RemoteTest::ConnectByHand() {
  io::Address address;
  address.host = "10.0.0.2";
  address.port = kPort;
  auto peer = std::make_unique<RawPeer>(&world_, *Run(engine_->Connect(address, In(kSecond))));
  EXPECT_TRUE(Run(peer->Send(wire::EncodeHello(wire::Hello{}))).ok());
  const absl::StatusOr<wire::Hello> answer = Run(peer->reader().ReceiveHello(In(kSecond)));
  EXPECT_TRUE(answer.ok() && answer->version_chosen == 1);
  return peer;
}

}  // namespace keelson::engine::testing
