#include "blockstore/io/kernel_readiness.h"

#include <utility>

#include "blockstore/io/check.h"
#include "blockstore/io/kernel_reactor.h"

namespace keelson::io {

Task<bool> KernelReadiness::WaitReadable() {
  KEEL_CHECK(waiting_ == nullptr, "one waits for a descriptor at a time");
  if (std::exchange(cancelled_, false)) co_return false;
  SocketOp op;
  op.kind = SocketOp::Kind::kReadable;
  op.socket = &socket_;
  waiting_ = &op;
  SocketWait wait(&op, kNoDeadline);
  // The events say nothing that a read does not: an error, too, is for the reader to find.
  (void)co_await wait;
  waiting_ = nullptr;
  co_return !std::exchange(cancelled_, false);
}

void KernelReadiness::Cancel() {
  cancelled_ = true;
  if (waiting_ != nullptr) socket_.reactor()->CancelSocketOp(waiting_);
}

}  // namespace keelson::io
