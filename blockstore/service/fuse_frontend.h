#pragma once
// FuseFrontend: the FUSE sessions of one reactor, one for each volume that is shown as a file (and,
// on top of it, as a block device: LoopFrontend). Owned by a Shard; every call on its reactor's
// thread. Close before destruction.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "blockstore/engine/block_device.h"
#include "blockstore/frontend/fuse_session.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/sync.h"
#include "blockstore/io/task.h"

namespace keelson::service {

// What a file is served by when its volume is not attached any more: every request fails.
class EndedDevice final : public engine::BlockDevice {
 public:
  void Remember(const engine::BlockDevice& device) {
    size_bytes_ = device.size_bytes();
    read_only_ = device.read_only();
  }

  std::uint64_t size_bytes() const override { return size_bytes_; }
  bool read_only() const override { return read_only_; }
  io::Task<absl::Status> Read(std::uint64_t offset, std::span<std::byte> into) override;
  io::Task<absl::Status> Write(std::uint64_t offset, std::span<const std::byte> from,
                               bool fua) override;
  io::Task<absl::Status> Flush() override;
  io::Task<absl::Status> Trim(std::uint64_t offset, std::uint64_t size_bytes, bool fua) override;
  io::Task<absl::StatusOr<std::vector<engine::BlockRun>>> Status(std::uint64_t offset,
                                                                 std::uint64_t size_bytes,
                                                                 std::size_t runs_max) override;

 private:
  // Of a volume that was never attached here: larger than any, so that every request gets as far as
  // its error.
  std::uint64_t size_bytes_ = std::uint64_t{1} << 60;
  bool read_only_ = false;
};

class FuseFrontend {
 public:
  struct State {
    bool kernel_resends = false;
    bool lost = false;  // the connection was ended from outside
  };

  explicit FuseFrontend(io::Reactor* reactor) : reactor_(reactor) {}  // outlives this

  // Serves the connection `fd`, which it takes over, with `device`; nullptr: with errors.
  // `adopted`: another process has begun with it, and found that the kernel resends, or not.
  // ALREADY_EXISTS when there is a session of that name.
  absl::Status Open(const std::string& name, int fd, engine::BlockDevice* device,
                    std::optional<bool> adopted);
  // The volume's device is about to go: its file gives errors from now on. Completes when no
  // request runs on it. Without effect when there is no session.
  io::Task<void> DeviceGoes(std::string name);
  // Ends the session and closes its descriptor.
  io::Task<void> End(std::string name);
  std::optional<State> Find(const std::string& name) const;

  // The daemon is about to end: nothing more is taken; what was taken is finished.
  void Leave();
  // Completes when nothing runs any more. Leave was called.
  io::Task<void> Close();
  const frontend::FuseCounters& counters() const { return counters_; }

 private:
  struct Entry {
    EndedDevice ended;
    std::unique_ptr<frontend::FuseSession> session;
    bool running = true;
    io::WaitList stopped;
  };

  io::Task<void> Serve(Entry* entry);

  io::Reactor* reactor_;
  frontend::FuseCounters counters_;
  std::map<std::string, std::unique_ptr<Entry>> entries_;
  io::Gate gate_;
};

}  // namespace keelson::service
