#include "tests/sim/sim_stream.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/status.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

constexpr std::uint64_t kTraceSend = 300, kTraceArrive = 301, kTraceReset = 302;

std::string Name(const io::Address& address) {
  if (!address.unix_path.empty()) return absl::StrCat("unix:", address.unix_path);
  return absl::StrCat(address.host, ":", address.port);
}

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
    void await_suspend(std::coroutine_handle<> handle) {
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
    bool await_resume() const noexcept { return !timed_out; }
  };

  // False when the deadline passed first.
  Awaiter Wait(SimReactor* process, std::int64_t deadline_ns) {
    KEEL_CHECK(waiting_ == nullptr, "one read and one write of a stream at a time");
    Awaiter awaiter{this, process, false, nullptr, {}};
    awaiter.timer.when_ns = deadline_ns;
    return awaiter;
  }
  void Notify() {
    if (waiting_ == nullptr) return;
    Awaiter* const woken = std::exchange(waiting_, nullptr);
    woken->process->CancelTimer(&woken->timer);
    woken->process->Schedule(woken->waiter);
  }
  // The waiter's process is no more.
  void Forget() { waiting_ = nullptr; }

 private:
  Awaiter* waiting_ = nullptr;
};

}  // namespace

// Both ends of a connection and the bytes between them. End i reads from pipe i.
struct SimConnection {
  struct Pipe {
    std::deque<std::byte> arrived;
    std::size_t under_way_bytes = 0;
    std::int64_t last_arrival_ns = 0;
    bool ended = false;   // the end has arrived
    bool closed = false;  // its reader takes no more
    Signal readable;
    Signal writable;
  };
  Pipe pipes[2];
  SimReactor* processes[2] = {nullptr, nullptr};
  bool shut_down[2] = {false, false};
  bool reset = false;

  void Reset() {
    reset = true;
    NotifyAll();
  }
  void NotifyAll() {
    for (Pipe& pipe : pipes) {
      pipe.readable.Notify();
      pipe.writable.Notify();
    }
  }
};

class SimStream final : public io::Stream {
 public:
  SimStream(SimNetwork* network, std::shared_ptr<SimConnection> connection, int end,
            std::string peer)
      : network_(network), connection_(std::move(connection)), end_(end), peer_(std::move(peer)) {}
  ~SimStream() override { Shutdown(); }

  io::Task<absl::StatusOr<std::size_t>> ReadSome(std::span<std::byte> into,
                                                 std::int64_t deadline_ns) override {
    KEEL_CHECK(!into.empty(), "a read has room for at least one byte");
    SimConnection::Pipe& pipe = connection_->pipes[end_];
    while (!Broken() && pipe.arrived.empty() && !pipe.ended) {
      auto readable = pipe.readable.Wait(process(), deadline_ns);
      const bool in_time = co_await readable;
      if (!in_time) co_return io::ErrnoStatus(ETIMEDOUT, absl::StrCat("reading from ", peer_));
    }
    if (Broken()) co_return BrokenStatus("reading from ");
    std::size_t size_bytes = std::min(into.size(), pipe.arrived.size());
    Random& random = network_->world_->random();
    if (size_bytes > 1 && random.Chance(network_->faults_.segment_split)) {
      size_bytes = random.Between(1, size_bytes);
    }
    const auto last = pipe.arrived.begin() + static_cast<std::ptrdiff_t>(size_bytes);
    std::copy(pipe.arrived.begin(), last, into.begin());
    pipe.arrived.erase(pipe.arrived.begin(), last);
    pipe.writable.Notify();
    co_return size_bytes;
  }

