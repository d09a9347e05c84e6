#pragma once
// Fuse: counts what programs do to the world (a write to the store, a call of a block store, a call
// of the host), and ends the programs at one of these: that one and all later ones fail and change
// nothing, until the programs are started again. Owned by the World; any thread.

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace keelson::csi {

class Fuse {
 public:
  // Ends them at the `event`-th from now on (1: the next).
  void Set(std::uint64_t event) {
    const std::lock_guard lock(mutex_);
    left_ = event;
    fatal_.clear();
  }
  // The programs are new; nothing ends them.
  void Replace() {
    const std::lock_guard lock(mutex_);
    left_.reset();
  }
  // Where they ended; empty: nowhere since Set.
  std::string fatal() const {
    const std::lock_guard lock(mutex_);
    return fatal_;
  }

  absl::Status Event(const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (!left_ || (*left_ != 0 && --*left_ != 0)) return absl::OkStatus();
    if (fatal_.empty()) fatal_ = what;
    return absl::UnavailableError(absl::StrCat("the program has ended before: ", what));
  }
  // What changes nothing is no event, but those who have ended do not get it either.
  absl::Status Ask() const {
    const std::lock_guard lock(mutex_);
    if (!left_ || *left_ != 0) return absl::OkStatus();
    return absl::UnavailableError("the program has ended");
  }

 private:
  mutable std::mutex mutex_;
  std::optional<std::uint64_t> left_;
  std::string fatal_;
};

}  // namespace keelson::csi
