#include "blockstore/service/client_port.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/log.h"

namespace keelson::service {

namespace {

constexpr std::size_t kBufferBytes = std::size_t{16} << 20;

frontend::NbdOptions WithBuffers(io::BufferPool* buffers) {
  frontend::NbdOptions options;
  options.buffers = buffers;
  return options;
}

}  // namespace

ClientPort::ClientPort(io::Reactor* reactor)
    : buffers_(kBufferBytes), server_(reactor, this, WithBuffers(&buffers_)) {}

void ClientPort::Serve(std::unique_ptr<io::Listener> listener) {
  gate_.Spawn(RunServer(std::move(listener)));
}

io::Task<void> ClientPort::RunServer(std::unique_ptr<io::Listener> listener) {
  const absl::Status status = co_await server_.Serve(std::move(listener));
  if (!status.ok()) {
    KEEL_LOG_ERROR("event=client_port_ended error=\"{}\" remedy=\"restart the daemon\"",
                   std::string(status.message()));
  }
}

void ClientPort::Add(const std::string& volume, engine::Engine* engine,
                     engine::ClientList* clients) {
  KEEL_CHECK(volumes_.emplace(volume, Volume{engine, clients}).second,
             "a volume is added to the client port once");
}

void ClientPort::Remove(const std::string& volume) { volumes_.erase(volume); }

io::Task<void> ClientPort::Close() {
  co_await server_.Close();
  co_await gate_.Close();
}

const ClientPort::Volume* ClientPort::Serves(const frontend::ClientName& name) const {
  const auto found = volumes_.find(name.volume);
  if (found == volumes_.end()) return nullptr;
  const engine::Engine& engine = *found->second.engine;
  if (engine.epoch().attachment != name.attachment) return nullptr;
  if (absl::IsAborted(engine.health())) return nullptr;
  return &found->second;
}

frontend::Export ClientPort::Describe(std::string_view asked) {
  frontend::Export found;
  found.name = "(unknown client)";
  const absl::StatusOr<frontend::ClientName> name = frontend::ParseClientName(asked);
  if (!name.ok()) return found;
  const Volume* const volume = Serves(*name);
  if (volume == nullptr) return found;
  const engine::ListedClient* const client = volume->clients->Find(name->ticket);
  if (client == nullptr) return found;
  found.name = absl::StrCat(name->volume, " (node ", client->node, ")");
  found.device = volume->engine;
  found.read_only = client->read_only || volume->engine->read_only();
  frontend::EngineState state;
  state.engine = {volume->engine->epoch().attachment, volume->engine->epoch().restart};
  const pool::Epoch lost = volume->engine->lost();
  state.lost = {lost.attachment, lost.restart};
  found.description = frontend::FormatEngineState(state);
  return found;
}

io::Task<std::unique_ptr<engine::BlockDevice>> ClientPort::Open(std::string asked,
                                                                absl::AnyInvocable<void()> end) {
  const absl::StatusOr<frontend::ClientName> name = frontend::ParseClientName(asked);
  if (!name.ok()) co_return nullptr;
  const Volume* const volume = Serves(*name);
  if (volume == nullptr) co_return nullptr;
  // The list waits, in its Close, for calls of Open.
  const engine::Ticket ticket = name->ticket;
  std::unique_ptr<engine::ClientSession> session =
      co_await volume->clients->Open(ticket, std::move(end));
  co_return std::move(session);
}

}  // namespace keelson::service