  io::Task<absl::Status> WriteAll(std::span<iovec> parts, std::int64_t deadline_ns) override {
    SimConnection::Pipe& pipe = connection_->pipes[1 - end_];
    for (iovec& part : parts) {
      while (part.iov_len > 0) {
        const std::size_t window = network_->faults_.window_bytes;
        while (!Broken() && !pipe.closed && pipe.arrived.size() + pipe.under_way_bytes >= window) {
          auto writable = pipe.writable.Wait(process(), deadline_ns);
          const bool in_time = co_await writable;
          if (!in_time) co_return io::ErrnoStatus(ETIMEDOUT, absl::StrCat("writing to ", peer_));
        }
        if (Broken() || pipe.closed) co_return BrokenStatus("writing to ");
        const std::size_t sent = Send(&pipe, static_cast<const std::byte*>(part.iov_base),
                                      std::min(part.iov_len, window));
        part.iov_base = static_cast<std::byte*>(part.iov_base) + sent;
        part.iov_len -= sent;
      }
    }
    // The answer comes on a later turn, as from a kernel.
    auto turn = process()->Yield();
    co_await turn;
    if (Broken()) co_return BrokenStatus("writing to ");
    co_return absl::OkStatus();
  }

  void Shutdown() override {
    if (std::exchange(connection_->shut_down[end_], true)) return;
    connection_->pipes[end_].closed = true;
    connection_->NotifyAll();
    Deliver(&connection_->pipes[1 - end_], {}, true);
  }

  std::string peer() const override { return peer_; }

 private:
  SimReactor* process() const { return connection_->processes[end_]; }
  bool Broken() const { return connection_->reset || connection_->shut_down[end_]; }
  absl::Status BrokenStatus(const char* act) const {
    if (connection_->shut_down[end_]) {
      return absl::UnavailableError(absl::StrCat(act, peer_, ": the stream was shut down"));
    }
    return io::ErrnoStatus(ECONNRESET, absl::StrCat(act, peer_));
  }

  // Puts up to `size_bytes` on the way, and says how many.
  std::size_t Send(SimConnection::Pipe* pipe, const std::byte* data, std::size_t size_bytes) {
    World* const world = network_->world_;
    if (world->random().Chance(network_->faults_.reset)) {
      SIM_PROBE("network: a connection was reset");
      world->Trace(kTraceReset);
      connection_->Reset();
    }
    if (size_bytes > 1 && world->random().Chance(network_->faults_.segment_split)) {
      size_bytes = world->random().Between(1, size_bytes);
    }
    world->Trace(kTraceSend, size_bytes);
    Deliver(pipe, std::vector<std::byte>(data, data + size_bytes), false);
    return size_bytes;
  }

  // `bytes`, or the end of the stream, arrive at the other side after what was sent before.
  void Deliver(SimConnection::Pipe* pipe, std::vector<std::byte> bytes, bool end) {
    World* const world = network_->world_;
    const NetworkFaults& faults = network_->faults_;
    std::int64_t delay_ns = static_cast<std::int64_t>(
        world->random().Below(static_cast<std::uint64_t>(faults.latency_ns_max)));
    if (world->random().Chance(faults.stall)) delay_ns += faults.stall_ns;
    pipe->under_way_bytes += bytes.size();
    pipe->last_arrival_ns = std::max(pipe->last_arrival_ns, world->now_ns() + delay_ns);
    world->At(connection_->processes[1 - end_], pipe->last_arrival_ns,
              [world, connection = connection_, pipe, arriving = std::move(bytes), end] {
                world->Trace(kTraceArrive, arriving.size());
                pipe->under_way_bytes -= arriving.size();
                pipe->arrived.insert(pipe->arrived.end(), arriving.begin(), arriving.end());
                pipe->ended = pipe->ended || end;
                pipe->readable.Notify();
              });
  }

  SimNetwork* network_;
  std::shared_ptr<SimConnection> connection_;
  int end_;
  std::string peer_;
};

class SimListener final : public io::Listener {
 public:
  SimListener(SimNetwork* network, SimReactor* process, io::Address address)
      : network_(network), process_(process), address_(std::move(address)) {}
  ~SimListener() override { Close(); }

