#include "tests/crash/crash_reactor.h"

#include <chrono>
#include <utility>

#include "blockstore/io/gate.h"
#include "tests/crash/crash_file.h"

namespace keelson::crash {
namespace {

constexpr std::size_t kArenaBytes = std::size_t{16} << 20;
// How long nothing may come from RocksDB's threads before a timer fires, or the run counts as hung.
constexpr int kTimerPatienceUs = 20'000;
constexpr int kHangPatienceUs = 20'000'000;
constexpr int kSlowIoUs = 60;

absl::Status NotHere() { return absl::UnimplementedError("the crash tests have no such thing"); }

}  // namespace

CrashReactor::CrashReactor(std::uint64_t seed) : random_(seed), buffers_(kArenaBytes) {}

io::Task<void> CrashReactor::StopAfter(CrashReactor* reactor, io::Task<void> task, bool* ended) {
  co_await std::move(task);
  *ended = true;
  reactor->Stop();
}

bool CrashReactor::RunTask(io::Task<void> task) {
  bool ended = false;
  // Not on the stack: the frames of a hung task refer to it until the process ends.
  auto gate = std::make_unique<io::Gate>();
  gate->Spawn(StopAfter(this, std::move(task), &ended));
  if (!ended) Run();
  if (!ended) gate.release();
  return ended;
}

void CrashReactor::Run() {
  stopped_ = false;
  while (!stopped_) {
    now_ns_ += 1000;
    if (RunPosted(0)) continue;
    if (!ready_.empty()) {
      const std::coroutine_handle<> handle = ready_.front();
      ready_.pop_front();
      handle.resume();
      continue;
    }
    if (CompleteIo()) continue;
    if (RunPosted(timers_.empty() ? kHangPatienceUs : kTimerPatienceUs)) continue;
    if (!FireTimer()) return;
  }
}

void CrashReactor::Post(absl::AnyInvocable<void()> work) {
  {
    std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(work));
  }
  posted_ready_.notify_one();
}

bool CrashReactor::RunPosted(int wait_us) {
  std::vector<absl::AnyInvocable<void()>> posted;
  {
    std::unique_lock lock(posted_mutex_);
    if (wait_us > 0) {
      posted_ready_.wait_for(lock, std::chrono::microseconds(wait_us),
                             [this] { return !posted_.empty(); });
    }
    posted.swap(posted_);
  }
  for (absl::AnyInvocable<void()>& work : posted) work();
  return !posted.empty();
}

bool CrashReactor::CompleteIo() {
  if (pending_io_.empty()) return false;
  if (slow_io_ && random_.Below(3) == 0 && RunPosted(kSlowIoUs)) return true;
  const std::size_t chosen = random_.Below(pending_io_.size());
  io::IoOp* op = pending_io_[chosen];
  pending_io_.erase(pending_io_.begin() + static_cast<std::ptrdiff_t>(chosen));
  static_cast<CrashFile*>(op->file)->Complete(op);
  return true;
}

void CrashReactor::StartTimer(io::TimerNode* node) {
  node->armed = true;
  timers_.emplace(node->when_ns, node);
}

void CrashReactor::CancelTimer(io::TimerNode* node) {
  if (!node->armed) return;
  node->armed = false;
  for (auto [it, end] = timers_.equal_range(node->when_ns); it != end; ++it) {
    if (it->second == node) {
      timers_.erase(it);
      return;
    }
  }
}

bool CrashReactor::FireTimer() {
  if (timers_.empty()) return false;
  io::TimerNode* node = timers_.begin()->second;
  timers_.erase(timers_.begin());
  now_ns_ = std::max(now_ns_, node->when_ns);
  node->armed = false;
  node->fire(node);
  return true;
}

absl::StatusOr<std::unique_ptr<io::File>> CrashReactor::OpenFile(const std::string&,
                                                                 const io::FileOptions&) {
  return NotHere();
}

absl::StatusOr<std::unique_ptr<io::Listener>> CrashReactor::Listen(const io::Address&) {
  return NotHere();
}

io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> CrashReactor::Connect(io::Address,
                                                                            std::int64_t) {
  co_return NotHere();
}

absl::StatusOr<std::unique_ptr<io::Stream>> CrashReactor::AdoptStream(int) { return NotHere(); }

}  // namespace keelson::crash
