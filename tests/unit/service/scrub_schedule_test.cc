#include "blockstore/service/scrub_schedule.h"

#include <gtest/gtest.h>

namespace keelson::service {
namespace {

constexpr std::int64_t kInterval = 700;

TEST(ScrubScheduleTest, BeginsEarlyAndThenOnceInAnInterval) {
  ScrubSchedule schedule(kInterval);
  EXPECT_EQ(schedule.Next({{"a"}}, 0), std::nullopt);
  EXPECT_EQ(schedule.Next({{"a"}}, 99), std::nullopt);
  EXPECT_EQ(schedule.Next({{"a"}}, 100), "a");
  EXPECT_EQ(schedule.Next({{"a"}}, 500), std::nullopt);
  EXPECT_EQ(schedule.Next({{"a"}}, 800), "a");
}

TEST(ScrubScheduleTest, OneAtATimeTheOneThatWaitsLongestFirst) {
  ScrubSchedule schedule(kInterval);
  schedule.Next({{"b"}}, 0);
  schedule.Next({{"a"}, {"b"}}, 50);
  EXPECT_EQ(schedule.Next({{"a"}, {"b"}}, 200), "b");
  EXPECT_EQ(schedule.Next({{"a"}, {"b", true}}, 300), std::nullopt);
  EXPECT_EQ(schedule.Next({{"a"}, {"b"}}, 400), "a");
}

TEST(ScrubScheduleTest, AScrubThatAPersonBeganCountsFromItsEnd) {
  ScrubSchedule schedule(kInterval);
  schedule.Next({{"a"}}, 0);
  EXPECT_EQ(schedule.Next({{"a", true}}, 150), std::nullopt);
  EXPECT_EQ(schedule.Next({{"a"}}, 800), std::nullopt);
  EXPECT_EQ(schedule.Next({{"a"}}, 850), "a");
}

TEST(ScrubScheduleTest, AVolumeThatWasAwayForLongIsANewOne) {
  ScrubSchedule schedule(kInterval);
  schedule.Next({{"a"}}, 0);
  EXPECT_EQ(schedule.Next({{"a"}}, 5000), std::nullopt);
  EXPECT_EQ(schedule.Next({{"a"}}, 5100), "a");
}

TEST(ScrubScheduleTest, AsksOftenEnoughForAShortIntervalAndNotMoreThanNeeded) {
  EXPECT_EQ(ScrubSchedule(std::int64_t{20'000'000}).AskAgainAfter(), 1'000'000);
  EXPECT_EQ(ScrubSchedule(std::int64_t{7} * 86400 * 1'000'000'000).AskAgainAfter(), 60'000'000'000);
}

}  // namespace
}  // namespace keelson::service
