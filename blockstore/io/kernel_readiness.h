#pragma once
// The Readiness of the kernel reactors.

#include "blockstore/io/readiness.h"
#include "blockstore/io/socket.h"
#include "blockstore/io/task.h"

namespace keelson::io {

class KernelReadiness final : public Readiness {
 public:
  // Takes over `fd`.
  KernelReadiness(KernelReactor* reactor, int fd) : socket_(reactor, fd, Socket::AsItIs()) {}

  int fd() const override { return socket_.fd(); }
  Task<bool> WaitReadable() override;
  void Cancel() override;

 private:
  Socket socket_;
  SocketOp* waiting_ = nullptr;
  bool cancelled_ = false;
};

}  // namespace keelson::io
