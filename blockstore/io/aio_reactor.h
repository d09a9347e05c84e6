#pragma once
// AioReactor: the kernel reactor over libaio (files) and epoll (sockets, the wake-up event, the
// timeout), for hosts that refuse io_uring. One io_submit per turn; completions arrive through an
// eventfd. What libaio cannot do runs on a helper thread. Timers are as coarse as epoll_wait: 1 ms.

#include <libaio.h>
#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "blockstore/io/blocking_helper.h"
#include "blockstore/io/kernel_reactor.h"

namespace keelson::io {

class AioReactor final : public KernelReactor {
 public:
  // UNAVAILABLE when the system has no room for another context (sysctl fs.aio-max-nr).
  static absl::StatusOr<std::unique_ptr<Reactor>> Make(const ReactorOptions& options);
  ~AioReactor() override;

  std::string backend_name() const override { return "libaio"; }
  int RegisterDescriptor(int /*fd*/) override { return -1; }
  void UnregisterDescriptor(int /*slot*/) override {}
  bool wants_nonblocking_sockets() const override { return true; }
  void AddSocket(Socket* socket) override;
  void RemoveSocket(Socket* socket) override;

 protected:
  void SubmitFileOp(IoOp* op) override;
  void SubmitSocketOp(SocketOp* op) override;
  void AbortSocketOp(SocketOp* op) override;
  void BeginRun() override {}
  void EndRun() override {}
  void SubmitAndWait(std::int64_t timeout_ns) override;

 private:
  AioReactor(const ReactorOptions& options, io_context_t context, std::uint32_t queue_depth);
  void Watch(int fd, std::uint32_t events, void* target);

  void PrepareBlock(iocb* block, IoOp* op);
  // Whether an operation was refused, and so has ended.
  bool SubmitBatch();
  void RefuseBlock(iocb* block, int result);
  void ReleaseBlock(iocb* block) { free_blocks_.push_back(block); }
  void PrepareQueued();
  void ReapBlocks();
  void ReapHelper();
  void DeliverFileOp(IoOp* op, int result);

  void RetryParked(Socket* socket, bool reads);
  void QueueReady(SocketOp* op, int result);
  void DeliverReady();
  void WaitForEvents(int timeout_ms);

  io_context_t context_;
  int completion_fd_ = -1;  // an eventfd, signalled by the kernel for every completion
  int epoll_fd_ = -1;
  std::vector<iocb> blocks_;
  std::vector<iocb*> free_blocks_;
  std::vector<iocb*> batch_;  // to be submitted at the end of this turn
  IoOp* queued_ = nullptr;    // wait for a free block
  IoOp* queued_last_ = nullptr;
  bool more_completions_ = false;  // that the kernel may hold for us
  bool async_flush_ = true;        // until the kernel refuses it

  SocketOp* ready_ = nullptr;  // ended; delivered by the loop, never from inside a submission
  SocketOp* ready_last_ = nullptr;
  std::array<epoll_event, 128> events_;
  int event_count_ = 0;  // of the batch being handled

  BlockingHelper helper_;
};

}  // namespace keelson::io
