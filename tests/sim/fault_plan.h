#pragma once
// FaultPlan: which classes of faults a seed has, drawn from a table in a text file (its own comment
// says what the columns mean): swarm testing, since a run with every fault at once reaches less
// than many runs with a few each. KEELSON_FAULTS names another file, for a hunt. A value.

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/sim/random.h"

namespace keelson::sim {

struct FaultClass {
  std::string name;
  double chance = 0;
  std::uint64_t weight = 0;
  std::vector<std::string> excluded_by;
};

// INVALID_ARGUMENT, with the line, for what is no such table.
absl::StatusOr<std::vector<FaultClass>> ParseFaultTable(std::string_view text);
// The table at `path`, or at KEELSON_FAULTS. NOT_FOUND.
absl::StatusOr<std::vector<FaultClass>> LoadFaultTable(const std::string& path);

class FaultPlan {
 public:
  static FaultPlan Draw(const std::vector<FaultClass>& table, Random* random);

  bool Has(std::string_view name) const { return classes_.contains(name); }
  // One of those that strike, by their weights; empty when the seed has none.
  std::string Strike(Random* random) const;
  std::string ToString() const;

 private:
  std::map<std::string, std::uint64_t, std::less<>> classes_;  // name, weight
};

}  // namespace keelson::sim
