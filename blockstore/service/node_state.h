#pragma once
// NodeState: what a daemon must remember that no pool can tell it: which pools it opens, and which
// attachments are read-only. Kept in <state-dir>/pools.json, replaced as a whole (temporary file,
// fsync, rename, fsync of the directory), so that a crash leaves the old or the new one.
//
// Owned by Node; any thread. Every change is durable when its call returns OK.

#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace keelson::service {

class NodeState {
 public:
  explicit NodeState(const std::string& directory) : path_(directory + "/pools.json") {}

  // Reads the file; a missing one is an empty state. DATA_LOSS when it cannot be understood,
  // FAILED_PRECONDITION when a newer program wrote it.
  absl::Status Load();

  std::vector<std::string> pools() const;
  absl::Status AddPool(const std::string& directory);
  bool IsReadOnly(const std::string& volume) const;
  absl::Status SetReadOnly(const std::string& volume, bool read_only);

 private:
  absl::Status Save() const;

  const std::string path_;
  mutable std::mutex mutex_;
  std::set<std::string> pools_;              // absolute directories
  std::set<std::string> read_only_volumes_;  // attached read-only
};

}  // namespace keelson::service
