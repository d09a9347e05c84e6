// The simulations on trial: every bug that can be put into the product (blockstore/io/seeded_bug.h)
// must be found by one of them. tests/sim/seeded_bugs.txt says which seed of which simulation finds
// which. Reads
//   KEELSON_BUG_SEEDS  search all bugs anew, each in so many seeds from 1 on
//   KEELSON_BUG        only these: names with commas between them
//   KEELSON_BUG_TABLE  write the table with what was found to this file

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>

#include "absl/strings/str_split.h"
#include "blockstore/io/seeded_bug.h"
#include "tests/sim/bug_hunt.h"
#include "tests/sim/fault_plan.h"
#include "tests/sim/group_harness.h"
#include "tests/sim/store_harness.h"

namespace keelson::sim {
namespace {

// Enough that a change of the simulation, which makes every seed another run, seldom needs the
// table to be made anew.
constexpr std::uint64_t kSeedsWithoutSearch = 2000;

// The comment that the table begins with.
std::string HeadOf(const std::string& path) {
  std::ifstream file(path);
  std::string head;
  for (std::string line; std::getline(file, line) && line.starts_with('#');) head += line + "\n";
  return head;
}

std::map<std::string, Simulation> Simulations() {
  const auto table = LoadFaultTable(KEELSON_GROUP_FAULTS);
  EXPECT_TRUE(table.ok()) << table.status();
  std::map<std::string, Simulation> simulations;
  // Both leak what failed: its coroutines may still point into it.
  simulations["group"] = [faults = *table](std::uint64_t seed) {
    auto* const harness = new GroupHarness(seed, faults);
    std::string error = harness->Run();
    if (error.empty()) delete harness;
    return error;
  };
  simulations["store"] = [](std::uint64_t seed) {
    auto* const harness = new StoreHarness(seed);
    std::string error = harness->Run();
    if (error.empty()) delete harness;
    return error;
  };
  return simulations;
}

TEST(BugTableTest, RefusesALineThatIsNoRow) {
  const auto rows = ParseBugTable("skip-note R5 group 7 noted-first, at once # why\n\n# none\n");
  ASSERT_TRUE(rows.ok());
  ASSERT_EQ(rows->size(), 1u);
  EXPECT_EQ(rows->front().seed, 7u);
  EXPECT_EQ(rows->front().rule, "R5");
  EXPECT_FALSE(ParseBugTable("skip-note R5 group\n").ok());
  EXPECT_FALSE(ParseBugTable("skip-note R5 group seven\n").ok());
}

TEST(BugHuntTest, CountsOnlyASeedThatPassesWithoutTheBug) {
  const std::string bug(SeededBugNames().front());
  const auto is_in = [] { return SeededBug(kAcceptLowerEpoch); };
  std::map<std::string, Simulation> simulations;
  simulations["one"] = [is_in](std::uint64_t seed) -> std::string {
    if (seed == 3 || (seed == 5 && is_in())) return "one-writer: broken";
    return "";
  };
  simulations["none"] = [](std::uint64_t) -> std::string { return ""; };
  simulations["abort"] = [is_in](std::uint64_t seed) -> std::string {
    if (seed == 30 && is_in()) std::abort();
    return "";
  };
  const std::vector<BugRow> rows = {
      {bug, "R1", "one", 3, ""}, {bug, "R1", "none", 0, ""}, {bug, "R1", "abort", 0, ""}};
  HuntOptions options;
  options.seeds_max = 50;
  const auto results = HuntBugs(rows, simulations, options);
  EXPECT_EQ(results[0].row.seed, 5u);
  EXPECT_EQ(results[0].row.found_by, "one-writer");
  EXPECT_TRUE(results[0].moved);
  EXPECT_EQ(results[1].row.seed, 0u);
  EXPECT_EQ(results[2].row.seed, 30u);
}

TEST(SeededBugsTest, EveryBugHasARowAndEveryRuleThatIsBuiltABug) {
  const auto rows = LoadBugTable(KEELSON_BUGS);
  ASSERT_TRUE(rows.ok()) << rows.status();
  std::set<std::string> named, rules;
  for (const BugRow& row : *rows) {
    EXPECT_TRUE(named.insert(row.bug).second) << row.bug << " is there twice";
    rules.insert(row.rule);
  }
  for (const std::string_view bug : SeededBugNames()) {
    EXPECT_EQ(named.erase(std::string(bug)), 1u) << bug << " has no row";
  }
  EXPECT_TRUE(named.empty()) << *named.begin() << " is no bug";
  // R19 is the business of whoever encrypts.
  for (const int rule : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18}) {
    EXPECT_TRUE(rules.contains("R" + std::to_string(rule))) << "R" << rule << " has no bug";
  }
}

TEST(SeededBugsTest, EveryBugIsFound) {
  auto rows = LoadBugTable(KEELSON_BUGS);
  ASSERT_TRUE(rows.ok()) << rows.status();
  if (const char* const only = std::getenv("KEELSON_BUG"); only != nullptr) {
    const std::set<std::string> wanted = absl::StrSplit(only, ',');
    std::erase_if(*rows, [&wanted](const BugRow& row) { return !wanted.contains(row.bug); });
    ASSERT_EQ(rows->size(), wanted.size()) << "not every one is a bug: " << only;
  }
  const char* const text = std::getenv("KEELSON_BUG_SEEDS");
  const std::uint64_t seeds = text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
  HuntOptions options;
  options.known_first = seeds == 0;
  options.seeds_max = seeds == 0 ? kSeedsWithoutSearch : seeds;
  options.ended = [seeds](const HuntResult& result) {
    if (result.moved) std::printf("note: its seed does not find %s\n", result.row.bug.c_str());
    if (seeds == 0 && !result.moved) return;
    std::printf("%s    %s\n", FormatBugTable({result.row}).c_str(), result.error.c_str());
    std::fflush(stdout);
  };
  std::vector<BugRow> found;
  for (const HuntResult& result : HuntBugs(*rows, Simulations(), options)) {
    found.push_back(result.row);
    EXPECT_NE(result.row.seed, 0u)
        << result.row.bug << " is not found in " << options.seeds_max
        << " seeds; to search on, and to write the table anew: KEELSON_BUG_SEEDS=10000 "
           "KEELSON_BUG_TABLE=FILE build/dev/bin/keelson_seeded_bugs_test";
  }
  if (const char* const path = std::getenv("KEELSON_BUG_TABLE"); path != nullptr) {
    std::ofstream(path) << HeadOf(KEELSON_BUGS) << FormatBugTable(found);
  }
}

}  // namespace
}  // namespace keelson::sim
