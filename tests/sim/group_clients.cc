// GroupHarness: other nodes that reach the volume through its engine (R16): sessions of the
// attachment's client list, which come and go while they have requests under way.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_harness.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

constexpr std::int64_t kPollNanos = 1'000'000;

engine::Ticket TicketOf(std::size_t node, std::uint64_t minted) {
  return *engine::Ticket::Parse(
      absl::StrCat(absl::Hex(node + 1, absl::kZeroPad16), absl::Hex(minted, absl::kZeroPad16)));
}

}  // namespace

// A segment as the whole volume.
class GroupHarness::SegmentDevice final : public engine::BlockDevice {
 public:
  explicit SegmentDevice(engine::SegmentEngine* engine) : engine_(engine) {}
  std::uint64_t size_bytes() const override { return engine_->size_bytes(); }
  bool read_only() const override { return false; }
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into) override {
    return engine_->Read(offset, into);
  }
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               bool) override {
    return engine_->Write(offset, from);
  }
  io::Task<absl::Status> Flush() override { return engine_->Flush(); }
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes, bool) override {
    return engine_->Trim(offset, size_bytes);
  }
  io::Task<absl::StatusOr<std::vector<engine::BlockRun>>> Status(std::uint64_t, std::uint64_t,
                                                                 std::size_t) override {
    co_return absl::UnimplementedError("nobody asks");
  }

 private:
  engine::SegmentEngine* engine_;
};

GroupHarness::Clients::Clients() = default;
GroupHarness::Clients::~Clients() = default;

void GroupHarness::Clients::Leak() {
  for (const auto& one : sessions) static_cast<void>(one->session.release());
  static_cast<void>(list.release());
  static_cast<void>(device.release());
}

void GroupHarness::Clients::Clear() {
  list.reset();
  device.reset();
}

void GroupHarness::StartClients(Attachment* attachment) {
  if (!knobs_.clients) return;
  Clients& clients = attachment->clients;
  clients.device = std::make_unique<SegmentDevice>(attachment->engine.get());
  clients.list = std::make_unique<engine::ClientList>(clients.device.get(), "volume");
  for (std::size_t node = 0; node < kClientNodes; ++node) {
    if (clients_random_.Chance(0.7)) clients.listed.insert({node, 1});
  }
  SetClients(attachment);
  for (const auto& [node, minted] : clients.listed) OpenClient(attachment, node);
}

void GroupHarness::SetClients(Attachment* attachment) {
  Clients& clients = attachment->clients;
  std::vector<engine::ListedClient> list;
  for (const auto& [node, minted] : clients.listed) {
    list.push_back({absl::StrCat("client-", node), TicketOf(node, minted), false});
  }
  clients.list->Replace(std::move(list));
}

void GroupHarness::OpenClient(Attachment* attachment, std::size_t node) {
  const auto listed = attachment->clients.listed.find(node);
  if (listed == attachment->clients.listed.end()) return;
  RunOpenClient(this, attachment, node, TicketOf(node, listed->second));
}

io::internal::Detached GroupHarness::RunOpenClient(GroupHarness* harness, Attachment* attachment,
                                                   std::size_t node, engine::Ticket ticket) {
  auto turn = attachment->process->Yield();
  co_await turn;
  if (attachment->clients.list == nullptr) co_return;
  attachment->clients.sessions.push_back(std::make_unique<ClientConnection>());
  ClientConnection* const connection = attachment->clients.sessions.back().get();
  connection->node = node;
  connection->attachment = attachment;
  absl::AnyInvocable<void()> end = [harness, connection] { harness->OnToldToEnd(connection); };
  connection->session = co_await attachment->clients.list->Open(ticket, std::move(end));
  if (connection->session == nullptr) co_return;
  for (const auto& [op, io] : harness->ios_) {
    if (io->client == nullptr || io->client == connection || io->attachment != attachment) continue;
    if (io->client->node != node) continue;
    harness->Fail(absl::StrCat("client-list: a client's session begins while the earlier one has ",
                               harness->Name(*io)));
  }
}

// A connection lets its session go when its last request has ended.
void GroupHarness::OnToldToEnd(ClientConnection* connection) {
  connection->told_at = watch_.Tick();
  if (connection->in_flight == 0) connection->session.reset();
}

void GroupHarness::CheckServed(const Io& io) {
  if (io.client == nullptr || io.client->told_at == 0 || io.client->told_at > io.began) return;
  Fail(absl::StrCat("client-list: ", Name(io), " was served after its client had left"));
}

void GroupHarness::ClientIoEnded(ClientConnection* connection) {
  if (connection == nullptr) return;
  if (--connection->in_flight == 0 && connection->told_at != 0) connection->session.reset();
}

// The session that the next request goes through; nullptr: it is the engine's own node's.
GroupHarness::ClientConnection* GroupHarness::ChooseClient(Attachment* attachment) {
  if (!knobs_.clients || !clients_random_.Chance(0.6)) return nullptr;
  std::vector<ClientConnection*> open;
  for (const auto& one : attachment->clients.sessions) {
    // Also what a connection had read before it was told to end.
    if (one->session != nullptr && (one->told_at == 0 || clients_random_.Chance(0.3))) {
      open.push_back(one.get());
    }
  }
  return open.empty() ? nullptr : open[clients_random_.Below(open.size())];
}

void GroupHarness::StartClientChange(Attachment* attachment) {
  Clients& clients = attachment->clients;
  if (!knobs_.clients || clients.list == nullptr || !clients_random_.Chance(0.05)) return;
  const std::size_t node = clients_random_.Below(kClientNodes);
  const auto listed = clients.listed.find(node);
  if (listed == clients.listed.end()) {
    clients.listed.insert({node, ++clients.minted});
    SetClients(attachment);
    OpenClient(attachment, node);
  } else if (clients_random_.Coin()) {
    SIM_PROBE("group: a client connected again");
    OpenClient(attachment, node);
  } else {
    clients.listed.erase(listed);
    RunUnpublish(this, attachment, node);
  }
}

io::internal::Detached GroupHarness::RunUnpublish(GroupHarness* harness, Attachment* attachment,
                                                  std::size_t node) {
  auto turn = attachment->process->Yield();
  co_await turn;
  Clients& clients = attachment->clients;
  if (clients.list == nullptr) co_return;
  harness->SetClients(attachment);
  while (clients.list != nullptr && !clients.list->drained()) {
    auto pause = attachment->process->SleepFor(kPollNanos);
    co_await pause;
  }
  // It may have been published again meanwhile; what it asked for then is its right.
  if (clients.listed.contains(node)) co_return;
  bool any = false;
  for (const auto& [op, io] : harness->ios_) {
    if (io->client == nullptr || io->attachment != attachment || io->client->node != node) continue;
    harness->watch_.MayNotLand(io->version);
    any = true;
  }
  harness->Tell(absl::StrCat("client ", node, " of epoch ", attachment->epoch.attachment,
                             " is unpublished", any ? " with requests under way" : ""));
  SIM_PROBE("group: a client was unpublished");
}

}  // namespace keelson::sim
