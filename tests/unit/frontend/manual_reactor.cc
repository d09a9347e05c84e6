#include "tests/unit/frontend/manual_reactor.h"

#include <algorithm>
#include <utility>

namespace keelson::frontend::testing {
namespace {

absl::Status NotHere() {
  return absl::UnimplementedError("a ManualReactor has no files or sockets");
}

}  // namespace

void ManualReactor::Settle() {
  while (!scheduled_.empty() || !posted_.empty()) {
    if (!posted_.empty()) {
      absl::AnyInvocable<void()> work = std::move(posted_.front());
      posted_.pop_front();
      work();
      continue;
    }
    const std::coroutine_handle<> handle = scheduled_.front();
    scheduled_.pop_front();
    handle.resume();
  }
}

void ManualReactor::Advance(std::int64_t duration_ns) {
  const std::int64_t until_ns = now_ns_ + duration_ns;
  Settle();
  while (true) {
    const auto next = std::min_element(
        timers_.begin(), timers_.end(),
        [](const io::TimerNode* a, const io::TimerNode* b) { return a->when_ns < b->when_ns; });
    if (next == timers_.end() || (*next)->when_ns > until_ns) break;
    io::TimerNode* node = *next;
    timers_.erase(next);
    node->armed = false;
    now_ns_ = std::max(now_ns_, node->when_ns);
    node->fire(node);
    Settle();
  }
  now_ns_ = until_ns;
}

void ManualReactor::StartTimer(io::TimerNode* node) {
  node->armed = true;
  timers_.push_back(node);
}

void ManualReactor::CancelTimer(io::TimerNode* node) {
  node->armed = false;
  std::erase(timers_, node);
}

absl::StatusOr<std::unique_ptr<io::File>> ManualReactor::OpenFile(const std::string&,
                                                                  const io::FileOptions&) {
  return NotHere();
}
absl::StatusOr<std::unique_ptr<io::Listener>> ManualReactor::Listen(const io::Address&) {
  return NotHere();
}
io::Task<absl::StatusOr<std::unique_ptr<io::Stream>>> ManualReactor::Connect(io::Address,
                                                                             std::int64_t) {
  co_return NotHere();
}
absl::StatusOr<std::unique_ptr<io::Stream>> ManualReactor::AdoptStream(int) { return NotHere(); }

}  // namespace keelson::frontend::testing
