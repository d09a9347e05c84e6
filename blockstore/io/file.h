#pragma once
// File: positioned, unbuffered I/O to one data file or block device. The seam through which all
// data I/O of a pool goes: io_uring or libaio in production, a seeded faulty disk in tests/sim, a
// recorder in tests/crash. Owned by one reactor; used on its thread only.
//
// Offsets, sizes and memory addresses of reads and writes are multiples of kIoAlignment (4 KiB).
// A completed write is *complete*, not durable: durable is what a Flush that started after the
// completion makes it. Several operations may be in flight and complete in any order; overlapping
// ones are the caller's to order. Every operation in flight must have completed before the File is
// destroyed.

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/io/task.h"

namespace keelson::io {

inline constexpr std::size_t kIoAlignment = 4096;

class File;

// One operation in flight. Lives in the awaiting coroutine's frame. The backend fills `result` and
// calls `done` from its loop, never from inside Submit. Short transfers have been continued by the
// backend: `result` is 0 or -errno for the whole operation. A read past the end of the file is
// -EIO.
struct IoOp {
  enum class Kind : std::uint8_t { kRead, kWrite, kFlush, kDiscard, kAllocate };
  Kind kind = Kind::kRead;
  int result = 0;
  std::uint32_t moved_bytes = 0;  // the backend's: how much of a split transfer is done
  std::uint64_t offset = 0;
  std::byte* data = nullptr;     // written from for kWrite, never modified then
  std::uint64_t size_bytes = 0;  // reads and writes: at most 1 GiB
  void (*done)(IoOp* op) = nullptr;
  std::coroutine_handle<> waiter;
  IoOp* next = nullptr;   // the backend's
  File* file = nullptr;   // the backend's: what it was submitted to
  void* owner = nullptr;  // the submitter's
};

struct FileOptions {
  bool create = false;  // create if absent; then `size_bytes` is preallocated
  std::uint64_t size_bytes = 0;
  bool read_only = false;
  bool lock = true;  // take the exclusive lock, held by this open file description
};

class File {
 public:
  virtual ~File() = default;

  // Queues `op`; it is handed to the kernel with the other operations of this turn of the loop.
  virtual void Submit(IoOp* op) = 0;

  // The path it was opened by, for messages.
  virtual std::string_view path() const = 0;
  // Bytes; of a block device its capacity.
  virtual std::uint64_t size_bytes() const = 0;
  // Logical sector size of the device underneath (512 or 4096), or 4096 when unknown.
  virtual std::uint32_t sector_bytes() const = 0;

  class [[nodiscard]] Awaiter {
   public:
    Awaiter(File* file, IoOp::Kind kind, std::uint64_t offset, std::byte* data,
            std::uint64_t size_bytes)
        : file_(file) {
      op_.kind = kind;
      op_.offset = offset;
      op_.data = data;
      op_.size_bytes = size_bytes;
    }
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> awaiting) noexcept {
      op_.waiter = awaiting;
      op_.done = [](IoOp* op) { op->waiter.resume(); };
      file_->Submit(&op_);
    }
    absl::Status await_resume() const {
      if (op_.result == 0) [[likely]]
        return absl::OkStatus();
      return file_->OpStatus(op_);
    }

   private:
    File* file_;
    IoOp op_;
  };

  Awaiter Read(std::uint64_t offset, std::span<std::byte> into) {
    return {this, IoOp::Kind::kRead, offset, into.data(), into.size()};
  }
  Awaiter Write(std::uint64_t offset, std::span<const std::byte> from) {
    // const_cast: IoOp is shared by both directions; a kWrite is only read from.
    return {this, IoOp::Kind::kWrite, offset, const_cast<std::byte*>(from.data()), from.size()};
  }
  // Makes every write that completed before this call durable. A failure is final for the file's
  // un-flushed writes: calling again proves nothing (fsync semantics of Linux).
  Awaiter Flush() { return {this, IoOp::Kind::kFlush, 0, nullptr, 0}; }
  // Gives the range back to the file system or device; it then reads as zeroes or old bytes.
  Awaiter Discard(std::uint64_t offset, std::uint64_t size_bytes) {
    return {this, IoOp::Kind::kDiscard, offset, nullptr, size_bytes};
  }

  // Reserves space for the range underneath, so that first writes into it neither wait for the file
  // system to find some nor fail for want of it. Contents do not change. OK where there is nothing
  // to reserve (a block device). -ENOSPC: the file system is full.
  Awaiter Allocate(std::uint64_t offset, std::uint64_t size_bytes) {
    return {this, IoOp::Kind::kAllocate, offset, nullptr, size_bytes};
  }

  // The Status of a completed `op`: names the path, the act and the offset.
  absl::Status OpStatus(const IoOp& op) const;
};

}  // namespace keelson::io
