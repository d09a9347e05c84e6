// Volumes on several nodes: one engine, which every node reaches as a client on its list (R16).

#include "tests/unit/provisioner/service/provisioner_fixture.h"

namespace keelson::provisioner {
namespace {

using Names = std::vector<std::string>;

class ShareTest : public ProvisionerFixture {
 protected:
  std::string MustCreateBlock(const std::string& name) {
    api::CreateVolumeRequest request = Ask(name);
    *request.mutable_capabilities(0) = Block(api::MULTI_NODE_MULTI_WRITER);
    return MustCreate(request).id();
  }
  absl::Status Share(const std::string& id, const std::string& node, bool read_only = false) {
    return Publish(id, node, Block(api::MULTI_NODE_MULTI_WRITER), read_only).status();
  }
  std::string EngineOf(const std::string& id) {
    const Names engines = nodes_.EnginesOf(id);
    EXPECT_EQ(engines.size(), 1u);
    return engines.empty() ? "" : engines[0];
  }
  std::string AnyBut(const std::string& node) { return node == "a" ? "b" : "a"; }
};

TEST_F(ShareTest, ManyNodesUseOneEngineAndEachLeavesForItself) {
  const std::string id = MustCreateBlock("pvc-1");
  for (const char* const node : {"a", "b", "d"}) {
    const absl::Status shared = Share(id, node);
    ASSERT_TRUE(shared.ok()) << shared;
  }
  EXPECT_EQ(nodes_.ClientsOf(id), (Names{"a", "b", "d"}));
  const std::string engine = EngineOf(id);
  EXPECT_TRUE(Share(id, "b").ok()) << "asked twice";
  EXPECT_TRUE(Unpublish(id, "b").ok());
  EXPECT_EQ(nodes_.ClientsOf(id), (Names{"a", "d"}));
  EXPECT_EQ(nodes_.ShownOn(id), (Names{"a", "d"})) << "it is shown no more where it left";
  EXPECT_EQ(EngineOf(id), engine) << "whoever leaves leaves the others alone";
  EXPECT_TRUE(Unpublish(id, "").ok());
  EXPECT_TRUE(nodes_.ShownOn(id).empty());
  Pass(60);
  EXPECT_TRUE(nodes_.EnginesOf(id).empty());
  EXPECT_TRUE(Delete(id).ok());
}

TEST_F(ShareTest, AClientIsServedUntilItsDeviceIsFree) {
  const std::string id = MustCreateBlock("pvc-1");
  ASSERT_TRUE(Share(id, "a").ok() && Share(id, "b").ok());
  nodes_.SetInUse("b", id, true);
  EXPECT_FALSE(Unpublish(id, "b").ok());
  EXPECT_EQ(nodes_.ClientsOf(id), (Names{"a", "b"})) << "what uses it loses nothing";
  nodes_.SetInUse("b", id, false);
  EXPECT_TRUE(Unpublish(id, "b").ok());
  EXPECT_EQ(nodes_.ClientsOf(id), Names{"a"});
}

TEST_F(ShareTest, WhenTheEnginesNodeIsLostAnotherServesTheClients) {
  const std::string id = MustCreateBlock("pvc-1");
  for (const char* const node : {"a", "b", "c", "d"}) ASSERT_TRUE(Share(id, node).ok());
  const std::string first = EngineOf(id);
  nodes_.SetDown(first, true);
  Pass(60);
  Names others = {"a", "b", "c", "d"};
  std::erase(others, first);
  EXPECT_EQ(nodes_.ClientsOf(id), others);
  EXPECT_NE(EngineOf(id), first);
  nodes_.SetDown(first, false);
  Pass(120);
  EXPECT_EQ(nodes_.ClientsOf(id), (Names{"a", "b", "c", "d"})) << "it is a client again";
  EXPECT_NE(EngineOf(id), first);
}

TEST_F(ShareTest, AnUnpublishOfALostClientReturnsAndItIsToldWhenItAnswers) {
  const std::string id = MustCreateBlock("pvc-1");
  ASSERT_TRUE(Share(id, "a").ok() && Share(id, "b").ok());
  const std::string client = AnyBut(EngineOf(id));
  nodes_.SetDown(client, true);
  const absl::Status unpublished = Unpublish(id, client);
  EXPECT_TRUE(unpublished.ok()) << unpublished;
  nodes_.SetDown(client, false);
  EXPECT_TRUE(nodes_.ClientsOf(id).size() == 1) << "its ticket is good no more";
  Pass(120);
  EXPECT_EQ(nodes_.ShownOn(id).size(), 1u) << "it was told";
}

TEST_F(ShareTest, TheEngineLeavesANodeThatIsDrainedBeneathItsClients) {
  const std::string id = MustCreateBlock("pvc-1");
  ASSERT_TRUE(Share(id, "a").ok() && Share(id, "b").ok());
  const std::string first = EngineOf(id);
  for (const char* const node : {"a", "b"}) nodes_.SetInUse(node, id, true);
  api::SetNodeIntentRequest request;
  request.set_node(first);
  request.set_intent("draining");
  ASSERT_TRUE(controller_->SetNodeIntent(request).ok());
  Pass(120);
  EXPECT_NE(EngineOf(id), first);
  EXPECT_EQ(nodes_.ClientsOf(id), (Names{"a", "b"}));
}

TEST_F(ShareTest, OneNodeWritesAndOthersRead) {
  const std::string id = MustCreateBlock("pvc-1");
  const api::Capability mode = Block(api::MULTI_NODE_SINGLE_WRITER);
  ASSERT_TRUE(Publish(id, "a", mode).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Publish(id, "b", mode).status()));
  EXPECT_TRUE(Publish(id, "b", mode, /*read_only=*/true).ok());
  EXPECT_TRUE(Publish(id, "c", mode, /*read_only=*/true).ok());
  const absl::Status alone = Publish(id, "d", Block(api::SINGLE_NODE_WRITER)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(alone)) << alone;
  EXPECT_TRUE(absl::IsFailedPrecondition(Share(id, "d"))) << "it would be a second writer";
  EXPECT_EQ(nodes_.ClientsOf(id), (Names{"a", "b", "c"}));
}

TEST_F(ShareTest, ReadersMakeRoomForAWriterWithoutLosingTheVolume) {
  const std::string id = MustCreateBlock("pvc-1");
  ASSERT_TRUE(Share(id, "a", /*read_only=*/true).ok());
  ASSERT_TRUE(Share(id, "b", /*read_only=*/true).ok());
  for (const char* const node : {"a", "b"}) nodes_.SetInUse(node, id, true);
  EXPECT_TRUE(Share(id, "c").ok());
  EXPECT_EQ(nodes_.ClientsOf(id), (Names{"a", "b", "c"}));
}

TEST_F(ShareTest, AFileSystemIsReadByManyAndWrittenByNone) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  for (const char* const node : {"a", "b", "c"}) {
    EXPECT_TRUE(Publish(id, node, Mount(api::MULTI_NODE_READER_ONLY)).ok()) << node;
  }
  EXPECT_EQ(nodes_.ClientsOf(id), (Names{"a", "b", "c"}));
  EXPECT_TRUE(
      absl::IsInvalidArgument(Publish(id, "d", Mount(api::MULTI_NODE_MULTI_WRITER)).status()));
}

