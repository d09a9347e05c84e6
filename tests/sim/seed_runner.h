#pragma once
// SeedRunner: runs a simulation for many seeds, or for the one that a failure told to replay. Reads
//   KEELSON_SEEDS  how many seeds, from 1 on
//   KEELSON_SEED   run only this one, in this process, twice
//   KEELSON_LOG    with KEELSON_SEED: print what happens
//   KEELSON_BUG    the name of a bug to put into the product (blockstore/io/seeded_bug.h)
// Seeds run in forked workers, a batch to a worker: what the lives of a seed leak goes with the
// worker, and an abort in the product is one seed's failure.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace keelson::sim {

struct SeedOutcome {
  std::string error;  // empty: nothing was wrong
  std::uint64_t trace_hash = 0;
};

struct SeedSuite {
  std::uint64_t seeds_default = 2000;
  std::uint64_t run_twice_one_in = 100;  // the same seed must leave the same trace
  // Whether the suite fails when this probe never fired in a full run.
  std::function<bool(std::string_view probe)> needs_probe;
  std::function<SeedOutcome(std::uint64_t seed, bool verbose)> run;
};

// Fails the current GoogleTest case for what went wrong, with the command that replays it.
void RunSeeds(const SeedSuite& suite);

}  // namespace keelson::sim
