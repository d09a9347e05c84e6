#pragma once
// FuseChannel: the connection to the kernel of one FUSE file system: whole requests in, whole
// answers out, both without blocking. KernelFuseChannel is /dev/fuse; tests have one in memory.
// Owned by one FuseSession; its reactor's thread only.

#include <sys/uio.h>

#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/readiness.h"
#include "blockstore/io/task.h"

namespace keelson::frontend {

class FuseChannel {
 public:
  virtual ~FuseChannel() = default;

  // Takes one request into `parts`. Its size, or -errno: EAGAIN: there is none now; ENODEV: the
  // file system is gone or was aborted; EINTR, ENOENT: the one that was there is not any more.
  virtual int Receive(std::span<const iovec> parts) = 0;
  // Gives one answer. 0 or -errno; ENOENT: nobody waits for it any more.
  virtual int Send(std::span<const iovec> parts) = 0;
  // As io::Readiness.
  virtual io::Task<bool> WaitReadable() = 0;
  virtual void Cancel() = 0;
};

class KernelFuseChannel final : public FuseChannel {
 public:
  // Takes over `fd`, an open /dev/fuse that belongs to a mounted file system, and makes it
  // non-blocking.
  static absl::StatusOr<std::unique_ptr<FuseChannel>> Make(io::Reactor* reactor, int fd);

  int Receive(std::span<const iovec> parts) override;
  int Send(std::span<const iovec> parts) override;
  io::Task<bool> WaitReadable() override { return readiness_->WaitReadable(); }
  void Cancel() override { readiness_->Cancel(); }

 private:
  explicit KernelFuseChannel(std::unique_ptr<io::Readiness> readiness)
      : readiness_(std::move(readiness)) {}

  std::unique_ptr<io::Readiness> readiness_;
};

}  // namespace keelson::frontend
