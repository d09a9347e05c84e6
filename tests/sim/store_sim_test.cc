// Random operations on the production store over simulated disks, many seeds of it. Reads
//   KEELSON_SEEDS  how many seeds (default 2000)
//   KEELSON_SEED   run only this one, in this process: what a failure tells to do
//   KEELSON_LOG    with KEELSON_SEED: print what happens
// Seeds run in forked workers, a batch to a worker: what the lives of a seed leak goes with the
// worker, and an abort in the product is one seed's failure.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "blockstore/io/log.h"
#include "tests/sim/probe.h"
#include "tests/sim/store_harness.h"

namespace keelson::sim {
namespace {

constexpr std::uint64_t kSeedsDefault = 2000;
constexpr std::uint64_t kSeedsPerWorker = 20;
constexpr std::uint64_t kSeedsRunTwice = 50;  // one in so many
constexpr std::uint64_t kFailuresShown = 10;
constexpr int kWorkers = 2;

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

struct Outcome {
  std::string error;
  std::uint64_t trace_hash = 0;
};

Outcome RunSeed(std::uint64_t seed, bool verbose = false) {
  // Leaked: coroutines of a failed run may still point into it.
  auto* const harness = new StoreHarness(seed);
  harness->set_verbose(verbose);
  Outcome outcome;
  outcome.error = harness->Run();
  outcome.trace_hash = harness->trace_hash();
  if (outcome.error.empty()) delete harness;
  return outcome;
}

std::string RunSeedChecked(std::uint64_t seed) {
  const Outcome first = RunSeed(seed);
  if (!first.error.empty()) return first.error;
  if (seed % kSeedsRunTwice != 0) return "";
  const Outcome second = RunSeed(seed);
  return first.trace_hash == second.trace_hash ? "" : "the same seed ran differently twice";
}

// What the workers tell the parent.
struct Board {
  std::atomic<std::uint64_t> running[kWorkers];  // the seed under way
  std::atomic<std::uint64_t> failures;
  std::uint64_t failed_seeds[kFailuresShown];
  char errors[kFailuresShown][512];

  void Report(std::uint64_t seed, const std::string& error) {
    const std::uint64_t index = failures.fetch_add(1);
    if (index >= kFailuresShown) return;
    failed_seeds[index] = seed;
    std::snprintf(errors[index], sizeof(errors[index]), "%s", error.c_str());
  }
};

Board* SharedBoard() {
  void* const memory =
      mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : new (memory) Board{};
}

// noexcept: an exception must end the worker, not reach the test framework in it.
[[noreturn]] void Work(Board* board, int worker, std::uint64_t first,
                       std::uint64_t count) noexcept {
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    board->running[worker] = seed;
    const std::string error = RunSeedChecked(seed);
    if (!error.empty()) board->Report(seed, error);
  }
  _exit(0);
}

// Runs seeds 1 .. count in kWorkers processes at a time.
void RunSeeds(Board* board, std::uint64_t count) {
  std::map<pid_t, std::pair<int, std::uint64_t>> workers;  // slot, the seed after its last one
  std::uint64_t next = 1;
  const auto start = [&](int slot, std::uint64_t first, std::uint64_t last) {
    const pid_t pid = fork();
    if (pid == 0) Work(board, slot, first, last - first);
    ASSERT_GT(pid, 0) << "fork: " << std::strerror(errno);
    workers[pid] = {slot, last};
  };
  const auto start_next = [&](int slot) {
    if (next > count) return;
    const std::uint64_t last = std::min(next + kSeedsPerWorker, count + 1);
    start(slot, std::exchange(next, last), last);
  };
  for (int slot = 0; slot < kWorkers; ++slot) start_next(slot);
  while (!workers.empty()) {
    int state = 0;
    const pid_t pid = wait(&state);
    ASSERT_GT(pid, 0) << "wait: " << std::strerror(errno);
    const auto [slot, last] = workers.at(pid);
    workers.erase(pid);
    const std::uint64_t seed = board->running[slot];
    if (WIFEXITED(state) && WEXITSTATUS(state) == 0) {
      start_next(slot);
      continue;
    }
    board->Report(seed, "the process died (an invariant, or a sanitizer); the line above says why");
    if (seed + 1 < last) {
      start(slot, seed + 1, last);
    } else {
      start_next(slot);
    }
  }
}

TEST(StoreSimTest, KeepsEveryPromiseUnderEverySeed) {
  spdlog::set_level(spdlog::level::off);
  if (const std::uint64_t seed = FromEnvironment("KEELSON_SEED", 0); seed != 0) {
    const bool verbose = std::getenv("KEELSON_LOG") != nullptr;
    if (verbose) spdlog::set_level(spdlog::level::info);
    const Outcome first = RunSeed(seed, verbose);
    EXPECT_EQ(first.error, "") << "seed " << seed;
    EXPECT_EQ(first.trace_hash, RunSeed(seed).trace_hash) << "the same seed ran differently twice";
    return;
  }
  const std::uint64_t count = FromEnvironment("KEELSON_SEEDS", kSeedsDefault);
  Board* const board = SharedBoard();
  ASSERT_NE(board, nullptr);
  const auto started = std::chrono::steady_clock::now();
  RunSeeds(board, count);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
  std::printf("%llu seeds in %.1f s: %.0f a minute\n", static_cast<unsigned long long>(count),
              took.count(), static_cast<double>(count) * 60 / took.count());
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(board->failures, kFailuresShown); ++i) {
    ADD_FAILURE() << board->errors[i] << "\n  replay: tests/run sim --seed "
                  << board->failed_seeds[i];
  }
  EXPECT_EQ(board->failures.load(), 0u) << "seeds failed";
  for (const ProbeCount& probe : ProbeCounts()) {
    std::printf("%12llu  %.*s\n", static_cast<unsigned long long>(probe.hits),
                static_cast<int>(probe.name.size()), probe.name.data());
    // Network probes belong to suites that have a network.
    if (count >= kSeedsDefault && !probe.name.starts_with("network:")) {
      EXPECT_GT(probe.hits, 0u) << "never happened in " << count << " seeds: " << probe.name;
    }
  }
}

}  // namespace
}  // namespace keelson::sim
