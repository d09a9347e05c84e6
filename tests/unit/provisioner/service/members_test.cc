// Healing, draining, locality, another number of copies.

#include "tests/unit/provisioner/service/provisioner_fixture.h"

namespace keelson::provisioner {
namespace {

using MembersTest = ProvisionerFixture;

TEST_F(MembersTest, ACopyThatIsAwayForTooLongIsReplaced) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  const std::string away = CopiesOf(id).front();
  ASSERT_TRUE(Publish(id, CopiesOf(id).back()).ok());
  nodes_.SetDown(away, true);
  Pass(300);
  EXPECT_EQ(CopiesOf(id).front(), away) << "it may come back";
  Pass(400);
  const std::vector<std::string> copies = CopiesOf(id);
  EXPECT_EQ(copies.size(), 3u);
  EXPECT_EQ(std::count(copies.begin(), copies.end(), away), 0);
  nodes_.SetDown(away, false);
  Pass(100);
  EXPECT_EQ(nodes_.ReplicaCount(away), 0u) << "what it had is deleted when it answers";
  EXPECT_EQ(nodes_.ReplicaCount(), 3u);
}

TEST_F(MembersTest, NothingIsReplacedWhenTheNodeComesBackInTime) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  const std::vector<std::string> copies = CopiesOf(id);
  nodes_.SetDown(copies.front(), true);
  Pass(500);
  nodes_.SetDown(copies.front(), false);
  Pass(500);
  EXPECT_EQ(CopiesOf(id), copies);
  nodes_.SetDown(copies.front(), true);
  Pass(500);
  EXPECT_EQ(CopiesOf(id), copies) << "the time it was away before does not count";
}

TEST_F(MembersTest, TheOldCopyLeavesOnlyWhenTheNewOneHasEverything) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  ASSERT_TRUE(Publish(id, "d").ok());
  nodes_.SetFilling(false);
  api::SetNodeIntentRequest drain;
  drain.set_node(CopiesOf(id).front());
  drain.set_intent("draining");
  ASSERT_TRUE(controller_->SetNodeIntent(drain).ok());
  Pass(120);
  EXPECT_EQ(CopiesOf(id).size(), 4u);
  nodes_.SetFilling(true);
  Pass(120);
  const std::vector<std::string> copies = CopiesOf(id);
  EXPECT_EQ(copies.size(), 3u);
  EXPECT_EQ(std::count(copies.begin(), copies.end(), drain.node()), 0);
  EXPECT_EQ(nodes_.ReplicaCount(drain.node()), 0u);
}

TEST_F(MembersTest, AVolumeThatNobodyUsesIsDrainedToo) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  api::SetNodeIntentRequest drain;
  drain.set_node(CopiesOf(id).front());
  drain.set_intent("draining");
  ASSERT_TRUE(controller_->SetNodeIntent(drain).ok());
  Pass(120);
  EXPECT_EQ(nodes_.ReplicaCount(drain.node()), 0u);
  EXPECT_TRUE(nodes_.EnginesOf(id).empty());
  api::RemoveNodeRequest remove;
  remove.set_node(drain.node());
  EXPECT_TRUE(controller_->RemoveNode(remove).ok());
}

TEST_F(MembersTest, ANodeWithCopiesIsNotForgotten) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  api::RemoveNodeRequest remove;
  remove.set_node(CopiesOf(id).front());
  EXPECT_TRUE(absl::IsFailedPrecondition(controller_->RemoveNode(remove)));
}

TEST_F(MembersTest, ACordonedNodeTakesNothingNewAndKeepsWhatItHas) {
  api::SetNodeIntentRequest cordon;
  cordon.set_node("a");
  cordon.set_intent("cordoned");
  ASSERT_TRUE(controller_->SetNodeIntent(cordon).ok());
  const std::string id = MustCreate(Ask("pvc-1")).id();
  EXPECT_EQ(CopiesOf(id), (std::vector<std::string>{"b", "c", "d"}));
  cordon.set_node("b");
  ASSERT_TRUE(controller_->SetNodeIntent(cordon).ok());
  Pass(1000);
  EXPECT_EQ(CopiesOf(id), (std::vector<std::string>{"b", "c", "d"}));
  EXPECT_TRUE(absl::IsResourceExhausted(controller_->CreateVolume(Ask("pvc-2")).status()));
}

TEST_F(MembersTest, TheNumberOfCopiesChangesLive) {
  const std::string id = MustCreate(Ask("pvc-1", kGiB, {{"replicas", "1"}})).id();
  ASSERT_TRUE(Publish(id, CopiesOf(id).front()).ok());
  api::ModifyVolumeRequest modify;
  modify.set_volume_id(id);
  (*modify.mutable_mutable_parameters())["replicas"] = "3";
  ASSERT_TRUE(controller_->ModifyVolume(modify).ok());
  Pass(120);
  EXPECT_EQ(CopiesOf(id).size(), 3u);
  EXPECT_EQ(nodes_.ReplicaCount(), 3u) << "a witness on the way is gone at the end";
  EXPECT_EQ(nodes_.MinInSyncOf(id), 2u);
  (*modify.mutable_mutable_parameters())["replicas"] = "1";
  ASSERT_TRUE(controller_->ModifyVolume(modify).ok());
  Pass(120);
  EXPECT_EQ(CopiesOf(id).size(), 1u);
  EXPECT_EQ(nodes_.ReplicaCount(), 1u);
  EXPECT_EQ(nodes_.MinInSyncOf(id), 1u);
}

TEST_F(MembersTest, TwoCopiesHaveAWitness) {
  const std::string id = MustCreate(Ask("pvc-1", kGiB, {{"replicas", "2"}})).id();
  EXPECT_EQ(CopiesOf(id).size(), 2u);
  EXPECT_EQ(nodes_.ReplicaCount(), 3u);
}

TEST_F(MembersTest, ACopyFollowsTheVolumeToTheNodeThatUsesIt) {
  const std::string id = MustCreate(Ask("pvc-1", kGiB, {{"dataLocality", "bestEffort"}})).id();
  std::string other;
  for (const char* const name : {"a", "b", "c", "d"}) {
    const std::vector<std::string> copies = CopiesOf(id);
    if (std::count(copies.begin(), copies.end(), name) == 0) other = name;
  }
  ASSERT_TRUE(Publish(id, other).ok());
  Pass(120);
  const std::vector<std::string> copies = CopiesOf(id);
  EXPECT_EQ(copies.size(), 3u);
  EXPECT_EQ(std::count(copies.begin(), copies.end(), other), 1);
}

TEST_F(MembersTest, WhySaysWhatIsMissing) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  ASSERT_TRUE(Publish(id, CopiesOf(id).back()).ok());
  nodes_.SetDown(CopiesOf(id).front(), true);
  Pass(60);
  api::WhyRequest request;
  request.set_what("pvc-1");
  const auto why = controller_->Why(request);
  ASSERT_TRUE(why.ok()) << why.status();
  EXPECT_NE(why->DebugString().find("2 of 3 copies have everything"), std::string::npos)
      << why->DebugString();
  request.set_what("nothing");
  EXPECT_TRUE(absl::IsNotFound(controller_->Why(request).status()));
}

}  // namespace
}  // namespace keelson::provisioner
