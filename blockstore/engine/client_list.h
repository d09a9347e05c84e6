#pragma once
// ClientList: which other nodes an attachment serves (R16), and their sessions. A ClientSession is
// what the connection of one client does its I/O through: it counts, and refuses once the client is
// not on the list any more, or has begun another session. docs/protocol.md "Other nodes" says why
// there is at most one, and what a drain is.
//
// Owned beside the engine it stands before, by whoever attached it; one reactor. Lifecycle:
// Replace, Open by connections, and Close before destruction. Errors of a session's calls: those of
// the device, and ABORTED once the session has ended.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/block_device.h"
#include "blockstore/engine/ticket.h"
#include "blockstore/io/sync.h"
#include "blockstore/io/task.h"

namespace keelson::engine {

struct ListedClient {
  std::string node;  // unique in a list
  Ticket ticket;
  bool read_only = false;

  bool Same(const ListedClient& other) const {
    return node == other.node && read_only == other.read_only && ticket.Matches(other.ticket);
  }
};

struct ClientStatus {
  std::string node;
  bool read_only = false;
  bool connected = false;
  bool leaving = false;  // not on the list any more; its last requests are still under way
  std::size_t requests_in_flight = 0;
};

class ClientList;

class ClientSession final : public BlockDevice {
 public:
  // REQUIRES: no call runs.
  ~ClientSession() override;
  ClientSession(const ClientSession&) = delete;
  ClientSession& operator=(const ClientSession&) = delete;

  std::uint64_t size_bytes() const override;
  bool read_only() const override;
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into) override;
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               bool fua) override;
  io::Task<absl::Status> Flush() override;
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes, bool fua) override;
  io::Task<absl::StatusOr<std::vector<BlockRun>>> Status(std::uint64_t offset,
                                                         std::uint64_t size_bytes,
                                                         std::size_t runs_max) override;

  const std::string& node() const { return client_.node; }

 private:
  friend class ClientList;
  class InFlight;

  ClientSession(ClientList* list, ListedClient client, absl::AnyInvocable<void()> end);
  absl::Status MayCall(bool writes) const;
  void End();

  ClientList* list_;  // outlives the session
  const ListedClient client_;
  absl::AnyInvocable<void()> end_;  // empty once called
  bool ended_ = false;
  std::size_t in_flight_ = 0;
};

class ClientList {
 public:
  static constexpr std::size_t kClientsMax = 256;

  // `volume` is for messages. The device outlives the list.
  ClientList(BlockDevice* device, std::string volume);
  ~ClientList();
  ClientList(const ClientList&) = delete;
  ClientList& operator=(const ClientList&) = delete;

  // INVALID_ARGUMENT: too many, a node without a name or twice, a ticket twice.
  static absl::Status Check(const std::vector<ListedClient>& clients);

  // From now on these. The sessions of those that are not among them, as they are, refuse every
  // call from here on, and are told to end.
  // REQUIRES: Check.
  void Replace(std::vector<ListedClient> clients);
  // No session is left of a client that is not on the list: none of their requests runs.
  bool drained() const;

  // Who shows this ticket; nullptr: nobody. Valid until the next Replace.
  const ListedClient* Find(const Ticket& ticket) const;
  // The client's session, after every earlier one of its node has ended. `end` is called, once at
  // most, when the session is to be destroyed as soon as its calls have ended. nullptr: the
  // ticket is nobody's any more.
  io::Task<std::unique_ptr<ClientSession>> Open(Ticket ticket, absl::AnyInvocable<void()> end);

  std::vector<ClientStatus> Status() const;
  std::size_t session_count() const { return sessions_.size(); }
  // Ends every session, and completes when they are gone. Nothing can be opened any more.
  io::Task<void> Close();

 private:
  friend class ClientSession;

  bool IsListed(const ListedClient& client) const;
  ClientSession* SessionOf(const std::string& node) const;
  void Gone(ClientSession* session);

  BlockDevice* device_;
  const std::string volume_;
  std::vector<ListedClient> clients_;
  std::vector<ClientSession*> sessions_;  // those that exist, also of clients that have left
  io::WaitList gone_;
  std::size_t opening_ = 0;
  bool closed_ = false;
};

}  // namespace keelson::engine
