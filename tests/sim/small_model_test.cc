// Every future of a small segment, over states that are the same in all that matters
// (small_model_reduction.cc), with each rule and without it. KEELSON_MODEL_FULL=1 adds wider
// bounds.

#include "tests/sim/small_model.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "tests/sim/small_model_explorer.h"

namespace keelson::sim {
namespace {

// Sanitizers make minutes of it hours.
constexpr bool kIsSanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;
#else
    false;
#endif

bool IsFull() {
  if (kIsSanitized) return false;
  const char* full = std::getenv("KEELSON_MODEL_FULL");
  return full != nullptr && std::string(full) == "1";
}

// Each takes about 10 us, and less than 40 bytes when none waits any more.
std::uint64_t StatesMax() {
  constexpr std::uint64_t kDefault = 20'000'000;
  const char* states = std::getenv("KEELSON_MODEL_STATES");
  return states == nullptr ? kDefault : std::strtoull(states, nullptr, 10);
}

ModelBounds Bounds(bool witness, int writes, int failures, int rolls = 0, int flushes = 0) {
  return {witness, writes, failures, rolls, flushes, Mutation::kNone, true};
}

// Returns whether every state was visited.
bool ExpectNoViolation(const ModelBounds& bounds) {
  Explorer explorer(bounds);
  explorer.Run(StatesMax());
  testing::Test::RecordProperty("states", std::to_string(explorer.states()));
  std::printf("%llu states%s, %.1f s\n", static_cast<unsigned long long>(explorer.states()),
              explorer.complete() ? "" : ", and there are more",
              static_cast<double>(std::clock()) / CLOCKS_PER_SEC);
  EXPECT_EQ(explorer.violation(), "");
  if (!explorer.complete()) return false;
  const ModelCoverage& coverage = explorer.coverage();
  for (const std::uint64_t met : {coverage.acknowledged, coverage.reads, coverage.take_overs,
                                  coverage.degraded, coverage.rejoined, coverage.leftovers}) {
    EXPECT_GT(met, 0U) << "the exploration misses what it is for";
  }
  EXPECT_EQ(bounds.rolls > 0, coverage.cleaned > 0);
  EXPECT_EQ(bounds.flushes > 0, coverage.flushes > 0);
  EXPECT_EQ(bounds.witness && bounds.failures > 1, coverage.restarted_take_overs > 0);
  return true;
}

void ExpectFinds(Mutation mutation, ModelBounds bounds) {
  bounds.mutation = mutation;
  Explorer explorer(bounds);
  explorer.Run(3'000'000);
  EXPECT_NE(explorer.violation(), "") << "after " << explorer.states() << " states";
}

// --- The rules hold ---

TEST(SmallModelTest, TwoCopiesAndAWitnessSurviveAnyTwoFailures) {
  EXPECT_TRUE(ExpectNoViolation(Bounds(true, 1, 2)));
}

TEST(SmallModelTest, ThreeWritesToTwoCopiesSurviveAnyFailure) {
  EXPECT_TRUE(ExpectNoViolation(Bounds(true, 3, 1)));
}

TEST(SmallModelTest, WhatIsCleanOnTwoCopiesIsCleanAfterAnyFailure) {
  EXPECT_TRUE(ExpectNoViolation(Bounds(true, 2, 1, 1)));
}

TEST(SmallModelTest, ThreeCopiesSurviveAnyFailure) {
  EXPECT_TRUE(ExpectNoViolation(Bounds(false, 1, 1, 1)));
}

// The largest of the default suite: all interleavings of three writes and two failures.
TEST(SmallModelTest, ThreeWritesSurviveAnyTwoFailures) {
  if (kIsSanitized) GTEST_SKIP() << "a plain build runs it";
  EXPECT_TRUE(ExpectNoViolation(Bounds(true, 3, 2)));
}

TEST(SmallModelTest, WiderBoundsHoldToo) {
  if (!IsFull()) GTEST_SKIP() << "KEELSON_MODEL_FULL=1 runs it";
  EXPECT_TRUE(ExpectNoViolation(Bounds(true, 1, 2, 0, 1)));
  EXPECT_TRUE(ExpectNoViolation(Bounds(false, 1, 1, 1, 1)));
  EXPECT_TRUE(ExpectNoViolation(Bounds(false, 2, 1)));
  // These may have more states than are visited.
  ExpectNoViolation(Bounds(true, 2, 2, 1, 1));
  ExpectNoViolation(Bounds(false, 2, 2));
}

// --- The reduced search is as good as the full one ---

constexpr const char* kTooMany = "not all states were visited";

std::string Verdict(ModelBounds bounds, bool reduced, std::uint64_t* states) {
  bounds.reduced = reduced;
  Explorer explorer(bounds);
  explorer.Run(StatesMax());
  *states = explorer.states();
  if (!explorer.violation().empty()) return "a violation";
  return explorer.complete() ? "none" : kTooMany;
}

constexpr Mutation kAllMutations[] = {Mutation::kNone,
                                      Mutation::kAckBeforeDegrade,
                                      Mutation::kAcceptFencedEpoch,
                                      Mutation::kKeepSessionInEpoch,
                                      Mutation::kCountWitness,
                                      Mutation::kTrustRestarted,
                                      Mutation::kSkipReconcile,
                                      Mutation::kSkipGrace,
                                      Mutation::kFlushLies,
                                      Mutation::kForgetNotes,
                                      Mutation::kCleanWithoutFlush,
                                      Mutation::kInSyncWithoutCopy};

class ReducedSearchTest : public testing::TestWithParam<Mutation> {
 protected:
  void ExpectSameVerdicts(const std::vector<ModelBounds>& all) {
    for (ModelBounds bounds : all) {
      bounds.mutation = GetParam();
      std::uint64_t full_states = 0, reduced_states = 0;
      const std::string full = Verdict(bounds, false, &full_states);
      const std::string reduced = Verdict(bounds, true, &reduced_states);
      if (full == kTooMany) continue;  // it says nothing
      EXPECT_EQ(reduced, full) << "witness " << bounds.witness << ", writes " << bounds.writes
                               << ", failures " << bounds.failures << ", rolls " << bounds.rolls
                               << ", flushes " << bounds.flushes;
      std::printf("%s: %llu states, reduced %llu\n", full.c_str(),
                  static_cast<unsigned long long>(full_states),
                  static_cast<unsigned long long>(reduced_states));
    }
  }
};

TEST_P(ReducedSearchTest, FindsAViolationWhereTheFullOneDoes) {
  ExpectSameVerdicts({Bounds(true, 1, 1), Bounds(true, 2, 1), Bounds(false, 1, 1)});
}

TEST_P(ReducedSearchTest, AlsoWithinWiderBounds) {
  if (!IsFull()) GTEST_SKIP() << "KEELSON_MODEL_FULL=1 runs it";
  ExpectSameVerdicts({Bounds(true, 1, 1, 1), Bounds(true, 1, 1, 0, 1), Bounds(true, 1, 2),
                      Bounds(true, 1, 2, 0, 1)});
}

INSTANTIATE_TEST_SUITE_P(EachMutation, ReducedSearchTest, testing::ValuesIn(kAllMutations),
                         [](const testing::TestParamInfo<Mutation>& mutation) {
                           return "Mutation" + std::to_string(static_cast<int>(mutation.param));
                         });

// --- And each is needed ---

TEST(SmallModelTest, FindsAnAcknowledgementBeforeTheDegradeIsInForce) {
  ExpectFinds(Mutation::kAckBeforeDegrade, Bounds(true, 1, 1));
}

TEST(SmallModelTest, FindsAMemberThatAcceptsAFencedEpoch) {
  ExpectFinds(Mutation::kAcceptFencedEpoch, Bounds(true, 1, 1));
}

TEST(SmallModelTest, FindsWhatWasInFlightInAnEarlierSessionOfTheEpoch) {
  ExpectFinds(Mutation::kKeepSessionInEpoch, Bounds(true, 2, 1));
}

TEST(SmallModelTest, FindsAWitnessTakenForACopy) {
  ExpectFinds(Mutation::kCountWitness, Bounds(true, 1, 1));
}

TEST(SmallModelTest, FindsARestartedMemberThatIsTrusted) {
  ExpectFinds(Mutation::kTrustRestarted, Bounds(true, 1, 2));
}

TEST(SmallModelTest, FindsReadsBeforeReconcile) {
  ExpectFinds(Mutation::kSkipReconcile, Bounds(true, 1, 1));
}

TEST(SmallModelTest, FindsReadsOfAnEngineWhoseLeaseHasEnded) {
  ExpectFinds(Mutation::kSkipGrace, Bounds(true, 1, 1));
}

TEST(SmallModelTest, FindsAFlushThatOneMemberDid) {
  ExpectFinds(Mutation::kFlushLies, Bounds(true, 1, 2, 0, 1));
}

TEST(SmallModelTest, FindsAChangeThatWasNotNoted) {
  ExpectFinds(Mutation::kForgetNotes, Bounds(true, 1, 1));
}

TEST(SmallModelTest, FindsAGenerationThatIsCleanWithoutAFlush) {
  ExpectFinds(Mutation::kCleanWithoutFlush, Bounds(true, 1, 2, 1));
}

TEST(SmallModelTest, FindsAMemberThatIsInSyncWithoutTheCopies) {
  ExpectFinds(Mutation::kInSyncWithoutCopy, Bounds(true, 1, 1));
}

}  // namespace
}  // namespace keelson::sim
