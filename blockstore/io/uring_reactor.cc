#include "blockstore/io/uring_reactor.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/kernel_file.h"
#include "blockstore/io/log.h"

namespace keelson::io {
namespace {

// One registered buffer is at most 1 GiB long; a larger arena is registered in parts.
constexpr unsigned kFixedBufferShift = 30;
constexpr std::size_t kFixedBufferBytes = std::size_t{1} << kFixedBufferShift;
constexpr std::size_t kFileSlots = 64;

// What a completion belongs to is in the low bits of its user data: the operations are aligned.
enum Tag : std::uint64_t { kFileTag = 0, kSocketTag = 1, kWakeTag = 2, kIgnoredTag = 3 };
constexpr std::uint64_t kTagMask = 3;

std::uint64_t UserData(const void* pointer, Tag tag) {
  return reinterpret_cast<std::uintptr_t>(pointer) | tag;
}

// Made disabled, because it may be made on another thread than the one that will run it.
int CreateRing(std::uint32_t queue_depth, io_uring* ring) {
  constexpr unsigned kAlways = IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
  // Best first; older kernels refuse flags that they do not know with EINVAL.
  constexpr std::array<unsigned, 4> kChoices = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,  // 6.1
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,   // 6.0
      IORING_SETUP_COOP_TASKRUN,                                // 5.19
      0,
  };
  int rc = -EINVAL;
  for (const unsigned choice : kChoices) {
    io_uring_params params = {};
    params.flags = kAlways | choice;
    params.cq_entries = 4 * queue_depth;
    rc = io_uring_queue_init_params(queue_depth, ring, &params);
    if (rc != -EINVAL) break;
  }
  return rc;
}

template <typename Op>
void Append(Op** first, Op** last, Op* op) {
  op->next = nullptr;
  (*first == nullptr ? *first : (*last)->next) = op;
  *last = op;
}

template <typename Op>
Op* TakeFirst(Op** first) {
  return std::exchange(*first, (*first)->next);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Reactor>> UringReactor::Make(const ReactorOptions& options) {
  io_uring ring;
  const int rc = CreateRing(options.queue_depth, &ring);
  if (rc < 0) {
    return absl::UnavailableError(
        absl::StrCat("io_uring_setup: ", std::strerror(-rc),
                     "; allow it in the seccomp profile and by sysctl kernel.io_uring_disabled"));
  }
  // Timeouts as an argument of io_uring_enter came with Linux 5.11, after everything else we need.
  if ((ring.features & IORING_FEAT_EXT_ARG) == 0) {
    io_uring_queue_exit(&ring);
    return absl::UnavailableError("the kernel's io_uring is older than that of Linux 5.11");
  }
  return std::unique_ptr<Reactor>(new UringReactor(options, ring));
}

UringReactor::UringReactor(const ReactorOptions& options, const io_uring& ring)
    : KernelReactor(options), ring_(ring), queue_depth_(options.queue_depth) {
  RegisterBuffers();
  RegisterFileTable();
}

UringReactor::~UringReactor() { io_uring_queue_exit(&ring_); }

void UringReactor::RegisterBuffers() {
  std::vector<iovec> parts;
  for (std::size_t start = 0; start < arena().size(); start += kFixedBufferBytes) {
    parts.push_back({arena().data() + start, std::min(kFixedBufferBytes, arena().size() - start)});
  }
  const int rc =
      io_uring_register_buffers(&ring_, parts.data(), static_cast<unsigned>(parts.size()));
  if (rc == 0) {
    fixed_buffers_ = parts.size();
  } else {
    KEEL_LOG_INFO(
        "event=ring_buffers_not_registered arena_bytes={} reason=\"{}\" "
        "remedy=\"raise the limit of locked memory\"",
        arena().size(), std::strerror(-rc));
  }
}

void UringReactor::RegisterFileTable() {
  const std::vector<int> none(kFileSlots, -1);
  const int rc = io_uring_register_files(&ring_, none.data(), kFileSlots);
  if (rc == 0) {
    slots_taken_.assign(kFileSlots, false);
  } else {
    KEEL_LOG_INFO("event=ring_files_not_registered reason=\"{}\"", std::strerror(-rc));
  }
}

int UringReactor::RegisterDescriptor(int fd) {
  const auto free_slot = std::find(slots_taken_.begin(), slots_taken_.end(), false);
  if (free_slot == slots_taken_.end()) return -1;
  const auto slot = static_cast<unsigned>(free_slot - slots_taken_.begin());
  // Refused on a thread that does not own the ring; the plain descriptor does as well.
  if (io_uring_register_files_update(&ring_, slot, &fd, 1) != 1) return -1;
  *free_slot = true;
  return static_cast<int>(slot);
}

void UringReactor::UnregisterDescriptor(int slot) {
  const auto index = static_cast<unsigned>(slot);
  const int none = -1;
  // Where it is refused (after Run, on another thread) the slot stays taken until the ring goes.
  if (io_uring_register_files_update(&ring_, index, &none, 1) == 1) slots_taken_[index] = false;
}

void UringReactor::AddSocket(Socket* /*socket*/) {}
void UringReactor::RemoveSocket(Socket* /*socket*/) {}

void UringReactor::SubmitFileOp(IoOp* op) {
  // Nobody overtakes the queue.
  if (queued_file_ops_ == nullptr && file_ops_in_ring_ < queue_depth_) {
    if (io_uring_sqe* sqe = io_uring_get_sqe(&ring_); sqe != nullptr) {
      PrepareFileOp(sqe, op);
      return;
    }
  }
  Append(&queued_file_ops_, &queued_file_ops_last_, op);
}

void UringReactor::SubmitSocketOp(SocketOp* op) {
  if (queued_socket_ops_ == nullptr) {
    if (io_uring_sqe* sqe = io_uring_get_sqe(&ring_); sqe != nullptr) {
      PrepareSocketOp(sqe, op);
      return;
    }
  }
  Append(&queued_socket_ops_, &queued_socket_ops_last_, op);
}

void UringReactor::AbortSocketOp(SocketOp* op) {
  // The cancellation follows the operation into the ring (PrepareQueued keeps that order), where
  // the kernel handles them one after the other.
  queued_aborts_.push_back(op);
}

int UringReactor::FixedBufferOf(const IoOp* op) const {
  if (fixed_buffers_ == 0) return -1;
  // In integers: `data` need not point into the arena. Below it, `start` wraps to a large number.
  const std::uint64_t start =
      reinterpret_cast<std::uintptr_t>(op->data) - reinterpret_cast<std::uintptr_t>(arena().data());
  if (start >= arena().size() || arena().size() - start < op->size_bytes) return -1;
  const std::uint64_t index = start >> kFixedBufferShift;
  if ((start + op->size_bytes - 1) >> kFixedBufferShift != index) return -1;
  return static_cast<int>(index);
}

void UringReactor::PrepareFileOp(io_uring_sqe* sqe, IoOp* op) {
  ++file_ops_in_ring_;
  const auto* file = static_cast<const KernelFile*>(op->file);
  const bool registered = file->slot() >= 0;
  const int fd = registered ? file->slot() : file->fd();
  std::byte* data = op->data + op->moved_bytes;
  const auto size_bytes = static_cast<unsigned>(op->size_bytes - op->moved_bytes);
  const std::uint64_t offset = op->offset + op->moved_bytes;
  switch (op->kind) {
    case IoOp::Kind::kRead:
      if (const int buffer = FixedBufferOf(op); buffer >= 0) {
        io_uring_prep_read_fixed(sqe, fd, data, size_bytes, offset, buffer);
      } else {
        io_uring_prep_read(sqe, fd, data, size_bytes, offset);
      }
      break;
    case IoOp::Kind::kWrite:
      if (const int buffer = FixedBufferOf(op); buffer >= 0) {
        io_uring_prep_write_fixed(sqe, fd, data, size_bytes, offset, buffer);
      } else {
        io_uring_prep_write(sqe, fd, data, size_bytes, offset);
      }
      break;
    case IoOp::Kind::kFlush:
      io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
      break;
    case IoOp::Kind::kDiscard:
      io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(op->offset), static_cast<off_t>(op->size_bytes));
      break;
    case IoOp::Kind::kAllocate:
      io_uring_prep_fallocate(sqe, fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(op->offset),
                              static_cast<off_t>(op->size_bytes));
      break;
  }
  if (registered) sqe->flags |= IOSQE_FIXED_FILE;
  sqe->user_data = UserData(op, kFileTag);
}

void UringReactor::PrepareSocketOp(io_uring_sqe* sqe, SocketOp* op) {
  const int fd = op->socket->fd();
  switch (op->kind) {
    case SocketOp::Kind::kReceive:
      io_uring_prep_recv(sqe, fd, op->data, op->size_bytes, 0);
      break;
    case SocketOp::Kind::kSend:
      io_uring_prep_sendmsg(sqe, fd, &op->message, MSG_NOSIGNAL | MSG_WAITALL);
      break;
    case SocketOp::Kind::kAccept:
      io_uring_prep_accept(sqe, fd, nullptr, nullptr, SOCK_CLOEXEC);
      break;
    case SocketOp::Kind::kConnect:
      io_uring_prep_connect(sqe, fd, op->peer, op->peer_bytes);
      break;
    case SocketOp::Kind::kReadable:
      io_uring_prep_poll_add(sqe, fd, POLLIN);
      break;
  }
  sqe->user_data = UserData(op, kSocketTag);
}

void UringReactor::BeginRun() {
  if (!std::exchange(enabled_, true)) {
    // liburing 2.3 has io_uring_enable_rings in its header but not in its shared library.
    const int rc = io_uring_register(static_cast<unsigned>(ring_.ring_fd),
                                     IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    KEEL_CHECK(rc == 0, "a new ring can be enabled");
  }
  // Saves a descriptor look-up per enter. It belongs to this thread; older kernels have it not.
  io_uring_register_ring_fd(&ring_);
}

void UringReactor::EndRun() {
  // The kernel must not be left reading into wake_value_.
  if (wake_armed_) Wake();
  while (wake_armed_) {
    Enter(kForever);
    Reap();
  }
  io_uring_unregister_ring_fd(&ring_);
}

bool UringReactor::PrepareQueued() {
  io_uring_sqe* sqe = nullptr;
  if (!wake_armed_) {
    if ((sqe = io_uring_get_sqe(&ring_)) == nullptr) return false;
    io_uring_prep_read(sqe, wake_fd(), &wake_value_, sizeof(wake_value_), 0);
    sqe->user_data = UserData(nullptr, kWakeTag);
    wake_armed_ = true;
  }
  while (queued_socket_ops_ != nullptr) {
    if ((sqe = io_uring_get_sqe(&ring_)) == nullptr) return false;
    PrepareSocketOp(sqe, TakeFirst(&queued_socket_ops_));
  }
  while (!queued_aborts_.empty()) {
    if ((sqe = io_uring_get_sqe(&ring_)) == nullptr) return false;
    io_uring_prep_cancel64(sqe, UserData(queued_aborts_.back(), kSocketTag), 0);
    sqe->user_data = UserData(nullptr, kIgnoredTag);
    queued_aborts_.pop_back();
  }
  while (queued_file_ops_ != nullptr && file_ops_in_ring_ < queue_depth_) {
    if ((sqe = io_uring_get_sqe(&ring_)) == nullptr) return false;
    PrepareFileOp(sqe, TakeFirst(&queued_file_ops_));
  }
  return true;
}

void UringReactor::SubmitAndWait(std::int64_t timeout_ns) {
  const bool all_prepared = PrepareQueued();
  Enter(all_prepared ? timeout_ns : 0);
  Reap();
}

void UringReactor::Enter(std::int64_t timeout_ns) {
  int rc = 0;
  if (timeout_ns == 0) {
    rc = io_uring_submit_and_get_events(&ring_);
  } else if (timeout_ns == kForever) {
    rc = io_uring_submit_and_wait(&ring_, 1);
  } else {
    constexpr std::int64_t kNanosPerSecond = 1'000'000'000;
    __kernel_timespec timeout = {timeout_ns / kNanosPerSecond, timeout_ns % kNanosPerSecond};
    io_uring_cqe* first = nullptr;
    rc = io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
  }
  // ETIME: nothing happened. The others: the kernel wants completions reaped, or memory, first.
  KEEL_CHECK(rc >= 0 || rc == -ETIME || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY,
             "io_uring_enter takes what this reactor gives it");
}

void UringReactor::Reap() {
  unsigned head = 0;
  unsigned count = 0;
  io_uring_cqe* cqe = nullptr;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    Deliver(cqe->user_data, cqe->res);
    if (++count == kCompletionsPerTurn) break;  // the rest is there at once on the next turn
  }
  io_uring_cq_advance(&ring_, count);
}

void UringReactor::Deliver(std::uint64_t user_data, int result) {
  void* target = reinterpret_cast<void*>(user_data & ~kTagMask);
  switch (static_cast<Tag>(user_data & kTagMask)) {
    case kFileTag:
      DeliverFileOp(static_cast<IoOp*>(target), result);
      break;
    case kSocketTag: {
      auto* op = static_cast<SocketOp*>(target);
      // It ended before its cancellation went out, which must not hit a later operation.
      if (op->cancelled) std::erase(queued_aborts_, op);
      FinishSocketOp(op, result);
      break;
    }
    case kWakeTag:
      wake_armed_ = false;
      RunPosted();
      break;
    case kIgnoredTag:
      break;
  }
}

void UringReactor::DeliverFileOp(IoOp* op, int result) {
  --file_ops_in_ring_;
  if (AbsorbResult(op, result)) {
    FinishFileOp(op);
  } else {
    SubmitFileOp(op);
  }
}

}  // namespace keelson::io
