// Every future of a small segment, by depth-first search over states that are the same up to which
// member and which block is which. KEELSON_MODEL_FULL=1 adds wider bounds, for minutes.

#include "tests/sim/small_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"

namespace keelson::sim {
namespace {

// 128 bits of a state. That two of some millions share them is less likely than a broken machine.
struct Digest {
  std::uint64_t low, high;
  bool operator==(const Digest&) const = default;
  template <typename H>
  friend H AbslHashValue(H state, const Digest& digest) {
    return H::combine(std::move(state), digest.low);
  }
};

std::uint64_t Mix(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

Digest DigestOf(const ModelState& state) {
  Digest digest = {0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f};
  std::array<std::uint64_t, (sizeof(ModelState) + 7) / 8> words{};
  std::memcpy(words.data(), &state, sizeof state);
  for (const std::uint64_t word : words) {
    digest.low = Mix(digest.low ^ word);
    digest.high = Mix(digest.high + word * 0x9fb21c651e98df25);
  }
  return digest;
}

class Explorer {
 public:
  explicit Explorer(const ModelBounds& bounds) : model_(bounds) {}

  // Visits all states, or `states_max` of them, or those before the first violation.
  void Run(std::uint64_t states_max) {
    stack_.push_back({model_.Initial(), {"begin"}, 0});
    while (!stack_.empty() && states_ < states_max && violation_.empty()) {
      const Entry entry = stack_.back();
      stack_.pop_back();
      path_.resize(entry.depth);
      path_.push_back(entry.step);
      ++states_;
      const auto size_before = static_cast<std::ptrdiff_t>(stack_.size());
      model_.Expand(entry.state, [this, &entry](const ModelState& next, const ModelStep& step) {
        Visit(next, step, entry.depth + 1);
      });
      // What Expand names first is searched first: it finds what is to be found sooner.
      std::reverse(stack_.begin() + size_before, stack_.end());
    }
  }

  bool complete() const { return stack_.empty() && violation_.empty(); }
  std::uint64_t states() const { return states_; }
  // With the steps that lead to it. Their members' and blocks' names are those of the canonical
  // states, so they change on the way.
  const std::string& violation() const { return violation_; }
  const ModelCoverage& coverage() const { return model_.coverage(); }

 private:
  struct Entry {
    ModelState state;
    ModelStep step;
    std::size_t depth;
  };

  void Visit(const ModelState& next, const ModelStep& step, std::size_t depth) {
    if (!violation_.empty()) return;
    if (!model_.violation().empty()) {
      for (const ModelStep& earlier : path_) violation_ += earlier.ToString() + "\n";
      violation_ += step.ToString() + "\n" + model_.violation();
      return;
    }
    const ModelState canonical = model_.Canonical(next);
    if (seen_.insert(DigestOf(canonical)).second) stack_.push_back({canonical, step, depth});
  }

  SmallModel model_;
  absl::flat_hash_set<Digest> seen_;
  std::vector<Entry> stack_;
  std::vector<ModelStep> path_;
  std::uint64_t states_ = 0;
  std::string violation_;
};

// Some minutes, and half a gigabyte of digests; KEELSON_MODEL_STATES says otherwise.
std::uint64_t StatesMax() {
  constexpr std::uint64_t kDefault = 20'000'000;
  const char* states = std::getenv("KEELSON_MODEL_STATES");
  return states == nullptr ? kDefault : std::strtoull(states, nullptr, 10);
}

ModelBounds Bounds(bool witness, int writes, int failures, int rolls = 0, int flushes = 0) {
  return {witness, writes, failures, rolls, flushes, Mutation::kNone};
}

// Returns whether every state was visited.
bool ExpectNoViolation(const ModelBounds& bounds) {
  Explorer explorer(bounds);
  explorer.Run(StatesMax());
  testing::Test::RecordProperty("states", std::to_string(explorer.states()));
  std::printf("%llu states%s\n", static_cast<unsigned long long>(explorer.states()),
              explorer.complete() ? "" : ", and there are more");
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

TEST(SmallModelTest, WiderBoundsHoldToo) {
  const char* full = std::getenv("KEELSON_MODEL_FULL");
  if (full == nullptr || std::string(full) != "1") GTEST_SKIP() << "KEELSON_MODEL_FULL=1 runs it";
  EXPECT_TRUE(ExpectNoViolation(Bounds(true, 1, 2, 0, 1)));
  EXPECT_TRUE(ExpectNoViolation(Bounds(false, 1, 1, 1, 1)));
  EXPECT_TRUE(ExpectNoViolation(Bounds(false, 2, 1)));
  // These have more states than are visited.
  ExpectNoViolation(Bounds(true, 2, 2, 1, 1));
  ExpectNoViolation(Bounds(true, 3, 2));
}

// The largest: hours, and as much memory as KEELSON_MODEL_STATES asks for (20 bytes each).
TEST(SmallModelTest, ThreeWritesSurviveAnyTwoFailures) {
  if (std::getenv("KEELSON_MODEL_STATES") == nullptr) {
    GTEST_SKIP() << "KEELSON_MODEL_STATES=400000000 runs it";
  }
  EXPECT_TRUE(ExpectNoViolation(Bounds(true, 3, 2)));
}

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
