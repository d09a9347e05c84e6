#include "blockstore/pool/ids.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"

namespace keelson::pool {

Uuid Uuid::Random() {
  Uuid uuid;
  std::size_t have = 0;
  while (have < uuid.bytes.size()) {
    const ssize_t got = getrandom(uuid.bytes.data() + have, uuid.bytes.size() - have, 0);
    KEEL_CHECK(got > 0 || errno == EINTR, "the kernel gives random bytes");
    if (got > 0) have += static_cast<std::size_t>(got);
  }
  return uuid;
}

absl::StatusOr<Uuid> Uuid::Parse(std::string_view text) {
  const bool all_hex = std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  });
  if (text.size() != 32 || !all_hex) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", absl::CHexEscape(std::string(text.substr(0, 64))),
                     "\" is not an id of 32 hexadecimal digits"));
  }
  return FromBytes(absl::HexStringToBytes(std::string(text)));
}

absl::StatusOr<Uuid> Uuid::FromBytes(std::string_view raw) {
  Uuid uuid;
  if (raw.size() != uuid.bytes.size()) {
    return absl::InvalidArgumentError(absl::StrCat("an id has 16 bytes, not ", raw.size()));
  }
  std::memcpy(uuid.bytes.data(), raw.data(), raw.size());
  return uuid;
}

std::string Uuid::ToString() const { return absl::BytesToHexString(std::string(view())); }

}  // namespace keelson::pool