TEST_F(ShareTest, ClientsLearnOfGrowth) {
  const std::string id = MustCreateBlock("pvc-1");
  ASSERT_TRUE(Share(id, "a").ok() && Share(id, "b").ok());
  api::ExpandVolumeRequest request;
  request.set_volume_id(id);
  request.set_required_bytes(2 * kGiB);
  ASSERT_TRUE(controller_->ExpandVolume(request).ok());
  EXPECT_EQ(nodes_.ShownBytes(id, "a"), 2 * kGiB);
  EXPECT_EQ(nodes_.ShownBytes(id, "b"), 2 * kGiB);
}

TEST_F(ShareTest, ANodeThatForgotWhatItShowsShowsItAgain) {
  const std::string id = MustCreateBlock("pvc-1");
  ASSERT_TRUE(Share(id, "a").ok() && Share(id, "b").ok());
  const std::string client = AnyBut(EngineOf(id));
  const absl::StatusOr<BlockStore> store = reconciler_->environment().StoreOf(client);
  ASSERT_TRUE(store.ok() && store->DetachVolume(id, BlockStore::Part::kClient).ok());
  Pass(120);
  EXPECT_EQ(nodes_.ClientsOf(id), (Names{"a", "b"}));
}

TEST_F(ShareTest, ANodeThatOnlyUsesAVolumeIsNotForgotten) {
  const std::string id = MustCreateBlock("pvc-1");
  for (const char* const node : {"a", "b", "c", "d"}) ASSERT_TRUE(Share(id, node).ok());
  const Names copies = CopiesOf(id);
  api::RemoveNodeRequest request;
  for (const char* const node : {"a", "b", "c", "d"}) {
    if (std::find(copies.begin(), copies.end(), node) == copies.end()) request.set_node(node);
  }
  const absl::Status refused = controller_->RemoveNode(request);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_TRUE(Unpublish(id, request.node()).ok());
  EXPECT_TRUE(controller_->RemoveNode(request).ok());
}

TEST_F(ShareTest, AdoptedRecordsServeTheSameNodes) {
  const std::string id = MustCreateBlock("pvc-1");
  ASSERT_TRUE(Share(id, "a").ok() && Share(id, "b", /*read_only=*/true).ok());
  for (const char* const node : {"a", "b"}) nodes_.SetInUse(node, id, true);
  const std::string engine = EngineOf(id);
  const auto row = reconciler_->records().volumes().All().front();
  ASSERT_TRUE(reconciler_->records().volumes().Remove(row.key, row.revision).ok());
  const absl::StatusOr<api::AdoptResponse> adopted = controller_->Adopt({});
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  ASSERT_EQ(adopted->adopted_size(), 1) << adopted->DebugString();
  Pass(120);
  EXPECT_EQ(nodes_.ClientsOf(id), (Names{"a", "b"}));
  EXPECT_EQ(EngineOf(id), engine);
  EXPECT_TRUE(Share(id, "a").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Share(id, "a", /*read_only=*/true)));
  for (const char* const node : {"a", "b"}) nodes_.SetInUse(node, id, false);
  EXPECT_TRUE(Unpublish(id, "a").ok());
  EXPECT_EQ(nodes_.ClientsOf(id), Names{"b"});
}

}  // namespace
}  // namespace keelson::provisioner
