#include "provisioner/ctl/scrub_report.h"

#include "absl/strings/str_cat.h"
#include "proto/rpc/size_text.h"

namespace keelson::ctl {
namespace {

using nlohmann::json;

const char* KindName(v1::ScrubFinding::Kind kind) {
  switch (kind) {
    case v1::ScrubFinding::REPAIRED:
      return "repaired";
    case v1::ScrubFinding::UNREPAIRABLE:
      return "unrepairable";
    case v1::ScrubFinding::DIFFERENT:
      return "different";
    default:
      return "unknown";
  }
}

std::string Counts(const ScrubReport& report) {
  std::string text = absl::StrCat(report.bad_blocks, " bad blocks, ", report.repaired_blocks,
                                  " repaired, ", report.unrepairable_blocks, " unrepairable, ",
                                  report.different_blocks, " different");
  if (report.regions_skipped > 0) {
    absl::StrAppend(&text, ", ", report.regions_skipped, " regions not judged");
  }
  return text;
}

}  // namespace

ScrubReport SummarizeScrub(const v1::GetVolumeStatusResponse& status) {
  ScrubReport report;
  for (const v1::SegmentStatus& segment : status.segments()) {
    if (!segment.has_scrub()) continue;
    const v1::Scrub& scrub = segment.scrub();
    report.any = true;
    report.running = report.running || scrub.running();
    if (report.ended_early.empty()) report.ended_early = scrub.ended_early();
    report.position_bytes += scrub.position_bytes();
    report.size_bytes += scrub.size_bytes();
    report.regions += scrub.regions();
    report.regions_skipped += scrub.regions_skipped();
    report.read_bytes += scrub.read_bytes();
    report.bad_blocks += scrub.bad_blocks();
    report.repaired_blocks += scrub.repaired_blocks();
    report.unrepairable_blocks += scrub.unrepairable_blocks();
    report.different_blocks += scrub.different_blocks();
    for (const v1::ScrubFinding& finding : scrub.findings()) {
      report.findings.push_back({segment.segment(), finding});
    }
  }
  return report;
}

json ToJson(const ScrubReport& report) {
  if (!report.any) return nullptr;
  json findings = json::array();
  for (const ScrubReport::Finding& one : report.findings) {
    findings.push_back({{"kind", KindName(one.finding.kind())},
                        {"segment", one.segment},
                        {"offset", one.finding.offset()},
                        {"snapshot", one.finding.snapshot()},
                        {"replica_id", one.finding.replica_id()}});
  }
  return {{"running", report.running},
          {"ended_early", report.ended_early},
          {"position_bytes", report.position_bytes},
          {"size_bytes", report.size_bytes},
          {"regions", report.regions},
          {"regions_skipped", report.regions_skipped},
          {"read_bytes", report.read_bytes},
          {"bad_blocks", report.bad_blocks},
          {"repaired_blocks", report.repaired_blocks},
          {"unrepairable_blocks", report.unrepairable_blocks},
          {"different_blocks", report.different_blocks},
          {"findings", findings}};
}

void Print(Output output, const ScrubReport& report, std::ostream* out) {
  if (output == Output::kJson) {
    *out << ToJson(report).dump(2, ' ', false, json::error_handler_t::replace) << "\n";
    return;
  }
  if (!report.findings.empty()) {
    std::vector<std::vector<std::string>> rows = {
        {"FOUND", "SEGMENT", "OFFSET", "SNAPSHOT", "REPLICA"}};
    for (const ScrubReport::Finding& one : report.findings) {
      rows.push_back({KindName(one.finding.kind()), absl::StrCat(one.segment),
                      absl::StrCat(one.finding.offset()),
                      one.finding.snapshot().empty() ? "-" : one.finding.snapshot(),
                      one.finding.replica_id()});
    }
    *out << FormatTable(rows);
  }
  *out << report.regions << " regions, " << rpc::HumanSize(report.read_bytes)
       << " read on all copies: " << Counts(report) << "\n";
}

std::string FormatScrub(const ScrubReport& report) {
  if (report.running) {
    const std::uint64_t percent =
        report.size_bytes == 0 ? 0 : 100 * report.position_bytes / report.size_bytes;
    return absl::StrCat("scrub: ", percent, "% done, ", rpc::HumanSize(report.read_bytes),
                        " read; ", Counts(report));
  }
  return absl::StrCat("last scrub",
                      report.ended_early.empty() ? "" : " (not finished: ", report.ended_early,
                      report.ended_early.empty() ? ": " : "): ", Counts(report));
}

absl::Status Judge(const ScrubReport& report, const std::string& volume) {
  if (!report.any) {
    return absl::AbortedError(
        absl::StrCat("volume '", volume, "' was attached anew while it was scrubbed"));
  }
  if (!report.ended_early.empty()) {
    return absl::AbortedError(absl::StrCat("the scrub of volume '", volume,
                                           "' did not get to its end: ", report.ended_early));
  }
  const std::uint64_t left = report.unrepairable_blocks + report.different_blocks;
  if (left == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("volume '", volume, "' has ", left,
                   " blocks that are bad and cannot be repaired, or differ between its copies"));
}

}  // namespace keelson::ctl
