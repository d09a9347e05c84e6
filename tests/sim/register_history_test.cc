// The checker of a block's history, against known histories and against the exhaustive one.

#include "tests/sim/register_history.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/random.h"

namespace keelson::sim {
namespace {

TEST(RegisterHistoryTest, ShowsZeroesUntilWritten) {
  RegisterHistory block;
  EXPECT_EQ(block.Read(kZeroes, 1, 2), "");
  EXPECT_NE(block.Read(7, 3, 4), "");
}

TEST(RegisterHistoryTest, ShowsAWriteInFlightOrNotButNeverTakesItBack) {
  RegisterHistory block;
  block.Begin(1, 7, 1);
  EXPECT_EQ(block.Read(kZeroes, 2, 3), "");
  EXPECT_EQ(block.Read(7, 4, 5), "");
  EXPECT_NE(block.Read(kZeroes, 6, 7), "");
}

TEST(RegisterHistoryTest, DoesNotShowWhatAnAcknowledgedWriteReplaced) {
  RegisterHistory block;
  block.Begin(1, 7, 1);
  EXPECT_EQ(block.Acknowledge(1, 2), "");
  block.Begin(2, 8, 3);
  EXPECT_EQ(block.Acknowledge(2, 4), "");
  EXPECT_NE(block.Read(7, 5, 6), "");
}

TEST(RegisterHistoryTest, DoesNotGoBackAfterAReadEvenWithoutAnAcknowledgement) {
  RegisterHistory block;
  block.Begin(1, 7, 1);
  EXPECT_EQ(block.Acknowledge(1, 2), "");
  block.Begin(2, 8, 3);
  EXPECT_EQ(block.Read(8, 4, 5), "");
  EXPECT_NE(block.Read(7, 6, 7), "");
}

TEST(RegisterHistoryTest, KnowsThatALostAcknowledgementWasLostHoweverLateItCame) {
  RegisterHistory block;
  block.Begin(1, 7, 1);
  EXPECT_EQ(block.Read(kZeroes, 2, 3), "");
  EXPECT_EQ(block.Acknowledge(1, 4), "");
  EXPECT_NE(block.Read(kZeroes, 5, 6), "");
}

TEST(RegisterHistoryTest, LetsNoUnknownWriteAppearAfterTheNextAttachmentShowedAnother) {
  RegisterHistory block;
  block.Begin(1, 7, 1);
  block.Begin(2, 8, 2);
  block.Fence(3);
  EXPECT_EQ(block.Read(7, 4, 5), "");
  EXPECT_NE(block.Read(8, 6, 7), "");
}

TEST(RegisterHistoryTest, LosesOnlyWhatNoFlushCovered) {
  RegisterHistory block;
  block.Begin(1, 7, 1);
  EXPECT_EQ(block.Acknowledge(1, 2), "");
  block.Begin(2, 8, 3);
  EXPECT_EQ(block.Acknowledge(2, 4), "");
  block.Begin(3, 9, 6);
  EXPECT_EQ(block.Acknowledge(3, 7), "");
  block.Lose(/*flushed=*/5, /*horizon=*/8, /*now=*/9);
  RegisterHistory other = block;
  EXPECT_EQ(block.Read(8, 10, 11), "");
  EXPECT_NE(block.Read(9, 12, 13), "") << "it was lost, and came back";
  EXPECT_EQ(other.Read(9, 10, 11), "");
  EXPECT_NE(other.Read(7, 12, 13), "") << "older than a flushed write";
}

TEST(RegisterHistoryTest, OneThatWasAdoptedShowsThatAndWhatIsWrittenLater) {
  RegisterHistory block(7);
  EXPECT_EQ(block.Read(7, 1, 2), "");
  EXPECT_NE(RegisterHistory(7).Read(kZeroes, 1, 2), "");
  block.Begin(1, 8, 3);
  EXPECT_EQ(block.Acknowledge(1, 4), "");
  EXPECT_NE(block.Read(7, 5, 6), "") << "older than what was acknowledged";
}

TEST(RegisterHistoryTest, ABlockTellsWhichWriteMadeIt) {
  Versions versions;
  const Version first = versions.New(1), second = versions.New(1);
  std::vector<std::byte> bytes(kModelBlockBytes), other(kModelBlockBytes);
  versions.Fill(first, 5, bytes);
  EXPECT_EQ(versions.Shown(5, bytes), first);
  EXPECT_EQ(versions.Shown(6, bytes), std::nullopt) << "it was written elsewhere";
  EXPECT_EQ(versions.Shown(5, {}), kZeroes);
  versions.Fill(second, 5, other);
  std::copy_n(other.begin(), kModelSectorBytes, bytes.begin());
  const auto torn = versions.Shown(5, bytes);
  ASSERT_TRUE(torn.has_value());
  EXPECT_EQ(versions.Sector(*torn, 0), second);
  EXPECT_EQ(versions.Sector(*torn, 1), first);
}

TEST(RegisterHistoryTest, LosesNothingTwiceThatWasReadInBetween) {
  RegisterHistory block;
  block.Begin(1, 11, 1);
  block.Acknowledge(1, 2);
  block.Begin(2, 12, 5);
  block.Acknowledge(2, 6);
  block.Lose(/*flushed=*/4, /*horizon=*/8, /*now=*/9);
  EXPECT_EQ(block.Read(12, 10, 11), "");
  block.Lose(/*flushed=*/4, /*horizon=*/20, /*now=*/21);
  EXPECT_NE(block.Read(11, 22, 23), "");
}

TEST(RegisterHistoryTest, LosesNothingThatBeganAfterACopyCameBack) {
  RegisterHistory block;
  block.Begin(1, 7, 10);
  EXPECT_EQ(block.Acknowledge(1, 11), "");
  block.Lose(/*flushed=*/0, /*horizon=*/5, /*now=*/12);
  EXPECT_NE(block.Read(kZeroes, 13, 14), "");
}

TEST(RegisterHistoryTest, TakesATornBlockOnlyOfWritesWithoutAnOutcome) {
  Versions versions;
  const Version first = versions.New(1), second = versions.New(1);
  std::vector<std::byte> torn(kModelBlockBytes), newer(kModelBlockBytes);
  versions.Fill(first, 3, torn);
  versions.Fill(second, 3, newer);
  std::copy_n(newer.begin(), kModelSectorBytes, torn.begin());
  RegisterHistory block;
  block.Begin(1, first, 1);
  EXPECT_EQ(block.Acknowledge(1, 2), "");
  block.Begin(2, second, 3);
  RegisterHistory acknowledged = block;
  block.Fence(4);
  EXPECT_EQ(block.ReadBytes(&versions, 3, torn, 5, 6), "");
  EXPECT_EQ(block.ReadBytes(&versions, 3, torn, 7, 8), "");
  EXPECT_NE(block.ReadBytes(&versions, 3, newer, 9, 10), "") << "a torn block stays torn";
  EXPECT_EQ(acknowledged.Acknowledge(2, 4), "");
  EXPECT_NE(acknowledged.ReadBytes(&versions, 3, torn, 5, 6), "");
}

TEST(RegisterHistoryTest, TakesABlockThatWasTornOverATornOne) {
  Versions versions;
  const Version first = versions.New(1), second = versions.New(1), third = versions.New(1);
  std::vector<std::byte> torn(kModelBlockBytes), bytes(kModelBlockBytes);
  versions.Fill(first, 3, torn);
  versions.Fill(second, 3, bytes);
  std::copy_n(bytes.begin(), kModelSectorBytes, torn.begin());
  RegisterHistory block;
  block.Begin(1, first, 1);
  EXPECT_EQ(block.Acknowledge(1, 2), "");
  block.Begin(2, second, 3);
  block.Fence(4);
  EXPECT_EQ(block.ReadBytes(&versions, 3, torn, 5, 6), "");
  block.Begin(3, third, 7);
  block.Fence(8);
  versions.Fill(third, 3, bytes);
  std::copy_n(bytes.end() - kModelSectorBytes, kModelSectorBytes, torn.end() - kModelSectorBytes);
  EXPECT_EQ(block.ReadBytes(&versions, 3, torn, 9, 10), "");
}

// A random history: what a register did, or with one read changed at random.
std::vector<RegisterOp> RandomHistory(Random* random, bool zeroes) {
  struct Open {
    RegisterOp op;
    bool applied = false;
  };
  std::vector<Open> open;
  std::vector<RegisterOp> done;
  Version shown = kZeroes, next = 1;
  const std::uint64_t total = random->Between(2, 9);
  std::uint64_t begun = 0;
  for (RegisterHistory::Tick now = 1; begun < total || !open.empty(); ++now) {
    if (begun < total && (open.empty() || random->Coin())) {
      ++begun;
      Open started;
      started.op.begin = now;
      started.op.is_read = random->Coin();
      if (!started.op.is_read && !(zeroes && random->Chance(0.3))) started.op.version = next++;
      open.push_back(started);
      continue;
    }
    Open& chosen = open[random->Below(open.size())];
    if (!chosen.applied && (chosen.op.is_read || random->Chance(0.8))) {
      chosen.applied = true;
      if (chosen.op.is_read) chosen.op.version = shown;
      if (!chosen.op.is_read) shown = chosen.op.version;
      continue;
    }
    chosen.op.end = now;
    chosen.op.optional = !chosen.op.is_read && (!chosen.applied || random->Chance(0.2));
    done.push_back(chosen.op);
    open.erase(open.begin() + (&chosen - open.data()));
  }
  for (RegisterOp& op : done) {
    if (op.is_read && random->Chance(0.2)) op.version = static_cast<Version>(random->Below(next));
  }
  return done;
}

// Feeds a history to the fast checker in the order things happened.
bool FastCheck(const std::vector<RegisterOp>& history) {
  RegisterHistory block;
  RegisterHistory::Tick last = 0;
  for (const RegisterOp& op : history) last = std::max(last, op.end);
  for (RegisterHistory::Tick now = 1; now <= last; ++now) {
    for (std::size_t i = 0; i < history.size(); ++i) {
      const RegisterOp& op = history[i];
      if (op.begin == now && !op.is_read) block.Begin(i + 1, op.version, now);
      if (op.end != now || (!op.is_read && op.optional)) continue;
      const std::string wrong =
          op.is_read ? block.Read(op.version, op.begin, now) : block.Acknowledge(i + 1, now);
      if (!wrong.empty()) return false;
    }
  }
  return true;
}

std::string Describe(const std::vector<RegisterOp>& history) {
  std::string text;
  for (const RegisterOp& op : history) {
    absl::StrAppend(&text, "\n  ",
                    op.is_read    ? "read "
                    : op.optional ? "write? "
                                  : "write ",
                    op.version, " [", op.begin, ", ", op.end, "]");
  }
  return text;
}

// The fast checker learns of no end of an optional write: it may come for ever.
std::vector<RegisterOp> Unbounded(std::vector<RegisterOp> history) {
  for (RegisterOp& op : history) {
    if (op.optional) op.end = RegisterHistory::kNever;
  }
  return history;
}

TEST(RegisterHistoryTest, AgreesWithTheExhaustiveCheckerWhereEveryWriteHasAName) {
  Random random(1);
  int wrong = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::vector<RegisterOp> history = RandomHistory(&random, /*zeroes=*/false);
    // The zeroes of the beginning have no name either: let a write of one come before everything.
    history.push_back({false, 1'000, 0, 0, false});
    for (RegisterOp& op : history) {
      op.begin += 2;
      op.end += 2;
      if (op.version == kZeroes) op.version = 1'000;
    }
    history.back().begin = 1;
    history.back().end = 2;
    const bool right = IsLinearizable(Unbounded(history));
    ASSERT_EQ(FastCheck(history), right) << "history " << i << Describe(history);
    wrong += right ? 0 : 1;
  }
  EXPECT_GT(wrong, 1'000) << "the histories hardly try it";
}

TEST(RegisterHistoryTest, ReportsNoContradictionThatIsNoneAmongZeroes) {
  Random random(2);
  int wrong = 0, missed = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::vector<RegisterOp> history = RandomHistory(&random, /*zeroes=*/true);
    const bool right = IsLinearizable(Unbounded(history));
    const bool fast = FastCheck(history);
    ASSERT_TRUE(fast || !right) << "history " << i;
    wrong += right ? 0 : 1;
    missed += fast && !right ? 1 : 0;
  }
  EXPECT_GT(wrong, 1'000);
  EXPECT_LT(missed * 20, wrong) << "too many contradictions among zeroes are not found";
}

}  // namespace
}  // namespace keelson::sim
