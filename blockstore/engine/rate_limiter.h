#pragma once
// RateLimiter: what one volume may ask for in a second: requests, and bytes of reads, writes and
// trims. Each limit is a token bucket of 100 ms (or of one request, where that is more); a request
// larger than the bucket waits until it is full, and those after it pay for it. First come, first
// served, whatever is asked for.
//
// Owned by the volume's Engine, on its reactor, in the reactor's time. No allocation: what waits is
// in the frame of the waiting coroutine. Without limits nobody calls Admit.
//
//   if (limiter.limited()) co_await limiter.Admit(bytes);

#include <coroutine>
#include <cstdint>

#include "blockstore/io/reactor.h"

namespace keelson::engine {

// 0: no limit.
struct QosLimits {
  std::uint64_t iops = 0;
  std::uint64_t bytes_per_second = 0;
  bool operator==(const QosLimits&) const = default;
};

struct RateLimiterCounters {
  std::uint64_t delayed_requests = 0;
  std::uint64_t delayed_ns = 0;  // of all of them together, once they went on
};

class RateLimiter {
 public:
  class [[nodiscard]] Admission {
   public:
    Admission(RateLimiter* limiter, std::uint64_t bytes) : limiter_(limiter), bytes_(bytes) {}
    Admission(const Admission&) = delete;
    Admission& operator=(const Admission&) = delete;
    bool await_ready() { return limiter_->AdmitNow(bytes_); }
    void await_suspend(std::coroutine_handle<> awaiting) {
      waiter_ = awaiting;
      limiter_->Append(this);
    }
    void await_resume() const {}

   private:
    friend class RateLimiter;
    RateLimiter* limiter_;
    std::uint64_t bytes_;
    std::coroutine_handle<> waiter_;
    std::int64_t since_ns_ = 0;
    Admission* next_ = nullptr;
  };

  // `reactor` outlives this.
  explicit RateLimiter(io::Reactor* reactor);
  RateLimiter(const RateLimiter&) = delete;
  RateLimiter& operator=(const RateLimiter&) = delete;
  // REQUIRES: nobody waits.
  ~RateLimiter();

  bool limited() const { return limited_; }
  const QosLimits& limits() const { return limits_; }
  // For those that wait, too. Without limits all of them go on.
  void SetLimits(const QosLimits& limits);
  // Completes when the request may go on.
  Admission Admit(std::uint64_t bytes) { return Admission(this, bytes); }
  const RateLimiterCounters& counters() const { return counters_; }

 private:
  class Bucket {
   public:
    // Per second; 0: no limit.
    void SetRate(std::uint64_t rate, double least);
    void Refill(std::int64_t elapsed_ns);
    bool Allows(double cost) const;
    void Take(double cost);
    // Until it allows it; 0: now.
    std::int64_t WaitNanos(double cost) const;

   private:
    double Needed(double cost) const { return cost < size_ ? cost : size_; }
    double per_ns_ = 0;
    double size_ = 0;
    double level_ = 0;  // below 0 after a request larger than the bucket
  };

  bool AdmitNow(std::uint64_t bytes);
  void Append(Admission* admission);
  void Refill();
  bool Take(std::uint64_t bytes);
  // Lets those go on whose turn it is.
  void Pump();

  io::Reactor* reactor_;
  QosLimits limits_;
  bool limited_ = false;
  Bucket requests_;
  Bucket bytes_;
  std::int64_t refilled_ns_ = 0;
  Admission* first_ = nullptr;
  Admission* last_ = nullptr;
  io::TimerNode timer_;
  RateLimiterCounters counters_;
};

}  // namespace keelson::engine
