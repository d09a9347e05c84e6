#pragma once
// Small files and directories of the daemon itself (state, run directory, locks): plain blocking
// calls, for start-up and administration. Nothing of a pool is touched through these.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace keelson::service {

// The whole file. NOT_FOUND when there is none.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Replaces `path` by `content` so that a crash leaves the old file or the new one; durable when OK.
absl::Status ReplaceFile(const std::string& path, std::string_view content);

// Makes `path` with its parents if it is not there, for this user only.
absl::Status MakeDirectory(const std::string& path);

// Holds an exclusive lock on a file, which is made if absent and stays when the lock is released.
class FileLock {
 public:
  FileLock() = default;
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock();

  // FAILED_PRECONDITION: another process holds it.
  static absl::StatusOr<FileLock> Take(const std::string& path);

 private:
  int fd_ = -1;
};

}  // namespace keelson::service
