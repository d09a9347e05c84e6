#pragma once
// Two simulated nodes: one whose daemon serves a volume in memory to listed clients, and one that
// shows it by a RemoteVolume. The first one's process can die and come back.

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/engine/client_list.h"
#include "blockstore/frontend/nbd_server.h"
#include "blockstore/frontend/remote_volume.h"
#include "blockstore/io/gate.h"
#include "tests/sim/sim_reactor.h"
#include "tests/sim/sim_stream.h"
#include "tests/sim/world.h"
#include "tests/unit/frontend/memory_device.h"

namespace keelson::frontend::testing {

inline constexpr std::int64_t kSecond = 1'000'000'000;
inline constexpr std::uint64_t kVolumeBytes = std::uint64_t{4} << 20;
inline constexpr std::string_view kTicket = "000102030405060708090a0b0c0d0e0f";

// What a daemon with the volume "vol" attached is to its clients, in one process.
class EngineNode final : public ExportDirectory {
 public:
  EngineNode(sim::SimReactor* process, EngineState state, std::uint64_t size_bytes = kVolumeBytes);

  // Listens at the port of every engine. Never ends: its owner leaks it with its process.
  void Serve();
  // No export from now on, as an attachment that is fenced.
  void Fence() { fenced_ = true; }

  MemoryDevice& device() { return device_; }
  engine::ClientList& clients() { return clients_; }
  NbdServer& server() { return server_; }
  sim::SimReactor* process() const { return process_; }

  std::vector<std::string> Names() override { return {}; }
  engine::BlockDevice* Find(std::string_view) override { return nullptr; }
  Export Describe(std::string_view asked) override;
  io::Task<std::unique_ptr<engine::BlockDevice>> Open(std::string asked,
                                                      absl::AnyInvocable<void()> end) override;
  bool SharesDevices() const override { return false; }

 private:
  bool Serves(const ClientName& name) const;
  io::Task<void> RunServer(std::unique_ptr<io::Listener> listener);

  sim::SimReactor* process_;
  const EngineState state_;
  MemoryDevice device_;
  engine::ClientList clients_;
  NbdServer server_;
  io::Gate gate_;
  bool fenced_ = false;
};

class RemoteVolumeTest : public ::testing::Test {
 protected:
  RemoteVolumeTest();
  ~RemoteVolumeTest() override;

  // An engine under attachment 5, with this node on its list, on the given machine.
  EngineNode* StartEngine(EngineState state = {.engine = {5, 0}, .lost = {}},
                          sim::Machine* machine = nullptr);
  // Its process dies; another one with what it had applied, and its list.
  EngineNode* RestartEngine(EngineNode* engine, EngineState state);
  void Kill(EngineNode* engine) { world_.Kill(engine->process()); }

  RemoteTarget TargetAt(const sim::Machine* machine, std::uint64_t attachment = 5) const;
  void StartRemote(RemoteVolumeOptions options = {});
  bool Connects();

  using Result = std::optional<absl::Status>;
  Result* Write(std::uint64_t block, char fill, bool fua = false);
  Result* Flush();
  // Of the block's first byte, or '!' and the test fails.
  char Read(std::uint64_t block);
  absl::Status Run(Result* result);

  // Steps until `condition` holds, or nothing happens any more.
  template <typename Condition>
  bool Until(Condition condition) {
    return world_.StepWhile([&condition] { return !condition(); });
  }

  static io::Task<void> Store(io::Task<absl::Status> task, Result* result);

  sim::World world_{1};
  sim::Machine* other_machine_;
  sim::SimReactor* client_;
  std::unique_ptr<RemoteVolume> remote_;
  std::vector<std::unique_ptr<Result>> results_;
  std::vector<std::unique_ptr<std::vector<std::byte>>> buffers_;
  io::Gate gate_;
};

}  // namespace keelson::frontend::testing
