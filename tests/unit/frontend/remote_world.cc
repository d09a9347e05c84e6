#include "tests/unit/frontend/remote_world.h"

#include <algorithm>

#include "blockstore/io/check.h"

namespace keelson::frontend::testing {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{8} << 20;
constexpr std::uint16_t kPort = 9761;

}  // namespace

// --- EngineNode ---

EngineNode::EngineNode(sim::SimReactor* process, EngineState state, std::uint64_t size_bytes)
    : process_(process),
      state_(state),
      device_(size_bytes),
      clients_(&device_, "vol"),
      server_(process, this, {}) {
  clients_.Replace({{"client", *engine::Ticket::Parse(kTicket), false}});
}

void EngineNode::Serve() {
  io::Address address;
  address.host = process_->machine()->host();
  address.port = kPort;
  absl::StatusOr<std::unique_ptr<io::Listener>> listener = process_->Listen(address);
  KEEL_CHECK(listener.ok(), "the engine's port is free");
  gate_.Spawn(RunServer(*std::move(listener)));
}

io::Task<void> EngineNode::RunServer(std::unique_ptr<io::Listener> listener) {
  const absl::Status status = co_await server_.Serve(std::move(listener));
  EXPECT_TRUE(status.ok()) << status;
}

bool EngineNode::Serves(const ClientName& name) const {
  return !fenced_ && name.volume == "vol" && name.attachment == state_.engine.attachment;
}

Export EngineNode::Describe(std::string_view asked) {
  Export found;
  const absl::StatusOr<ClientName> name = ParseClientName(asked);
  if (!name.ok() || !Serves(*name)) return found;
  const engine::ListedClient* const client = clients_.Find(name->ticket);
  if (client == nullptr) return found;
  found.name = "vol";
  found.device = &device_;
  found.read_only = client->read_only;
  found.description = FormatEngineState(state_);
  return found;
}

io::Task<std::unique_ptr<engine::BlockDevice>> EngineNode::Open(std::string asked,
                                                                absl::AnyInvocable<void()> end) {
  const engine::Ticket ticket = ParseClientName(asked)->ticket;
  std::unique_ptr<engine::ClientSession> session = co_await clients_.Open(ticket, std::move(end));
  co_return std::move(session);
}

// --- RemoteVolumeTest ---

RemoteVolumeTest::RemoteVolumeTest()
    : other_machine_(world_.AddMachine("10.0.0.2")),
      client_(world_.StartProcess(world_.AddMachine("10.0.0.3"), kArenaBytes)) {}

RemoteVolumeTest::~RemoteVolumeTest() {
  if (remote_ == nullptr) return;
  EXPECT_TRUE(world_.RunTask(remote_->Close()));
  EXPECT_TRUE(world_.RunTask(gate_.Close())) << "every call has completed";
}

EngineNode* RemoteVolumeTest::StartEngine(EngineState state, sim::Machine* machine) {
  if (machine == nullptr) machine = world_.machine();
  // Leaked: what is left of it belongs to a process that dies, or to the end of the test.
  auto* const engine = new EngineNode(world_.StartProcess(machine, kArenaBytes), state);
  engine->Serve();
  return engine;
}

EngineNode* RemoteVolumeTest::RestartEngine(EngineNode* engine, EngineState state) {
  sim::Machine* const machine = engine->process()->machine();
  Kill(engine);
  EngineNode* const next = StartEngine(state, machine);
  std::copy(engine->device().bytes().begin(), engine->device().bytes().end(),
            next->device().bytes().begin());
  return next;
}

RemoteTarget RemoteVolumeTest::TargetAt(const sim::Machine* machine,
                                        std::uint64_t attachment) const {
  RemoteTarget target;
  target.address.host = machine->host();
  target.address.port = kPort;
  target.ticket = *engine::Ticket::Parse(kTicket);
  target.attachment = attachment;
  return target;
}

void RemoteVolumeTest::StartRemote(RemoteVolumeOptions options) {
  remote_ = std::make_unique<RemoteVolume>(client_, "vol", TargetAt(world_.machine()), options);
  remote_->Start();
}

bool RemoteVolumeTest::Connects() {
  return Until([this] { return remote_->connected(); });
}

io::Task<void> RemoteVolumeTest::Store(io::Task<absl::Status> task, Result* result) {
  absl::Status status = co_await std::move(task);
  result->emplace(std::move(status));
}

RemoteVolumeTest::Result* RemoteVolumeTest::Write(std::uint64_t block, char fill, bool fua) {
  buffers_.push_back(std::make_unique<std::vector<std::byte>>(4096, static_cast<std::byte>(fill)));
  results_.push_back(std::make_unique<Result>());
  gate_.Spawn(Store(remote_->Write(block * 4096, *buffers_.back(), fua), results_.back().get()));
  return results_.back().get();
}

RemoteVolumeTest::Result* RemoteVolumeTest::Flush() {
  results_.push_back(std::make_unique<Result>());
  gate_.Spawn(Store(remote_->Flush(), results_.back().get()));
  return results_.back().get();
}

char RemoteVolumeTest::Read(std::uint64_t block) {
  std::vector<std::byte> bytes(4096);
  const std::optional<absl::Status> read = world_.RunTask(remote_->Read(block * 4096, bytes));
  EXPECT_TRUE(read.has_value() && read->ok());
  if (!read.has_value() || !read->ok()) return '!';
  EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(),
                          [&bytes](std::byte byte) { return byte == bytes[0]; }));
  return static_cast<char>(bytes[0]);
}

absl::Status RemoteVolumeTest::Run(Result* result) {
  if (!Until([result] { return result->has_value(); })) return absl::InternalError("it hangs");
  return **result;
}

}  // namespace keelson::frontend::testing
