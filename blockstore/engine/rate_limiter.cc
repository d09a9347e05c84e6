#include "blockstore/engine/rate_limiter.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "blockstore/io/check.h"

namespace keelson::engine {

namespace {

constexpr double kNanosPerSecond = 1e9;
constexpr double kBurstSeconds = 0.1;
// Levels are sums of fractions: what is short of a request by so little is rounding.
constexpr double kRounding = 1e-6;

}  // namespace

void RateLimiter::Bucket::SetRate(std::uint64_t rate, double least) {
  const double was = per_ns_;
  per_ns_ = static_cast<double>(rate) / kNanosPerSecond;
  size_ = std::max(least, static_cast<double>(rate) * kBurstSeconds);
  // What was owed at another rate could be owed for hours at this one.
  level_ = was == 0 ? size_ : std::clamp(level_, 0.0, size_);
}

void RateLimiter::Bucket::Refill(std::int64_t elapsed_ns) {
  level_ = std::min(size_, level_ + per_ns_ * static_cast<double>(elapsed_ns));
}

bool RateLimiter::Bucket::Allows(double cost) const {
  // What costs nothing waits for its turn only, not for what those before it owe.
  return per_ns_ == 0 || cost == 0 || level_ + kRounding >= Needed(cost);
}

void RateLimiter::Bucket::Take(double cost) {
  if (per_ns_ != 0) level_ -= cost;
}

std::int64_t RateLimiter::Bucket::WaitNanos(double cost) const {
  if (Allows(cost)) return 0;
  return static_cast<std::int64_t>(std::ceil((Needed(cost) - level_) / per_ns_));
}

RateLimiter::RateLimiter(io::Reactor* reactor) : reactor_(reactor) {
  timer_.owner = this;
  timer_.fire = [](io::TimerNode* timer) { static_cast<RateLimiter*>(timer->owner)->Pump(); };
}

RateLimiter::~RateLimiter() {
  KEEL_CHECK(first_ == nullptr, "a RateLimiter dies without waiters");
  reactor_->CancelTimer(&timer_);
}

void RateLimiter::SetLimits(const QosLimits& limits) {
  if (limits == limits_) return;
  Refill();
  limits_ = limits;
  limited_ = limits != QosLimits();
  requests_.SetRate(limits.iops, /*least=*/1);
  bytes_.SetRate(limits.bytes_per_second, /*least=*/1);
  Pump();
}

void RateLimiter::Refill() {
  const std::int64_t now_ns = reactor_->NowNanos();
  requests_.Refill(now_ns - refilled_ns_);
  bytes_.Refill(now_ns - refilled_ns_);
  refilled_ns_ = now_ns;
}

bool RateLimiter::Take(std::uint64_t bytes) {
  const auto cost = static_cast<double>(bytes);
  if (!requests_.Allows(1) || !bytes_.Allows(cost)) return false;
  requests_.Take(1);
  bytes_.Take(cost);
  return true;
}

bool RateLimiter::AdmitNow(std::uint64_t bytes) {
  if (first_ != nullptr) return false;
  Refill();
  return Take(bytes);
}

void RateLimiter::Append(Admission* admission) {
  admission->since_ns_ = reactor_->NowNanos();
  (last_ != nullptr ? last_->next_ : first_) = admission;
  last_ = admission;
  ++counters_.delayed_requests;
  if (first_ == admission) Pump();
}

void RateLimiter::Pump() {
  Refill();
  // Take first, resume after: whoever is resumed may come back with the next request, or change the
  // limits, or detach.
  Admission* const ready = first_;
  Admission* ready_last = nullptr;
  while (first_ != nullptr && Take(first_->bytes_)) {
    counters_.delayed_ns += static_cast<std::uint64_t>(refilled_ns_ - first_->since_ns_);
    ready_last = std::exchange(first_, first_->next_);
  }
  reactor_->CancelTimer(&timer_);
  if (first_ == nullptr) {
    last_ = nullptr;
  } else {
    const auto cost = static_cast<double>(first_->bytes_);
    timer_.when_ns = refilled_ns_ + std::max<std::int64_t>(1, std::max(requests_.WaitNanos(1),
                                                                       bytes_.WaitNanos(cost)));
    reactor_->StartTimer(&timer_);
  }
  if (ready_last == nullptr) return;
  ready_last->next_ = nullptr;
  for (Admission* admission = ready; admission != nullptr;) {
    Admission* const next = admission->next_;
    admission->waiter_.resume();
    admission = next;
  }
}

}  // namespace keelson::engine
