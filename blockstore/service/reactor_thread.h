#pragma once
// ReactorThread: a reactor with the thread that runs it, and the bridge by which other threads
// (gRPC handlers, the metrics endpoint, main) have coroutines run there and wait for their results.
//
// Made, started and destroyed by one thread; Submit and Run may be called by any thread but the
// reactor's own, until Stop. Whoever calls Run waits as long as the coroutine takes: what a disk
// keeps the caller waiting for must be limited by the caller (see Node) or be given up on (Submit).

#include <future>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/task.h"

namespace keelson::service {

class ReactorThread {
 public:
  // Starts the thread, named `name` (at most 15 characters). Fails as io::MakeReactor does.
  static absl::StatusOr<std::unique_ptr<ReactorThread>> Start(const io::ReactorOptions& options,
                                                              const std::string& name);
  // Waits until everything submitted has ended, then stops the loop and joins the thread.
  ~ReactorThread();
  ReactorThread(const ReactorThread&) = delete;
  ReactorThread& operator=(const ReactorThread&) = delete;

  io::Reactor& reactor() { return *reactor_; }

  // Calls `work` on the reactor's thread. It returns a T, or an io::Task<T>, which then runs there.
  // The future is ready when that has ended. `work` is an ordinary function object and may capture;
  // a coroutine that it calls takes what it needs by value.
  template <typename Work>
  auto Submit(Work work) {
    using Returned = std::invoke_result_t<Work&>;
    using T = typename ResultOf<Returned>::Type;
    std::promise<T> promise;
    std::future<T> future = promise.get_future();
    reactor_->Post([this, work = std::move(work), promise = std::move(promise)]() mutable {
      if constexpr (std::is_void_v<Returned>) {
        work();
        promise.set_value();
      } else if constexpr (std::is_same_v<Returned, T>) {
        promise.set_value(work());
      } else {
        gate_.Spawn(Fulfil<T>(work(), std::move(promise)));
      }
    });
    return future;
  }

  template <typename Work>
  auto Run(Work work) {
    return Submit(std::move(work)).get();
  }

 private:
  template <typename T>
  struct ResultOf {
    using Type = T;
  };
  template <typename T>
  struct ResultOf<io::Task<T>> {
    using Type = T;
  };

  // Owns the promise: whoever waits may be gone before set_value has returned.
  template <typename T>
  static io::Task<void> Fulfil(io::Task<T> task, std::promise<T> promise) {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(task);
      promise.set_value();
    } else {
      T result = co_await std::move(task);
      promise.set_value(std::move(result));
    }
  }

  explicit ReactorThread(std::unique_ptr<io::Reactor> reactor) : reactor_(std::move(reactor)) {}
  io::Task<void> StopWhenIdle();

  std::unique_ptr<io::Reactor> reactor_;
  std::thread thread_;
  io::Gate gate_;       // what was submitted
  io::Gate stop_gate_;  // what waits for it
};

}  // namespace keelson::service