  io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> Accept() override {
    while (!closed_ && waiting_.empty()) {
      auto arrival = arrived_.Wait(process_, io::kNoDeadline);
      co_await arrival;
    }
    if (closed_) {
      co_return absl::CancelledError(
          absl::StrCat("the listener on ", Name(address_), " was closed"));
    }
    std::unique_ptr<io::Stream> stream = std::move(waiting_.front());
    waiting_.pop_front();
    co_return stream;
  }
  void Close() override {
    if (std::exchange(closed_, true)) return;
    network_->listeners_.erase(Name(address_));
    waiting_.clear();
    arrived_.Notify();
  }
  io::Address address() const override { return address_; }

  SimReactor* process() const { return process_; }
  void Arrive(std::unique_ptr<io::Stream> stream) {
    waiting_.push_back(std::move(stream));
    arrived_.Notify();
  }

 private:
  SimNetwork* network_;
  SimReactor* process_;
  io::Address address_;
  bool closed_ = false;
  std::deque<std::unique_ptr<io::Stream>> waiting_;
  Signal arrived_;
};

absl::StatusOr<std::unique_ptr<io::Listener>> SimNetwork::Listen(SimReactor* process,
                                                                 const io::Address& address) {
  io::Address bound = address;
  if (bound.unix_path.empty() && bound.port == 0) bound.port = next_port_++;
  if (listeners_.contains(Name(bound))) {
    return absl::AlreadyExistsError(absl::StrCat("another process listens on ", Name(bound),
                                                 "; stop it or choose another address"));
  }
  auto listener = std::make_unique<SimListener>(this, process, bound);
  listeners_.emplace(Name(bound), listener.get());
  return listener;
}

io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> SimNetwork::Connect(
    SimReactor* process, io::Address address, std::int64_t deadline_ns) {
  const std::int64_t arrival_ns =
      world_->now_ns() + static_cast<std::int64_t>(world_->random().Below(
                             static_cast<std::uint64_t>(faults_.latency_ns_max)));
  auto travel = process->SleepUntil(std::min(arrival_ns, deadline_ns));
  co_await travel;
  const std::string act = absl::StrCat("connecting to ", Name(address));
  if (arrival_ns > deadline_ns) co_return io::ErrnoStatus(ETIMEDOUT, act);
  const auto found = listeners_.find(Name(address));
  if (found == listeners_.end()) {
    co_return io::ErrnoStatus(address.unix_path.empty() ? ECONNREFUSED : ENOENT, act);
  }
  auto connection = std::make_shared<SimConnection>();
  connection->processes[0] = process;
  connection->processes[1] = found->second->process();
  connections_.push_back(connection);
  const std::string client = absl::StrCat("sim peer ", next_peer_++);
  found->second->Arrive(std::make_unique<SimStream>(this, connection, 1, client));
  std::unique_ptr<io::Stream> stream =
      std::make_unique<SimStream>(this, connection, 0, Name(address));
  co_return stream;
}

void SimNetwork::ProcessDied(SimReactor* process) {
  std::erase_if(listeners_,
                [process](const auto& entry) { return entry.second->process() == process; });
  for (auto it = connections_.begin(); it != connections_.end();) {
    const std::shared_ptr<SimConnection> connection = it->lock();
    if (connection == nullptr) {
      it = connections_.erase(it);
      continue;
    }
    for (int end = 0; end < 2; ++end) {
      if (connection->processes[end] != process) continue;
      connection->shut_down[end] = true;
      connection->pipes[end].closed = true;
      connection->pipes[end].readable.Forget();
      connection->pipes[1 - end].writable.Forget();
      if (world_->random().Coin()) connection->reset = true;
      connection->pipes[1 - end].ended = true;
      if (connection->processes[1 - end] != process) connection->NotifyAll();
    }
    ++it;
  }
}

}  // namespace keelson::sim
