#pragma once
// GenerationWindow: the generations of one engine and how many writes of each are in flight (R10,
// R12). A write enters the open generation and leaves it when every member has answered; a
// generation has ended when a later one is open and all its writes, and all earlier ones, have
// left.
//
// Owned by the segment's engine; one thread; no I/O. It holds one counter per generation that has
// not ended: the engine opens no new one while two wait.

#include <cstdint>
#include <deque>

#include "blockstore/io/check.h"
#include "blockstore/pool/ids.h"

namespace keelson::engine {

class GenerationWindow {
 public:
  explicit GenerationWindow(const pool::Epoch& epoch) : epoch_(epoch), in_flight_(1, 0) {}

  // The open one, which the next write belongs to. The first is (epoch, 1).
  pool::Generation open() const { return {epoch_, first_ + in_flight_.size() - 1}; }

  pool::Generation Enter() {
    ++in_flight_.back();
    ++entered_;
    return open();
  }

  void Leave(const pool::Generation& generation) {
    KEEL_CHECK(generation.epoch == epoch_ && generation.counter >= first_ && generation <= open() &&
                   in_flight_[generation.counter - first_] > 0,
               "a write leaves the generation that it entered");
    --in_flight_[generation.counter - first_];
    DropEnded();
  }

  // Opens the next generation and returns the one before.
  pool::Generation Roll() {
    const pool::Generation before = open();
    in_flight_.push_back(0);
    entered_ = 0;
    DropEnded();
    return before;
  }

  // Whether all writes of the generation, and of those before, have left, and no more can enter.
  bool HasEnded(const pool::Generation& generation) const {
    return generation < pool::Generation{epoch_, first_};
  }

  // The default generation while none of this engine has ended.
  pool::Generation last_ended() const {
    return first_ == 1 ? pool::Generation{} : pool::Generation{epoch_, first_ - 1};
  }

  bool open_has_writes() const { return entered_ > 0; }          // also when all of them have left
  std::size_t waiting() const { return in_flight_.size() - 1; }  // rolled, but not ended

 private:
  void DropEnded() {
    while (in_flight_.size() > 1 && in_flight_.front() == 0) {
      in_flight_.pop_front();
      ++first_;
    }
  }

  pool::Epoch epoch_;
  std::uint64_t first_ = 1;              // the counter of in_flight_[0]
  std::deque<std::uint64_t> in_flight_;  // the last is the open one
  std::uint64_t entered_ = 0;            // of the open one
};

}  // namespace keelson::engine
