#pragma once
// A simulated engine's node and a member's node for the tests of the data protocol: a ReplicaServer
// over a FakeReplica in one process, a RemoteReplica in the other, and hand-made peers that send
// what they should not.

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "blockstore/engine/frame_reader.h"
#include "blockstore/engine/remote_replica.h"
#include "blockstore/engine/replica_server.h"
#include "blockstore/io/gate.h"
#include "blockstore/wire/messages.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/sim_stream.h"
#include "tests/sim/world.h"
#include "tests/unit/engine/remote_fake_port.h"

namespace keelson::engine::testing {

inline constexpr std::int64_t kSecond = 1'000'000'000;

inline pool::Uuid Id(std::uint8_t fill) {
  pool::Uuid uuid;
  uuid.bytes.fill(fill);
  return uuid;
}

inline pool::Epoch SomeEpoch(std::uint64_t attachment = 7) {
  return {.attachment = attachment, .restart = 3, .engine = pool::EngineId(Id(9))};
}

// Block-aligned memory that is told apart byte by byte; freed when the test says so.
std::vector<std::byte> Pattern(std::size_t size_bytes, std::uint64_t seed);

// The bytes of one frame as it lies on the wire.
std::string Flat(const wire::EncodedFrame& frame);

// A frame that a hand-made peer received.
struct RawFrame {
  wire::FrameHeader header;
  std::string message;
  std::string data;
};

// One end of a connection, driven by hand.
class RawPeer {
 public:
  RawPeer(sim::World* world, std::unique_ptr<io::Stream> stream)
      : world_(world), stream_(std::move(stream)), reader_(stream_.get()) {}

  io::Task<absl::Status> Send(std::string bytes);
  io::Task<absl::StatusOr<RawFrame>> Receive(std::int64_t deadline_ns);
  FrameReader& reader() { return reader_; }
  io::Stream& stream() { return *stream_; }

 private:
  sim::World* world_;
  std::unique_ptr<io::Stream> stream_;
  FrameReader reader_;
};

class RemoteTest : public ::testing::Test {
 public:
  RemoteTest();
  ~RemoteTest() override;

 protected:
  void StartServer(ReplicaServerOptions options = {});
  // A member by hand: hellos, a good answer to Prepare, and then to each request what `on_request`
  // makes of it.
  using OnRequest = std::function<std::string(const wire::FrameHeader& request)>;
  void StartScriptedMember(OnRequest on_request,
                           std::function<std::string(const wire::FrameHeader&)> on_prepare = {});
  // After the connection to it has ended; then another may be started.
  void StopScriptedMember();
  // An engine by hand, with the hellos exchanged.
  std::unique_ptr<RawPeer> ConnectByHand();

  replica::Member member() const;
  std::int64_t In(std::int64_t duration_ns) const { return world_.now_ns() + duration_ns; }
  // Runs a call to its end.
  template <typename T>
  T Run(io::Task<T> task) {
    std::optional<T> result = world_.RunTask(std::move(task));
    EXPECT_TRUE(result.has_value()) << "it hangs";
    KEEL_CHECK(result.has_value(), "a call ends");
    return *std::move(result);
  }
  // Starts a call; its result appears in *result.
  template <typename T>
  void Start(io::Task<T> task, std::optional<T>* result) {
    gate_.Spawn(Store(std::move(task), result));
  }
  absl::Status PrepareRemote(std::uint64_t attachment = 7) {
    return Run(remote_->Prepare(SomeEpoch(attachment), In(kSecond))).status();
  }
  // Steps until `condition` holds.
  template <typename Condition>
  bool Until(Condition condition) {
    return world_.StepWhile([&condition] { return !condition(); });
  }

  sim::World world_{1};
  sim::SimReactor* engine_;
  sim::SimReactor* node_;
  FakeReplica replica_;
  FakeSource source_{&replica_};
  io::Gate gate_;
  std::unique_ptr<ReplicaServer> server_;
  std::unique_ptr<RemoteReplica> remote_;

 private:
  template <typename T>
  static io::Task<void> Store(io::Task<T> task, std::optional<T>* result) {
    T value = co_await std::move(task);
    result->emplace(std::move(value));
  }
  io::Task<void> Serve(std::unique_ptr<io::Listener> listener);
  io::Task<void> ServeScript();
  std::unique_ptr<io::Listener> Listen();

  OnRequest on_request_;
  std::function<std::string(const wire::FrameHeader&)> on_prepare_;
  std::unique_ptr<io::Listener> script_listener_;
};

}  // namespace keelson::engine::testing
