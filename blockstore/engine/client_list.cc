#include "blockstore/engine/client_list.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"

namespace keelson::engine {

// Counts a call, so that a session is known to be idle.
class ClientSession::InFlight {
 public:
  explicit InFlight(ClientSession* session) : session_(session) { ++session_->in_flight_; }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  ~InFlight() { --session_->in_flight_; }

 private:
  ClientSession* session_;
};

// --- A session ---

ClientSession::ClientSession(ClientList* list, ListedClient client, absl::AnyInvocable<void()> end)
    : list_(list), client_(std::move(client)), end_(std::move(end)) {}

ClientSession::~ClientSession() {
  KEEL_CHECK(in_flight_ == 0, "a client's session is destroyed after its calls");
  list_->Gone(this);
}

std::uint64_t ClientSession::size_bytes() const { return list_->device_->size_bytes(); }

bool ClientSession::read_only() const { return client_.read_only || list_->device_->read_only(); }

absl::Status ClientSession::MayCall(bool writes) const {
  if (ended_ && !SeededBug(kServeUnlistedClient)) {
    return absl::AbortedError(absl::StrCat("volume ", list_->volume_, ": the session of node ",
                                           client_.node,
                                           " has ended: it is not on the client list any more, or "
                                           "has connected again"));
  }
  if (writes && client_.read_only) {
    return absl::PermissionDeniedError(
        absl::StrCat("volume ", list_->volume_, " is read-only for node ", client_.node));
  }
  return absl::OkStatus();
}

void ClientSession::End() {
  if (std::exchange(ended_, true)) return;
  if (end_) std::exchange(end_, nullptr)();
}

io::Task<absl::Status> ClientSession::Read(std::uint64_t offset, std::span<std::byte> into) {
  CO_RETURN_IF_ERROR(MayCall(/*writes=*/false));
  InFlight in_flight(this);
  co_return co_await list_->device_->Read(offset, into);
}

io::Task<absl::Status> ClientSession::Write(std::uint64_t offset, std::span<const std::byte> from,
                                            bool fua) {
  CO_RETURN_IF_ERROR(MayCall(/*writes=*/true));
  InFlight in_flight(this);
  co_return co_await list_->device_->Write(offset, from, fua);
}

io::Task<absl::Status> ClientSession::Flush() {
  CO_RETURN_IF_ERROR(MayCall(/*writes=*/false));
  InFlight in_flight(this);
  co_return co_await list_->device_->Flush();
}

io::Task<absl::Status> ClientSession::Trim(std::uint64_t offset, std::uint64_t size_bytes,
                                           bool fua) {
  CO_RETURN_IF_ERROR(MayCall(/*writes=*/true));
  InFlight in_flight(this);
  co_return co_await list_->device_->Trim(offset, size_bytes, fua);
}

io::Task<absl::StatusOr<std::vector<BlockRun>>> ClientSession::Status(std::uint64_t offset,
                                                                      std::uint64_t size_bytes,
                                                                      std::size_t runs_max) {
  CO_RETURN_IF_ERROR(MayCall(/*writes=*/false));
  InFlight in_flight(this);
  co_return co_await list_->device_->Status(offset, size_bytes, runs_max);
}

// --- The list ---

ClientList::ClientList(BlockDevice* device, std::string volume)
    : device_(device), volume_(std::move(volume)) {}

ClientList::~ClientList() {
  KEEL_CHECK(sessions_.empty() && opening_ == 0, "a client list is closed before it is destroyed");
}

absl::Status ClientList::Check(const std::vector<ListedClient>& clients) {
  if (clients.size() > kClientsMax) {
    return absl::InvalidArgumentError(absl::StrCat("a client list names at most ", kClientsMax,
                                                   " nodes, and not ", clients.size()));
  }
  for (std::size_t i = 0; i < clients.size(); ++i) {
    if (clients[i].node.empty()) {
      return absl::InvalidArgumentError("a client needs the name of its node");
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (clients[i].node == clients[j].node) {
        return absl::InvalidArgumentError(
            absl::StrCat("node ", clients[i].node, " is on the client list twice"));
      }
      if (clients[i].ticket.Matches(clients[j].ticket)) {
        return absl::InvalidArgumentError(absl::StrCat("nodes ", clients[j].node, " and ",
                                                       clients[i].node, " have the same ticket"));
      }
    }
  }
  return absl::OkStatus();
}

bool ClientList::IsListed(const ListedClient& client) const {
  return std::any_of(clients_.begin(), clients_.end(),
                     [&client](const ListedClient& one) { return one.Same(client); });
}

ClientSession* ClientList::SessionOf(const std::string& node) const {
  const auto found =
      std::find_if(sessions_.begin(), sessions_.end(),
                   [&node](const ClientSession* session) { return session->node() == node; });
  return found == sessions_.end() ? nullptr : *found;
}

void ClientList::Replace(std::vector<ListedClient> clients) {
  if (closed_) return;
  clients_ = std::move(clients);
  // A copy: a session that is told to end may go at once.
  const std::vector<ClientSession*> sessions = sessions_;
  for (ClientSession* session : sessions) {
    if (!IsListed(session->client_)) session->End();
  }
}

bool ClientList::drained() const {
  if (SeededBug(kUnpublishWithoutDrain)) return true;
  return std::all_of(sessions_.begin(), sessions_.end(),
                     [this](const ClientSession* session) { return IsListed(session->client_); });
}

const ListedClient* ClientList::Find(const Ticket& ticket) const {
  // All of them, whichever matches: the time tells nothing.
  const ListedClient* found = nullptr;
  for (const ListedClient& client : clients_) {
    if (client.ticket.Matches(ticket)) found = &client;
  }
  return found;
}

io::Task<std::unique_ptr<ClientSession>> ClientList::Open(Ticket ticket,
                                                          absl::AnyInvocable<void()> end) {
  ++opening_;
  std::unique_ptr<ClientSession> session;
  while (true) {
    const ListedClient* const client = closed_ ? nullptr : Find(ticket);
    if (client == nullptr) break;
    ClientSession* const earlier = SessionOf(client->node);
    if (earlier != nullptr) earlier->End();
    // What it had under way lands before the new one begins, not after.
    if (earlier != nullptr && !SeededBug(kClientSessionWithoutDrain)) {
      // It may be gone already.
      if (SessionOf(client->node) != nullptr) co_await gone_.Wait();
      continue;
    }
    session.reset(new ClientSession(this, *client, std::move(end)));
    sessions_.push_back(session.get());
    break;
  }
  --opening_;
  if (closed_) gone_.WakeAll();
  co_return session;
}

void ClientList::Gone(ClientSession* session) {
  std::erase(sessions_, session);
  gone_.WakeAll();
}

std::vector<ClientStatus> ClientList::Status() const {
  std::vector<ClientStatus> status;
  for (const ListedClient& client : clients_) {
    ClientStatus& one = status.emplace_back();
    one.node = client.node;
    one.read_only = client.read_only || device_->read_only();
    for (const ClientSession* session : sessions_) {
      if (!session->client_.Same(client)) continue;
      one.connected = !session->ended_;
      one.requests_in_flight += session->in_flight_;
    }
  }
  for (const ClientSession* session : sessions_) {
    if (IsListed(session->client_)) continue;
    status.push_back({session->node(), session->read_only(), false, true, session->in_flight_});
  }
  return status;
}

io::Task<void> ClientList::Close() {
  closed_ = true;
  clients_.clear();
  const std::vector<ClientSession*> sessions = sessions_;
  for (ClientSession* session : sessions) session->End();
  while (!sessions_.empty() || opening_ > 0) co_await gone_.Wait();
}

}  // namespace keelson::engine
