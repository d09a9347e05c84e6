#pragma once
// KernelReactor: what the io_uring and libaio reactors share: the loop, posted work, scheduled
// coroutines, timers, the buffer pool, and files and sockets on top of a few backend operations.
//
// It may be made on one thread and run on another. Before Run the making thread owns it (opening
// files and listening is usual then); from Run on, the thread in Run does, for good.

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "blockstore/io/buffer_pool.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/socket.h"
#include "blockstore/io/timer_heap.h"

namespace keelson::io {

class KernelFile;

class KernelReactor : public Reactor {
 public:
  ~KernelReactor() override;

  std::int64_t NowNanos() const override;
  void Schedule(std::coroutine_handle<> handle) override { scheduled_.push_back(handle); }
  void Post(absl::AnyInvocable<void()> work) override;
  void StartTimer(TimerNode* node) override { timers_.Start(node); }
  void CancelTimer(TimerNode* node) override { timers_.Cancel(node); }
  absl::StatusOr<std::unique_ptr<File>> OpenFile(const std::string& path,
                                                 const FileOptions& options) override;
  absl::StatusOr<std::unique_ptr<Listener>> Listen(const Address& address) override;
  Task<absl::StatusOr<std::unique_ptr<Stream>>> Connect(Address address,
                                                        std::int64_t deadline_ns) override;
  absl::StatusOr<std::unique_ptr<Stream>> AdoptStream(int fd) override;
  absl::StatusOr<std::unique_ptr<Readiness>> WatchReadable(int fd) override;
  BufferPool& buffers() override { return buffers_; }
  void Run() override;
  void Stop() override;

  // For KernelFile. Queues `op`, whose `file` is a KernelFile of this reactor.
  void StartFileOp(IoOp* op);
  // Makes `fd` known to the ring. Returns its slot, or -1 when plain descriptors must do.
  virtual int RegisterDescriptor(int fd) = 0;
  virtual void UnregisterDescriptor(int slot) = 0;

  // For Socket and SocketWait.
  void StartSocketOp(SocketOp* op);
  // Asks for an early end of `op`, which then completes soon, with -ECANCELED or its own result.
  void CancelSocketOp(SocketOp* op);
  virtual bool wants_nonblocking_sockets() const = 0;
  virtual void AddSocket(Socket* socket) = 0;
  virtual void RemoveSocket(Socket* socket) = 0;

 protected:
  static constexpr std::int64_t kForever = -1;
  // Completions delivered before what they caused is submitted. Delivering all that are there saves
  // calls, but on a virtio disk (random 4 KiB writes, depth 32) it cost about a quarter of the
  // operations per second, presumably because the disk's queue runs low meanwhile. There 1 to 4 did
  // not differ beyond the noise; the largest of them makes the fewest calls. A loop device over
  // memory showed no loss without the limit, and spent about a tenth less CPU.
  static constexpr unsigned kCompletionsPerTurn = 4;

  explicit KernelReactor(const ReactorOptions& options);

  virtual void SubmitFileOp(IoOp* op) = 0;
  virtual void SubmitSocketOp(SocketOp* op) = 0;
  virtual void AbortSocketOp(SocketOp* op) = 0;
  // On the reactor's thread, before the first and after the last turn of Run.
  virtual void BeginRun() = 0;
  virtual void EndRun() = 0;
  // Hands what was submitted to the kernel, waits up to `timeout_ns` for something to happen, and
  // delivers completions through the two functions below and RunPosted.
  virtual void SubmitAndWait(std::int64_t timeout_ns) = 0;

  // Takes the kernel's `result` for a part of `op`. True when the whole operation has ended, with
  // op->result set; false when the rest of it must be submitted.
  static bool AbsorbResult(IoOp* op, int result);
  void FinishFileOp(IoOp* op);
  void FinishSocketOp(SocketOp* op, int result);
  // After the wake-up event was read.
  void RunPosted();
  void Wake();

  int wake_fd() const { return wake_fd_; }
  std::span<std::byte> arena() const { return buffers_.arena(); }

 private:
  void RunScheduled();
  void PinThread() const;
  std::int64_t TimeoutNanos() const;

  const int cpu_;
  BufferPool buffers_;
  TimerHeap timers_;
  std::vector<std::coroutine_handle<>> scheduled_;
  std::vector<std::coroutine_handle<>> scheduled_now_;  // those of this turn; kept for its memory
  std::uint64_t operations_ = 0;                        // in flight, of files and sockets

  int wake_fd_ = -1;  // an eventfd
  std::atomic<bool> stop_{false};
  std::atomic<bool> wake_pending_{false};
  std::mutex posted_mutex_;
  std::vector<absl::AnyInvocable<void()>> posted_;      // under posted_mutex_
  std::vector<absl::AnyInvocable<void()>> posted_now_;  // kept for its memory
};

}  // namespace keelson::io
