#pragma once
// Ticket: the secret by which a node proves that it is on a volume's client list (R16). 128 random
// bits, minted by whoever attaches. A value; it cannot be printed, and no error message has it.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace keelson::engine {

class Ticket {
 public:
  static constexpr std::size_t kBytes = 16;
  static constexpr std::size_t kTextBytes = 2 * kBytes;

  Ticket() = default;  // nobody's: all zeroes, which Parse refuses
  // 32 lower-case hexadecimal digits, not all of them 0. INVALID_ARGUMENT.
  static absl::StatusOr<Ticket> Parse(std::string_view text);

  // Takes the same time whatever the two have in common.
  bool Matches(const Ticket& other) const;
  // The digits: for the state file and for the peer, never for a log or an answer.
  std::string Reveal() const;

 private:
  std::array<std::uint8_t, kBytes> bytes_{};
};

}  // namespace keelson::engine
