#pragma once
// The hellos that begin a connection: encoding, checking and the choice of a version. Values and
// pure functions; any thread. The engine speaks first; the replica's hello carries the choice, or
// the reason of a refusal, which an engine of any version can read.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/wire/protocol.h"

namespace keelson::wire {

struct Hello {
  Role role = Role::kEngine;
  std::uint16_t version_min = kVersionMin;
  std::uint16_t version_max = kVersionMax;
  std::uint16_t version_chosen = 0;
  std::uint64_t features_offered = kFeaturesKnown;
  std::uint64_t features_required = 0;
  std::string text;
  bool operator==(const Hello&) const = default;
};

std::string EncodeHello(const Hello& hello);

// The replica's side: its hello for what the engine sent. `ours` says what it can do; the answer
// has the highest version of both, or version_chosen 0 and the reason.
Hello AnswerHello(const Hello& engine, const Hello& ours);

// The engine's side. UNAVAILABLE with what is wrong: refused, or a version or a feature that was
// not offered.
absl::Status CheckHelloAnswer(const Hello& answer, const Hello& sent);

// Takes a hello out of a stream of bytes, in any split.
class HelloDecoder {
 public:
  // Consumes from the front of `input` what belongs to the hello. Empty: more is needed.
  // INVALID_ARGUMENT says what is wrong with it; nothing more is decoded then.
  absl::StatusOr<std::optional<Hello>> Next(std::span<const std::byte>* input);

 private:
  absl::Status ReadFixedPart();
  absl::StatusOr<Hello> ReadWhole() const;

  std::size_t wanted_bytes_ = sizeof(RawHello);
  std::string bytes_;
};

}  // namespace keelson::wire
