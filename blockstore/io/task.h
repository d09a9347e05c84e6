#pragma once
// Task<T>: a lazy coroutine. It starts when it is first awaited (or given to a Gate), is move-only,
// is awaited once, and resumes its awaiter on the thread that completed it, which in this code base
// is always the reactor thread that owns it. Destroying a Task that never ran is fine; destroying
// one that is suspended half-way is a bug, and Gate exists so that it does not happen.
//
// Frames come from a per-thread free list, so that the steady I/O path allocates nothing.
// Coroutines here do not throw: an exception that escapes one aborts the process. What a library
// may throw is caught at the call.
//
// Rules for writing coroutines (docs/testing.md lists the checks that enforce them): no capturing
// lambda coroutines; no reference parameters unless the task is awaited in the same expression.

#include <array>
#include <coroutine>
#include <cstddef>
#include <new>
#include <optional>
#include <utility>

#include "blockstore/io/check.h"

namespace keelson::io {

// Per-thread free lists of coroutine frames in 64-byte classes up to 4 KiB. Larger frames go to the
// heap. A frame freed on another thread than it was taken on joins that thread's list.
class FramePool {
 public:
  static void* Take(std::size_t size_bytes);
  static void Give(void* frame, std::size_t size_bytes) noexcept;
};

template <typename T>
class Task;

namespace internal {

struct PromiseBase {
  std::coroutine_handle<> continuation = std::noop_coroutine();

  static void* operator new(std::size_t size) { return FramePool::Take(size); }
  static void operator delete(void* frame, std::size_t size) noexcept {
    FramePool::Give(frame, size);
  }

  std::suspend_always initial_suspend() noexcept { return {}; }

  struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> handle) noexcept {
      return handle.promise().continuation;
    }
    void await_resume() const noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }

  [[noreturn]] void unhandled_exception() noexcept {
    CheckFailed("no exception", "an exception escaped a coroutine", __FILE__, __LINE__);
  }
};

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object() noexcept;
  template <typename U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
};

}  // namespace internal

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      Reset();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() { Reset(); }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) noexcept {
    KEEL_CHECK(handle_, "a Task is awaited once");
    handle_.promise().continuation = awaiting;
    return handle_;
  }
  T await_resume() {
    if constexpr (!std::is_void_v<T>) {
      return *std::move(handle_.promise().value);
    }
  }

 private:
  void Reset() noexcept {
    if (handle_) {
      std::exchange(handle_, nullptr).destroy();
    }
  }
  Handle handle_;
};

namespace internal {
template <typename T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

// A coroutine that owns itself: runs at once, frees its frame when it ends.
struct Detached {
  struct promise_type {
    static void* operator new(std::size_t size) { return FramePool::Take(size); }
    static void operator delete(void* frame, std::size_t size) noexcept {
      FramePool::Give(frame, size);
    }
    Detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    [[noreturn]] void unhandled_exception() noexcept {
      CheckFailed("no exception", "an exception escaped a coroutine", __FILE__, __LINE__);
    }
  };
};
}  // namespace internal

}  // namespace keelson::io
