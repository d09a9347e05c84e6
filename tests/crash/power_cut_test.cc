// Power cuts and process deaths at every point of recorded runs (docs/testing.md, "Crash suite").
//   KEELSON_SEEDS=N   how many recorded runs (default 4)
//   KEELSON_SEED=S    only the run of this seed
//   KEELSON_CRASH_REPLAY=FILE:KIND:CUT:SEED   one state of a kept recording

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "tests/crash/explorer.h"

namespace keelson::crash {
namespace {

constexpr std::uint64_t kStatesMin = 10'000;

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 10);
}

std::vector<RecordOptions> Runs() {
  std::vector<RecordOptions> runs;
  if (const std::uint64_t seed = FromEnvironment("KEELSON_SEED", 0); seed != 0) {
    runs.push_back({.seed = seed});
    return runs;
  }
  const std::uint64_t count = FromEnvironment("KEELSON_SEEDS", 4);
  for (std::uint64_t seed = 1; seed <= count; ++seed) runs.push_back({.seed = seed});
  return runs;
}

TEST(PowerCutTest, EveryCrashStateOfEveryRecordedRunRecovers) {
  const std::vector<RecordOptions> runs = Runs();
  const auto begin = std::chrono::steady_clock::now();
  const ExploreResult result =
      ExploreSeeds(runs, ExploreOptions{}, std::thread::hardware_concurrency());
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::printf("crash states: %llu of %zu runs (%llu recorded events) in %.1f s, %.0f a second\n",
              static_cast<unsigned long long>(result.states), runs.size(),
              static_cast<unsigned long long>(result.events), seconds.count(),
              static_cast<double>(result.states) / seconds.count());
  EXPECT_EQ(result.failure, "");
  if (runs.size() >= 4) {
    EXPECT_GE(result.states, kStatesMin);
  }
}

// The checker checks: what breaks the hardware's promises must be found out, and as a loss.
ExploreResult ExploreBroken(RecordOptions run) {
  run.seed = 1;
  run.operations = 60;
  ExploreOptions options;
  options.keep_recording = false;
  return ExploreSeeds({run}, options, 1);
}

TEST(PowerCutTest, AFlushThatDoesNothingIsFoundOut) {
  const ExploreResult result = ExploreBroken({.flushes_lie = true});
  EXPECT_THAT(result.failure, ::testing::ContainsRegex("lost:.*(holds|begins with|checksum)"));
}

TEST(PowerCutTest, AMetadataStoreThatDoesNotSyncIsFoundOut) {
  const ExploreResult result = ExploreBroken({.ignore_synced = true});
  EXPECT_THAT(result.failure, ::testing::ContainsRegex("lost:.*(missing|older than|holds)"));
}

TEST(CrashReplay, TheStateThatIsAskedForRecovers) {
  const char* text = std::getenv("KEELSON_CRASH_REPLAY");
  if (text == nullptr) GTEST_SKIP() << "KEELSON_CRASH_REPLAY is not set";
  const absl::Status status = ReplayFromText(text);
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace keelson::crash
