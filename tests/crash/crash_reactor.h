#pragma once
// CrashReactor: the io::Reactor of the crash tests. One thread runs it; RocksDB's threads post to
// it. I/O of CrashFiles completes in an order the seed chooses; time is virtual and jumps to the
// next timer when nothing else happens. No sockets.

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "blockstore/io/reactor.h"
#include "tests/sim/random.h"

namespace keelson::crash {

class CrashFile;

class CrashReactor final : public io::Reactor {
 public:
  explicit CrashReactor(std::uint64_t seed);

  // Runs `task` to its end. False if it hangs: nothing is left to do and nothing comes.
  bool RunTask(io::Task<void> task);
  // For CrashFile: completes `op` in some later turn.
  void QueueIo(io::IoOp* op) { pending_io_.push_back(op); }
  // Slows I/O down against RocksDB's threads, so that what is recorded overlaps; off for
  // recoveries.
  void set_slow_io(bool slow) { slow_io_ = slow; }

  std::int64_t NowNanos() const override { return now_ns_; }
  void Schedule(std::coroutine_handle<> handle) override { ready_.push_back(handle); }
  void Post(absl::AnyInvocable<void()> work) override;
  void StartTimer(io::TimerNode* node) override;
  void CancelTimer(io::TimerNode* node) override;
  io::BufferPool& buffers() override { return buffers_; }
  std::string backend_name() const override { return "crash"; }
  void Run() override;
  void Stop() override { stopped_ = true; }

  // Not part of this world: UNIMPLEMENTED.
  absl::StatusOr<std::unique_ptr<io::File>> OpenFile(const std::string& path,
                                                     const io::FileOptions& options) override;
  absl::StatusOr<std::unique_ptr<io::Listener>> Listen(const io::Address& address) override;
  io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> Connect(io::Address address,
                                                                std::int64_t deadline_ns) override;
  absl::StatusOr<std::unique_ptr<io::Stream>> AdoptStream(int fd) override;

 private:
  static io::Task<void> StopAfter(CrashReactor* reactor, io::Task<void> task, bool* ended);
  bool RunPosted(int wait_us);
  bool CompleteIo();
  bool FireTimer();

  sim::Random random_;
  io::BufferPool buffers_;
  std::int64_t now_ns_ = 1'000'000'000;
  bool stopped_ = false;
  bool slow_io_ = false;
  std::deque<std::coroutine_handle<>> ready_;
  std::vector<io::IoOp*> pending_io_;
  std::multimap<std::int64_t, io::TimerNode*> timers_;
  std::mutex posted_mutex_;
  std::condition_variable posted_ready_;
  std::vector<absl::AnyInvocable<void()>> posted_;
};

}  // namespace keelson::crash
