// Publications: one engine where the volume is wanted, every other one fenced.

#include "tests/unit/provisioner/service/provisioner_fixture.h"

namespace keelson::provisioner {
namespace {

using PublishTest = ProvisionerFixture;
using Names = std::vector<std::string>;

TEST_F(PublishTest, AnEngineServesOnTheNodeAndIsGoneAfterwards) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  const auto published = Publish(id, "d");
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->publish_context().at("keelson.io/attachment"), "1");
  EXPECT_EQ(nodes_.EnginesOf(id), Names{"d"});
  EXPECT_TRUE(Publish(id, "d").ok());
  EXPECT_EQ(nodes_.EnginesOf(id), Names{"d"});
  EXPECT_TRUE(Unpublish(id, "d").ok());
  EXPECT_TRUE(Unpublish(id, "d").ok());
  EXPECT_TRUE(nodes_.EnginesOf(id).empty());
  EXPECT_EQ(Publish(id, "a")->publish_context().at("keelson.io/attachment"), "2");
}

TEST_F(PublishTest, RefusesWhatTheAccessModeDoesNotAllow) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  ASSERT_TRUE(Publish(id, "a").ok());
  const absl::Status elsewhere = Publish(id, "b").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(elsewhere)) << elsewhere;
  EXPECT_NE(std::string(elsewhere.message()).find("node a"), std::string::npos) << elsewhere;
  EXPECT_TRUE(absl::IsAlreadyExists(Publish(id, "a", Mount(), /*read_only=*/true).status()));
  EXPECT_TRUE(absl::IsNotFound(Publish(id, "nowhere").status()));
  EXPECT_TRUE(absl::IsNotFound(Publish("ks-00000000000000000000-0-00000000", "a").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Publish("", "a").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Publish(id, "").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(Delete(id)));
  EXPECT_EQ(nodes_.EnginesOf(id), Names{"a"});
}

TEST_F(PublishTest, ANodeTakesNoMoreVolumesThanItSaid) {
  api::RegisterNodeRequest request;
  request.set_name("a");
  request.set_address(FakeNodes::AddressOf("a"));
  request.set_volumes_max(1);
  ASSERT_TRUE(controller_->RegisterNode(request).ok());
  const std::string first = MustCreate(Ask("one")).id();
  const std::string second = MustCreate(Ask("two")).id();
  ASSERT_TRUE(Publish(first, "a").ok());
  EXPECT_TRUE(Publish(first, "a").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Publish(second, "a").status()));
}

TEST_F(PublishTest, AnUnpublishOfALostNodeReturnsAndTheNextEngineFencesIt) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  ASSERT_TRUE(Publish(id, "a").ok());
  nodes_.SetDown("a", true);
  const absl::Status early = Unpublish(id, "a");
  EXPECT_TRUE(early.ok()) << early;  // once it has been silent for long enough
  EXPECT_GE(clock_.SteadyNanos(), options_.lost_after_ns);
  ASSERT_TRUE(Publish(id, "b").ok());
  nodes_.SetDown("a", false);
  Pass(60);
  EXPECT_EQ(nodes_.EnginesOf(id), Names{"b"}) << "the old engine is told to go";
}

TEST_F(PublishTest, ANodeThatLostItsStateIsAttachedAgainUnderAHigherNumber) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  ASSERT_TRUE(Publish(id, "a").ok());
  absl::StatusOr<BlockStore> store = reconciler_->environment().StoreOf("a");
  ASSERT_TRUE(store.ok() && store->DetachVolume(id, BlockStore::Part::kAll).ok());
  Pass(60);
  EXPECT_EQ(nodes_.EnginesOf(id), Names{"a"});
  EXPECT_EQ(Publish(id, "a")->publish_context().at("keelson.io/attachment"), "2");
}

TEST_F(PublishTest, OldRecordsFindANumberAboveWhatTheReplicasPromised) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  ASSERT_TRUE(Publish(id, "a").ok());
  ASSERT_TRUE(Unpublish(id, "a").ok());
  ASSERT_TRUE(Publish(id, "a").ok());
  ASSERT_TRUE(Unpublish(id, "a").ok());
  // A backup from before both.
  const auto key = reconciler_->records().volumes().All().front().key;
  ASSERT_TRUE(reconciler_->records()
                  .volumes()
                  .Update(key,
                          [](rec::VolumeRecord* record) {
                            record->set_attachments(0);
                            return absl::OkStatus();
                          })
                  .ok());
  const auto published = Publish(id, "b");
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->publish_context().at("keelson.io/attachment"), "3");
}

TEST_F(PublishTest, APublicationTakesOverFromMaintenance) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  ASSERT_TRUE(Snapshot(id, "s").ok());
  const auto published = Publish(id, "d");
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(nodes_.EnginesOf(id), Names{"d"});
}

}  // namespace
}  // namespace keelson::provisioner
