#pragma once
// SimConnection: both ends of a simulated stream and the bytes between them; what SimStream and
// SimNetwork share. End i reads from pipe i. What one end does reaches the other by an arrival over
// the link of their machines, in order; only between processes of one machine is a death or a
// shutdown known at once. Kept alive by its streams and by what is under way.

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "tests/sim/sim_reactor.h"

namespace keelson::sim {

class SimNetwork;

// What one coroutine waits on, with a deadline.
class Signal {
 public:
  struct [[nodiscard]] Awaiter {
    Signal* signal;
    SimReactor* process;
    bool timed_out = false;
    std::coroutine_handle<> waiter;
    io::TimerNode timer;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle);
    bool await_resume() const noexcept { return !timed_out; }
  };

  // False when the deadline passed first.
  Awaiter Wait(SimReactor* process, std::int64_t deadline_ns);
  void Notify();
  // The waiter's process is no more.
  void Forget() { waiting_ = nullptr; }

 private:
  Awaiter* waiting_ = nullptr;
};

class SimConnection : public std::enable_shared_from_this<SimConnection> {
 public:
  struct Pipe {
    std::deque<std::byte> arrived;
    std::size_t under_way_bytes = 0;
    std::int64_t last_arrival_ns = 0;
    bool ended = false;   // the end has arrived
    bool closed = false;  // its reader takes no more, and the writer knows
    Signal readable;
    Signal writable;
  };

  SimConnection(SimNetwork* network, SimReactor* client, SimReactor* server)
      : network_(network), processes_{client, server} {}

  Pipe& pipe(int end) { return pipes_[end]; }
  SimReactor* process(int end) const { return processes_[end]; }
  bool Broken(int end) const { return reset_[end] || shut_down_[end]; }
  bool shut_down(int end) const { return shut_down_[end]; }
  // There is no room for more bytes from `end`.
  bool Full(int end) const;

  // Bytes of `end` go on their way.
  void Send(int end, std::vector<std::byte> bytes);
  void Shutdown(int end);
  // Both ends fail.
  void Reset();
  // The process of `end` died. `silent`: with its machine, so that nobody tells the other end.
  void ProcessDied(int end, bool silent);
  // The way from machine to machine is free again: what was held back goes on, or is given up.
  void LinkHealed(const Machine* from, const Machine* to);

 private:
  enum class Kind { kBytes, kEnd, kReset };
  struct Arrival {
    Kind kind = Kind::kBytes;
    std::vector<std::byte> bytes;
  };

  bool SameMachine() const;
  bool Blocked(int end) const;
  void Deliver(int end, Arrival arrival);
  void Arrive(int end, const Arrival& arrival);
  void ResetEnd(int end);

  SimNetwork* network_;
  SimReactor* processes_[2];
  Pipe pipes_[2];
  std::vector<Arrival> held_[2];  // from that end, while the way is blocked
  bool shut_down_[2] = {false, false};
  bool reset_[2] = {false, false};
  bool gone_[2] = {false, false};  // its process died
};

}  // namespace keelson::sim
