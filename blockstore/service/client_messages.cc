#include "blockstore/service/client_messages.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/names.h"
#include "blockstore/service/daemon.h"

namespace keelson::service {

absl::StatusOr<std::vector<v1::VolumeClient>> FillTickets(
    const ClientMessages& clients, const std::vector<v1::VolumeClient>& present) {
  std::vector<v1::VolumeClient> filled(clients.begin(), clients.end());
  for (v1::VolumeClient& client : filled) {
    if (!client.ticket().empty()) continue;
    const auto found = std::find_if(
        present.begin(), present.end(),
        [&client](const v1::VolumeClient& one) { return one.node() == client.node(); });
    if (found == present.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "clients: node '", client.node(), "' is not on the list yet, so it needs a ticket"));
    }
    client.set_ticket(found->ticket());
  }
  return filled;
}

absl::StatusOr<std::vector<engine::ListedClient>> ParseClients(
    const std::vector<v1::VolumeClient>& clients) {
  std::vector<engine::ListedClient> parsed;
  for (const v1::VolumeClient& message : clients) {
    RETURN_IF_ERROR(replica::CheckName("client node's", message.node()));
    engine::ListedClient& client = parsed.emplace_back();
    client.node = message.node();
    client.read_only = message.read_only();
    absl::StatusOr<engine::Ticket> ticket = engine::Ticket::Parse(message.ticket());
    if (!ticket.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("clients: of node ", message.node(), ": ",
                                                     std::string(ticket.status().message())));
    }
    client.ticket = *ticket;
  }
  RETURN_IF_ERROR(engine::ClientList::Check(parsed));
  return parsed;
}

absl::StatusOr<frontend::RemoteTarget> ParseRemote(const std::string& volume,
                                                   const v1::RemoteEngine& remote) {
  RETURN_IF_ERROR(replica::CheckName("volume", volume));
  frontend::RemoteTarget target;
  const absl::StatusOr<io::Address> address = ParseNumericAddress(remote.address());
  if (!address.ok() || address->port == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("remote.address: '", remote.address(),
                     "' is not HOST:PORT with a numeric host, for example 10.0.0.1:9761"));
  }
  target.address = *address;
  absl::StatusOr<engine::Ticket> ticket = engine::Ticket::Parse(remote.ticket());
  if (!ticket.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("remote.ticket: ", std::string(ticket.status().message())));
  }
  target.ticket = *ticket;
  if (remote.attachment() == 0) {
    return absl::InvalidArgumentError("remote.attachment: 0 is none");
  }
  target.attachment = remote.attachment();
  return target;
}

v1::ClientStatus ToMessage(const engine::ClientStatus& status) {
  v1::ClientStatus message;
  message.set_node(status.node);
  message.set_read_only(status.read_only);
  message.set_connected(status.connected);
  message.set_requests_in_flight(status.requests_in_flight);
  message.set_leaving(status.leaving);
  return message;
}

}  // namespace keelson::service
