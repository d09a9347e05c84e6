#include "provisioner/ctl/cluster_view.h"

#include <gtest/gtest.h>

#include "provisioner/ctl/cluster.h"
#include "provisioner/ctl/placement.h"

namespace keelson::ctl {
namespace {

NodeAnswer Node(const std::string& name, std::uint64_t free_bytes = 100) {
  NodeAnswer node;
  node.name = name;
  node.node.set_data_address("127.0.0.1:" + name);
  v1::Pool* pool = node.node.add_pools();
  pool->set_id("pool-" + name);
  pool->set_incarnation("incarnation-" + name);
  pool->set_free_bytes(free_bytes);
  return node;
}

NodeAnswer Silent(const std::string& name) {
  NodeAnswer node;
  node.name = name;
  node.status = absl::UnavailableError("no answer");
  return node;
}

v1::Configuration Version(std::uint64_t attachment, std::uint32_t restart, std::uint64_t counter) {
  v1::Configuration configuration;
  configuration.set_attachment(attachment);
  configuration.set_restart(restart);
  configuration.set_counter(counter);
  configuration.set_size_bytes(1 << 20);
  for (const char* name : {"a", "b", "c"}) {
    v1::Member* member = configuration.add_members();
    member->set_pool_id(std::string("pool-") + name);
    member->set_replica_id(std::string("replica-") + name);
    member->set_state(v1::MEMBER_STATE_IN_SYNC);
  }
  return configuration;
}

v1::Replica* AddReplica(NodeAnswer* node, const v1::Configuration& configuration,
                        std::uint64_t promised) {
  v1::Replica& replica = node->replicas.emplace_back();
  replica.set_replica_id("replica-" + node->name);
  replica.set_pool_id("pool-" + node->name);
  replica.set_volume_id("id");
  replica.set_volume("vol");
  replica.set_promised_attachment(promised);
  *replica.mutable_configuration() = configuration;
  return &replica;
}

TEST(ClusterViewTest, TakesTheHighestConfigurationAndTheHighestPromise) {
  NodeAnswer a = Node("a"), b = Node("b"), c = Node("c");
  AddReplica(&a, Version(3, 0, 9), 5);
  AddReplica(&b, Version(3, 1, 2), 4);
  AddReplica(&c, Version(2, 7, 99), 3);
  const absl::StatusOr<VolumeView> view = FindVolume({a, b, c}, "vol");
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->segments[0].configuration.attachment(), 3u);
  EXPECT_EQ(view->segments[0].configuration.restart(), 1u);
  EXPECT_EQ(view->promised, 5u);
  EXPECT_EQ(view->segments[0].members.size(), 3u);
  EXPECT_EQ(view->segments[0].OnNode("c")->member.replica_id(), "replica-c");
  EXPECT_TRUE(CheckReachable(*view).ok());
  EXPECT_TRUE(CheckUnused(*view).ok());
}

TEST(ClusterViewTest, RefusesAPoolThatTwoNodesShow) {
  NodeAnswer a = Node("a"), b = Node("b"), copy = Node("b");
  AddReplica(&a, Version(3, 0, 9), 3);
  AddReplica(&b, Version(3, 0, 9), 3);
  AddReplica(&copy, Version(2, 0, 1), 2);
  copy.name = "d";
  const absl::Status refused = FindVolume({a, b, copy}, "vol").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  const std::string message(refused.message());
  EXPECT_NE(message.find("nodes b and d show the same pool pool-b"), std::string::npos) << message;
  EXPECT_TRUE(FindVolume({a, b}, "vol").ok());
  // Also when the copy is from before the volume was made.
  copy.replicas.clear();
  EXPECT_FALSE(FindVolume({a, b, copy}, "vol").ok());
}

TEST(ClusterViewTest, ComparesVersionsInTheOrderOfTheProtocol) {
  EXPECT_TRUE(Older(Version(1, 9, 9), Version(2, 0, 1)));
  EXPECT_TRUE(Older(Version(1, 1, 9), Version(1, 2, 1)));
  EXPECT_TRUE(Older(Version(1, 1, 1), Version(1, 1, 2)));
  EXPECT_FALSE(Older(Version(1, 1, 2), Version(1, 1, 2)));
  v1::Configuration low = Version(1, 1, 5), high = Version(1, 1, 2);
  low.set_engine_id("0a");
  high.set_engine_id("b0");
  EXPECT_TRUE(Older(low, high)) << "the engine's id comes before the counter";
}

TEST(ClusterViewTest, NamesTheNodesWithoutWhichThereIsNoMajority) {
  NodeAnswer a = Node("a");
  AddReplica(&a, Version(1, 0, 1), 1);
  const absl::StatusOr<VolumeView> view = FindVolume({a, Silent("b"), Silent("c")}, "vol");
  ASSERT_TRUE(view.ok());
  const absl::Status status = CheckReachable(*view);
  EXPECT_TRUE(absl::IsUnavailable(status));
  const std::string message(status.message());
  EXPECT_NE(message.find("majority"), std::string::npos) << message;
  EXPECT_NE(message.find("b and c"), std::string::npos) << message;
  EXPECT_NE(Explain(*view).find("cannot be attached"), std::string::npos);
}

TEST(ClusterViewTest, DoesNotCountAReplicaWithoutARecordAsAVote) {
  NodeAnswer a = Node("a"), b = Node("b"), c = Node("c");
  AddReplica(&a, Version(1, 0, 1), 1);
  AddReplica(&b, Version(1, 0, 1), 1)->clear_configuration();
  AddReplica(&c, Version(1, 0, 1), 1)->clear_configuration();
  EXPECT_FALSE(CheckReachable(*FindVolume({a, b, c}, "vol")).ok());
}

TEST(ClusterViewTest, NeedsAMemberThatHasEverything) {
  v1::Configuration configuration = Version(1, 0, 1);
  configuration.mutable_members(1)->set_state(v1::MEMBER_STATE_OUT);
  configuration.mutable_members(2)->set_state(v1::MEMBER_STATE_OUT);
  NodeAnswer b = Node("b"), c = Node("c");
  AddReplica(&b, configuration, 1);
  AddReplica(&c, configuration, 1);
  const absl::Status status = CheckReachable(*FindVolume({Silent("a"), b, c}, "vol"));
  EXPECT_NE(std::string(status.message()).find("has everything"), std::string::npos) << status;
}

TEST(ClusterViewTest, SaysThatAnotherEngineUsesTheVolume) {
  NodeAnswer a = Node("a"), b = Node("b");
  AddReplica(&a, Version(1, 0, 1), 1);
  AddReplica(&b, Version(1, 0, 1), 1)->set_in_session(true);
  const absl::Status status = CheckUnused(*FindVolume({a, b, Silent("c")}, "vol"));
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_NE(std::string(status.message()).find("on b"), std::string::npos) << status;
}

TEST(ClusterViewTest, TakesTheLaterOfTwoThatSayTheyServe) {
  NodeAnswer a = Node("a"), b = Node("b");
  for (NodeAnswer* node : {&a, &b}) {
    AddReplica(node, Version(1, 0, 1), 1);
    node->volume.emplace();
    node->volume->set_volume_id("id");
    node->volume->set_attached(true);
    node->volume->set_attachment(node == &b ? 2 : 1);
  }
  EXPECT_EQ(FindVolume({a, b}, "vol")->serving_node, "b");
  EXPECT_EQ(FindVolume({b, a}, "vol")->serving_node, "b");
}

TEST(ClusterViewTest, RefusesToGuessBetweenTwoVolumesOfOneName) {
  NodeAnswer a = Node("a"), b = Node("b");
  AddReplica(&a, Version(1, 0, 1), 1);
  AddReplica(&b, Version(1, 0, 1), 1)->set_volume_id("another");
  EXPECT_TRUE(absl::IsFailedPrecondition(FindVolume({a, b}, "vol").status()));
  EXPECT_TRUE(absl::IsNotFound(FindVolume({a, b}, "none").status()));
}

// --- An operator went on from one copy (R14) ---

v1::Configuration ForcedTo(const char* node, std::uint64_t attachment) {
  v1::Configuration configuration = Version(attachment, 0, 1);
  configuration.set_forced(true);
  configuration.set_forced_attachment(attachment);
  configuration.clear_members();
  v1::Member* member = configuration.add_members();
  member->set_pool_id(std::string("pool-") + node);
  member->set_replica_id(std::string("replica-") + node);
  member->set_state(v1::MEMBER_STATE_IN_SYNC);
  return configuration;
}

TEST(ClusterViewTest, TheHistoryThatAnOperatorMadeIsTheVolume) {
  NodeAnswer a = Node("a"), b = Node("b"), c = Node("c");
  AddReplica(&a, ForcedTo("a", 4), 4);
  AddReplica(&b, Version(3, 0, 9), 3)->set_succeeded_by_attachment(4);
  AddReplica(&c, Version(5, 0, 9), 5);
  const VolumeView view = *FindVolume({a, b, c}, "vol");
  EXPECT_EQ(view.segments[0].members.size(), 1u)
      << "also where a copy left behind went on by itself";
  ASSERT_EQ(view.segments[0].leftovers.size(), 2u);
  for (const PlacedMember& left : view.segments[0].leftovers) {
    EXPECT_TRUE(LeftBehind(view.segments[0], *left.replica)) << left.node;
    EXPECT_EQ(Quarantined(*left.replica), left.node == "b") << "only that one has been told";
  }
  EXPECT_TRUE(CheckReachable(view).ok());
}

TEST(ClusterViewTest, WhatWasLeftBehindIsNotAttachedByItself) {
  NodeAnswer b = Node("b"), c = Node("c");
  AddReplica(&b, Version(3, 0, 9), 3)->set_succeeded_by_attachment(4);
  AddReplica(&c, Version(3, 0, 9), 3);
  const absl::Status status = CheckReachable(*FindVolume({Silent("a"), b, c}, "vol"));
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_NE(std::string(status.message()).find("an operator went on"), std::string::npos) << status;
}

TEST(ClusterViewTest, SaysWhatGoingOnFromOneCopyMayLose) {
  v1::Configuration configuration = Version(1, 0, 1);
  configuration.mutable_members(1)->set_state(v1::MEMBER_STATE_OUT);
  NodeAnswer a = Node("a"), b = Node("b");
  AddReplica(&a, configuration, 1);
  AddReplica(&b, configuration, 1);
  const VolumeView view = *FindVolume({a, b, Silent("c")}, "vol");
  const std::string from_a =
      ExplainForce(view, view.segments[0], *view.segments[0].Find("replica-a"));
  EXPECT_NE(from_a.find("it had everything by the newest record"), std::string::npos) << from_a;
  EXPECT_NE(from_a.find("no answer from node c"), std::string::npos) << from_a;
  const std::string from_b =
      ExplainForce(view, view.segments[0], *view.segments[0].Find("replica-b"));
  EXPECT_NE(from_b.find("it missed writes"), std::string::npos) << from_b;
}

// --- Several segments ---

void AddSegment(NodeAnswer* node, std::uint32_t segment, std::uint64_t size_bytes) {
  v1::Configuration configuration = Version(1, 0, 1);
  configuration.set_segment_count(2);
  configuration.set_segment_bytes(8 << 20);
  configuration.set_size_bytes(size_bytes);
  v1::Replica* replica = AddReplica(node, configuration, 1);
  replica->set_segment(segment);
}

TEST(ClusterViewTest, PutsTheSegmentsOfAVolumeTogether) {
  NodeAnswer a = Node("a"), b = Node("b"), c = Node("c");
  for (NodeAnswer* node : {&a, &b}) {
    AddSegment(node, 0, 8 << 20);
    AddSegment(node, 1, 4 << 20);
  }
  AddSegment(&c, 0, 8 << 20);
  AddSegment(&a, 2, 4 << 20);
  const VolumeView view = *FindVolume({a, b, c}, "vol");
  ASSERT_EQ(view.segments.size(), 2u) << "as many as segment 0 says";
  EXPECT_EQ(view.size_bytes(), 12u << 20);
  EXPECT_EQ(view.copies(), 3u);
  EXPECT_EQ(view.strays.size(), 1u);
  EXPECT_TRUE(CheckReachable(view).ok());
}

TEST(ClusterViewTest, NamesTheSegmentThatCannotBeAttached) {
  NodeAnswer a = Node("a"), b = Node("b");
  AddSegment(&a, 0, 8 << 20);
  AddSegment(&b, 0, 8 << 20);
  AddSegment(&a, 1, 4 << 20);
  absl::Status status = CheckReachable(*FindVolume({a, b, Silent("c")}, "vol"));
  EXPECT_NE(std::string(status.message()).find("segment 1: only 1 of its 3"), std::string::npos)
      << status;
  a.replicas.pop_back();
  status = CheckReachable(*FindVolume({a, b, Silent("c")}, "vol"));
  EXPECT_NE(std::string(status.message()).find("segment 1: no replica"), std::string::npos)
      << status;
}

TEST(PlacementTest, SplitsAVolumeThatIsLargerThanAPool) {
  Placement placement;
  placement.copies = {Place{"a", "p", "", "", 90 << 20, 100 << 20},
                      Place{"b", "q", "", "", 70 << 20, 80 << 20}};
  EXPECT_EQ(ChooseSegmentBytes(placement, 80 << 20), 0u);
  EXPECT_EQ(ChooseSegmentBytes(placement, 81 << 20), 16u << 20);
  EXPECT_EQ(SegmentSizes(40 << 20, 16 << 20),
            (std::vector<std::uint64_t>{16 << 20, 16 << 20, 8 << 20}));
  EXPECT_EQ(SegmentSizes(32 << 20, 16 << 20), (std::vector<std::uint64_t>{16 << 20, 16 << 20}));
  EXPECT_EQ(SegmentSizes(32 << 20, 0), (std::vector<std::uint64_t>{32 << 20}));
}

TEST(PlacementTest, SpreadsSegmentsOverTheNodesByWhatIsLeft) {
  const absl::StatusOr<std::vector<Placement>> placements =
      PlaceSegments({Node("a", 40), Node("b", 30), Node("c", 20)}, 1, {15, 15, 15});
  ASSERT_TRUE(placements.ok()) << placements.status();
  EXPECT_EQ((*placements)[0].copies[0].node, "a");
  EXPECT_EQ((*placements)[1].copies[0].node, "b");
  EXPECT_EQ((*placements)[2].copies[0].node, "a");
}

TEST(PlacementTest, TakesDistinctNodesWithTheMostSpace) {
  const absl::StatusOr<Placement> placement =
      ChoosePlaces({Node("a", 10), Node("b", 40), Node("c", 30), Node("d", 20)}, 3);
  ASSERT_TRUE(placement.ok()) << placement.status();
  ASSERT_EQ(placement->copies.size(), 3u);
  EXPECT_EQ(placement->copies[0].node, "b");
  EXPECT_EQ(placement->copies[1].node, "c");
  EXPECT_EQ(placement->copies[2].node, "d");
  EXPECT_EQ(placement->copies[0].incarnation, "incarnation-b");
  EXPECT_FALSE(placement->witness.has_value());
}

TEST(PlacementTest, GivesAnEvenNumberOfCopiesAWitnessOnAFurtherNode) {
  const absl::StatusOr<Placement> placement =
      ChoosePlaces({Node("a", 10), Node("b", 20), Node("c", 30)}, 2);
  ASSERT_TRUE(placement.ok()) << placement.status();
  ASSERT_TRUE(placement->witness.has_value());
  EXPECT_EQ(placement->witness->node, "a");
}

TEST(PlacementTest, SaysWhatIsWrongWithTheNodesThatCannotTakeACopy) {
  NodeAnswer no_port = Node("b");
  no_port.node.clear_data_address();
  NodeAnswer no_pool = Node("c");
  no_pool.node.mutable_pools(0)->set_error("failed");
  const absl::Status status = ChoosePlaces({Node("a"), no_port, no_pool, Silent("d")}, 3).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  for (const char* part :
       {"need 3 nodes", "b has no data port", "c has no healthy pool", "d does not answer"}) {
    EXPECT_NE(std::string(status.message()).find(part), std::string::npos) << status;
  }
  EXPECT_TRUE(ChoosePlaces({no_port}, 1).ok()) << "one copy needs no network";
}

TEST(PlacementTest, PutsAWitnessWhereTheVolumeIsNot) {
  NodeAnswer a = Node("a"), b = Node("b"), c = Node("c"), d = Node("d", 5), e = Node("e", 7);
  AddReplica(&a, Version(1, 0, 1), 1);
  const VolumeView view = *FindVolume({a, b, c, d, e}, "vol");
  EXPECT_EQ(WitnessPlace({a, b, c, d, e}, view.segments[0], "e")->node, "d");
  EXPECT_FALSE(WitnessPlace({a, b, c}, view.segments[0], "").has_value());
}

TEST(ClusterTest, ReadsNodes) {
  const auto nodes = ParseNodes({"a=/run/a.sock", "b=/run/b=c.sock"});
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  EXPECT_EQ(nodes->at("b"), "/run/b=c.sock");
  for (const char* wrong : {"a", "=x", "a="}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseNodes({wrong}).status())) << wrong;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(ParseNodes({"a=x", "a=y"}).status()));
}

}  // namespace
}  // namespace keelson::ctl
