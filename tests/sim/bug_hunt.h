#pragma once
// BugHunt: which seed of a simulation finds a bug that was put into the product
// (blockstore/io/seeded_bug.h). A seed finds it when it fails with the bug and passes without. Each
// seed runs in a forked worker, so that an abort in the product, or a run that never ends, is one
// seed's outcome. Two workers at a time; the caller has no threads. For tests only.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace keelson::sim {

// A line of tests/sim/seeded_bugs.txt.
struct BugRow {
  std::string bug;         // as SetSeededBug knows it
  std::string rule;        // R1..R19 that it breaks
  std::string simulation;  // the one that finds it
  std::uint64_t seed = 0;  // the first that does; 0: not known
  std::string found_by;    // the invariant, or what else went wrong
};

// INVALID_ARGUMENT with the number of the line.
absl::StatusOr<std::vector<BugRow>> ParseBugTable(std::string_view text);
absl::StatusOr<std::vector<BugRow>> LoadBugTable(const std::string& path);
std::string FormatBugTable(const std::vector<BugRow>& rows);

// One seed; what went wrong in it, or an empty string.
using Simulation = std::function<std::string(std::uint64_t seed)>;

struct HuntResult {
  BugRow row;          // with what was found; seed 0: nothing
  bool moved = false;  // the known seed does not find it any more
  std::string error;   // of the seed that found it
};

struct HuntOptions {
  // The row's own seed first, and others only when that one does not find the bug any more.
  bool known_first = true;
  std::uint64_t seeds_max = 10'000;  // then the bug counts as not found
  // Told of each bug when the search for it has ended.
  std::function<void(const HuntResult&)> ended;
};

// In the order of `rows`. REQUIRES: `simulations` has each row's.
std::vector<HuntResult> HuntBugs(const std::vector<BugRow>& rows,
                                 const std::map<std::string, Simulation>& simulations,
                                 const HuntOptions& options);

}  // namespace keelson::sim
