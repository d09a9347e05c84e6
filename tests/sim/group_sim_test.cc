// A replication group under faults, many seeds of it; seed_runner.h says what it reads from the
// environment, and tests/sim/faults/group.txt which faults there are.

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "tests/sim/fault_plan.h"
#include "tests/sim/group_harness.h"
#include "tests/sim/seed_runner.h"

namespace keelson::sim {
namespace {

TEST(FaultPlanTest, RefusesALineThatIsNoFault) {
  EXPECT_TRUE(ParseFaultTable("kill 0.5 3 rot # comment\n\n# nothing\n").ok());
  EXPECT_FALSE(ParseFaultTable("kill often 3").ok());
  EXPECT_FALSE(ParseFaultTable("kill 1.5 3").ok());
}

TEST(FaultPlanTest, LeavesOutWhatAnEarlierClassExcludes) {
  const auto table = ParseFaultTable("rot 1 1 -\nkill 1 1 rot\npause 1 1 -\n");
  ASSERT_TRUE(table.ok()) << table.status();
  Random random(1);
  const FaultPlan plan = FaultPlan::Draw(*table, &random);
  EXPECT_TRUE(plan.Has("rot"));
  EXPECT_FALSE(plan.Has("kill"));
  EXPECT_TRUE(plan.Has("pause"));
}

SeedOutcome RunGroup(const std::vector<FaultClass>& table, std::uint64_t seed, bool verbose) {
  // Leaked: coroutines of a failed run may still point into it.
  auto* const harness = new GroupHarness(seed, table);
  harness->set_verbose(verbose);
  SeedOutcome outcome;
  outcome.error = harness->Run();
  outcome.trace_hash = harness->trace_hash();
  if (outcome.error.empty()) delete harness;
  return outcome;
}

TEST(GroupSimTest, KeepsEveryPromiseUnderEverySeed) {
  const auto table = LoadFaultTable(KEELSON_GROUP_FAULTS);
  ASSERT_TRUE(table.ok()) << table.status();
  SeedSuite suite;
  suite.needs_probe = [](std::string_view probe) {
    return probe.starts_with("group:") || probe.starts_with("network:");
  };
  suite.run = [&table](std::uint64_t seed, bool verbose) {
    return RunGroup(*table, seed, verbose);
  };
  RunSeeds(suite);
}

// Beyond those that every run tries. What each found is in the log of this file's changes.
TEST(GroupSimTest, SeedsThatOnceFailedHold) {
  const auto table = LoadFaultTable(KEELSON_GROUP_FAULTS);
  ASSERT_TRUE(table.ok()) << table.status();
  spdlog::set_level(spdlog::level::off);
  for (const std::uint64_t seed :
       {572,  1134, 2265, 2845, 2885, 2938, 3457,  3655,  3751,  4019,  4960,  5234,  5946, 5989,
        6486, 6671, 7202, 7334, 8878, 9307, 10200, 11939, 13446, 15318, 15494, 19177, 20576}) {
    EXPECT_EQ(RunGroup(*table, seed, false).error, "") << "seed " << seed;
  }
}

}  // namespace
}  // namespace keelson::sim
