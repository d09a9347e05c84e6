#pragma once
// Shard: one reactor with its thread, the pools that live on it and the NBD server of their
// volumes. Owned by Node. What is marked so runs on the reactor's thread (through thread().Run);
// the rest is for the thread that owns the Node.

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/service/nbd_frontend.h"
#include "blockstore/service/pool_host.h"
#include "blockstore/service/reactor_thread.h"

namespace keelson::service {

// A copy of what the metrics show, taken on the reactor.
struct ShardSnapshot {
  struct OpenPool {
    std::string directory;
    bool healthy = false;
    pool::PoolSpace space;
    pool::PoolCounters counters;
    std::vector<PoolHost::VolumeCounters> volumes;
  };
  std::size_t index = 0;
  std::string backend;
  frontend::NbdCounters nbd;
  std::vector<OpenPool> pools;
};

class Shard {
 public:
  // Starts the reactor and listens for NBD clients on `socket_path`, and on `tcp` if there is one.
  static absl::StatusOr<std::unique_ptr<Shard>> Start(const io::ReactorOptions& options,
                                                      std::size_t index,
                                                      const std::string& socket_path,
                                                      const std::optional<io::Address>& tcp);
  // REQUIRES: Close has run, or no pool was opened.
  ~Shard() = default;

  ReactorThread& thread() { return *thread_; }

  // --- On the reactor's thread ---
  // Errors as service::OpenPool. The host is this shard's and lives until Close.
  io::Task<absl::StatusOr<PoolHost*>> OpenPool(std::string directory,
                                               std::int64_t lock_patience_ns);
  // Ends NBD, the attachments (to be resumed) and the pools.
  io::Task<void> Close();
  ShardSnapshot Snapshot() const;

 private:
  Shard(std::size_t index, std::unique_ptr<ReactorThread> thread)
      : index_(index), thread_(std::move(thread)) {}
  io::Task<absl::Status> Listen(std::string socket_path, std::optional<io::Address> tcp);

  const std::size_t index_;
  std::unique_ptr<NbdFrontend> frontend_;
  std::vector<std::unique_ptr<PoolHost>> pools_;
  std::unique_ptr<ReactorThread> thread_;  // last: its thread ends before what it works on dies
};

}  // namespace keelson::service
