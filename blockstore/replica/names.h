#pragma once
// The names people give to volumes and snapshots. No state; any thread.

#include <string_view>

#include "absl/status/status.h"

namespace keelson::replica {

// 1 to 253 characters of [A-Za-z0-9._-], and not . or ..; INVALID_ARGUMENT otherwise. `what` is
// "volume" or "snapshot".
absl::Status CheckName(std::string_view what, std::string_view name);

}  // namespace keelson::replica
