#pragma once
// Reactor: one thread, one loop, one ring. Everything that does I/O, waits for time or owns state
// on the data path belongs to one reactor and runs on its thread. Work crosses reactors by Post
// only. Backends: io_uring, libaio + epoll (where io_uring_setup is refused), and the simulated
// world.

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/io/buffer_pool.h"
#include "blockstore/io/file.h"
#include "blockstore/io/readiness.h"
#include "blockstore/io/stream.h"
#include "blockstore/io/task.h"

namespace keelson::io {

// A pending timer. Lives in the waiting coroutine's frame or in its owner.
struct TimerNode {
  std::int64_t when_ns = 0;
  std::uint64_t sequence = 0;               // ties fire in the order they were started
  void (*fire)(TimerNode* node) = nullptr;  // runs on the reactor, once, unless cancelled
  void* owner = nullptr;
  bool armed = false;
  std::size_t heap_slot = 0;  // the reactor's: where it stands among the timers
};

enum class Backend { kAuto, kUring, kAio };

struct ReactorOptions {
  Backend backend = Backend::kAuto;
  std::uint32_t queue_depth = 1024;  // operations the ring holds; more wait in a queue
  std::size_t buffer_arena_bytes = std::size_t{32} << 20;
  int cpu = -1;  // pin the thread to this CPU; -1: do not pin
};

class Reactor {
 public:
  virtual ~Reactor() = default;

  // Nanoseconds since boot (CLOCK_BOOTTIME); never the wall clock.
  virtual std::int64_t NowNanos() const = 0;

  // Runs `handle` on the next turn of the loop. Owner thread only.
  virtual void Schedule(std::coroutine_handle<> handle) = 0;
  // Runs `work` on the reactor's thread. Any thread.
  virtual void Post(absl::AnyInvocable<void()> work) = 0;

  virtual void StartTimer(TimerNode* node) = 0;
  // No effect on a timer that is not armed.
  virtual void CancelTimer(TimerNode* node) = 0;

  // Opens a data file or block device for O_DIRECT I/O.
  //   FAILED_PRECONDITION: another process holds the lock.  NOT_FOUND, PERMISSION_DENIED, ...
  // Blocks briefly; for start-up and administration, not for the I/O path.
  virtual absl::StatusOr<std::unique_ptr<File>> OpenFile(const std::string& path,
                                                         const FileOptions& options) = 0;
  virtual absl::StatusOr<std::unique_ptr<Listener>> Listen(const Address& address) = 0;
  virtual Task<absl::StatusOr<std::unique_ptr<Stream>>> Connect(Address address,
                                                                std::int64_t deadline_ns) = 0;
  // Takes over a connected socket, for example one end of a socketpair.
  virtual absl::StatusOr<std::unique_ptr<Stream>> AdoptStream(int fd) = 0;

  // Takes over `fd`, anything that poll(2) works on, leaving its flags alone. UNIMPLEMENTED where
  // there are no descriptors.
  virtual absl::StatusOr<std::unique_ptr<Readiness>> WatchReadable(int fd);

  virtual BufferPool& buffers() = 0;
  // "io_uring", "libaio" or "sim".
  virtual std::string backend_name() const = 0;

  // Runs the loop on the calling thread until Stop.
  virtual void Run() = 0;
  // Ends Run after the current turn. Any thread.
  virtual void Stop() = 0;

  // co_await reactor.Yield(): lets other work of this reactor run first.
  auto Yield() {
    struct Awaiter {
      Reactor* reactor;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> handle) { reactor->Schedule(handle); }
      void await_resume() const noexcept {}
    };
    return Awaiter{this};
  }

  // co_await reactor.SleepUntil(t): a sleep that cannot be cut short; t in NowNanos() terms.
  auto SleepUntil(std::int64_t when_ns) {
    struct Awaiter {
      Reactor* reactor;
      TimerNode node;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> handle) {
        node.owner = handle.address();
        node.fire = [](TimerNode* timer) {
          std::coroutine_handle<>::from_address(timer->owner).resume();
        };
        reactor->StartTimer(&node);
      }
      void await_resume() const noexcept {}
    };
    Awaiter awaiter{this, {}};
    awaiter.node.when_ns = when_ns;
    return awaiter;
  }
  auto SleepFor(std::int64_t duration_ns) { return SleepUntil(NowNanos() + duration_ns); }
};

// A reactor over the kernel. kAuto tries io_uring and falls back to libaio, saying so once in the
// log. kUring fails with UNAVAILABLE and the reason where io_uring cannot be used.
absl::StatusOr<std::unique_ptr<Reactor>> MakeReactor(const ReactorOptions& options);

}  // namespace keelson::io
