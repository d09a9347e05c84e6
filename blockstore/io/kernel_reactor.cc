#include "blockstore/io/kernel_reactor.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "blockstore/io/check.h"
#include "blockstore/io/kernel_file.h"
#include "blockstore/io/kernel_readiness.h"
#include "blockstore/io/kernel_stream.h"
#include "blockstore/io/log.h"

namespace keelson::io {
namespace {

constexpr int kSectorBytesMin = 512;

}  // namespace

KernelReactor::KernelReactor(const ReactorOptions& options)
    : cpu_(options.cpu), buffers_(options.buffer_arena_bytes), wake_fd_(eventfd(0, EFD_CLOEXEC)) {
  KEEL_CHECK(wake_fd_ >= 0, "no descriptor for the reactor; raise the limit of open files");
}

KernelReactor::~KernelReactor() {
  KEEL_CHECK(operations_ == 0, "a reactor is destroyed after its operations have completed");
  close(wake_fd_);
}

std::int64_t KernelReactor::NowNanos() const {
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void KernelReactor::Post(absl::AnyInvocable<void()> work) {
  {
    const std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(work));
  }
  Wake();
}

void KernelReactor::Stop() {
  stop_.store(true);
  Wake();
}

void KernelReactor::Wake() {
  // One write per wake-up, however many posts it stands for.
  if (wake_pending_.exchange(true)) return;
  const std::uint64_t one = 1;
  const ssize_t written = write(wake_fd_, &one, sizeof(one));
  KEEL_CHECK(written == sizeof(one), "an eventfd takes a write");
}

void KernelReactor::RunPosted() {
  // Cleared before the queue is taken: a post that finds it set comes before the taking below.
  wake_pending_.store(false);
  {
    const std::lock_guard lock(posted_mutex_);
    posted_now_.swap(posted_);
  }
  for (absl::AnyInvocable<void()>& work : posted_now_) {
    work();
  }
  posted_now_.clear();
}

void KernelReactor::RunScheduled() {
  scheduled_now_.swap(scheduled_);
  for (const std::coroutine_handle<> handle : scheduled_now_) {
    handle.resume();
  }
  scheduled_now_.clear();
}

void KernelReactor::Run() {
  PinThread();
  BeginRun();
  do {
    RunScheduled();
    if (!timers_.empty()) timers_.FireDue(NowNanos());
    SubmitAndWait(TimeoutNanos());
  } while (!stop_.load(std::memory_order_relaxed));
  EndRun();
  stop_.store(false);
}

void KernelReactor::PinThread() const {
  if (cpu_ < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu_), &set);
  if (sched_setaffinity(0, sizeof(set), &set) != 0) {
    KEEL_LOG_WARN("event=reactor_not_pinned cpu={} reason=\"{}\"", cpu_, std::strerror(errno));
  }
}

std::int64_t KernelReactor::TimeoutNanos() const {
  if (!scheduled_.empty()) return 0;
  if (timers_.empty()) return kForever;
  return std::max<std::int64_t>(0, timers_.next_ns() - NowNanos());
}

void KernelReactor::StartFileOp(IoOp* op) {
  ++operations_;
  op->moved_bytes = 0;
  SubmitFileOp(op);
}

bool KernelReactor::AbsorbResult(IoOp* op, int result) {
  if (result == -EAGAIN || result == -EINTR) return false;
  if (result < 0) {
    // Both are advice: what cannot punch holes keeps the old bytes, as allowed, and what cannot
    // reserve space finds it when it is written to. A block device refuses the latter with
    // EOPNOTSUPP or ENODEV.
    const bool advice = op->kind == IoOp::Kind::kDiscard || op->kind == IoOp::Kind::kAllocate;
    const bool refused = result == -EOPNOTSUPP || result == -ENODEV;
    op->result = advice && refused ? 0 : result;
    return true;
  }
  op->result = 0;
  if (op->kind != IoOp::Kind::kRead && op->kind != IoOp::Kind::kWrite) return true;
  op->moved_bytes += static_cast<std::uint32_t>(result);
  if (op->moved_bytes == op->size_bytes) return true;
  if (result > 0 && result % kSectorBytesMin == 0) return false;
  // Nothing more comes, or part of a sector: the end of the file.
  op->result = -EIO;
  return true;
}

void KernelReactor::FinishFileOp(IoOp* op) {
  --operations_;
  static_cast<KernelFile*>(op->file)->OperationEnded();
  op->done(op);
}

void KernelReactor::StartSocketOp(SocketOp* op) {
  ++operations_;
  ++op->socket->in_flight_;
  op->cancelled = false;
  op->next = nullptr;
  SubmitSocketOp(op);
}

void KernelReactor::CancelSocketOp(SocketOp* op) {
  if (std::exchange(op->cancelled, true)) return;
  AbortSocketOp(op);
}

void KernelReactor::FinishSocketOp(SocketOp* op, int result) {
  --operations_;
  --op->socket->in_flight_;
  op->result = result;
  op->done(op);
}

absl::StatusOr<std::unique_ptr<File>> KernelReactor::OpenFile(const std::string& path,
                                                              const FileOptions& options) {
  return KernelFile::Open(this, path, options);
}

absl::StatusOr<std::unique_ptr<Listener>> KernelReactor::Listen(const Address& address) {
  return ListenOn(this, address);
}

Task<absl::StatusOr<std::unique_ptr<Stream>>> KernelReactor::Connect(Address address,
                                                                     std::int64_t deadline_ns) {
  return ConnectTo(this, std::move(address), deadline_ns);
}

absl::StatusOr<std::unique_ptr<Stream>> KernelReactor::AdoptStream(int fd) {
  return KernelStream::Adopt(this, fd);
}

absl::StatusOr<std::unique_ptr<Readiness>> KernelReactor::WatchReadable(int fd) {
  return std::make_unique<KernelReadiness>(this, fd);
}

}  // namespace keelson::io
