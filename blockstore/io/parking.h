#pragma once
// Parking: where one coroutine waits to be told "look again". The wake goes through the reactor's
// queue, so that all wakes of one turn of the loop become one, and nobody is resumed inside the
// call that wakes. A wake may find nothing changed: the waiter looks in a loop. One reactor.

#include <coroutine>
#include <utility>

#include "blockstore/io/check.h"
#include "blockstore/io/reactor.h"

namespace keelson::io {

class Parking {
 public:
  explicit Parking(Reactor* reactor) : reactor_(reactor) {}
  Parking(const Parking&) = delete;
  Parking& operator=(const Parking&) = delete;

  auto Park() {
    struct Awaiter {
      Parking* parking;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> handle) noexcept {
        KEEL_CHECK(!parking->waiter_, "one coroutine parks at a time");
        parking->waiter_ = handle;
      }
      void await_resume() const noexcept {}
    };
    return Awaiter{this};
  }
  void Unpark() {
    if (waiter_) reactor_->Schedule(std::exchange(waiter_, nullptr));
  }

 private:
  Reactor* reactor_;  // outlives this
  std::coroutine_handle<> waiter_;
};

}  // namespace keelson::io
