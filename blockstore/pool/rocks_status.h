#pragma once
// From rocksdb::Status to absl::Status: the one exhaustive table of it. Pure functions, any thread.

#include <rocksdb/status.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace keelson::pool {

// `what` names the object and the act, for example "syncing metadata store /pools/a/meta".
absl::Status RocksStatus(const rocksdb::Status& status, std::string_view what);

// The same for a failure to open the store at `directory`, with what a person can do about it:
// FAILED_PRECONDITION when another process has it open or a newer program made it, DATA_LOSS when
// it is damaged.
absl::Status RocksOpenStatus(const rocksdb::Status& status, const std::string& directory);

}  // namespace keelson::pool
