#pragma once
// BlockingHelper: one thread for the file operations that libaio cannot do (fallocate, and
// fdatasync on file systems without asynchronous fsync). Owned by an AioReactor. Start is called on
// the reactor's thread; ended operations are taken back there with TakeEnded, after `notify` was
// called on the helper's thread.

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "blockstore/io/file.h"

namespace keelson::io {

class BlockingHelper {
 public:
  explicit BlockingHelper(std::function<void()> notify) : notify_(std::move(notify)) {}
  ~BlockingHelper();
  BlockingHelper(const BlockingHelper&) = delete;
  BlockingHelper& operator=(const BlockingHelper&) = delete;

  // Queues `op`, a kFlush, kDiscard or kAllocate on a KernelFile. The first call starts the thread.
  void Start(IoOp* op);
  // A list by `next` of the operations that have ended, with their `result`.
  IoOp* TakeEnded();

 private:
  void Work();

  const std::function<void()> notify_;
  std::mutex mutex_;
  std::condition_variable changed_;
  IoOp* queued_ = nullptr;       // under mutex_
  IoOp* queued_last_ = nullptr;  // under mutex_
  IoOp* ended_ = nullptr;        // under mutex_
  bool stopping_ = false;        // under mutex_
  std::thread thread_;
};

}  // namespace keelson::io
