#include "blockstore/engine/ticket.h"

#include <algorithm>

namespace keelson::engine {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

}  // namespace

absl::StatusOr<Ticket> Ticket::Parse(std::string_view text) {
  const absl::Status wrong =
      absl::InvalidArgumentError("a ticket is 32 lower-case hexadecimal digits, not all of them 0");
  if (text.size() != kTextBytes) return wrong;
  Ticket ticket;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::size_t digit = kDigits.find(text[i]);
    if (digit == std::string_view::npos) return wrong;
    ticket.bytes_[i / 2] = static_cast<std::uint8_t>(ticket.bytes_[i / 2] << 4 | digit);
  }
  const bool blank = std::all_of(ticket.bytes_.begin(), ticket.bytes_.end(),
                                 [](std::uint8_t byte) { return byte == 0; });
  if (blank) return wrong;
  return ticket;
}

bool Ticket::Matches(const Ticket& other) const {
  unsigned difference = 0;
  for (std::size_t i = 0; i < kBytes; ++i) {
    difference |= static_cast<unsigned>(bytes_[i] ^ other.bytes_[i]);
  }
  return difference == 0;
}

std::string Ticket::Reveal() const {
  std::string text;
  text.reserve(kTextBytes);
  for (const std::uint8_t byte : bytes_) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

}  // namespace keelson::engine
