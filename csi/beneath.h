#pragma once
// Beneath: opens the paths of requests, which must lie in one directory of the host (the kubelet's)
// and have no symbolic link in them, at no moment: every path is resolved once, by
// openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS), and what is done afterwards is done through the
// descriptor. Somebody who can exchange directories and links there can make calls fail and cannot
// make them act elsewhere. Any thread. Needs Linux 5.6.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "csi/fd.h"

namespace keelson::csi {

// Whether `path` is an absolute path inside `root`, below it, without empty, "." or ".."
// components. INVALID_ARGUMENT names `field`. Looks at the text only.
absl::Status CheckPath(std::string_view field, const std::string& path, const std::string& root);

class Beneath {
 public:
  // `root` may itself be reached by a symbolic link: who starts the program chose it.
  static absl::StatusOr<Beneath> Open(const std::string& root);

  // The path as the kernel sees the root, for comparison with its mount table.
  const std::string& real_root() const { return real_root_; }

  // O_PATH | O_NOFOLLOW | `flags`. NOT_FOUND: it, or a directory on the way, is not there.
  // INVALID_ARGUMENT: outside of the root, or a symbolic link is in it.
  absl::StatusOr<Fd> OpenPath(const std::string& path, int flags) const;

  // The directory that holds `path`, and the last component of it.
  struct Place {
    Fd parent;
    std::string name;
  };
  absl::StatusOr<Place> OpenParent(const std::string& path) const;

  // The same for an entry of a directory that is open.
  static absl::StatusOr<Fd> OpenEntry(const Place& place, int flags);

 private:
  Beneath(std::string root, std::string real_root, Fd fd)
      : root_(std::move(root)), real_root_(std::move(real_root)), fd_(std::move(fd)) {}

  std::string root_;
  std::string real_root_;
  Fd fd_;
};

}  // namespace keelson::csi
