#include "blockstore/service/shard.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"

namespace keelson::service {

absl::StatusOr<std::unique_ptr<Shard>> Shard::Start(const io::ReactorOptions& options,
                                                    std::size_t index,
                                                    const std::string& socket_path,
                                                    const std::optional<io::Address>& tcp) {
  ASSIGN_OR_RETURN(std::unique_ptr<ReactorThread> thread,
                   ReactorThread::Start(options, absl::StrCat("reactor-", index)));
  auto shard = std::unique_ptr<Shard>(new Shard(index, std::move(thread)));
  const absl::Status status =
      shard->thread().Run([&shard, &socket_path, &tcp] { return shard->Listen(socket_path, tcp); });
  if (status.ok()) return shard;
  shard->thread().Run([&shard] { return shard->Close(); });
  return status;
}

io::Task<absl::Status> Shard::Listen(std::string socket_path, std::optional<io::Address> tcp) {
  io::Reactor& reactor = thread_->reactor();
  frontend_ = std::make_unique<NbdFrontend>(&reactor, socket_path);
  io::Address address;
  address.unix_path = std::move(socket_path);
  CO_ASSIGN_OR_RETURN(std::unique_ptr<io::Listener> listener, reactor.Listen(address));
  frontend_->Serve(std::move(listener));
  if (tcp) {
    CO_ASSIGN_OR_RETURN(std::unique_ptr<io::Listener> tcp_listener, reactor.Listen(*tcp));
    const io::Address bound = tcp_listener->address();
    KEEL_LOG_INFO("event=nbd_tcp address={}:{}", bound.host, bound.port);
    frontend_->Serve(std::move(tcp_listener));
  }
  co_return absl::OkStatus();
}

io::Task<absl::StatusOr<PoolHost*>> Shard::OpenPool(std::string directory,
                                                    std::int64_t lock_patience_ns) {
  CO_ASSIGN_OR_RETURN(std::unique_ptr<PoolHost> host,
                      co_await PoolHost::Open(&thread_->reactor(), frontend_.get(),
                                              std::move(directory), lock_patience_ns));
  pools_.push_back(std::move(host));
  co_return pools_.back().get();
}

io::Task<void> Shard::Close() {
  co_await frontend_->Close();
  for (const std::unique_ptr<PoolHost>& host : pools_) {
    const absl::Status status = co_await host->Close();
    if (!status.ok()) {
      KEEL_LOG_WARN("event=pool_close_failed pool={} error=\"{}\"", host->directory(),
                    std::string(status.message()));
    }
  }
  pools_.clear();
  frontend_.reset();
}

ShardSnapshot Shard::Snapshot() const {
  ShardSnapshot snapshot;
  snapshot.index = index_;
  snapshot.backend = thread_->reactor().backend_name();
  snapshot.nbd = frontend_->counters();
  snapshot.pools.reserve(pools_.size());
  for (const std::unique_ptr<PoolHost>& host : pools_) {
    snapshot.pools.push_back({host->directory(), host->healthy(), host->space(), host->counters(),
                              host->AttachedCounters()});
  }
  return snapshot;
}

}  // namespace keelson::service
