// Random operations on the production store over simulated disks, many seeds of it; seed_runner.h
// says what it reads from the environment.

#include <gtest/gtest.h>

#include "tests/sim/seed_runner.h"
#include "tests/sim/store_harness.h"

namespace keelson::sim {
namespace {

SeedOutcome RunSeed(std::uint64_t seed, bool verbose) {
  // Leaked: coroutines of a failed run may still point into it.
  auto* const harness = new StoreHarness(seed);
  harness->set_verbose(verbose);
  SeedOutcome outcome;
  outcome.error = harness->Run();
  outcome.trace_hash = harness->trace_hash();
  if (outcome.error.empty()) delete harness;
  return outcome;
}

TEST(StoreSimTest, KeepsEveryPromiseUnderEverySeed) {
  SeedSuite suite;
  suite.run_twice_one_in = 50;
  // Network probes belong to suites that have a network.
  suite.needs_probe = [](std::string_view probe) { return !probe.starts_with("network:"); };
  suite.run = RunSeed;
  RunSeeds(suite);
}

}  // namespace
}  // namespace keelson::sim
