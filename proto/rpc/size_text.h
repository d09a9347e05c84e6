#pragma once
// Sizes as the command lines of all programs take and show them. Suffixes are binary: 1k is 1024.
// Pure functions; any thread.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace keelson::rpc {

// Bytes of "4096", "4k", "1.5g", "2TiB"; suffixes k m g t p, any case, with an optional "b" or
// "ib". INVALID_ARGUMENT: anything else, a fraction of a byte, or more than 2^63 - 1.
absl::StatusOr<std::uint64_t> ParseSize(std::string_view text);

// "0 B", "512 B", "1.5 GiB", "16 MiB": at most one decimal, never rounded up to the next unit's
// name.
std::string HumanSize(std::uint64_t size_bytes);

}  // namespace keelson::rpc
