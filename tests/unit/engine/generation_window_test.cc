#include "blockstore/engine/generation_window.h"

#include <gtest/gtest.h>

#include "tests/unit/engine/members.h"

namespace keelson::engine {
namespace {

TEST(GenerationWindowTest, EndsWhenALaterOneIsOpenAndItsWritesHaveLeft) {
  GenerationWindow window(TestEpoch(3));
  EXPECT_EQ(window.Enter(), GenerationOf(3, 1));
  EXPECT_EQ(window.Enter(), GenerationOf(3, 1));
  EXPECT_EQ(window.Roll(), GenerationOf(3, 1));
  EXPECT_EQ(window.open(), GenerationOf(3, 2));
  window.Leave(GenerationOf(3, 1));
  EXPECT_FALSE(window.HasEnded(GenerationOf(3, 1)));
  window.Leave(GenerationOf(3, 1));
  EXPECT_TRUE(window.HasEnded(GenerationOf(3, 1)));
  EXPECT_FALSE(window.HasEnded(GenerationOf(3, 2)));
  EXPECT_EQ(window.last_ended(), GenerationOf(3, 1));
}

TEST(GenerationWindowTest, AnEarlierGenerationInFlightHoldsTheLaterOnes) {
  GenerationWindow window(TestEpoch(3));
  const pool::Generation first = window.Enter();
  window.Roll();
  const pool::Generation second = window.Enter();
  window.Roll();
  window.Leave(second);
  EXPECT_FALSE(window.HasEnded(second));
  EXPECT_EQ(window.waiting(), 2U);
  window.Leave(first);
  EXPECT_TRUE(window.HasEnded(second));
  EXPECT_EQ(window.waiting(), 0U);
}

TEST(GenerationWindowTest, GenerationsOfEarlierEnginesHaveEnded) {
  const GenerationWindow window(TestEpoch(3));
  EXPECT_TRUE(window.HasEnded(GenerationOf(2, 99)));
  EXPECT_FALSE(window.HasEnded(GenerationOf(3, 1)));
  EXPECT_EQ(window.last_ended(), pool::Generation{});
}

TEST(GenerationWindowTest, KnowsWhetherTheOpenOneWasWrittenIn) {
  GenerationWindow window(TestEpoch(3));
  EXPECT_FALSE(window.open_has_writes());
  window.Leave(window.Enter());
  EXPECT_TRUE(window.open_has_writes());
  window.Roll();
  EXPECT_FALSE(window.open_has_writes());
}

}  // namespace
}  // namespace keelson::engine
