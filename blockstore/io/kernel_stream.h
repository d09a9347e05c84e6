#pragma once
// The Stream and Listener of the kernel reactors. Every operation in flight has completed before
// either is destroyed (Shutdown and Close make that happen soon).

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "blockstore/io/socket.h"
#include "blockstore/io/socket_address.h"
#include "blockstore/io/stream.h"
#include "blockstore/io/task.h"

namespace keelson::io {

class KernelStream final : public Stream {
 public:
  // Takes over the stream socket `fd`, connected or about to be.
  KernelStream(KernelReactor* reactor, int fd);
  // Takes over the connected stream socket `fd`, and closes it when it is something else.
  static absl::StatusOr<std::unique_ptr<Stream>> Adopt(KernelReactor* reactor, int fd);

  // 0 or -errno; `to` outlives the call.
  Task<int> ConnectSocket(const SocketAddress* to, std::int64_t deadline_ns);

  Task<absl::StatusOr<std::size_t>> ReadSome(std::span<std::byte> into,
                                             std::int64_t deadline_ns) override;
  Task<absl::Status> WriteAll(std::span<iovec> parts, std::int64_t deadline_ns) override;
  void Shutdown() override;
  std::string peer() const override { return peer_; }

 private:
  absl::Status FailureStatus(int result, const char* act) const;

  Socket socket_;
  std::string peer_;
  bool shut_down_ = false;
};

class KernelListener final : public Listener {
 public:
  // Takes over `fd`, which listens on `address`.
  KernelListener(KernelReactor* reactor, int fd, Address address);
  ~KernelListener() override;

  Task<absl::StatusOr<std::unique_ptr<Stream>>> Accept() override;
  void Close() override;
  Address address() const override { return address_; }

 private:
  Socket socket_;
  Address address_;
  SocketOp* accepting_ = nullptr;
  bool closed_ = false;
  // Of a UNIX socket's path, so that only our own is removed.
  dev_t path_device_ = 0;
  ino_t path_inode_ = 0;
};

// As Reactor::Listen.
absl::StatusOr<std::unique_ptr<Listener>> ListenOn(KernelReactor* reactor, const Address& address);

// As Reactor::Connect.
Task<absl::StatusOr<std::unique_ptr<Stream>>> ConnectTo(KernelReactor* reactor, Address address,
                                                        std::int64_t deadline_ns);

}  // namespace keelson::io
