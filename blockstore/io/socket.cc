#include "blockstore/io/socket.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "blockstore/io/check.h"
#include "blockstore/io/kernel_reactor.h"

namespace keelson::io {

Socket::Socket(KernelReactor* reactor, int fd) : reactor_(reactor), fd_(fd) {
  const int flags = fcntl(fd_, F_GETFL);
  const int wanted =
      reactor_->wants_nonblocking_sockets() ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted != flags) fcntl(fd_, F_SETFL, wanted);
  reactor_->AddSocket(this);
}

Socket::Socket(KernelReactor* reactor, int fd, AsItIs) : reactor_(reactor), fd_(fd) {
  reactor_->AddSocket(this);
}

Socket::~Socket() {
  KEEL_CHECK(in_flight_ == 0, "a socket is destroyed after its operations have completed");
  reactor_->RemoveSocket(this);
  close(fd_);
}

SocketWait::SocketWait(SocketOp* op, std::int64_t deadline_ns) : op_(op) {
  deadline_.when_ns = deadline_ns;
  deadline_.owner = this;
  deadline_.fire = [](TimerNode* node) {
    auto* wait = static_cast<SocketWait*>(node->owner);
    wait->timed_out_ = true;
    wait->op_->socket->reactor()->CancelSocketOp(wait->op_);
  };
}

void SocketWait::await_suspend(std::coroutine_handle<> awaiting) {
  waiter_ = awaiting;
  op_->owner = this;
  op_->done = [](SocketOp* op) {
    auto* wait = static_cast<SocketWait*>(op->owner);
    op->socket->reactor()->CancelTimer(&wait->deadline_);
    wait->waiter_.resume();
  };
  KernelReactor* reactor = op_->socket->reactor();
  if (deadline_.when_ns != kNoDeadline) reactor->StartTimer(&deadline_);
  reactor->StartSocketOp(op_);
}

int SocketWait::await_resume() const noexcept {
  // What arrived before the cancellation did is not thrown away.
  return timed_out_ && op_->result < 0 ? -ETIME : op_->result;
}

}  // namespace keelson::io
