#pragma once
// BufferPool: page-aligned I/O buffers from one arena that the reactor registers with io_uring.
// Size classes 4, 16, 64, 256 KiB and 1 MiB. Taking never touches the heap; when the arena is used
// up the taker waits (first come first served), which is what bounds the memory of a busy daemon.
// A coroutine that holds a buffer must not wait for a second one (two such would deadlock).
// One reactor thread; buffers are given back on the thread they were taken on.

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "blockstore/io/task.h"

namespace keelson::io {

class BufferPool;

// A buffer of a pool; returns to it when destroyed. data() is aligned to 4 KiB.
class [[nodiscard]] Buffer {
 public:
  Buffer() = default;
  Buffer(BufferPool* pool, std::byte* data, std::size_t size_bytes, std::uint32_t size_class)
      : pool_(pool), data_(data), size_bytes_(size_bytes), size_class_(size_class) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer() { Reset(); }
  void Reset();

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_bytes_; }
  std::span<std::byte> span() const { return {data_, size_bytes_}; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  BufferPool* pool_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  std::uint32_t size_class_ = 0;
};

class BufferPool {
 public:
  static constexpr std::size_t kBufferSizeMax = std::size_t{1} << 20;

  // Maps `arena_bytes` (a multiple of 1 MiB, at least 4 MiB); aborts if the kernel has no memory.
  explicit BufferPool(std::size_t arena_bytes);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // A buffer whose size() is `size_bytes` (1 .. kBufferSizeMax); waits while none is free.
  Task<Buffer> Take(std::size_t size_bytes);
  // The same without waiting; an empty Buffer when none is free or others already wait.
  Buffer TryTake(std::size_t size_bytes);

  std::span<std::byte> arena() const { return arena_; }
  std::size_t free_bytes() const { return free_bytes_; }

 private:
  friend class Buffer;
  static constexpr std::size_t kUnitBytes = 4096;
  static constexpr std::uint32_t kClassCount = 5;
  static constexpr std::uint32_t kNone = 0xffffffff;

  // One 4 KiB unit of the arena. The first unit of a free block links it into the list of its
  // class.
  struct Unit {
    std::uint32_t next = kNone;
    std::uint32_t previous = kNone;
    std::uint32_t free_class = kNone;  // kNone: taken, or inside a larger block
  };
  // A Take that waits; lives in that coroutine's frame.
  struct Waiter {
    Waiter(BufferPool* waited_for, std::uint32_t wanted) : pool(waited_for), size_class(wanted) {}
    BufferPool* pool;
    std::uint32_t size_class;
    std::byte* data = nullptr;  // filled before the resume
    std::coroutine_handle<> handle;
    Waiter* next = nullptr;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> awaiting) noexcept;
    void await_resume() const noexcept {}
  };

  static std::uint32_t ClassOf(std::size_t size_bytes);
  static constexpr std::uint32_t UnitsOf(std::uint32_t size_class) {
    return 1u << (2 * size_class);
  }
  std::byte* Allocate(std::uint32_t size_class);
  void Give(std::byte* data, std::uint32_t size_class);
  void ServeWaiters();
  void Link(std::uint32_t unit, std::uint32_t size_class);
  void Unlink(std::uint32_t unit);

  std::span<std::byte> arena_;
  std::size_t free_bytes_ = 0;
  std::vector<Unit> units_;
  std::array<std::uint32_t, kClassCount> free_heads_;
  Waiter* first_waiter_ = nullptr;
  Waiter* last_waiter_ = nullptr;
  bool serving_ = false;
};

}  // namespace keelson::io
