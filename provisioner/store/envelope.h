#pragma once
// The bytes around a record's value in RocksStore. Pure functions, any thread.
//
//   byte 0      1, the format of this envelope
//   bytes 1-8   the revision, little-endian
//   bytes 9-12  CRC32C of the key in the database, bytes 0-8 and the value; little-endian
//   bytes 13-   the value
//
// The checksum covers the key, so that a value under another record's key is not taken for its own.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace keelson::provisioner {

struct Enveloped {
  std::uint64_t revision = 0;
  std::string value;
};

// `key` is the one in the database.
std::string Envelop(std::string_view key, std::uint64_t revision, std::string_view value);

// DATA_LOSS: too short, another format, a wrong checksum, or the revision 0; the message is the
// reason alone.
absl::StatusOr<Enveloped> OpenEnvelope(std::string_view key, std::string_view bytes);

}  // namespace keelson::provisioner
