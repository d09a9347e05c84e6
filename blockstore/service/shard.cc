#include "blockstore/service/shard.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"

namespace keelson::service {

namespace {

// How long clients may finish what they have asked for before the engines end.
constexpr std::int64_t kClientPatienceNanos = 2'000'000'000;
constexpr std::int64_t kPollNanos = 10'000'000;

// The kernel ends the ring of a killed process, and with it the sockets that the ring uses, only
// after its I/O, some time after the process.
io::Task<absl::StatusOr<std::unique_ptr<io::Listener>>> ListenPatiently(io::Reactor* reactor,
                                                                        io::Address address,
                                                                        std::int64_t until_ns) {
  for (;;) {
    absl::StatusOr<std::unique_ptr<io::Listener>> listener = reactor->Listen(address);
    if (!absl::IsAlreadyExists(listener.status()) || reactor->NowNanos() >= until_ns) {
      co_return listener;
    }
    co_await reactor->SleepFor(kPollNanos);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Shard>> Shard::Start(const io::ReactorOptions& options,
                                                    std::size_t index,
                                                    const ShardAddresses& addresses,
                                                    const engine::SegmentOptions& segment,
                                                    const frontend::RemoteVolumeOptions& remote) {
  ASSIGN_OR_RETURN(std::unique_ptr<ReactorThread> thread,
                   ReactorThread::Start(options, absl::StrCat("reactor-", index)));
  auto shard = std::unique_ptr<Shard>(new Shard(index, std::move(thread)));
  const absl::Status status =
      shard->thread().Run([&] { return shard->Listen(addresses, segment, remote); });
  if (status.ok()) return shard;
  shard->thread().Run([&shard] { return shard->Close(); });
  return status;
}

io::Task<absl::Status> Shard::Listen(ShardAddresses addresses, engine::SegmentOptions segment,
                                     frontend::RemoteVolumeOptions remote) {
  io::Reactor& reactor = thread_->reactor();
  fuse_ = std::make_unique<FuseFrontend>(&reactor);
  frontend_ = std::make_unique<NbdFrontend>(&reactor, fuse_.get(), addresses.nbd_socket);
  ports_ = std::make_unique<MemberPorts>(&reactor);
  client_port_ = std::make_unique<ClientPort>(&reactor);
  remotes_ = std::make_unique<RemoteHost>(&reactor, frontend_.get(), remote);
  volumes_ = std::make_unique<VolumeHost>(&reactor, frontend_.get(), client_port_.get(),
                                          ports_.get(), segment);
  replica_server_ = std::make_unique<engine::ReplicaServer>(&reactor, ports_.get(),
                                                            engine::ReplicaServerOptions());
  io::Address address;
  address.unix_path = std::move(addresses.nbd_socket);
  const std::int64_t until_ns = reactor.NowNanos() + addresses.patience_ns;
  CO_ASSIGN_OR_RETURN(std::unique_ptr<io::Listener> listener,
                      co_await ListenPatiently(&reactor, address, until_ns));
  frontend_->Serve(std::move(listener));
  if (addresses.nbd_tcp) {
    CO_ASSIGN_OR_RETURN(std::unique_ptr<io::Listener> tcp,
                        co_await ListenPatiently(&reactor, *addresses.nbd_tcp, until_ns));
    const io::Address bound = tcp->address();
    KEEL_LOG_INFO("event=nbd_tcp address={}:{}", bound.host, bound.port);
    frontend_->Serve(std::move(tcp));
  }
  if (addresses.data) {
    CO_ASSIGN_OR_RETURN(std::unique_ptr<io::Listener> data,
                        co_await ListenPatiently(&reactor, *addresses.data, until_ns));
    const io::Address bound = data->address();
    data_port_ = bound.port;
    KEEL_LOG_INFO("event=data_port address={}:{}", bound.host, bound.port);
    gate_.Spawn(ServeReplicas(std::move(data)));
  }
  if (addresses.clients) {
    CO_ASSIGN_OR_RETURN(std::unique_ptr<io::Listener> clients,
                        co_await ListenPatiently(&reactor, *addresses.clients, until_ns));
    const io::Address bound = clients->address();
    client_port_number_ = bound.port;
    KEEL_LOG_INFO("event=client_port address={}:{}", bound.host, bound.port);
    client_port_->Serve(std::move(clients));
  }
  co_return absl::OkStatus();
}

io::Task<void> Shard::ServeReplicas(std::unique_ptr<io::Listener> listener) {
  const absl::Status status = co_await replica_server_->Serve(std::move(listener));
  if (!status.ok()) {
    KEEL_LOG_ERROR("event=replica_server_ended error=\"{}\" remedy=\"restart the daemon\"",
                   std::string(status.message()));
  }
}

io::Task<absl::StatusOr<PoolHost*>> Shard::OpenPool(std::string directory,
                                                    std::int64_t lock_patience_ns) {
  CO_ASSIGN_OR_RETURN(std::unique_ptr<PoolHost> host,
                      co_await PoolHost::Open(&thread_->reactor(), frontend_.get(),
                                              std::move(directory), lock_patience_ns));
  ports_->Add(host->store());
  pools_.push_back(std::move(host));
  co_return pools_.back().get();
}

void Shard::ScheduleScrubs(std::int64_t interval_ns, std::uint64_t bytes_per_second) {
  scrubs_.emplace(interval_ns);
  scrub_options_.bytes_per_second = bytes_per_second;
  scrub_timer_.owner = this;
  scrub_timer_.fire = [](io::TimerNode* timer) {
    static_cast<Shard*>(timer->owner)->OnScrubTimer();
  };
  OnScrubTimer();
}

void Shard::OnScrubTimer() {
  io::Reactor& reactor = thread_->reactor();
  std::vector<ScrubSchedule::Volume> attached;
  volumes_->AddScrubbable(&attached);
  for (const std::unique_ptr<PoolHost>& host : pools_) host->AddScrubbable(&attached);
  if (const std::optional<std::string> name = scrubs_->Next(attached, reactor.NowNanos())) {
    absl::Status started = volumes_->StartScrub(*name, scrub_options_);
    for (const std::unique_ptr<PoolHost>& host : pools_) {
      if (absl::IsNotFound(started)) started = host->StartScrub(*name, scrub_options_);
    }
    KEEL_LOG_INFO("event=scrub_due volume={} status=\"{}\"", *name, started.ToString());
  }
  scrub_timer_.when_ns = reactor.NowNanos() + scrubs_->AskAgainAfter();
  reactor.StartTimer(&scrub_timer_);
}

io::Task<void> Shard::CloseFrontends(bool* done) {
  co_await frontend_->Close();
  co_await fuse_->Close();
  *done = true;
}

io::Task<void> Shard::CloseClientPort(bool* done) {
  co_await client_port_->Close();
  *done = true;
}

io::Task<void> Shard::Close() {
  io::Reactor& reactor = thread_->reactor();
  reactor.CancelTimer(&scrub_timer_);
  bool frontends_closed = false;
  bool client_port_closed = false;
  const auto closed = [&] { return frontends_closed && client_port_closed; };
  volumes_->LetGo();
  for (const std::unique_ptr<PoolHost>& host : pools_) host->LetGo();
  fuse_->Leave();
  gate_.Spawn(CloseFrontends(&frontends_closed));
  gate_.Spawn(CloseClientPort(&client_port_closed));
  // Requests that wait for a member on another node must not hold up the end; those of a disk here
  // must.
  const std::int64_t limit_ns = reactor.NowNanos() + kClientPatienceNanos;
  while (!closed() && reactor.NowNanos() < limit_ns) co_await reactor.SleepFor(kPollNanos);
  remotes_->EndAll();
  co_await volumes_->Close();
  while (!closed()) co_await reactor.SleepFor(kPollNanos);
  co_await remotes_->Close();
  for (const std::unique_ptr<PoolHost>& host : pools_) co_await host->DetachAll();
  co_await replica_server_->Close();
  co_await gate_.Close();
  for (const std::unique_ptr<PoolHost>& host : pools_) {
    const absl::Status status = co_await host->Close();
    if (!status.ok()) {
      KEEL_LOG_WARN("event=pool_close_failed pool={} error=\"{}\"", host->directory(),
                    std::string(status.message()));
    }
  }
  volumes_.reset();
  remotes_.reset();
  client_port_.reset();
  replica_server_.reset();
  ports_.reset();
  pools_.clear();
  frontend_.reset();
  fuse_.reset();
}

ShardSnapshot Shard::Snapshot() const {
  ShardSnapshot snapshot;
  snapshot.index = index_;
  snapshot.backend = thread_->reactor().backend_name();
  snapshot.nbd = frontend_->counters();
  snapshot.fuse = fuse_->counters();
  snapshot.volumes = volumes_->Counters();
  snapshot.replica_server = replica_server_->counters();
  snapshot.client_port = client_port_->counters();
  snapshot.pools.reserve(pools_.size());
  for (const std::unique_ptr<PoolHost>& host : pools_) {
    snapshot.pools.push_back({host->directory(), host->healthy(), host->space(), host->counters(),
                              host->AttachedCounters()});
  }
  return snapshot;
}

}  // namespace keelson::service
