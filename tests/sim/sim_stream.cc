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
#include "tests/sim/sim_connection.h"

namespace keelson::sim {
namespace {

constexpr std::uint64_t kTraceSend = 300, kTraceReset = 302, kTraceBlock = 304, kTraceHeal = 305;
constexpr std::int64_t kConnectRetryNs = 50'000'000;

std::string Name(const io::Address& address) {
  if (!address.unix_path.empty()) return absl::StrCat("unix:", address.unix_path);
  return absl::StrCat(address.host, ":", address.port);
}

}  // namespace

class SimStream final : public io::Stream {
 public:
  SimStream(SimNetwork* network, std::shared_ptr<SimConnection> connection, int end,
            std::string peer)
      : network_(network), connection_(std::move(connection)), end_(end), peer_(std::move(peer)) {}
  ~SimStream() override { Shutdown(); }

  io::Task<absl::StatusOr<std::size_t>> ReadSome(std::span<std::byte> into,
                                                 std::int64_t deadline_ns) override {
    KEEL_CHECK(!into.empty(), "a read has room for at least one byte");
    SimConnection::Pipe& pipe = connection_->pipe(end_);
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
    SimConnection::Pipe& pipe = connection_->pipe(1 - end_);
    for (iovec& part : parts) {
      while (part.iov_len > 0) {
        const std::size_t window = network_->faults_.window_bytes;
        while (!Broken() && !pipe.closed && connection_->Full(end_)) {
          auto writable = pipe.writable.Wait(process(), deadline_ns);
          const bool in_time = co_await writable;
          if (!in_time) co_return io::ErrnoStatus(ETIMEDOUT, absl::StrCat("writing to ", peer_));
        }
        if (Broken() || pipe.closed) co_return BrokenStatus("writing to ");
        const std::size_t sent =
            Send(static_cast<const std::byte*>(part.iov_base), std::min(part.iov_len, window));
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

  void Shutdown() override { connection_->Shutdown(end_); }

  std::string peer() const override { return peer_; }

 private:
  SimReactor* process() const { return connection_->process(end_); }
  bool Broken() const { return connection_->Broken(end_); }
  absl::Status BrokenStatus(const char* act) const {
    if (connection_->shut_down(end_)) {
      return absl::UnavailableError(absl::StrCat(act, peer_, ": the stream was shut down"));
    }
    return io::ErrnoStatus(ECONNRESET, absl::StrCat(act, peer_));
  }

  // Puts up to `size_bytes` on the way, and says how many.
  std::size_t Send(const std::byte* data, std::size_t size_bytes) {
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
    connection_->Send(end_, std::vector<std::byte>(data, data + size_bytes));
    return size_bytes;
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
  const std::string act = absl::StrCat("connecting to ", Name(address));
  const Machine* const here = process->machine();
  const Machine* const there = MachineAt(address, process);
  while (Blocked(here, there) || Blocked(there, here)) {
    const std::int64_t again_ns = world_->now_ns() + kConnectRetryNs;
    auto wait = process->SleepUntil(std::min(again_ns, deadline_ns));
    co_await wait;
    if (world_->now_ns() >= deadline_ns) co_return io::ErrnoStatus(ETIMEDOUT, act);
  }
  const std::int64_t arrival_ns = world_->now_ns() + DrawTravel(here, there);
  auto travel = process->SleepUntil(std::min(arrival_ns, deadline_ns));
  co_await travel;
  if (arrival_ns > deadline_ns) co_return io::ErrnoStatus(ETIMEDOUT, act);
  const auto found = listeners_.find(Name(address));
  if (found == listeners_.end()) {
    co_return io::ErrnoStatus(address.unix_path.empty() ? ECONNREFUSED : ENOENT, act);
  }
  auto connection = std::make_shared<SimConnection>(this, process, found->second->process());
  connections_.push_back(connection);
  const std::string client = absl::StrCat("sim peer ", next_peer_++);
  found->second->Arrive(std::make_unique<SimStream>(this, connection, 1, client));
  std::unique_ptr<io::Stream> stream =
      std::make_unique<SimStream>(this, connection, 0, Name(address));
  co_return stream;
}

// The machine behind an address; the client's own where it is nobody's.
const Machine* SimNetwork::MachineAt(const io::Address& address, SimReactor* client) const {
  for (const auto& machine : world_->machines()) {
    if (address.unix_path.empty() && machine->host() == address.host) return machine.get();
  }
  return client->machine();
}

bool SimNetwork::Blocked(const Machine* from, const Machine* to) const {
  const auto found = links_.find({from, to});
  return found != links_.end() && found->second.blocked;
}

void SimNetwork::Block(const Machine* from, const Machine* to) {
  KEEL_CHECK(from != to, "a machine always reaches itself");
  world_->Trace(kTraceBlock);
  links_[{from, to}].blocked = true;
}

void SimNetwork::Heal(const Machine* from, const Machine* to) {
  if (!Blocked(from, to)) return;
  world_->Trace(kTraceHeal);
  links_[{from, to}].blocked = false;
  for (const std::weak_ptr<SimConnection>& weak : connections_) {
    const std::shared_ptr<SimConnection> connection = weak.lock();
    if (connection != nullptr) connection->LinkHealed(from, to);
  }
}

void SimNetwork::HealAll() {
  for (const auto& from : world_->machines()) {
    for (const auto& to : world_->machines()) Heal(from.get(), to.get());
  }
}

std::int64_t SimNetwork::DrawTravel(const Machine* from, const Machine* to) {
  Random& random = world_->random();
  const auto found = links_.find({from, to});
  if (found == links_.end() || found->second.latency_ns_max == 0) {
    return static_cast<std::int64_t>(
        random.Below(static_cast<std::uint64_t>(faults_.latency_ns_max)));
  }
  const NetworkLink& link = found->second;
  return link.latency_ns_min + static_cast<std::int64_t>(random.Below(static_cast<std::uint64_t>(
                                   link.latency_ns_max - link.latency_ns_min)));
}

std::int64_t SimNetwork::DrawLatency(const SimReactor* from, const SimReactor* to) {
  const std::int64_t travel_ns = DrawTravel(from->machine(), to->machine());
  return travel_ns + (world_->random().Chance(faults_.stall) ? faults_.stall_ns : 0);
}

void SimNetwork::ProcessDied(SimReactor* process, bool with_machine) {
  std::erase_if(listeners_,
                [process](const auto& entry) { return entry.second->process() == process; });
  for (auto it = connections_.begin(); it != connections_.end();) {
    const std::shared_ptr<SimConnection> connection = it->lock();
    if (connection == nullptr) {
      it = connections_.erase(it);
      continue;
    }
    for (int end = 0; end < 2; ++end) {
      if (connection->process(end) == process) connection->ProcessDied(end, with_machine);
    }
    ++it;
  }
}

}  // namespace keelson::sim
