#include "provisioner/placement/place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "provisioner/placement/score.h"
#include "tests/unit/provisioner/placement/cluster.h"

namespace keelson::provisioner::placement {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

Request Asked(std::size_t copies, std::uint64_t bytes = 8 * kGiB) {
  return {.segment_sizes = {bytes}, .copies = copies, .constraints = {}};
}

// The nodes of the only segment's copies.
std::vector<std::string> NodesOf(const std::vector<NodeState>& nodes, const Request& request) {
  auto placed = PlaceSegments(nodes, request);
  EXPECT_TRUE(placed.ok()) << placed.status();
  std::vector<std::string> names;
  if (!placed.ok()) return names;
  for (const Place& place : placed->front().copies) names.push_back(place.node);
  return names;
}

std::string Refusal(const std::vector<NodeState>& nodes, const Request& request) {
  const absl::Status status = PlaceSegments(nodes, request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  return std::string(status.message());
}

TEST(PlaceTest, PutsCopiesOnDistinctNodes) {
  EXPECT_THAT(NodesOf({Node("a"), Node("b"), Node("c")}, Asked(3)),
              UnorderedElementsAre("a", "b", "c"));
}

TEST(PlaceTest, PrefersTheEmptiestPools) {
  std::vector<NodeState> nodes = {Node("a"), Node("b"), Node("c"), Node("d"), Node("e")};
  nodes[0].pools[0].free_bytes = 50 * kGiB;
  nodes[1].pools[0].promised_bytes = 150 * kGiB;
  EXPECT_THAT(NodesOf(nodes, Asked(3)), UnorderedElementsAre("c", "d", "e"));
}

TEST(PlaceTest, PrefersNodesWithFewerCopiesAndEngines) {
  std::vector<NodeState> nodes = {Node("a"), Node("b"), Node("c")};
  nodes[0].pools[0].replica_count = 5;
  nodes[1].attached_count = 3;
  EXPECT_THAT(NodesOf(nodes, Asked(1)), ElementsAre("c"));
}

TEST(PlaceTest, SpreadsEqualVolumesByTheirSeeds) {
  const std::vector<NodeState> nodes = {Node("a"), Node("b"), Node("c"), Node("d")};
  std::map<std::string, int> volumes_of;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Request request = Asked(1);
    request.constraints.seed = seed;
    ++volumes_of[NodesOf(nodes, request).front()];
  }
  ASSERT_EQ(volumes_of.size(), 4u);
  for (const auto& [node, volumes] : volumes_of) EXPECT_GT(volumes, 60) << node;
}

TEST(PlaceTest, PutsOneCopyNearItsUserEvenIfOthersAreEmptier) {
  std::vector<NodeState> nodes = {Node("a"), Node("b"), Node("c"), Node("d")};
  nodes[0].pools[0].promised_bytes = 100 * kGiB;
  Request request = Asked(3);
  request.constraints.near_node = "a";
  EXPECT_EQ(NodesOf(nodes, request).front(), "a");
  nodes[0].schedulable = false;
  EXPECT_THAT(NodesOf(nodes, request), UnorderedElementsAre("b", "c", "d"));
}

TEST(PlaceTest, PutsTheFirstCopyIntoTheEarliestPreferredTopology) {
  std::vector<NodeState> nodes = {Node("a", 100 * kGiB, "x"), Node("b", 100 * kGiB, "y"),
                                  Node("c", 100 * kGiB, "y"), Node("d", 100 * kGiB, "z")};
  Request request = Asked(3);
  request.constraints.preferred = {{{"zone", "nowhere"}}, {{"zone", "z"}}, {{"zone", "x"}}};
  nodes[0].pools[0].promised_bytes = 50 * kGiB;
  nodes[3].pools[0].promised_bytes = 50 * kGiB;
  EXPECT_THAT(NodesOf(nodes, request),
              ElementsAre("d", testing::AnyOf("b", "c"), testing::AnyOf("b", "c")));
}

TEST(PlaceTest, KeepsToTheRequisiteTopologies) {
  const std::vector<NodeState> nodes = {Node("a", 100 * kGiB, "x"), Node("b", 100 * kGiB, "y"),
                                        Node("c", 100 * kGiB, "z")};
  Request request = Asked(1);
  request.constraints.requisite = {{{"zone", "y"}, {"host", "b"}}};
  EXPECT_THAT(NodesOf(nodes, request), ElementsAre("b"));
  request.constraints.requisite = {{{"zone", "y"}, {"host", "c"}}};
  EXPECT_THAT(Refusal(nodes, request), HasSubstr("node b: outside of the topology asked for"));
}

TEST(PlaceTest, KeepsToThePinnedNode) {
  std::vector<NodeState> nodes = {Node("a"), Node("b")};
  nodes[0].pools[0].promised_bytes = 190 * kGiB;
  Request request = Asked(1);
  request.constraints.pinned_node = "a";
  EXPECT_THAT(NodesOf(nodes, request), ElementsAre("a"));
  request.segment_sizes = {20 * kGiB};
  EXPECT_THAT(Refusal(nodes, request),
              AllOf(HasSubstr("node a: 190 GiB promised of 100 GiB x 2, 20 GiB asked"),
                    HasSubstr("node b: the copies are bound to node a")));
}

TEST(PlaceTest, PutsCopiesIntoDistinctZonesWhenAsked) {
  std::vector<NodeState> nodes = {Node("a", 100 * kGiB, "x"), Node("b", 100 * kGiB, "x"),
                                  Node("c", 100 * kGiB, "y"), Node("d", 100 * kGiB, "z"),
                                  Node("e")};
  nodes[2].pools[0].promised_bytes = 100 * kGiB;
  Request request = Asked(3);
  request.constraints.zone_spread = true;
  EXPECT_THAT(NodesOf(nodes, request),
              testing::UnorderedElementsAre(testing::AnyOf("a", "b"), "c", "d"));
  nodes[2].schedulable = false;
  EXPECT_THAT(Refusal(nodes, request), AllOf(HasSubstr("3 copies of 8 GiB need 3 zones"),
                                             HasSubstr("a in zone x, b in zone x, d in zone z"),
                                             HasSubstr("node e: no zone is known of it")));
}

TEST(PlaceTest, SaysOfEachNodeWhyItCannotTakeACopy) {
  std::vector<NodeState> nodes = {Node("a"), Cordoned("b"), Node("c", 10 * kGiB), Node("d"),
                                  Node("e"), Node("f"),     Node("g", 8 * kGiB)};
  nodes[2].pools[0].promised_bytes = 13 * kGiB;
  nodes[3].pools[0].healthy = false;
  nodes[4].pools.clear();
  nodes[5].pools[0].free_bytes = 9 * kGiB;
  EXPECT_EQ(Refusal(nodes, Asked(3)),
            "3 copies of 8 GiB need 3 nodes with room; there is room for one copy on: a; "
            "node c: 13 GiB promised of 10 GiB x 2, 8 GiB asked; "
            "node f: 9 GiB free of 100 GiB, and 10% stay free; "
            "node g: a pool of 8 GiB of which 10% stay free, 8 GiB asked; "
            "node b: cordoned; node d: no healthy pool; node e: no pool");
}

TEST(PlaceTest, TellsOfSixteenNodesAtMost) {
  std::vector<NodeState> nodes;
  for (int i = 0; i < 100; ++i) nodes.push_back(Cordoned("node-" + std::to_string(i)));
  EXPECT_THAT(Refusal(nodes, Asked(3)), HasSubstr("; and 84 more"));
}

TEST(PlaceTest, PlacesEverySegmentOfAVolume) {
  std::vector<NodeState> nodes = {Node("a", 40 * kGiB), Node("b", 40 * kGiB), Node("c", 40 * kGiB)};
  Request request = Asked(1);
  request.segment_sizes = std::vector<std::uint64_t>(9, 10 * kGiB);
  request.segment_sizes.push_back(2 * kGiB);
  request.constraints.near_node = "a";
  request.constraints.limits = {.overprovision_percent = 80, .reserve_percent = 0};
  auto placed = PlaceSegments(nodes, request);
  ASSERT_TRUE(placed.ok()) << placed.status();
  std::map<std::string, std::uint64_t> bytes_of;
  for (std::size_t i = 0; i < placed->size(); ++i) {
    bytes_of[(*placed)[i].copies[0].node] += request.segment_sizes[i];
  }
  for (const auto& [node, bytes] : bytes_of) EXPECT_LE(bytes, 32 * kGiB) << node;
  EXPECT_GE(bytes_of["a"], 30 * kGiB);
  request.segment_sizes.assign(10, 10 * kGiB);
  EXPECT_THAT(Refusal(nodes, request), HasSubstr("1 copy of 10 segments of up to 10 GiB each"));
}

TEST(PlaceTest, LeavesRoomForTheSegmentsThatFollow) {
  // Each of the two segments has a copy on c, although a and b are less full.
  std::vector<NodeState> nodes = {Node("a", 12 * kGiB), Node("b", 12 * kGiB), Node("c")};
  nodes[0].pools[0].promised_bytes = 10 * kGiB;
  nodes[1].pools[0].promised_bytes = 10 * kGiB;
  nodes[2].pools[0].promised_bytes = 180 * kGiB;
  Request request = Asked(2, 10 * kGiB);
  EXPECT_THAT(NodesOf(nodes, request), UnorderedElementsAre("a", "b"));
  request.segment_sizes.push_back(10 * kGiB);
  EXPECT_THAT(NodesOf(nodes, request), testing::Contains("c"));
}

TEST(PlaceTest, GivesEvenCopiesAWitnessOnAFurtherNode) {
  std::vector<NodeState> nodes = {Node("a"), Node("b"), Node("c")};
  nodes[2].pools[0].promised_bytes = 200 * kGiB;  // a witness needs no room
  auto placed = PlaceSegments(nodes, Asked(2));
  ASSERT_TRUE(placed.ok()) << placed.status();
  ASSERT_TRUE(placed->front().witness.has_value());
  EXPECT_EQ(*placed->front().witness, (Place{"c", "pool-c"}));
  EXPECT_EQ(placed->front().witness_absent, "");
  placed = PlaceSegments(nodes, Asked(1));
  ASSERT_TRUE(placed.ok()) << placed.status();
  EXPECT_FALSE(placed->front().witness.has_value());
}

TEST(PlaceTest, PutsTheWitnessIntoAZoneWithoutACopy) {
  std::vector<NodeState> nodes = {Node("a", 100 * kGiB, "x"), Node("b", 100 * kGiB, "y"),
                                  Node("c", 100 * kGiB, "y"), Node("d", 100 * kGiB, "z")};
  nodes[2].pools[0].promised_bytes = 150 * kGiB;
  nodes[3].pools[0].promised_bytes = 180 * kGiB;
  auto placed = PlaceSegments(nodes, Asked(2));
  ASSERT_TRUE(placed.ok()) << placed.status();
  EXPECT_EQ(placed->front().witness->node, "d");
}

TEST(PlaceTest, LeavesTheWitnessOutOnlyWhereNoFurtherNodeIsKnown) {
  std::vector<NodeState> nodes = {Node("a"), Node("b")};
  auto placed = PlaceSegments(nodes, Asked(2));
  ASSERT_TRUE(placed.ok()) << placed.status();
  EXPECT_FALSE(placed->front().witness.has_value());
  EXPECT_THAT(placed->front().witness_absent, HasSubstr("no further node for a witness"));
  nodes.push_back(Cordoned("c"));
  EXPECT_EQ(Refusal(nodes, Asked(2)),
            "2 copies need a further node for a witness (a vote without data), 3 in all, and 2 can "
            "be used; node c: cordoned");
}

TEST(PlaceTest, RefusesRequestsThatCannotBeMeant) {
  const std::vector<NodeState> nodes = {Node("a")};
  for (const Request& request :
       {Asked(0), Asked(6), Asked(1, 0), Request{{}, 1, {}}, Request{{4, 8}, 1, {}},
        Request{{8, 4, 4}, 1, {}}, Request{std::vector<std::uint64_t>(1025, 4), 1, {}}}) {
    EXPECT_EQ(PlaceSegments(nodes, request).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(PlaceOneTest, GoesToANodeAndZoneThatHasNoMember) {
  std::vector<NodeState> nodes = {Node("a", 100 * kGiB, "x"), Node("b", 100 * kGiB, "y"),
                                  Node("c", 100 * kGiB, "z"), Node("d", 100 * kGiB, "z"),
                                  Node("e", 100 * kGiB, "y")};
  OneRequest request{.segment_bytes = kGiB,
                     .members = {{.place = {"a", "pool-a"}},
                                 {.place = {"b", "pool-b"}, .in_sync = false, .leaving = true},
                                 {.place = {"c", "pool-c"}}},
                     .witness = false,
                     .constraints = {.zone_spread = true}};
  auto place = PlaceOne(nodes, request);
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->node, "e");  // in the zone of the one that leaves
  request.members[1].leaving = false;
  const absl::Status status = PlaceOne(nodes, request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("node b: has a member of the segment already"),
                    HasSubstr("node d: a copy is in its zone z already")));
}

TEST(PlaceOneTest, TakesTheNodeOfAWitnessThatLeaves) {
  const std::vector<NodeState> nodes = {Node("a"), Node("b"), Node("c")};
  OneRequest request{.segment_bytes = kGiB,
                     .members = {{.place = {"a", "pool-a"}},
                                 {.place = {"b", "pool-b"}},
                                 {.place = {"c", "pool-c"}, .witness = true, .leaving = true}},
                     .witness = false,
                     .constraints = {}};
  auto place = PlaceOne(nodes, request);
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->node, "c");
  request.members[2].leaving = false;
  EXPECT_FALSE(PlaceOne(nodes, request).ok());
}

TEST(PlaceOneTest, PlacesAWitnessWhereNoMemberIs) {
  std::vector<NodeState> nodes = {Node("a"), Node("b"), Node("c", kGiB), Cordoned("d")};
  OneRequest request{.segment_bytes = 50 * kGiB,
                     .members = {{.place = {"a", "pool-a"}}, {.place = {"b", "pool-b"}}},
                     .witness = true,
                     .constraints = {}};
  auto place = PlaceOne(nodes, request);
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(*place, (Place{"c", "pool-c"}));
  nodes.erase(nodes.begin() + 2);
  EXPECT_THAT(std::string(PlaceOne(nodes, request).status().message()),
              AllOf(HasSubstr("no node for a witness"), HasSubstr("node d: cordoned")));
}

TEST(ScoreTest, MovesACopyOnlyIfItsPlaceIsThenLessFullThanTheOldOneWas) {
  const Limits limits;
  PoolState full = Node("a").pools[0];
  PoolState empty = Node("b").pools[0];
  full.promised_bytes = 150 * kGiB;
  EXPECT_GT(MoveGain(full, empty, limits, 50 * kGiB), 0);
  EXPECT_LT(MoveGain(empty, full, limits, 50 * kGiB), 0);
  empty.promised_bytes = 100 * kGiB;
  EXPECT_EQ(MoveGain(full, empty, limits, 50 * kGiB), 0);
}

}  // namespace
}  // namespace keelson::provisioner::placement
