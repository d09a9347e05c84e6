#include "blockstore/frontend/client_name.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "blockstore/io/status.h"

namespace keelson::frontend {
namespace {

bool ParseNumber(std::string_view text, std::string_view key, std::uint64_t* number) {
  if (!text.starts_with(key)) return false;
  text.remove_prefix(key.size());
  // One form for each number: SimpleAtoi also takes signs and blanks.
  if (text.empty() || text.find_first_not_of("0123456789") != std::string_view::npos) return false;
  return absl::SimpleAtoi(std::string(text), number);
}

bool ParseEngineNumber(std::string_view attachment, std::string_view restart,
                       std::string_view attachment_key, std::string_view restart_key,
                       EngineNumber* number) {
  std::uint64_t restarts = 0;
  if (!ParseNumber(attachment, attachment_key, &number->attachment) ||
      !ParseNumber(restart, restart_key, &restarts) || restarts > UINT32_MAX) {
    return false;
  }
  number->restart = static_cast<std::uint32_t>(restarts);
  return true;
}

}  // namespace

std::string FormatClientName(const ClientName& name) {
  return absl::StrCat(name.volume, "/", name.attachment, "/", name.ticket.Reveal());
}

absl::StatusOr<ClientName> ParseClientName(std::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(std::string(text), '/');
  ClientName name;
  if (parts.size() != 3 || parts[0].empty() || !ParseNumber(parts[1], "", &name.attachment)) {
    return absl::InvalidArgumentError("a client asks for VOLUME/ATTACHMENT/TICKET");
  }
  name.volume = parts[0];
  ASSIGN_OR_RETURN(name.ticket, engine::Ticket::Parse(parts[2]));
  return name;
}

std::string FormatEngineState(const EngineState& state) {
  return absl::StrCat("attachment=", state.engine.attachment, " restart=", state.engine.restart,
                      " lost=", state.lost.attachment, ".", state.lost.restart);
}

absl::StatusOr<EngineState> ParseEngineState(std::string_view text) {
  const std::vector<std::string> words = absl::StrSplit(std::string(text), ' ');
  EngineState state;
  if (words.size() == 3) {
    const std::size_t dot = words[2].find('.');
    if (dot != std::string::npos &&
        ParseEngineNumber(words[0], words[1], "attachment=", "restart=", &state.engine) &&
        ParseEngineNumber(words[2].substr(0, dot), words[2].substr(dot + 1), "lost=", "",
                          &state.lost)) {
      return state;
    }
  }
  return absl::InvalidArgumentError("it does not say which engine it is");
}

}  // namespace keelson::frontend
