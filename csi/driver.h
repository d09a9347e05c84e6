#pragma once
// Driver: the services of one keelson-csi process on its socket. Owned by main's thread.

#include <chrono>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "csi/options.h"

namespace keelson::csi {

class Driver {
 public:
  // Listens when it returns. The programs behind it need not be there yet. Fails on what a person
  // must put right: the socket is taken, the mount root is not there.
  static absl::StatusOr<std::unique_ptr<Driver>> Start(const Options& options);
  ~Driver();

  // Takes no more calls, lets those that run end within `patience`, and then cancels them. False:
  // work hangs in the kernel, and the process must end without destroying the driver.
  bool Stop(std::chrono::milliseconds patience);

 private:
  struct Parts;
  explicit Driver(std::unique_ptr<Parts> parts);
  const std::unique_ptr<Parts> parts_;
};

}  // namespace keelson::csi
