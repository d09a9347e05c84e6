#include "blockstore/engine/slow_member.h"

#include <gtest/gtest.h>

#include <vector>

namespace keelson::engine {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kSecond = 1000 * kMs;

// Three InSync members; each second so many requests, in which each takes as long as it is told.
class SlowMembersTest : public testing::Test {
 protected:
  std::optional<SlowMembers::Slow> Run(std::int64_t seconds, std::vector<std::int64_t> took_ms,
                                       std::int64_t pause_ns = kSecond / 10) {
    std::optional<SlowMembers::Slow> found;
    const std::int64_t until_ns = now_ns_ + seconds * kSecond;
    while (now_ns_ < until_ns) {
      now_ns_ += pause_ns;
      for (std::size_t i = 0; i < took_ms.size(); ++i) {
        members_.Observe(i, i != trial_, took_ms[i] * kMs, now_ns_);
      }
      if (const auto slow = members_.Judge(now_ns_)) found = slow;
    }
    return found;
  }

  SlowMemberOptions options_;
  SlowMembers members_{options_};
  std::int64_t now_ns_ = kSecond;
  std::size_t trial_ = 99;  // is not InSync
};

TEST_F(SlowMembersTest, FindsTheOneThatIsMuchSlowerThanTheOthersForLongEnough) {
  EXPECT_FALSE(Run(9, {2, 3, 240}).has_value());
  const auto slow = Run(4, {2, 3, 240});
  ASSERT_TRUE(slow.has_value());
  EXPECT_EQ(slow->member, 2u);
  EXPECT_EQ(ToString(*slow), "240 ms for a write or flush, the others 3 ms");
  EXPECT_TRUE(members_.Find(2).has_value());
  EXPECT_FALSE(members_.Find(0).has_value());
}

TEST_F(SlowMembersTest, OneGoodWindowStartsTheCountAnew) {
  Run(9, {2, 3, 240});
  Run(2, {2, 3, 4});
  EXPECT_FALSE(Run(9, {2, 3, 240}).has_value());
}

TEST_F(SlowMembersTest, WhatIsQuickEnoughIsNotSlowHoweverQuickTheOthersAre) {
  EXPECT_FALSE(Run(60, {0, 0, 90}).has_value());
}

TEST_F(SlowMembersTest, LoadThatMakesAllSlowMakesNobodySlow) {
  EXPECT_FALSE(Run(60, {300, 400, 1200}).has_value());
}

TEST_F(SlowMembersTest, OneOfTwoOthersIsEnoughToExcuseIt) {
  // Two members behind the same busy link, one without: the link is no reason to lose either.
  EXPECT_FALSE(Run(60, {1, 500, 600}).has_value());
}

TEST_F(SlowMembersTest, ADiskThatHasToWakeUpForARareWriteIsNotSlow) {
  EXPECT_FALSE(Run(600, {2, 3, 5000}, 15 * kSecond).has_value());
}

TEST_F(SlowMembersTest, AFewAnswersThatEachTakeSecondsAreEnough) {
  EXPECT_TRUE(Run(60, {2, 3, 4000}, 4 * kSecond).has_value());
}

TEST_F(SlowMembersTest, WithoutOthersToCompareWithNobodyIsSlow) {
  EXPECT_FALSE(Run(60, {4000}).has_value());
}

TEST_F(SlowMembersTest, NamesTheSlowestFirst) {
  const auto slow = Run(20, {2, 900, 800, 3, 4});
  ASSERT_TRUE(slow.has_value());
  EXPECT_EQ(slow->member, 1u);
}

TEST_F(SlowMembersTest, AMemberOnTrialIsJudgedAndNobodyIsComparedWithIt) {
  trial_ = 2;
  EXPECT_EQ(Run(20, {2, 3, 240})->member, 2u);
  // Member 0 would be excused by member 2, if that one counted.
  EXPECT_EQ(Run(20, {240, 3, 240})->member, 0u);
}

TEST_F(SlowMembersTest, ComesBackAfterTheProbationAndSomeProbesInTime) {
  members_.BeginProbation(2, now_ns_);
  EXPECT_EQ(members_.NextProbeAt(2), now_ns_ + options_.probation_ns);
  now_ns_ = members_.NextProbeAt(2);
  members_.OnProbe(2, true, 2 * kMs, now_ns_);
  EXPECT_TRUE(members_.OnProbation(2));
  members_.OnProbe(2, true, 110 * kMs, now_ns_ + kSecond);  // that is slow
  EXPECT_EQ(members_.NextProbeAt(2), now_ns_ + kSecond + options_.probation_ns);
  now_ns_ = members_.NextProbeAt(2);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(members_.OnProbation(2)) << i;
    members_.OnProbe(2, true, 2 * kMs, now_ns_);
  }
  EXPECT_FALSE(members_.OnProbation(2));
  EXPECT_TRUE(members_.OnTrial(2));
  members_.EndTrial(2);
  EXPECT_FALSE(members_.OnTrial(2));
}

TEST_F(SlowMembersTest, AProbationIsLongerEachTimeUpToABound) {
  std::int64_t last_ns = 0;
  for (int i = 0; i < 8; ++i) {
    members_.BeginProbation(1, now_ns_);
    const std::int64_t length_ns = members_.NextProbeAt(1) - now_ns_;
    EXPECT_EQ(length_ns,
              i == 0 ? options_.probation_ns : std::min(2 * last_ns, options_.probation_ns_max));
    last_ns = length_ns;
    now_ns_ += length_ns;
    members_.EndProbation(1, now_ns_);
  }
  EXPECT_EQ(last_ns, options_.probation_ns_max);
  now_ns_ += options_.forgive_ns;
  members_.BeginProbation(1, now_ns_);
  EXPECT_EQ(members_.NextProbeAt(1) - now_ns_, options_.probation_ns);
}

}  // namespace
}  // namespace keelson::engine
