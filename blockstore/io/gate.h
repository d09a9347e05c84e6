#pragma once
// Gate: the owner of detached work. Work that nobody awaits runs inside a gate; closing the gate
// refuses new work and waits for what runs. An object with a gate closes it before it is destroyed,
// so no coroutine outlives what it points to. One reactor thread.

#include <cstddef>
#include <utility>

#include "blockstore/io/sync.h"
#include "blockstore/io/task.h"

namespace keelson::io {

class Gate {
 public:
  Gate() = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate() { KEEL_CHECK(running_ == 0, "a Gate is closed before it is destroyed"); }

  // Starts `work` now, up to its first suspension. Returns false, and does not start it, when the
  // gate is closed.
  bool Spawn(Task<void> work) {
    if (closed_) return false;
    ++running_;
    Run(this, std::move(work));
    return true;
  }

  // Refuses new work and completes when all of it has ended. May be awaited once.
  Task<void> Close() {
    closed_ = true;
    if (running_ > 0) co_await idle_.Wait();
  }

  bool closed() const { return closed_; }
  std::size_t running() const { return running_; }

 private:
  static internal::Detached Run(Gate* gate, Task<void> work) {
    {
      Task<void> owned = std::move(work);
      co_await std::move(owned);
    }
    gate->Leave();
  }
  void Leave() {
    if (--running_ == 0 && closed_) idle_.WakeAll();
  }

  std::size_t running_ = 0;
  bool closed_ = false;
  WaitList idle_;
};

}  // namespace keelson::io
