#pragma once
// Clock: the provisioner's time, so that tests can be ahead of it. Any thread.

#include <cstdint>

namespace keelson::provisioner {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual std::int64_t UnixNanos() const = 0;    // since 1970-01-01 UTC; may jump
  virtual std::int64_t SteadyNanos() const = 0;  // never goes back

  // Of the machine; lives as long as the process.
  static Clock& System();
};

}  // namespace keelson::provisioner
