#pragma once
// UringReactor: the kernel reactor over io_uring. Everything (files, sockets, the wake-up event,
// the timeout) goes through one ring, with one io_uring_enter per turn of the loop.
//
// At most queue_depth file operations are in the ring; more wait in a queue, first come first
// served. Socket operations are bounded by the number of sockets and not counted, because an idle
// client's read stays in the ring for as long as the client is idle.

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "blockstore/io/kernel_reactor.h"

namespace keelson::io {

class UringReactor final : public KernelReactor {
 public:
  // UNAVAILABLE with the reason when the kernel or a seccomp profile refuses io_uring.
  static absl::StatusOr<std::unique_ptr<Reactor>> Make(const ReactorOptions& options);
  ~UringReactor() override;

  std::string backend_name() const override { return "io_uring"; }
  int RegisterDescriptor(int fd) override;
  void UnregisterDescriptor(int slot) override;
  bool wants_nonblocking_sockets() const override { return false; }
  void AddSocket(Socket* socket) override;
  void RemoveSocket(Socket* socket) override;

 protected:
  void SubmitFileOp(IoOp* op) override;
  void SubmitSocketOp(SocketOp* op) override;
  void AbortSocketOp(SocketOp* op) override;
  void BeginRun() override;
  void EndRun() override;
  void SubmitAndWait(std::int64_t timeout_ns) override;

 private:
  UringReactor(const ReactorOptions& options, const io_uring& ring);
  void RegisterBuffers();
  void RegisterFileTable();

  void PrepareFileOp(io_uring_sqe* sqe, IoOp* op);
  static void PrepareSocketOp(io_uring_sqe* sqe, SocketOp* op);
  // -1 when `op` is not within one registered buffer.
  int FixedBufferOf(const IoOp* op) const;
  // False when the submission queue is full before everything has gone in.
  bool PrepareQueued();
  void Enter(std::int64_t timeout_ns);
  void Reap();
  void Deliver(std::uint64_t user_data, int result);
  void DeliverFileOp(IoOp* op, int result);

  io_uring ring_;
  const std::uint32_t queue_depth_;
  std::uint32_t file_ops_in_ring_ = 0;
  bool enabled_ = false;

  IoOp* queued_file_ops_ = nullptr;
  IoOp* queued_file_ops_last_ = nullptr;
  SocketOp* queued_socket_ops_ = nullptr;
  SocketOp* queued_socket_ops_last_ = nullptr;
  std::vector<SocketOp*> queued_aborts_;

  std::size_t fixed_buffers_ = 0;  // registered; 0: plain reads and writes
  std::vector<bool> slots_taken_;  // empty: no registered files

  std::uint64_t wake_value_ = 0;  // the kernel reads the eventfd into it
  bool wake_armed_ = false;
};

}  // namespace keelson::io
