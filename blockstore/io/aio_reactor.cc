#include "blockstore/io/aio_reactor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/kernel_file.h"
#include "blockstore/io/log.h"

namespace keelson::io {
namespace {

constexpr std::uint32_t kQueueDepthMin = 32;
// While the kernel lacks the memory for a batch it is offered again after this.
constexpr int kRetryMillis = 1;
constexpr std::uint32_t kSocketEvents = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

// The system call of `op`, which never blocks: the result, or -EAGAIN when it must wait.
int Attempt(SocketOp* op) {
  const int fd = op->socket->fd();
  ssize_t rc = 0;
  switch (op->kind) {
    case SocketOp::Kind::kReceive:
      rc = recv(fd, op->data, op->size_bytes, 0);
      break;
    case SocketOp::Kind::kSend:
      rc = sendmsg(fd, &op->message, MSG_NOSIGNAL);
      break;
    case SocketOp::Kind::kAccept:
      rc = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      break;
    case SocketOp::Kind::kConnect:
      // Calling it again tells how the attempt that is under way went.
      rc = connect(fd, op->peer, op->peer_bytes);
      if (rc != 0 && errno == EISCONN) rc = 0;
      break;
    case SocketOp::Kind::kReadable: {
      pollfd ready = {fd, POLLIN, 0};
      rc = poll(&ready, 1, 0);
      return rc > 0 ? ready.revents : rc == 0 ? -EAGAIN : -errno;
    }
  }
  return rc >= 0 ? static_cast<int>(rc) : -errno;
}

// Whether the outcome of Attempt means that epoll will tell when to try again. A UNIX socket's
// connect says EAGAIN for a full backlog, of which epoll tells nothing.
bool MustWait(const SocketOp& op, int result) {
  if (op.kind == SocketOp::Kind::kConnect) return result == -EINPROGRESS || result == -EALREADY;
  return result == -EAGAIN;
}

int EpollTimeout(std::int64_t timeout_ns) {
  if (timeout_ns <= 0) return static_cast<int>(timeout_ns);  // 0, or -1 for ever
  constexpr std::int64_t kNanosPerMilli = 1'000'000;
  const std::int64_t rounded_up = timeout_ns / kNanosPerMilli + 1;
  return static_cast<int>(std::min<std::int64_t>(rounded_up, std::numeric_limits<int>::max()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Reactor>> AioReactor::Make(const ReactorOptions& options) {
  io_context_t context = nullptr;
  std::uint32_t queue_depth = options.queue_depth;
  int rc = io_setup(static_cast<int>(queue_depth), &context);
  while (rc == -EAGAIN && queue_depth / 2 >= kQueueDepthMin) {
    queue_depth /= 2;
    rc = io_setup(static_cast<int>(queue_depth), &context);
  }
  if (rc != 0) {
    return absl::UnavailableError(absl::StrCat("io_setup: ", std::strerror(-rc),
                                               "; raise sysctl fs.aio-max-nr if it is used up"));
  }
  return std::unique_ptr<Reactor>(new AioReactor(options, context, queue_depth));
}

AioReactor::AioReactor(const ReactorOptions& options, io_context_t context,
                       std::uint32_t queue_depth)
    : KernelReactor(options),
      context_(context),
      completion_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      blocks_(queue_depth),
      helper_([this] { Wake(); }) {
  KEEL_CHECK(completion_fd_ >= 0 && epoll_fd_ >= 0,
             "no descriptors for the reactor; raise the limit of open files");
  batch_.reserve(queue_depth);
  free_blocks_.reserve(queue_depth);
  for (iocb& block : blocks_) free_blocks_.push_back(&block);
  // Edge-triggered: completions are counted by io_getevents, so the eventfd is never read.
  Watch(completion_fd_, EPOLLIN | EPOLLET, &completion_fd_);
  Watch(wake_fd(), EPOLLIN, this);
}

AioReactor::~AioReactor() {
  io_destroy(context_);
  close(epoll_fd_);
  close(completion_fd_);
}

void AioReactor::Watch(int fd, std::uint32_t events, void* target) {
  epoll_event event = {};
  event.events = events;
  event.data.ptr = target;
  const int rc = epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event);
  KEEL_CHECK(rc == 0, "a new descriptor can be watched");
}

void AioReactor::AddSocket(Socket* socket) { Watch(socket->fd(), kSocketEvents, socket); }

void AioReactor::RemoveSocket(Socket* socket) {
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, socket->fd(), nullptr);
  // The events at hand may still name it.
  for (int i = 0; i < event_count_; ++i) {
    epoll_event& event = events_[static_cast<std::size_t>(i)];
    if (event.data.ptr == socket) event.data.ptr = nullptr;
  }
}

void AioReactor::SubmitFileOp(IoOp* op) {
  if (op->kind == IoOp::Kind::kDiscard || op->kind == IoOp::Kind::kAllocate ||
      (op->kind == IoOp::Kind::kFlush && !async_flush_)) {
    helper_.Start(op);
    return;
  }
  // Nobody overtakes the queue.
  if (queued_ == nullptr && !free_blocks_.empty()) {
    iocb* block = free_blocks_.back();
    free_blocks_.pop_back();
    PrepareBlock(block, op);
    return;
  }
  op->next = nullptr;
  (queued_ == nullptr ? queued_ : queued_last_->next) = op;
  queued_last_ = op;
}

void AioReactor::PrepareBlock(iocb* block, IoOp* op) {
  const int fd = static_cast<const KernelFile*>(op->file)->fd();
  std::byte* data = op->data + op->moved_bytes;
  const std::size_t size_bytes = op->size_bytes - op->moved_bytes;
  const auto offset = static_cast<long long>(op->offset + op->moved_bytes);
  switch (op->kind) {
    case IoOp::Kind::kRead:
      io_prep_pread(block, fd, data, size_bytes, offset);
      break;
    case IoOp::Kind::kWrite:
      io_prep_pwrite(block, fd, data, size_bytes, offset);
      break;
    case IoOp::Kind::kFlush:
    case IoOp::Kind::kDiscard:  // never: these go to the helper
    case IoOp::Kind::kAllocate:
      io_prep_fdsync(block, fd);
      break;
  }
  io_set_eventfd(block, completion_fd_);
  block->data = op;
  batch_.push_back(block);
}

void AioReactor::PrepareQueued() {
  while (queued_ != nullptr && !free_blocks_.empty()) {
    IoOp* op = std::exchange(queued_, queued_->next);
    iocb* block = free_blocks_.back();
    free_blocks_.pop_back();
    PrepareBlock(block, op);
  }
}

bool AioReactor::SubmitBatch() {
  std::size_t taken = 0;
  bool delivered = false;
  while (taken < batch_.size()) {
    const int rc =
        io_submit(context_, static_cast<long>(batch_.size() - taken), batch_.data() + taken);
    if (rc == -EAGAIN || rc == -EINTR) break;  // the rest is offered again next turn
    if (rc > 0) {
      taken += static_cast<std::size_t>(rc);
    } else {
      // The first block is at fault. Its outcome may submit more, which goes to the batch's end.
      RefuseBlock(batch_[taken++], rc);
      delivered = true;
    }
  }
  batch_.erase(batch_.begin(), batch_.begin() + static_cast<std::ptrdiff_t>(taken));
  return delivered;
}

void AioReactor::RefuseBlock(iocb* block, int result) {
  auto* op = static_cast<IoOp*>(block->data);
  ReleaseBlock(block);
  if (op->kind == IoOp::Kind::kFlush && result == -EINVAL) {
    KEEL_LOG_INFO("event=aio_flush_unsupported path={} fallback=\"helper thread\"",
                  op->file->path());
    async_flush_ = false;
    helper_.Start(op);
    return;
  }
  DeliverFileOp(op, result);
}

void AioReactor::DeliverFileOp(IoOp* op, int result) {
  if (AbsorbResult(op, result)) {
    FinishFileOp(op);
  } else {
    SubmitFileOp(op);
  }
}

void AioReactor::ReapBlocks() {
  std::array<io_event, kCompletionsPerTurn> done;
  timespec no_wait = {};
  const int count =
      io_getevents(context_, 0, static_cast<long>(done.size()), done.data(), &no_wait);
  // The eventfd tells of new completions only; a full batch may have left some behind.
  more_completions_ = count == static_cast<int>(done.size());
  for (int i = 0; i < count; ++i) {
    const io_event& event = done[static_cast<std::size_t>(i)];
    ReleaseBlock(event.obj);
    DeliverFileOp(static_cast<IoOp*>(event.data), static_cast<int>(event.res));
  }
}

void AioReactor::ReapHelper() {
  IoOp* op = helper_.TakeEnded();
  while (op != nullptr) {
    IoOp* next = op->next;
    DeliverFileOp(op, op->result);
    op = next;
  }
}

void AioReactor::SubmitSocketOp(SocketOp* op) {
  const int result = Attempt(op);
  if (MustWait(*op, result)) {
    op->socket->parked(op->reads()) = op;
  } else {
    QueueReady(op, result);
  }
}

void AioReactor::RetryParked(Socket* socket, bool reads) {
  SocketOp* op = socket->parked(reads);
  if (op == nullptr) return;
  const int result = Attempt(op);
  if (MustWait(*op, result)) return;
  socket->parked(reads) = nullptr;
  QueueReady(op, result);
}

void AioReactor::AbortSocketOp(SocketOp* op) {
  SocketOp*& parked = op->socket->parked(op->reads());
  if (parked != op) return;  // it has ended already and waits to be delivered
  parked = nullptr;
  QueueReady(op, -ECANCELED);
}

void AioReactor::QueueReady(SocketOp* op, int result) {
  op->result = result;
  op->next = nullptr;
  (ready_ == nullptr ? ready_ : ready_last_->next) = op;
  ready_last_ = op;
}

void AioReactor::DeliverReady() {
  // Only those of now: what their waiters submit is delivered by the next turn.
  SocketOp* op = std::exchange(ready_, nullptr);
  while (op != nullptr) {
    SocketOp* next = op->next;
    FinishSocketOp(op, op->result);
    op = next;
  }
}

void AioReactor::SubmitAndWait(std::int64_t timeout_ns) {
  PrepareQueued();
  // What was delivered already may have scheduled work that `timeout_ns` does not know of.
  const bool busy = SubmitBatch() || ready_ != nullptr || more_completions_;
  int timeout_ms = busy ? 0 : EpollTimeout(timeout_ns);
  if (!batch_.empty() && (timeout_ms < 0 || timeout_ms > kRetryMillis)) timeout_ms = kRetryMillis;
  WaitForEvents(timeout_ms);
  if (more_completions_) ReapBlocks();
  DeliverReady();
}

void AioReactor::WaitForEvents(int timeout_ms) {
  event_count_ = std::max(
      0, epoll_wait(epoll_fd_, events_.data(), static_cast<int>(events_.size()), timeout_ms));
  for (int i = 0; i < event_count_; ++i) {
    const epoll_event event = events_[static_cast<std::size_t>(i)];
    if (event.data.ptr == nullptr) continue;  // the socket went meanwhile
    if (event.data.ptr == &completion_fd_) {
      more_completions_ = true;
    } else if (event.data.ptr == this) {
      std::uint64_t count = 0;
      const ssize_t got = read(wake_fd(), &count, sizeof(count));
      KEEL_CHECK(got == sizeof(count), "a signalled eventfd can be read");
      ReapHelper();
      RunPosted();
    } else {
      auto* socket = static_cast<Socket*>(event.data.ptr);
      RetryParked(socket, true);
      RetryParked(socket, false);
    }
  }
  event_count_ = 0;
}

}  // namespace keelson::io
