#include "provisioner/ctl/scrub_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

namespace keelson::ctl {
namespace {

v1::GetVolumeStatusResponse TwoSegments() {
  v1::GetVolumeStatusResponse status;
  for (std::uint32_t i = 0; i < 2; ++i) {
    v1::SegmentStatus* segment = status.add_segments();
    segment->set_segment(i);
    v1::Scrub* scrub = segment->mutable_scrub();
    scrub->set_size_bytes(4 << 20);
    scrub->set_position_bytes(4 << 20);
    scrub->set_regions(1);
    scrub->set_read_bytes(12288);
  }
  return status;
}

v1::Scrub* Second(v1::GetVolumeStatusResponse* status) {
  return status->mutable_segments(1)->mutable_scrub();
}

TEST(ScrubReportTest, TakesTheSegmentsTogether) {
  v1::GetVolumeStatusResponse status = TwoSegments();
  Second(&status)->set_running(true);
  Second(&status)->set_position_bytes(0);
  const ScrubReport report = SummarizeScrub(status);
  EXPECT_TRUE(report.running);
  EXPECT_EQ(report.regions, 2u);
  EXPECT_EQ(FormatScrub(report),
            "scrub: 50% done, 24 KiB read; 0 bad blocks, 0 repaired, 0 unrepairable, 0 different");
}

TEST(ScrubReportTest, NothingIsSaidOfAVolumeThatWasNotScrubbed) {
  v1::GetVolumeStatusResponse status;
  status.add_segments();
  EXPECT_FALSE(SummarizeScrub(status).any);
  EXPECT_TRUE(ToJson(SummarizeScrub(status)).is_null());
}

TEST(ScrubReportTest, ShowsWhatWasFoundAndWhere) {
  v1::GetVolumeStatusResponse status = TwoSegments();
  Second(&status)->set_bad_blocks(1);
  Second(&status)->set_unrepairable_blocks(1);
  v1::ScrubFinding* finding = Second(&status)->add_findings();
  finding->set_kind(v1::ScrubFinding::UNREPAIRABLE);
  finding->set_offset(8192);
  finding->set_snapshot("monday");
  finding->set_replica_id("r1");
  const ScrubReport report = SummarizeScrub(status);
  std::ostringstream table, json;
  Print(Output::kTable, report, &table);
  EXPECT_EQ(table.str(),
            "FOUND         SEGMENT  OFFSET  SNAPSHOT  REPLICA\n"
            "unrepairable  1        8192    monday    r1\n"
            "2 regions, 24 KiB read on all copies: 1 bad blocks, 0 repaired, 1 unrepairable, 0 "
            "different\n");
  Print(Output::kJson, report, &json);
  const nlohmann::json parsed = nlohmann::json::parse(json.str());
  EXPECT_EQ(parsed["findings"][0]["offset"], 8192);
  EXPECT_EQ(parsed["findings"][0]["kind"], "unrepairable");
  EXPECT_EQ(parsed["unrepairable_blocks"], 1);
}

TEST(ScrubReportTest, FailsForWhatIsLeftAndNotForWhatWasRepaired) {
  v1::GetVolumeStatusResponse status = TwoSegments();
  Second(&status)->set_bad_blocks(2);
  Second(&status)->set_repaired_blocks(2);
  EXPECT_TRUE(Judge(SummarizeScrub(status), "v").ok());
  Second(&status)->set_different_blocks(1);
  EXPECT_TRUE(absl::IsFailedPrecondition(Judge(SummarizeScrub(status), "v")));
  Second(&status)->set_ended_early("volume v is detached");
  EXPECT_TRUE(absl::IsAborted(Judge(SummarizeScrub(status), "v")));
  EXPECT_TRUE(absl::IsAborted(Judge(SummarizeScrub({}), "v")));
}

}  // namespace
}  // namespace keelson::ctl
