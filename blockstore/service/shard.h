#pragma once
// Shard: one reactor with its thread, the pools that live on it, the NBD server of their volumes
// and the FUSE sessions of those that are shown as block devices,
// the volumes attached by a target, and the server that shows the pools' replicas to engines on
// other nodes. Owned by Node. What is marked so runs on the reactor's thread (through
// thread().Run); the rest is for the thread that owns the Node.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/replica_server.h"
#include "blockstore/io/gate.h"
#include "blockstore/service/client_port.h"
#include "blockstore/service/fuse_frontend.h"
#include "blockstore/service/member_ports.h"
#include "blockstore/service/nbd_frontend.h"
#include "blockstore/service/pool_host.h"
#include "blockstore/service/reactor_thread.h"
#include "blockstore/service/remote_host.h"
#include "blockstore/service/scrub_schedule.h"
#include "blockstore/service/volume_counters.h"
#include "blockstore/service/volume_host.h"

namespace keelson::service {

// A copy of what the metrics show, taken on the reactor.
struct ShardSnapshot {
  struct OpenPool {
    std::string directory;
    bool healthy = false;
    pool::PoolSpace space;
    pool::PoolCounters counters;
    std::vector<VolumeCounters> volumes;
  };
  std::size_t index = 0;
  std::string backend;
  frontend::NbdCounters nbd;
  frontend::FuseCounters fuse;
  std::vector<OpenPool> pools;
  std::vector<VolumeCounters> volumes;  // of those attached by a target
  engine::ReplicaServerCounters replica_server;
  frontend::NbdCounters client_port;
};

// Where a shard listens.
struct ShardAddresses {
  std::string nbd_socket;
  std::optional<io::Address> nbd_tcp;
  std::optional<io::Address> data;     // for engines on other nodes
  std::optional<io::Address> clients;  // for the clients of engines here
  std::int64_t patience_ns = 0;        // while a killed predecessor still listens there
};

class Shard {
 public:
  // Starts the reactor and listens. `segment` is for the volumes attached by a target.
  static absl::StatusOr<std::unique_ptr<Shard>> Start(const io::ReactorOptions& options,
                                                      std::size_t index,
                                                      const ShardAddresses& addresses,
                                                      const engine::SegmentOptions& segment,
                                                      const frontend::RemoteVolumeOptions& remote);
  // REQUIRES: Close has run, or no pool was opened.
  ~Shard() = default;

  ReactorThread& thread() { return *thread_; }
  // Of the data port; 0: there is none.
  std::uint16_t data_port() const { return data_port_; }
  std::uint16_t client_port() const { return client_port_number_; }

  // --- On the reactor's thread ---
  // Errors as service::OpenPool. The host is this shard's and lives until Close.
  io::Task<absl::StatusOr<PoolHost*>> OpenPool(std::string directory,
                                               std::int64_t lock_patience_ns);
  VolumeHost& volumes() { return *volumes_; }
  NbdFrontend& frontend() { return *frontend_; }
  FuseFrontend& fuse() { return *fuse_; }
  RemoteHost& remotes() { return *remotes_; }
  // From now on the volumes that are attached here are scrubbed in turn, each once in the interval.
  void ScheduleScrubs(std::int64_t interval_ns, std::uint64_t bytes_per_second);
  // Ends NBD and FUSE (whose requests wait for the next daemon), the attachments (to be resumed),
  // the sessions of engines on other nodes and the pools.
  io::Task<void> Close();
  ShardSnapshot Snapshot() const;

 private:
  Shard(std::size_t index, std::unique_ptr<ReactorThread> thread)
      : index_(index), thread_(std::move(thread)) {}
  io::Task<absl::Status> Listen(ShardAddresses addresses, engine::SegmentOptions segment,
                                frontend::RemoteVolumeOptions remote);
  io::Task<void> ServeReplicas(std::unique_ptr<io::Listener> listener);
  io::Task<void> CloseFrontends(bool* done);
  io::Task<void> CloseClientPort(bool* done);
  void OnScrubTimer();

  const std::size_t index_;
  std::uint16_t data_port_ = 0;
  std::uint16_t client_port_number_ = 0;
  std::unique_ptr<FuseFrontend> fuse_;
  std::unique_ptr<NbdFrontend> frontend_;
  std::unique_ptr<ClientPort> client_port_;
  std::unique_ptr<RemoteHost> remotes_;
  std::unique_ptr<MemberPorts> ports_;
  std::unique_ptr<VolumeHost> volumes_;
  std::unique_ptr<engine::ReplicaServer> replica_server_;
  std::vector<std::unique_ptr<PoolHost>> pools_;
  io::Gate gate_;
  std::optional<ScrubSchedule> scrubs_;
  engine::ScrubOptions scrub_options_;
  io::TimerNode scrub_timer_;
  std::unique_ptr<ReactorThread> thread_;  // last: its thread ends before what it works on dies
};

}  // namespace keelson::service
