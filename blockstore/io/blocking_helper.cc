#include "blockstore/io/blocking_helper.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "blockstore/io/kernel_file.h"

namespace keelson::io {
namespace {

int Perform(const IoOp& op) {
  const int fd = static_cast<const KernelFile*>(op.file)->fd();
  const int mode = op.kind == IoOp::Kind::kDiscard ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                                                   : FALLOC_FL_KEEP_SIZE;
  const int rc = op.kind == IoOp::Kind::kFlush ? fdatasync(fd)
                                               : fallocate(fd, mode, static_cast<off_t>(op.offset),
                                                           static_cast<off_t>(op.size_bytes));
  return rc == 0 ? 0 : -errno;
}

}  // namespace

BlockingHelper::~BlockingHelper() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void BlockingHelper::Start(IoOp* op) {
  op->next = nullptr;
  {
    const std::lock_guard lock(mutex_);
    (queued_ == nullptr ? queued_ : queued_last_->next) = op;
    queued_last_ = op;
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { Work(); });
  changed_.notify_one();
}

IoOp* BlockingHelper::TakeEnded() {
  const std::lock_guard lock(mutex_);
  return std::exchange(ended_, nullptr);
}

void BlockingHelper::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || queued_ != nullptr; });
    if (queued_ == nullptr) return;
    IoOp* op = std::exchange(queued_, queued_->next);
    lock.unlock();
    op->result = Perform(*op);
    lock.lock();
    op->next = std::exchange(ended_, op);
    // Under the lock: once the reactor has taken the last operation it may destroy this object,
    // which joins this thread first, so `notify_` is alive in any case.
    notify_();
  }
}

}  // namespace keelson::io
