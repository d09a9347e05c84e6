// Members that are slow, on the segment's engine over real replicas (R7).

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/engine/segment_fixture.h"

namespace keelson::engine {
namespace {

using replica::MemberState;

constexpr std::int64_t kSecond = 1'000'000'000;

class SegmentSpeedTest : public SegmentFixture {
 protected:
  void SetUp() override {
    options_.slow.window_ns = kSecond / 10;
    options_.slow.slow_for_ns = kSecond;
    options_.slow.probation_ns = 5 * kSecond;
  }
  void Slow(std::size_t index) {
    pools_[index]->disk->faults().stall = 1;
    pools_[index]->disk->faults().stall_ns = kSecond / 4;
  }
  void Quick(std::size_t index) { pools_[index]->disk->faults().stall = 0; }
  void WriteFor(std::int64_t time_ns) {
    const std::int64_t until_ns = world_.now_ns() + time_ns;
    while (world_.now_ns() < until_ns) {
      ASSERT_TRUE(Write(++block_ % 1024, 'a').ok());
      Pass(kSecond / 100);
    }
  }
  std::string Problem(std::size_t index) {
    for (const MemberStatus& status : segment_->Status().members) {
      if (status.member.replica == members_[index].replica) return status.problem;
    }
    return "not a member";
  }
  std::uint64_t block_ = 0;
};

TEST_F(SegmentSpeedTest, LeavesASlowMemberOutAndGoesOnAtThePaceOfTheOthers) {
  Make(3);
  Attach();
  Slow(2);
  WriteFor(3 * kSecond);
  EXPECT_EQ(State(2), MemberState::kOut);
  EXPECT_EQ(segment_->counters().slow_demotions, 1u);
  EXPECT_NE(Problem(2).find("too slow"), std::string::npos) << Problem(2);
  const std::int64_t began_ns = world_.now_ns();
  ASSERT_TRUE(Write(7, 'b').ok());
  EXPECT_LT(world_.now_ns() - began_ns, kSecond / 10);
}

TEST_F(SegmentSpeedTest, ItsProbationPassesBeforeItIsBroughtUpToDateAgain) {
  Make(3);
  Attach();
  Slow(2);
  WriteFor(3 * kSecond);
  Quick(2);
  ASSERT_EQ(State(2), MemberState::kOut);
  WriteFor(2 * kSecond);
  EXPECT_EQ(State(2), MemberState::kOut);
  WriteFor(6 * kSecond);
  EXPECT_EQ(State(2), MemberState::kInSync);
  EXPECT_EQ(segment_->counters().slow_demotions, 1u);
  ASSERT_TRUE(Write(7, 'b').ok());
  Close();
  EXPECT_EQ(ReadAt(2, 7), 'b');
}

TEST_F(SegmentSpeedTest, OneThatIsStillSlowStaysOut) {
  Make(3);
  Attach();
  Slow(2);
  WriteFor(30 * kSecond);
  EXPECT_EQ(State(2), MemberState::kOut);
  EXPECT_EQ(segment_->counters().slow_demotions, 1u);
}

TEST_F(SegmentSpeedTest, IsTakenBackAtOnceWhenItIsNeeded) {
  Make(3);
  Attach();
  Slow(2);
  WriteFor(3 * kSecond);
  Quick(2);
  ASSERT_EQ(State(2), MemberState::kOut);
  Cut(1);
  WriteFor(kSecond);
  EXPECT_EQ(State(1), MemberState::kOut);
  EXPECT_EQ(State(2), MemberState::kInSync);
}

TEST_F(SegmentSpeedTest, NobodyIsLeftOutWhenTooFewWouldRemain) {
  Make(2);
  Attach();
  Slow(1);
  WriteFor(10 * kSecond);
  EXPECT_EQ(State(1), MemberState::kInSync);
  EXPECT_EQ(segment_->counters().slow_demotions, 0u);
  EXPECT_NE(Problem(1).find("it is slow (2"), std::string::npos) << Problem(1);
}

TEST_F(SegmentSpeedTest, TheRestIsASetting) {
  options_.slow.rest = 3;
  Make(3);
  Attach();
  Slow(1);
  WriteFor(10 * kSecond);
  EXPECT_EQ(State(1), MemberState::kInSync);
}

TEST_F(SegmentSpeedTest, NotWhenItsVoteIsNeededToLeaveItOut) {
  options_.slow.rest = 1;
  Make(3);
  Attach();
  Cut(2);
  Slow(1);
  WriteFor(10 * kSecond);
  EXPECT_EQ(State(1), MemberState::kInSync);
  EXPECT_EQ(segment_->counters().slow_demotions, 0u);
}

TEST_F(SegmentSpeedTest, NeverBelowMinInSync) {
  options_.slow.rest = 1;
  first_.min_in_sync = 3;
  Make(3);
  Attach();
  Slow(1);
  WriteFor(10 * kSecond);
  EXPECT_EQ(State(1), MemberState::kInSync);
}

}  // namespace
}  // namespace keelson::engine
