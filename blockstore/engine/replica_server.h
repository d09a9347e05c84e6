#pragma once
// ReplicaServer: shows the replicas of a PortSource to engines on other nodes, over the data
// protocol (blockstore/wire). Each connection is a ReplicaConnection and carries one session. One
// reactor, which is that of the ports; every call on its thread. Close must have completed before
// the server is destroyed.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/stream.h"
#include "blockstore/io/sync.h"
#include "blockstore/io/task.h"
#include "blockstore/pool/ids.h"
#include "blockstore/replica/replica_port.h"
#include "blockstore/wire/hello.h"

namespace keelson::engine {

class ReplicaConnection;

// Where a server finds replicas. Outlives the server.
class PortSource {
 public:
  virtual ~PortSource() = default;
  // A port of that replica, not prepared, on the server's reactor. NOT_FOUND: it is not here.
  virtual absl::StatusOr<std::unique_ptr<replica::ReplicaPort>> OpenPort(
      pool::PoolId pool, pool::ReplicaId replica) = 0;
};

struct ReplicaServerOptions {
  std::uint32_t connections_max = 1024;
  // Of one connection; beyond that it is not read from. The bytes are also bounded by a quarter of
  // the reactor's buffers; one request may always hold its buffer.
  std::uint32_t requests_in_flight_max = 256;
  std::size_t payload_in_flight_bytes_max = std::size_t{32} << 20;
  std::int64_t handshake_timeout_ns = 10'000'000'000;
  std::int64_t frame_timeout_ns = 30'000'000'000;  // from a frame's first byte to its last
  std::int64_t send_timeout_ns = 30'000'000'000;   // for an engine to take up to 1 MiB of answers
  std::int64_t idle_timeout_ns = 60'000'000'000;   // without any frame; engines send heartbeats
  wire::Hello hello;                               // what this side can do and insists on
};

struct ReplicaServerCounters {
  std::uint64_t connections = 0;  // now
  std::uint64_t connections_total = 0;
  std::uint64_t connections_refused = 0;
  std::uint64_t handshakes_failed = 0;
  std::uint64_t protocol_errors = 0;
  std::uint64_t stalled_peers = 0;  // silent, in mid-frame, or not taking their answers
  std::uint64_t requests_total = 0;
  std::uint64_t requests_refused = 0;  // of another epoch or incarnation, or without a session
};

class ReplicaServer {
 public:
  // Both outlive the server.
  ReplicaServer(io::Reactor* reactor, PortSource* source, const ReplicaServerOptions& options);
  ~ReplicaServer();

  // Accepts connections until Close; OK then. A failed accept is logged and tried again: the usual
  // cause, a lack of file descriptors, passes.
  io::Task<absl::Status> Serve(std::unique_ptr<io::Listener> listener);
  // Serves one connected stream. False, with the stream closed, when there are connections_max
  // already or the server is closing.
  bool Adopt(std::unique_ptr<io::Stream> stream);
  // Stops listening, ends every connection and completes when their ports are closed and gone and
  // every Serve is about to return. Called once.
  io::Task<void> Close();

  const ReplicaServerCounters& counters() const { return counters_; }

 private:
  io::Task<void> Accept(io::Listener* listener);
  io::Task<void> RunConnection(std::unique_ptr<io::Stream> stream);

  io::Reactor* reactor_;
  PortSource* source_;
  const ReplicaServerOptions options_;
  ReplicaServerCounters counters_;
  std::vector<ReplicaConnection*> connections_;  // owned by their RunConnection
  std::vector<io::Listener*> listeners_;         // owned by their Serve
  io::WaitList serve_ended_;
  io::Gate gate_;  // the connections
  bool closing_ = false;
};

}  // namespace keelson::engine
