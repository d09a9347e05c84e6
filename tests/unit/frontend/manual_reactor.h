#pragma once
// ManualReactor: a Reactor for tests and fuzz targets that does nothing by itself. Time stands
// still until Advance; scheduled coroutines run in Settle. No files, no sockets. One thread.

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "blockstore/io/reactor.h"

namespace keelson::frontend::testing {

class ManualReactor : public io::Reactor {
 public:
  explicit ManualReactor(std::size_t arena_bytes = std::size_t{32} << 20) : buffers_(arena_bytes) {}

  // Runs what is scheduled until nothing is.
  void Settle();
  // Moves time forward, firing timers in their order and settling after each.
  void Advance(std::int64_t duration_ns);

  std::int64_t NowNanos() const override { return now_ns_; }
  void Schedule(std::coroutine_handle<> handle) override { scheduled_.push_back(handle); }
  void Post(absl::AnyInvocable<void()> work) override { posted_.push_back(std::move(work)); }
  void StartTimer(io::TimerNode* node) override;
  void CancelTimer(io::TimerNode* node) override;
  io::BufferPool& buffers() override { return buffers_; }
  std::string backend_name() const override { return "manual"; }
  void Run() override { Settle(); }
  void Stop() override {}

  absl::StatusOr<std::unique_ptr<io::File>> OpenFile(const std::string& path,
                                                     const io::FileOptions& options) override;
  absl::StatusOr<std::unique_ptr<io::Listener>> Listen(const io::Address& address) override;
  io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> Connect(io::Address address,
                                                                std::int64_t deadline_ns) override;
  absl::StatusOr<std::unique_ptr<io::Stream>> AdoptStream(int fd) override;

 private:
  std::int64_t now_ns_ = 1'000'000'000;
  std::deque<std::coroutine_handle<>> scheduled_;
  std::deque<absl::AnyInvocable<void()>> posted_;
  std::vector<io::TimerNode*> timers_;
  io::BufferPool buffers_;
};

}  // namespace keelson::frontend::testing
