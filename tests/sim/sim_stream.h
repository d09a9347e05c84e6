#pragma once
// SimNetwork: the in-memory byte streams of a World. Bytes of a stream arrive in order, in segments
// and after delays that the seed chooses; a stream may stall, or be reset (both ends fail at once).
// An orderly end arrives behind the bytes sent before it. Owned by the World.

#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "blockstore/io/stream.h"
#include "tests/sim/sim_reactor.h"

namespace keelson::sim {

struct NetworkFaults {
  double segment_split = 0.3;  // a write arrives in pieces
  double reset = 0;            // per write
  double stall = 0;            // per write
  std::int64_t stall_ns = 2'000'000'000;
  std::int64_t latency_ns_max = 100'000;
  std::size_t window_bytes = std::size_t{256} << 10;  // sent and not yet read
};

class SimListener;
class SimStream;
struct SimConnection;

class SimNetwork {
 public:
  explicit SimNetwork(World* world) : world_(world) {}

  // ALREADY_EXISTS while another listener has the address. Port 0: the next one free.
  absl::StatusOr<std::unique_ptr<io::Listener>> Listen(SimReactor* process,
                                                       const io::Address& address);
  // UNAVAILABLE when nobody listens there, NOT_FOUND for a UNIX path that does not exist.
  io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> Connect(SimReactor* process,
                                                                io::Address address,
                                                                std::int64_t deadline_ns);
  // Its listeners vanish; its peers see the end of the stream, or a reset.
  void ProcessDied(SimReactor* process);

  NetworkFaults& faults() { return faults_; }

 private:
  friend class SimListener;
  friend class SimStream;
  World* world_;  // owns this
  NetworkFaults faults_;
  std::map<std::string, SimListener*> listeners_;
  std::list<std::weak_ptr<SimConnection>> connections_;
  std::uint16_t next_port_ = 40'000;
  std::uint64_t next_peer_ = 1;
};

}  // namespace keelson::sim
