#pragma once
// What the daemons of two nodes say to each other in the texts of an NBD handshake when one of them
// shows a volume that the other one's engine serves (R16): the export name that has the client's
// ticket, and the description that says which engine answers. Values; no I/O.

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/ticket.h"

namespace keelson::frontend {

// VOLUME/ATTACHMENT/TICKET. A secret, because of the ticket.
struct ClientName {
  std::string volume;
  std::uint64_t attachment = 0;
  engine::Ticket ticket;
};
std::string FormatClientName(const ClientName& name);
// INVALID_ARGUMENT; the message does not have the text.
absl::StatusOr<ClientName> ParseClientName(std::string_view text);

// Of an engine; higher ones are later.
struct EngineNumber {
  std::uint64_t attachment = 0;
  std::uint32_t restart = 0;
  auto operator<=>(const EngineNumber&) const = default;
};
// "attachment=7 restart=1 lost=5.0". `lost`: the last engine that was attached from members that
// may have lost answered writes which were not flushed; 0.0: none.
struct EngineState {
  EngineNumber engine;
  EngineNumber lost;
  bool operator==(const EngineState&) const = default;
};
std::string FormatEngineState(const EngineState& state);
absl::StatusOr<EngineState> ParseEngineState(std::string_view text);

}  // namespace keelson::frontend
