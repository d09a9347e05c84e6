#pragma once
// Client lists and remote engines (R16) between their gRPC messages and what the block store works
// with. Requests come from anyone who may open the socket: everything is checked here. Pure
// functions; any thread. Errors are INVALID_ARGUMENT and name the field; none has a ticket.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/client_list.h"
#include "blockstore/frontend/remote_volume.h"
#include "proto/keelson/v1/blockstore.pb.h"

namespace keelson::service {

using ClientMessages = google::protobuf::RepeatedPtrField<v1::VolumeClient>;

// `clients`, where those without a ticket get the one that they have in `present`.
absl::StatusOr<std::vector<v1::VolumeClient>> FillTickets(
    const ClientMessages& clients, const std::vector<v1::VolumeClient>& present);
absl::StatusOr<std::vector<engine::ListedClient>> ParseClients(
    const std::vector<v1::VolumeClient>& clients);
absl::StatusOr<frontend::RemoteTarget> ParseRemote(const std::string& volume,
                                                   const v1::RemoteEngine& remote);
v1::ClientStatus ToMessage(const engine::ClientStatus& status);

}  // namespace keelson::service
