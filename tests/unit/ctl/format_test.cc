#include "provisioner/ctl/format.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

namespace keelson::ctl {
namespace {

template <typename Message>
std::string Printed(Output output, const Message& message) {
  std::ostringstream out;
  Print(output, message, &out);
  return out.str();
}

v1::Volume SampleVolume() {
  v1::Volume volume;
  volume.set_name("db");
  volume.set_pool_id("0123");
  volume.set_size_bytes(std::uint64_t{1} << 40);
  volume.set_allocated_bytes(std::uint64_t{3} << 29);
  volume.set_created_unix_ns(1'000'000'000'999'999'999);
  volume.set_snapshot_count(2);
  return volume;
}

TEST(FormatTest, AlignsColumnsAndLeavesNoBlanksAtTheEnd) {
  EXPECT_EQ(FormatTable({{"NAME", "SIZE"}, {"a", "1 GiB"}, {"longer-name", ""}}),
            "NAME         SIZE\n"
            "a            1 GiB\n"
            "longer-name\n");
}

TEST(FormatTest, ShowsTimesInUtc) {
  EXPECT_EQ(FormatTime(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(FormatTime(1'000'000'000'999'999'999), "2001-09-09T01:46:40Z");
}

TEST(FormatTest, ShowsVolumesForPeople) {
  v1::ListVolumesResponse volumes;
  *volumes.add_volumes() = SampleVolume();
  v1::Volume attached = SampleVolume();
  attached.set_name("web");
  attached.set_attached(true);
  attached.set_read_only(true);
  *volumes.add_volumes() = attached;
  EXPECT_EQ(Printed(Output::kTable, volumes),
            "NAME  SIZE   ALLOCATED  SNAPSHOTS  STATE               CREATED               POOL\n"
            "db    1 TiB  1.5 GiB    2          detached            2001-09-09T01:46:40Z  0123\n"
            "web   1 TiB  1.5 GiB    2          attached read-only  2001-09-09T01:46:40Z  0123\n");
}

TEST(FormatTest, ShowsVolumesForPrograms) {
  v1::ListVolumesResponse volumes;
  EXPECT_EQ(Printed(Output::kJson, volumes), "[]\n");
  *volumes.add_volumes() = SampleVolume();
  const nlohmann::json list = nlohmann::json::parse(Printed(Output::kJson, volumes));
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0]["name"], "db");
  EXPECT_EQ(list[0]["size_bytes"], std::uint64_t{1} << 40);
  EXPECT_EQ(list[0]["created_unix_ns"], 1'000'000'000'999'999'999);
  EXPECT_EQ(list[0]["attached"], false);
}

TEST(FormatTest, ShowsAPoolThatCouldNotBeOpened) {
  v1::Pool pool;
  pool.set_directory("/pools/a");
  pool.set_error("no superblock");
  EXPECT_EQ(Printed(Output::kTable, pool),
            "ID  DIRECTORY  CAPACITY  USED  FREE  VOLUMES  STATE\n"
            "-   /pools/a   -         -     -     -        error: no superblock\n");
  EXPECT_EQ(nlohmann::json::parse(Printed(Output::kJson, pool))["error"], "no superblock");
}

TEST(FormatTest, ShowsWhatACheckFound) {
  v1::CheckPoolResponse report;
  report.set_replicas(2);
  EXPECT_NE(Printed(Output::kTable, report).find("the pool is sound"), std::string::npos);
  report.add_problems("extent 3 has two owners");
  EXPECT_NE(Printed(Output::kTable, report).find("problem: extent 3 has two owners\n"),
            std::string::npos);
  EXPECT_EQ(Printed(Output::kTable, report).find("sound"), std::string::npos);
  const nlohmann::json object = nlohmann::json::parse(Printed(Output::kJson, report));
  EXPECT_EQ(object["problems"][0], "extent 3 has two owners");
  EXPECT_EQ(object["replicas"], 2);
}

TEST(FormatTest, ReplacesBytesThatAreNotText) {
  v1::Pool pool;
  pool.set_directory("/pools/\xff");
  EXPECT_TRUE(nlohmann::json::accept(Printed(Output::kJson, pool)));
}

}  // namespace
}  // namespace keelson::ctl
