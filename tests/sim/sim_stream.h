#pragma once
// SimNetwork: the in-memory byte streams of a World. Bytes of a stream arrive in order, in segments
// and after delays that the seed chooses; a stream may stall, or be reset (both ends fail at once).
// An orderly end arrives behind the bytes sent before it. Owned by the World.
//
// Between machines each direction is a link of its own. A blocked one holds everything back: nobody
// is told, a Connect waits for its deadline, and an end or a reset does not come through either.
// When it heals, what was held back arrives, unless a side had given the connection up by then. A
// machine that loses power says nothing to its peers; what they send to it later is answered by a
// reset.

#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
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

// From one machine to another.
struct NetworkLink {
  bool blocked = false;
  std::int64_t latency_ns_min = 0;
  std::int64_t latency_ns_max = 0;  // 0: what NetworkFaults says
  double reset_when_healed = 0.3;   // of a connection that has bytes held back
};

class SimConnection;
class SimListener;
class SimStream;

class SimNetwork {
 public:
  explicit SimNetwork(World* world) : world_(world) {}

  // ALREADY_EXISTS while another listener has the address. Port 0: the next one free.
  absl::StatusOr<std::unique_ptr<io::Listener>> Listen(SimReactor* process,
                                                       const io::Address& address);
  // UNAVAILABLE when nobody listens there, NOT_FOUND for a UNIX path that does not exist,
  // DEADLINE_EXCEEDED when no answer comes.
  io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> Connect(SimReactor* process,
                                                                io::Address address,
                                                                std::int64_t deadline_ns);
  // Its listeners vanish; its peers see the end of the stream, or a reset, but those on other
  // machines nothing when it died with its machine.
  void ProcessDied(SimReactor* process, bool with_machine);

  NetworkFaults& faults() { return faults_; }
  // The way from one machine to another; changed at any time, but for `blocked`.
  NetworkLink& link(const Machine* from, const Machine* to) { return links_[{from, to}]; }
  bool Blocked(const Machine* from, const Machine* to) const;
  void Block(const Machine* from, const Machine* to);
  void Heal(const Machine* from, const Machine* to);
  // Every link.
  void HealAll();

 private:
  friend class SimConnection;
  friend class SimListener;
  friend class SimStream;
  std::int64_t DrawTravel(const Machine* from, const Machine* to);
  std::int64_t DrawLatency(const SimReactor* from, const SimReactor* to);
  const Machine* MachineAt(const io::Address& address, SimReactor* client) const;

  World* world_;  // owns this
  NetworkFaults faults_;
  std::map<std::pair<const Machine*, const Machine*>, NetworkLink> links_;  // never iterated over
  std::map<std::string, SimListener*> listeners_;
  std::list<std::weak_ptr<SimConnection>> connections_;
  std::uint16_t next_port_ = 40'000;
  std::uint64_t next_peer_ = 1;
};

}  // namespace keelson::sim
