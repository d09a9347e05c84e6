#include "provisioner/placement/capacity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/provisioner/placement/cluster.h"

namespace keelson::provisioner::placement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Pools that take exactly what they have.
Volume Exactly(std::size_t copies, std::uint64_t segment_bytes = 256 * kGiB) {
  Volume volume{.copies = copies, .constraints = {}, .segment_bytes = segment_bytes};
  volume.constraints.limits = {.overprovision_percent = 100, .reserve_percent = 0};
  return volume;
}

TEST(CapacityTest, AVolumeThatFitsIntoASegmentHasOne) {
  const std::vector<NodeState> nodes = {Node("a"), Node("b"), Node("c")};
  const auto cut = CutVolume(nodes, Exactly(3), 10 * kGiB);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_THAT(cut->segment_sizes, ElementsAre(10 * kGiB));
  EXPECT_EQ(cut->segment_bytes, 64 * kGiB);  // what follows it when it grows fits into these pools
}

TEST(CapacityTest, AVolumeLargerThanASegmentIsCut) {
  const std::vector<NodeState> nodes = {Node("a", 1000 * kGiB)};
  const auto cut = CutVolume(nodes, Exactly(1), 600 * kGiB);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_EQ(cut->segment_bytes, 256 * kGiB);
  EXPECT_THAT(cut->segment_sizes, ElementsAre(256 * kGiB, 256 * kGiB, 88 * kGiB));
}

TEST(CapacityTest, AVolumeLargerThanEveryPoolIsCut) {
  const std::vector<NodeState> nodes = {Node("a"), Node("b"), Node("c")};
  const auto cut = CutVolume(nodes, Exactly(1), 150 * kGiB);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_THAT(cut->segment_sizes, ElementsAre(64 * kGiB, 64 * kGiB, 22 * kGiB));
}

TEST(CapacityTest, SegmentsAreHalvedUntilTheyFit) {
  const std::vector<NodeState> nodes = {Node("a"), Node("b"), Node("c")};
  const auto cut = CutVolume(nodes, Exactly(1), 290 * kGiB);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_EQ(cut->segment_bytes, 32 * kGiB);
}

TEST(CapacityTest, ReportsTheLargestVolumeAndTheSum) {
  const std::vector<NodeState> nodes = {Node("a", 30 * kGiB), Node("b", 20 * kGiB),
                                        Node("c", 10 * kGiB)};
  const Capacity three = FindCapacity(nodes, Exactly(3));
  EXPECT_EQ(three.largest_volume_bytes, 10 * kGiB);
  EXPECT_EQ(three.available_bytes, 10 * kGiB);
  const Capacity two = FindCapacity(nodes, Exactly(2));
  EXPECT_EQ(two.available_bytes, 30 * kGiB);
  EXPECT_EQ(two.largest_volume_bytes, 30 * kGiB);
  EXPECT_EQ(FindCapacity(nodes, Exactly(1)).available_bytes, 60 * kGiB);
}

TEST(CapacityTest, IsNothingWhereNothingCanBePlaced) {
  const std::vector<NodeState> nodes = {Node("a"), Node("b"), Cordoned("c")};
  for (const std::size_t copies : {2u, 3u, 4u}) {  // two: no node for the witness
    const Capacity capacity = FindCapacity(nodes, Exactly(copies));
    EXPECT_EQ(capacity.available_bytes, 0u) << copies;
    EXPECT_EQ(capacity.largest_volume_bytes, 0u) << copies;
  }
  EXPECT_EQ(FindCapacity({}, Exactly(1)).largest_volume_bytes, 0u);
}

TEST(CapacityTest, IsOfTheTopologyAskedFor) {
  const std::vector<NodeState> nodes = {Node("a", 30 * kGiB, "x"), Node("b", 20 * kGiB, "y")};
  Volume volume = Exactly(1);
  volume.constraints.requisite = {{{"zone", "y"}}};
  EXPECT_EQ(FindCapacity(nodes, volume).available_bytes, 20 * kGiB);
}

TEST(CapacityTest, RefusesSizesThatCannotBe) {
  const std::vector<NodeState> nodes = {Node("a")};
  EXPECT_EQ(CutVolume(nodes, Exactly(1), 0).status().code(), absl::StatusCode::kOutOfRange);
  const absl::Status large = CutVolume(nodes, Exactly(1), 1024 * 256 * kGiB + 1).status();
  EXPECT_EQ(large.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(large.message()), HasSubstr("1024 segments of up to 256 GiB"));
  EXPECT_EQ(CutVolume(nodes, Exactly(1), 201 * kGiB).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(CutVolume(nodes, Exactly(0), kGiB).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CutVolume(nodes, Exactly(1, kGiB + 1), kGiB).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace keelson::provisioner::placement
