#pragma once
// What keelctl says about the scrub of a volume: the scrubs of its segments taken together. Pure
// functions; any thread.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/keelson/v1/blockstore.pb.h"
#include "provisioner/ctl/format.h"

namespace keelson::ctl {

struct ScrubReport {
  struct Finding {
    std::uint32_t segment = 0;
    v1::ScrubFinding finding;
  };
  bool any = false;  // there has been one since the volume was attached
  bool running = false;
  std::string ended_early;
  std::uint64_t position_bytes = 0, size_bytes = 0;  // sums over the segments
  std::uint64_t regions = 0, regions_skipped = 0, read_bytes = 0;
  std::uint64_t bad_blocks = 0, repaired_blocks = 0, unrepairable_blocks = 0;
  std::uint64_t different_blocks = 0;
  std::vector<Finding> findings;
};

ScrubReport SummarizeScrub(const v1::GetVolumeStatusResponse& status);

// null: there has been none since the volume was attached.
nlohmann::json ToJson(const ScrubReport& report);
void Print(Output output, const ScrubReport& report, std::ostream* out);
// One line for `volume status`: how far it is, or how it ended.
std::string FormatScrub(const ScrubReport& report);

// What the exit status of `volume scrub` follows from.
absl::Status Judge(const ScrubReport& report, const std::string& volume);

}  // namespace keelson::ctl
