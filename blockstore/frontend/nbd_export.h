#pragma once
// What an NBD server serves, how it is limited and what it counts: the interface to the owner of
// the volumes (ExportDirectory), the server's own view of it (NbdExports), NbdOptions and
// NbdCounters. All on the server's reactor.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "blockstore/engine/block_device.h"
#include "blockstore/frontend/nbd_protocol.h"
#include "blockstore/io/buffer_pool.h"
#include "blockstore/io/task.h"

namespace keelson::frontend {

// What a client is told of an export before it has opened it.
struct Export {
  std::string name;                       // for logs and DropExport: without what is secret
  engine::BlockDevice* device = nullptr;  // nullptr: no such export
  bool read_only = false;
  std::string description;  // for NBD_INFO_DESCRIPTION
};

// The volumes that may be opened by name. Implemented by the daemon's table of attached volumes.
class ExportDirectory {
 public:
  virtual ~ExportDirectory() = default;
  virtual std::vector<std::string> Names() = 0;
  // nullptr: no such export. The device stays valid until NbdServer::DropExport(name) has
  // completed; take the name out of the directory before that call, or the next client opens it
  // again.
  virtual engine::BlockDevice* Find(std::string_view name) = 0;

  // For directories whose clients ask by another name than the export's, or may not do the same.
  virtual Export Describe(std::string_view asked);
  // Called once for a connection that has chosen its export: what it does its I/O through from then
  // on, destroyed when its requests have ended. `end` tells the connection to end. nullptr where
  // SharesDevices says false: the export has gone meanwhile.
  virtual io::Task<std::unique_ptr<engine::BlockDevice>> Open(std::string asked,
                                                              absl::AnyInvocable<void()> end);
  // All connections of an export use Find's device, and Open is not called.
  virtual bool SharesDevices() const { return true; }
};

struct NbdOptions {
  std::int64_t handshake_timeout_ns = 10'000'000'000;  // from the connection to the last option
  std::int64_t send_timeout_ns = 30'000'000'000;       // a client that does not read its replies
  std::int64_t payload_timeout_ns = 30'000'000'000;    // each MiB of a write's data
  std::uint32_t connections_max = 256;
  std::uint32_t requests_in_flight_max = 128;  // per connection; more stay in the socket
  // What requests are received into and answered from. A server whose clients are others' requests
  // has its own, so that no request waits for the buffer of one that waits for it. Outlives the
  // server; nullptr: the reactor's.
  io::BufferPool* buffers = nullptr;
  // Pool buffers one connection may hold, waiting replies included. Never more than a quarter of
  // the pool, so that one stalled client cannot stop the others.
  std::size_t held_bytes_max = std::size_t{8} << 20;
};

// Monotonic except `connections`; read on the server's reactor.
struct NbdCounters {
  std::uint64_t connections = 0;  // open now
  std::uint64_t connections_total = 0;
  std::uint64_t connections_refused = 0;
  std::uint64_t handshakes_failed = 0;
  std::array<std::uint64_t, nbd::kCommandCount> requests{};  // by nbd::Command
  std::uint64_t requests_unknown = 0;
  std::uint64_t read_bytes = 0;       // answered
  std::uint64_t written_bytes = 0;    // acknowledged
  std::uint64_t errors = 0;           // requests answered with an error
  std::uint64_t protocol_errors = 0;  // connections closed for what the client sent
  std::uint64_t stalled_clients = 0;  // connections closed by a deadline
};

// The directory with the protocol's rules on top: the default export, and names being dropped.
class NbdExports {
 public:
  explicit NbdExports(ExportDirectory* directory) : directory_(directory) {}

  // The empty name is the default export: the only one, if there is exactly one.
  Export Resolve(std::string_view asked) const;
  std::vector<std::string> Names() const;

  bool shares_devices() const { return directory_->SharesDevices(); }
  io::Task<std::unique_ptr<engine::BlockDevice>> Open(std::string asked,
                                                      absl::AnyInvocable<void()> end) const {
    return directory_->Open(std::move(asked), std::move(end));
  }

  // Between the two, `name` is unknown to new clients. Pairs may nest.
  void BeginDrop(std::string_view name) { dropping_.emplace_back(name); }
  void EndDrop(std::string_view name);

 private:
  bool IsDropping(std::string_view name) const;

  ExportDirectory* directory_;  // outlives the server
  std::vector<std::string> dropping_;
};

}  // namespace keelson::frontend
