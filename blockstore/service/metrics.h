#pragma once
// Metrics: the daemon's counters in Prometheus' text format at http://ADDR:PORT/metrics. A scrape
// runs on a thread of the HTTP server, asks every reactor for a copy of its counters, and waits at
// most kScrapePatience for them: a stuck reactor costs its own metrics and a count of
// keelson_scrape_timeouts_total, not the whole page.

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "blockstore/service/node.h"

namespace keelson::service {

class Metrics {
 public:
  static constexpr std::chrono::milliseconds kScrapePatience{2000};

  // Serves at `address` ("127.0.0.1:9750"; port 0: the kernel chooses). `node` outlives this.
  // UNAVAILABLE when the address cannot be listened on.
  static absl::StatusOr<std::unique_ptr<Metrics>> Start(const std::string& address, Node* node);
  // Waits for the HTTP server's threads, up to two seconds.
  ~Metrics();
  // For the end of the process: the node is not used any more when this returns; the HTTP server's
  // threads end with the process, which is sooner than waiting for them.
  static void Abandon(std::unique_ptr<Metrics> metrics);

  int port() const;

 private:
  struct Server;
  explicit Metrics(std::unique_ptr<Server> server);
  std::unique_ptr<Server> server_;
};

}  // namespace keelson::service
