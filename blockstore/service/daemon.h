#pragma once
// The daemon's life: start, serve until SIGTERM or SIGINT, stop in order.

#include <string>

#include "absl/status/statusor.h"
#include "blockstore/service/node.h"

namespace keelson::service {

struct DaemonOptions {
  NodeOptions node;
  std::string metrics_address = "127.0.0.1:9750";  // empty: none
};

// Runs the daemon and returns its exit code: 0 after an orderly stop, 1 when it could not start.
// Called by main, while the process has one thread. A second signal ends the process at once; so
// does an end that takes longer than ten seconds (a stuck disk). Both are what a crash is: nothing
// flushed is lost.
int RunDaemon(const DaemonOptions& options);

// "10.0.0.1:9760" or "[fd00::1]:9760"; port 0: the kernel chooses. INVALID_ARGUMENT unless the host
// is numeric.
absl::StatusOr<io::Address> ParseNumericAddress(const std::string& text);

// "127.0.0.1:10809" or "[::1]:10809"; port 0: the kernel chooses. INVALID_ARGUMENT unless the host
// is a numeric loopback address: NBD has no authentication, so it is not offered to a network.
absl::StatusOr<io::Address> ParseLoopbackAddress(const std::string& text);

}  // namespace keelson::service
