#include "blockstore/frontend/nbd_server.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "blockstore/io/log.h"

namespace keelson::frontend {
namespace {

constexpr std::int64_t kAcceptRetryNanos = 100'000'000;

}  // namespace

NbdServer::NbdServer(io::Reactor* reactor, ExportDirectory* directory, const NbdOptions& options)
    : reactor_(reactor), exports_(directory), options_(options) {}

io::Task<absl::Status> NbdServer::Serve(std::unique_ptr<io::Listener> listener) {
  listeners_.push_back(listener.get());
  co_await Accept(listener.get());
  std::erase(listeners_, listener.get());
  serve_ended_.WakeAll();
  co_return absl::OkStatus();
}

io::Task<void> NbdServer::Accept(io::Listener* listener) {
  while (!closing_) {
    absl::StatusOr<std::unique_ptr<io::Stream>> accepted = co_await listener->Accept();
    if (accepted.ok()) {
      Adopt(*std::move(accepted));
    } else if (!absl::IsCancelled(accepted.status())) {
      KEEL_LOG_WARN("event=nbd_accept_failed status=\"{}\"", accepted.status().ToString());
      co_await reactor_->SleepFor(kAcceptRetryNanos);
    } else {
      break;
    }
  }
}

bool NbdServer::Adopt(std::unique_ptr<io::Stream> stream) {
  if (closing_ || counters_.connections >= options_.connections_max) {
    ++counters_.connections_refused;
    KEEL_LOG_WARN("event=nbd_connection_refused peer=\"{}\" connections={} connections_max={}",
                  stream->peer(), counters_.connections, options_.connections_max);
    stream->Shutdown();
    return false;
  }
  return gate_.Spawn(RunSession(std::move(stream)));
}

io::Task<void> NbdServer::RunSession(std::unique_ptr<io::Stream> stream) {
  ++counters_.connections;
  ++counters_.connections_total;
  auto session =
      std::make_unique<NbdSession>(reactor_, &exports_, &options_, &counters_, std::move(stream));
  sessions_.push_back(session.get());
  co_await session->Run();
  std::erase(sessions_, session.get());
  session.reset();
  --counters_.connections;
  session_ended_.WakeAll();
}

bool NbdServer::UsesExport(const std::string& name) const {
  return std::any_of(sessions_.begin(), sessions_.end(),
                     [&name](const NbdSession* session) { return session->export_name() == name; });
}

io::Task<void> NbdServer::DropExport(std::string name) {
  exports_.BeginDrop(name);
  // A copy: a session that ends leaves the list.
  const std::vector<NbdSession*> sessions = sessions_;
  for (NbdSession* session : sessions) {
    if (session->export_name() == name) session->Shutdown();
  }
  while (UsesExport(name)) co_await session_ended_.Wait();
  exports_.EndDrop(name);
}

io::Task<void> NbdServer::Close() {
  closing_ = true;
  const std::vector<io::Listener*> listeners = listeners_;
  for (io::Listener* listener : listeners) listener->Close();
  const std::vector<NbdSession*> sessions = sessions_;
  for (NbdSession* session : sessions) session->Shutdown();
  while (!listeners_.empty()) co_await serve_ended_.Wait();
  co_await gate_.Close();
}

}  // namespace keelson::frontend
