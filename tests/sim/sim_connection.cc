#include "tests/sim/sim_connection.h"

#include <algorithm>
#include <utility>

#include "blockstore/io/check.h"
#include "tests/sim/probe.h"
#include "tests/sim/sim_stream.h"

namespace keelson::sim {
namespace {

constexpr std::uint64_t kTraceArrive = 301, kTraceHeld = 303;

}  // namespace

void Signal::Awaiter::await_suspend(std::coroutine_handle<> handle) {
  waiter = handle;
  signal->waiting_ = this;
  if (timer.when_ns == io::kNoDeadline) return;
  timer.owner = this;
  timer.fire = [](io::TimerNode* node) {
    auto* self = static_cast<Awaiter*>(node->owner);
    self->timed_out = true;
    self->signal->waiting_ = nullptr;
    self->waiter.resume();
  };
  process->StartTimer(&timer);
}

Signal::Awaiter Signal::Wait(SimReactor* process, std::int64_t deadline_ns) {
  KEEL_CHECK(waiting_ == nullptr, "one read and one write of a stream at a time");
  Awaiter awaiter{this, process, false, nullptr, {}};
  awaiter.timer.when_ns = deadline_ns;
  return awaiter;
}

void Signal::Notify() {
  if (waiting_ == nullptr) return;
  Awaiter* const woken = std::exchange(waiting_, nullptr);
  woken->process->CancelTimer(&woken->timer);
  woken->process->Schedule(woken->waiter);
}

bool SimConnection::SameMachine() const {
  return processes_[0]->machine() == processes_[1]->machine();
}

bool SimConnection::Blocked(int end) const {
  return network_->Blocked(processes_[end]->machine(), processes_[1 - end]->machine());
}

bool SimConnection::Full(int end) const {
  const Pipe& pipe = pipes_[1 - end];
  // What goes to a dead process is answered by a reset, not by silence for ever.
  if (gone_[1 - end]) return false;
  return pipe.arrived.size() + pipe.under_way_bytes >= network_->faults().window_bytes;
}

void SimConnection::Send(int end, std::vector<std::byte> bytes) {
  pipes_[1 - end].under_way_bytes += bytes.size();
  Deliver(end, {Kind::kBytes, std::move(bytes)});
}

// What comes from `end` reaches the other one after what was sent before.
void SimConnection::Deliver(int end, Arrival arrival) {
  World* const world = network_->world_;
  if (Blocked(end)) {
    SIM_PROBE("network: bytes were held back by a partition");
    world->Trace(kTraceHeld, arrival.bytes.size());
    held_[end].push_back(std::move(arrival));
    return;
  }
  if (gone_[1 - end]) {
    // The machine it ran on says that there is no such connection.
    if (gone_[end] || Blocked(1 - end)) return;
    const std::int64_t delay_ns = network_->DrawLatency(processes_[end], processes_[1 - end]);
    world->After(processes_[end], delay_ns,
                 [connection = shared_from_this(), end] { connection->ResetEnd(end); });
    return;
  }
  Pipe& pipe = pipes_[1 - end];
  const std::int64_t delay_ns = network_->DrawLatency(processes_[end], processes_[1 - end]);
  pipe.last_arrival_ns = std::max(pipe.last_arrival_ns, world->now_ns() + delay_ns);
  world->At(processes_[1 - end], pipe.last_arrival_ns,
            [connection = shared_from_this(), end, arriving = std::move(arrival)] {
              connection->Arrive(1 - end, arriving);
            });
}

void SimConnection::Arrive(int end, const Arrival& arrival) {
  network_->world_->Trace(kTraceArrive, arrival.bytes.size());
  Pipe& pipe = pipes_[end];
  switch (arrival.kind) {
    case Kind::kBytes:
      pipe.under_way_bytes -= arrival.bytes.size();
      pipe.arrived.insert(pipe.arrived.end(), arrival.bytes.begin(), arrival.bytes.end());
      break;
    case Kind::kEnd:
      pipe.ended = true;
      pipes_[1 - end].closed = true;
      pipes_[1 - end].writable.Notify();
      break;
    case Kind::kReset:
      ResetEnd(end);
      break;
  }
  pipe.readable.Notify();
}

// A pipe's reader waits on `readable`, the other end on its `writable`.
void SimConnection::ResetEnd(int end) {
  reset_[end] = true;
  pipes_[end].readable.Notify();
  pipes_[1 - end].writable.Notify();
}

void SimConnection::Reset() {
  ResetEnd(0);
  ResetEnd(1);
}

void SimConnection::Shutdown(int end) {
  if (std::exchange(shut_down_[end], true)) return;
  pipes_[end].readable.Notify();
  pipes_[1 - end].writable.Notify();
  if (SameMachine()) {
    pipes_[end].closed = true;
    pipes_[end].writable.Notify();
  }
  Deliver(end, {Kind::kEnd, {}});
}

void SimConnection::ProcessDied(int end, bool silent) {
  Pipe& own = pipes_[end];
  Pipe& others = pipes_[1 - end];
  own.readable.Forget();
  others.writable.Forget();
  shut_down_[end] = true;
  gone_[end] = true;
  if (gone_[1 - end]) return;
  if (SameMachine()) {
    own.closed = true;
    if (network_->world_->random().Coin()) reset_[1 - end] = true;
    others.ended = true;
    others.readable.Notify();
    own.writable.Notify();
    return;
  }
  if (!silent) {
    const Kind kind = network_->world_->random().Coin() ? Kind::kReset : Kind::kEnd;
    return Deliver(end, {kind, {}});
  }
  held_[end].clear();
  if (own.under_way_bytes == 0) return;  // the other end learns of it when it next says something
  SIM_PROBE("network: a machine died with bytes for it under way");
  Deliver(1 - end, {Kind::kBytes, {}});
}

void SimConnection::LinkHealed(const Machine* from, const Machine* to) {
  for (int end = 0; end < 2; ++end) {
    if (processes_[end]->machine() != from || processes_[1 - end]->machine() != to) continue;
    if (held_[end].empty()) continue;
    std::vector<Arrival> held = std::exchange(held_[end], {});
    if (network_->world_->random().Chance(network_->link(from, to).reset_when_healed)) {
      SIM_PROBE("network: a connection was given up during a partition");
      Reset();
      return;
    }
    for (Arrival& arrival : held) Deliver(end, std::move(arrival));
  }
}

}  // namespace keelson::sim
