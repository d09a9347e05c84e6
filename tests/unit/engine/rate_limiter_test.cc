#include "blockstore/engine/rate_limiter.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/sim/sim_reactor.h"
#include "tests/sim/world.h"

namespace keelson::engine {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;

class RateLimiterTest : public testing::Test {
 protected:
  struct Granted {
    int number = 0;
    std::uint64_t bytes = 0;
    std::int64_t at_ns = 0;
  };

  void TearDown() override { limiter_.SetLimits({}); }

  static io::internal::Detached RunOne(RateLimiterTest* self, int number, std::uint64_t bytes) {
    if (self->limiter_.limited()) co_await self->limiter_.Admit(bytes);
    self->granted_.push_back({number, bytes, self->world_.now_ns()});
  }
  void Ask(int number, std::uint64_t bytes) { RunOne(this, number, bytes); }
  // A client that always has one more request, until `until_ns`.
  static io::internal::Detached RunClient(RateLimiterTest* self, std::uint64_t bytes,
                                          std::int64_t until_ns) {
    while (self->world_.now_ns() < until_ns) {
      if (self->limiter_.limited()) co_await self->limiter_.Admit(bytes);
      self->granted_.push_back({0, bytes, self->world_.now_ns()});
      auto turn = self->process_->SleepFor(10'000);  // it takes some time, too
      co_await turn;
    }
  }
  void Saturate(std::uint64_t bytes, int clients, std::int64_t duration_ns) {
    const std::int64_t until_ns = world_.now_ns() + duration_ns;
    for (int i = 0; i < clients; ++i) RunClient(this, bytes, until_ns);
    Pass(duration_ns);
    limiter_.SetLimits({});
    Pass(kSecond);
  }
  void Pass(std::int64_t time_ns) { world_.RunUntil(world_.now_ns() + time_ns); }
  std::uint64_t CountIn(std::int64_t from_ns, std::int64_t to_ns) const {
    std::uint64_t count = 0;
    for (const Granted& one : granted_) count += one.at_ns >= from_ns && one.at_ns < to_ns;
    return count;
  }

  sim::World world_{5};
  sim::SimReactor* process_ = world_.StartProcess();
  RateLimiter limiter_{process_};
  std::vector<Granted> granted_;
};

TEST_F(RateLimiterTest, WithoutLimitsNothingWaits) {
  EXPECT_FALSE(limiter_.limited());
  for (int i = 0; i < 1000; ++i) Ask(i, kMiB);
  EXPECT_EQ(granted_.size(), 1000u);
  EXPECT_EQ(limiter_.counters().delayed_requests, 0u);
}

TEST_F(RateLimiterTest, KeepsTheRateOfRequests) {
  for (const std::uint64_t iops : {5u, 97u, 1000u, 20'000u}) {
    granted_.clear();
    limiter_.SetLimits({.iops = iops});
    const std::int64_t start_ns = world_.now_ns();
    Saturate(4 * kKiB, 8, 11 * kSecond);
    const auto count = static_cast<double>(CountIn(start_ns + kSecond, start_ns + 11 * kSecond));
    EXPECT_NEAR(count, 10.0 * static_cast<double>(iops), 0.02 * 10.0 * static_cast<double>(iops));
  }
}

TEST_F(RateLimiterTest, KeepsTheRateOfBytesWhateverTheSizeOfRequests) {
  for (const std::uint64_t bytes : {4 * kKiB, 128 * kKiB, 4 * kMiB}) {
    granted_.clear();
    limiter_.SetLimits({.bytes_per_second = 10 * kMiB});
    const std::int64_t start_ns = world_.now_ns();
    Saturate(bytes, 3, 41 * kSecond);
    const auto moved =
        static_cast<double>(CountIn(start_ns + kSecond, start_ns + 41 * kSecond) * bytes);
    const double asked = 40.0 * 10 * kMiB;
    EXPECT_NEAR(moved, asked, 0.02 * asked) << bytes;
  }
}

TEST_F(RateLimiterTest, TheTighterOfTheTwoLimitsCounts) {
  limiter_.SetLimits({.iops = 100, .bytes_per_second = 100 * kMiB});
  std::int64_t start_ns = world_.now_ns();
  Saturate(4 * kKiB, 4, 5 * kSecond);
  EXPECT_NEAR(static_cast<double>(CountIn(start_ns + kSecond, start_ns + 5 * kSecond)), 400, 8);
  granted_.clear();
  limiter_.SetLimits({.iops = 100, .bytes_per_second = kMiB});
  start_ns = world_.now_ns();
  Saturate(128 * kKiB, 4, 5 * kSecond);
  EXPECT_NEAR(static_cast<double>(CountIn(start_ns + kSecond, start_ns + 5 * kSecond)), 32, 1);
}

TEST_F(RateLimiterTest, ABurstAfterAPauseIsThatOfATenthOfASecond) {
  limiter_.SetLimits({.iops = 1000});
  Pass(60 * kSecond);
  const std::int64_t start_ns = world_.now_ns();
  for (int i = 0; i < 1000; ++i) Ask(i, 4 * kKiB);
  EXPECT_EQ(granted_.size(), 100u);
  Pass(kSecond / 2);
  EXPECT_NEAR(static_cast<double>(CountIn(start_ns, start_ns + kSecond / 2)), 600, 2);
}

TEST_F(RateLimiterTest, GoesByTheOrderOfArrivalWhateverIsAskedFor) {
  limiter_.SetLimits({.bytes_per_second = kMiB});
  for (int i = 0; i < 20; ++i) Ask(i, i % 3 == 0 ? kMiB : i % 3 == 1 ? 4 * kKiB : 0);
  Pass(30 * kSecond);
  ASSERT_EQ(granted_.size(), 20u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(granted_[static_cast<std::size_t>(i)].number, i);
  EXPECT_GT(limiter_.counters().delayed_requests, 10u);
  EXPECT_GT(limiter_.counters().delayed_ns, static_cast<std::uint64_t>(kSecond));
}

TEST_F(RateLimiterTest, AFlushCostsNoBytes) {
  limiter_.SetLimits({.bytes_per_second = kMiB});
  Ask(0, 16 * kMiB);
  Ask(1, 0);
  EXPECT_EQ(granted_.size(), 2u);
  Ask(2, 4 * kKiB);
  Pass(kSecond);
  EXPECT_EQ(granted_.size(), 2u) << "a write waits until what was owed is paid";
}

TEST_F(RateLimiterTest, AChangeIsForThoseThatWaitToo) {
  limiter_.SetLimits({.iops = 1});
  for (int i = 0; i < 101; ++i) Ask(i, 0);
  EXPECT_EQ(granted_.size(), 1u);
  Pass(3 * kSecond);
  EXPECT_EQ(granted_.size(), 4u);
  const std::int64_t changed_ns = world_.now_ns();
  limiter_.SetLimits({.iops = 50});
  Pass(kSecond);
  EXPECT_NEAR(static_cast<double>(CountIn(changed_ns, changed_ns + kSecond)), 50, 6);
  limiter_.SetLimits({});
  EXPECT_EQ(granted_.size(), 101u) << "nothing waits without limits";
}

// A request larger than the bucket is paid for by those that follow; at a new rate that could take
// for ever.
TEST_F(RateLimiterTest, WhatWasOwedAtAnotherRateIsForgiven) {
  limiter_.SetLimits({.bytes_per_second = 100 * kMiB});
  Ask(0, 32 * kMiB);
  limiter_.SetLimits({.bytes_per_second = 64 * kKiB});
  Ask(1, 4 * kKiB);
  Pass(kSecond);
  EXPECT_EQ(granted_.size(), 2u);
}

}  // namespace
}  // namespace keelson::engine
