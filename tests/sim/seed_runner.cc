#include "tests/sim/seed_runner.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "blockstore/io/log.h"
#include "blockstore/io/seeded_bug.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

constexpr std::uint64_t kSeedsPerWorker = 20;
constexpr std::uint64_t kFailuresShown = 10;
constexpr int kWorkers = 2;
[[maybe_unused]] constexpr rlim_t kMemoryMax = rlim_t{4}
                                               << 30;  // bytes of a worker's address space

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::string RunSeedChecked(const SeedSuite& suite, std::uint64_t seed) {
  const SeedOutcome first = suite.run(seed, false);
  if (!first.error.empty()) return first.error;
  if (seed % suite.run_twice_one_in != 0) return "";
  const SeedOutcome second = suite.run(seed, false);
  return first.trace_hash == second.trace_hash ? "" : "the same seed ran differently twice";
}

// What the workers tell the parent.
struct Board {
  std::atomic<std::uint64_t> running[kWorkers];  // the seed under way
  std::atomic<std::uint64_t> failures;
  std::uint64_t failed_seeds[kFailuresShown];
  char errors[kFailuresShown][1024];

  void Report(std::uint64_t seed, const std::string& error) {
    const std::uint64_t index = failures.fetch_add(1);
    if (index >= kFailuresShown) return;
    failed_seeds[index] = seed;
    std::snprintf(errors[index], sizeof(errors[index]), "%s", error.c_str());
    // At once: the rest of the run may take hours.
    std::fprintf(stderr, "seed %llu: %s\n", static_cast<unsigned long long>(seed), errors[index]);
  }
};

Board* SharedBoard() {
  void* const memory =
      mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : new (memory) Board{};
}

class Workers {
 public:
  // Runs `count` seeds, from `first` on.
  Workers(const SeedSuite& suite, Board* board, std::uint64_t first, std::uint64_t count)
      : suite_(suite), board_(board), end_(first + count), next_(first) {}

  void Run() {
    for (int slot = 0; slot < kWorkers; ++slot) StartNext(slot);
    while (!running_.empty()) {
      int state = 0;
      const pid_t pid = wait(&state);
      ASSERT_GT(pid, 0) << "wait: " << std::strerror(errno);
      const auto [slot, last] = running_.at(pid);
      running_.erase(pid);
      if (WIFEXITED(state) && WEXITSTATUS(state) == 0) {
        StartNext(slot);
        continue;
      }
      const std::uint64_t seed = board_->running[slot];
      board_->Report(seed,
                     "the process died (an invariant, or a sanitizer); the line above says why");
      if (seed + 1 < last) {
        Start(slot, seed + 1, last);
      } else {
        StartNext(slot);
      }
    }
  }

 private:
  void StartNext(int slot) {
    if (next_ >= end_) return;
    const std::uint64_t last = std::min(next_ + kSeedsPerWorker, end_);
    Start(slot, std::exchange(next_, last), last);
  }
  void Start(int slot, std::uint64_t first, std::uint64_t last) {
    const pid_t pid = fork();
    if (pid == 0) Work(slot, first, last);
    ASSERT_GT(pid, 0) << "fork: " << std::strerror(errno);
    running_[pid] = {slot, last};
  }
  // noexcept: an exception must end the worker, not reach the test framework in it.
  [[noreturn]] void Work(int slot, std::uint64_t first, std::uint64_t last) noexcept {
    // A run that never ends takes ever more memory: it fails long before the machine suffers.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they reserve terabytes
    const rlimit memory = {kMemoryMax, kMemoryMax};
    setrlimit(RLIMIT_AS, &memory);
#endif
    for (std::uint64_t seed = first; seed < last; ++seed) {
      board_->running[slot] = seed;
      const std::string error = RunSeedChecked(suite_, seed);
      if (!error.empty()) board_->Report(seed, error);
    }
    _exit(0);
  }

  const SeedSuite& suite_;
  Board* board_;
  const std::uint64_t end_;  // the seed after the last one
  std::uint64_t next_;
  std::map<pid_t, std::pair<int, std::uint64_t>> running_;  // slot, the seed after its last one
};

void Replay(const SeedSuite& suite, std::uint64_t seed) {
  const bool verbose = std::getenv("KEELSON_LOG") != nullptr;
  if (verbose) spdlog::set_level(spdlog::level::info);
  const SeedOutcome first = suite.run(seed, verbose);
  EXPECT_EQ(first.error, "") << "seed " << seed;
  EXPECT_EQ(first.trace_hash, suite.run(seed, false).trace_hash)
      << "the same seed ran differently twice";
}

// False when there is no such bug in this build.
bool PutBugIn() {
  const char* const bug = std::getenv("KEELSON_BUG");
  if (bug == nullptr) return true;
#ifdef KEELSON_SEEDED_BUGS
  return SetSeededBug(bug);
#else
  return false;
#endif
}

void ReportProbes(const SeedSuite& suite, std::uint64_t count) {
  for (const ProbeCount& probe : ProbeCounts()) {
    std::printf("%12llu  %.*s\n", static_cast<unsigned long long>(probe.hits),
                static_cast<int>(probe.name.size()), probe.name.data());
    if (count >= suite.seeds_default && suite.needs_probe(probe.name)) {
      EXPECT_GT(probe.hits, 0u) << "never happened in " << count << " seeds: " << probe.name;
    }
  }
}

}  // namespace

void RunSeeds(const SeedSuite& suite) {
  spdlog::set_level(spdlog::level::off);
  // Large buffers come and go all the time: giving each back to the kernel costs more than a seed.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  ASSERT_TRUE(PutBugIn()) << "there is no bug " << std::getenv("KEELSON_BUG") << " in this build";
  if (const std::uint64_t seed = FromEnvironment("KEELSON_SEED", 0); seed != 0) {
    return Replay(suite, seed);
  }
  const std::uint64_t count = FromEnvironment("KEELSON_SEEDS", suite.seeds_default);
  Board* const board = SharedBoard();
  ASSERT_NE(board, nullptr);
  const auto started = std::chrono::steady_clock::now();
  Workers(suite, board, FromEnvironment("KEELSON_FIRST_SEED", 1), count).Run();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
  std::printf("%llu seeds in %.1f s: %.0f a minute\n", static_cast<unsigned long long>(count),
              took.count(), static_cast<double>(count) * 60 / took.count());
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(board->failures, kFailuresShown); ++i) {
    ADD_FAILURE() << board->errors[i] << "\n  replay: tests/run sim --seed "
                  << board->failed_seeds[i];
  }
  EXPECT_EQ(board->failures.load(), 0u) << "seeds failed";
  ReportProbes(suite, count);
}

}  // namespace keelson::sim
