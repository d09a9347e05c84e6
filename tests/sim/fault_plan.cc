#include "tests/sim/fault_plan.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace keelson::sim {

absl::StatusOr<std::vector<FaultClass>> ParseFaultTable(std::string_view text) {
  std::vector<FaultClass> table;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line.substr(0, line.find('#')));
    FaultClass parsed;
    if (!(words >> parsed.name)) continue;
    if (!(words >> parsed.chance >> parsed.weight) || parsed.chance < 0 || parsed.chance > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number,
                       " of the fault table: a name, a chance from 0 to 1 and a "
                       "weight are wanted, not: ",
                       line));
    }
    for (std::string word; words >> word;) {
      if (word != "-") parsed.excluded_by.push_back(word);
    }
    table.push_back(std::move(parsed));
  }
  return table;
}

absl::StatusOr<std::vector<FaultClass>> LoadFaultTable(const std::string& path) {
  const char* const other = std::getenv("KEELSON_FAULTS");
  const std::string name = other == nullptr ? path : other;
  std::ifstream file(name);
  if (!file) return absl::NotFoundError(absl::StrCat("no fault table at ", name));
  std::ostringstream text;
  text << file.rdbuf();
  return ParseFaultTable(text.str());
}

FaultPlan FaultPlan::Draw(const std::vector<FaultClass>& table, Random* random) {
  FaultPlan plan;
  for (const FaultClass& fault : table) {
    const bool drawn = random->Chance(fault.chance);
    const bool excluded =
        std::any_of(fault.excluded_by.begin(), fault.excluded_by.end(),
                    [&plan](const std::string& other) { return plan.Has(other); });
    if (drawn && !excluded) plan.classes_[fault.name] = fault.weight;
  }
  return plan;
}

std::string FaultPlan::Strike(Random* random) const {
  std::uint64_t total = 0;
  for (const auto& [name, weight] : classes_) total += weight;
  std::uint64_t drawn = random->Below(total);
  for (const auto& [name, weight] : classes_) {
    if (drawn < weight) return name;
    drawn -= weight;
  }
  return "";
}

std::string FaultPlan::ToString() const {
  std::string text;
  for (const auto& [name, weight] : classes_) absl::StrAppend(&text, text.empty() ? "" : " ", name);
  return text;
}

}  // namespace keelson::sim
