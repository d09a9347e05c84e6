#pragma once
// SimReactor: a process of a World, seen as an io::Reactor. Time is virtual; what is ready runs in
// an order the seed chooses, but for Schedule, which is first in, first out. Run returns at Stop,
// or when nothing would ever happen again (a kernel reactor would sleep for ever there).
//
// OpenFile opens a SimDisk of its machine by its path (made when `create` is set). Listen and
// Connect reach the World's in-memory network. AdoptStream is UNIMPLEMENTED: there are no
// descriptors here. Post and Stop may be called from another thread, as everywhere; only then is
// the run not reproducible.

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "blockstore/io/reactor.h"
#include "tests/sim/world.h"

namespace keelson::sim {

class SimReactor final : public io::Reactor {
 public:
  SimReactor(World* world, Machine* machine, std::size_t buffer_arena_bytes);

  std::int64_t NowNanos() const override { return world_->now_ns(); }
  void Schedule(std::coroutine_handle<> handle) override { ready_.push_back(handle); }
  void Post(absl::AnyInvocable<void()> work) override;
  void StartTimer(io::TimerNode* node) override;
  void CancelTimer(io::TimerNode* node) override;
  absl::StatusOr<std::unique_ptr<io::File>> OpenFile(const std::string& path,
                                                     const io::FileOptions& options) override;
  absl::StatusOr<std::unique_ptr<io::Listener>> Listen(const io::Address& address) override;
  io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> Connect(io::Address address,
                                                                std::int64_t deadline_ns) override;
  absl::StatusOr<std::unique_ptr<io::Stream>> AdoptStream(int fd) override;
  io::BufferPool& buffers() override { return buffers_; }
  std::string backend_name() const override { return "sim"; }
  void Run() override;
  void Stop() override { stopped_ = true; }

  World& world() { return *world_; }
  Machine* machine() const { return machine_; }
  // For the World: nothing of it runs before this time.
  std::int64_t paused_until_ns() const { return paused_until_ns_; }
  void set_paused_until_ns(std::int64_t until_ns) { paused_until_ns_ = until_ns; }
  // For the World: is there work that needs no time to pass, and running one piece of it.
  bool HasReady();
  void RunReady();

 private:
  World* world_;      // owns this
  Machine* machine_;  // the World's
  std::int64_t paused_until_ns_ = 0;
  io::BufferPool buffers_;
  std::deque<std::coroutine_handle<>> ready_;
  std::mutex posted_mutex_;
  std::deque<absl::AnyInvocable<void()>> posted_;
  std::atomic<std::size_t> posted_count_ = 0;  // asked far more often than changed
  std::atomic<bool> stopped_ = false;
};

}  // namespace keelson::sim
