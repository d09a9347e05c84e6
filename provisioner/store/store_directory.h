#pragma once
// The directory of a RocksStore, before RocksDB looks at it. Any thread; blocks on the file system.

#include <string>

#include "absl/status/status.h"

namespace keelson::provisioner {

// Makes the directory if it does not exist, durably, and keeps others out of it (mode 0700).
//   FAILED_PRECONDITION  its parent does not exist, it is not a directory or not ours, or it holds
//                        something that is not a store
//   DATA_LOSS            it holds a part of a store: RocksDB would begin an empty one over it
//   UNAVAILABLE          the file system refuses
absl::Status PrepareStoreDirectory(const std::string& directory);

}  // namespace keelson::provisioner
