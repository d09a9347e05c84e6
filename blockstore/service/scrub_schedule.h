#pragma once
// ScrubSchedule: when the attached volumes of a reactor are scrubbed by themselves: each of them
// once in an interval, one at a time, the one that has waited longest first. Memory only: after a
// start of the daemon, or an attach, the first scrub comes early in the interval.
//
// Owned by a Shard; one thread; no I/O, no clock. Times are nanoseconds of Reactor::NowNanos.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace keelson::service {

class ScrubSchedule {
 public:
  struct Volume {
    std::string name;
    bool scrubbed = false;  // now, by whomever
  };

  // REQUIRES: interval_ns > 0.
  explicit ScrubSchedule(std::int64_t interval_ns) : interval_ns_(interval_ns) {}

  // To be asked now and then. The volume whose scrub is to begin now; none while one is running or
  // none is due.
  std::optional<std::string> Next(const std::vector<Volume>& attached, std::int64_t now_ns);
  // How often.
  std::int64_t AskAgainAfter() const;

 private:
  const std::int64_t interval_ns_;
  std::map<std::string, std::int64_t> due_ns_;  // by volume
};

}  // namespace keelson::service
