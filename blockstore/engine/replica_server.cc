#include "blockstore/engine/replica_server.h"

#include <algorithm>
#include <utility>

#include "blockstore/engine/replica_connection.h"
#include "blockstore/io/log.h"

namespace keelson::engine {
namespace {

constexpr std::int64_t kAcceptRetryNanos = 100'000'000;

}  // namespace

ReplicaServer::ReplicaServer(io::Reactor* reactor, PortSource* source,
                             const ReplicaServerOptions& options)
    : reactor_(reactor), source_(source), options_(options) {}

ReplicaServer::~ReplicaServer() = default;

io::Task<absl::Status> ReplicaServer::Serve(std::unique_ptr<io::Listener> listener) {
  listeners_.push_back(listener.get());
  co_await Accept(listener.get());
  std::erase(listeners_, listener.get());
  serve_ended_.WakeAll();
  co_return absl::OkStatus();
}

io::Task<void> ReplicaServer::Accept(io::Listener* listener) {
  while (!closing_) {
    absl::StatusOr<std::unique_ptr<io::Stream>> accepted = co_await listener->Accept();
    if (accepted.ok()) {
      Adopt(*std::move(accepted));
    } else if (!absl::IsCancelled(accepted.status())) {
      KEEL_LOG_WARN("event=replica_accept_failed status=\"{}\"", accepted.status().ToString());
      co_await reactor_->SleepFor(kAcceptRetryNanos);
    } else {
      break;
    }
  }
}

bool ReplicaServer::Adopt(std::unique_ptr<io::Stream> stream) {
  if (closing_ || counters_.connections >= options_.connections_max) {
    ++counters_.connections_refused;
    KEEL_LOG_WARN("event=replica_connection_refused peer=\"{}\" connections={} connections_max={}",
                  stream->peer(), counters_.connections, options_.connections_max);
    stream->Shutdown();
    return false;
  }
  return gate_.Spawn(RunConnection(std::move(stream)));
}

io::Task<void> ReplicaServer::RunConnection(std::unique_ptr<io::Stream> stream) {
  ++counters_.connections;
  ++counters_.connections_total;
  auto connection = std::make_unique<ReplicaConnection>(reactor_, source_, &options_, &counters_,
                                                        std::move(stream));
  connections_.push_back(connection.get());
  co_await connection->Run();
  std::erase(connections_, connection.get());
  connection.reset();
  --counters_.connections;
}

io::Task<void> ReplicaServer::Close() {
  closing_ = true;
  const std::vector<io::Listener*> listeners = listeners_;
  for (io::Listener* listener : listeners) listener->Close();
  const std::vector<ReplicaConnection*> connections = connections_;
  for (ReplicaConnection* connection : connections) connection->Shutdown();
  while (!listeners_.empty()) co_await serve_ended_.Wait();
  co_await gate_.Close();
}

}  // namespace keelson::engine
