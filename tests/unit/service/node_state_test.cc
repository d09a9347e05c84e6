#include "blockstore/service/node_state.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/unit/service/temporary_directory.h"

namespace keelson::service {
namespace {

RememberedAttachment Attachment(std::uint64_t number) {
  RememberedAttachment attachment;
  attachment.read_only = true;
  attachment.restart = 4;
  v1::AttachTarget& target = attachment.target;
  target.set_volume_id(std::string(32, 'a'));
  target.set_attachment(number);
  target.set_segment_bytes(1 << 30);
  for (std::uint32_t i = 0; i < 2; ++i) {
    v1::SegmentHint* hint = target.add_segments();
    hint->set_segment(i);
    v1::Member* member = hint->add_members();
    member->set_pool_id(std::string(32, 'b'));
    member->set_replica_id(std::string(32, 'c'));
    member->set_address("[::1]:4711");
    member->set_witness(i == 1);
  }
  return attachment;
}

TEST(NodeStateTest, RemembersAttachmentsAcrossAStart) {
  const TemporaryDirectory directory;
  const RememberedAttachment attachment = Attachment(std::uint64_t{1} << 60);
  {
    NodeState state(directory.path());
    ASSERT_TRUE(state.AddPool("/pool").ok());
    ASSERT_TRUE(state.Remember("vol", attachment).ok());
    ASSERT_TRUE(state.Remember("other", Attachment(2)).ok());
    ASSERT_TRUE(state.Forget("other").ok());
    ASSERT_TRUE(state.Forget("never there").ok());
  }
  NodeState state(directory.path());
  ASSERT_TRUE(state.Load().ok());
  EXPECT_EQ(state.attachments().size(), 1u);
  const std::optional<RememberedAttachment> found = state.FindAttachment("vol");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->target.SerializeAsString(), attachment.target.SerializeAsString());
  EXPECT_EQ(found->restart, 4u);
  EXPECT_TRUE(found->read_only);
  EXPECT_EQ(state.pools(), std::vector<std::string>{"/pool"});
}

TEST(NodeStateTest, RemembersLimitsUntilThereAreNone) {
  const TemporaryDirectory directory;
  {
    NodeState state(directory.path());
    ASSERT_TRUE(state.SetQos("vol", {.iops = 5, .bytes_per_second = 1 << 20}).ok());
    ASSERT_TRUE(state.SetQos("other", {.iops = 7}).ok());
    ASSERT_TRUE(state.SetQos("other", {}).ok());
  }
  NodeState state(directory.path());
  ASSERT_TRUE(state.Load().ok());
  EXPECT_EQ(state.FindQos("vol"), (engine::QosLimits{5, 1 << 20}));
  EXPECT_EQ(state.FindQos("other"), engine::QosLimits());
  std::ofstream(directory.Child("pools.json")) << R"({"version": 2, "qos": {"vol": {"iops": -}}})";
  EXPECT_TRUE(absl::IsDataLoss(NodeState(directory.path()).Load()));
  std::ofstream(directory.Child("pools.json")) << R"({"version": 2, "qos": {"vol": {}}})";
  EXPECT_TRUE(absl::IsDataLoss(NodeState(directory.path()).Load()));
}

TEST(NodeStateTest, OnlyAVolumeWithADeviceNeedsThisVersion) {
  const TemporaryDirectory directory;
  NodeState state(directory.path());
  ASSERT_TRUE(state.SetLoop("vol", true).ok());
  auto text = [&directory] {
    std::ifstream file(directory.Child("pools.json"));
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_NE(text().find("\"version\": 3"), std::string::npos);
  {
    NodeState next(directory.path());
    ASSERT_TRUE(next.Load().ok());
    EXPECT_TRUE(next.HasLoop("vol"));
    EXPECT_EQ(next.loop_volumes(), std::set<std::string>{"vol"});
  }
  ASSERT_TRUE(state.SetLoop("vol", false).ok());
  EXPECT_NE(text().find("\"version\": 2"), std::string::npos);
  EXPECT_FALSE(state.HasLoop("vol"));
}

TEST(NodeStateTest, ReadsAFileFromBeforeThereWereAttachments) {
  const TemporaryDirectory directory;
  std::ofstream(directory.Child("pools.json")) << R"({"version": 1, "pools": ["/pool"]})";
  NodeState state(directory.path());
  ASSERT_TRUE(state.Load().ok());
  EXPECT_TRUE(state.attachments().empty());
  EXPECT_EQ(state.pools().size(), 1u);
}

TEST(NodeStateTest, RemembersClientListsAndVolumesOfOtherNodesForThisUserOnly) {
  const TemporaryDirectory directory;
  constexpr char kTicket[] = "000102030405060708090a0b0c0d0e0f";
  {
    NodeState state(directory.path());
    RememberedAttachment attachment;
    attachment.target.set_attachment(5);
    v1::VolumeClient& client = attachment.clients.emplace_back();
    client.set_node("b");
    client.set_ticket(kTicket);
    client.set_read_only(true);
    ASSERT_TRUE(state.Remember("vol", attachment).ok());
    v1::RemoteEngine remote;
    remote.set_address("10.0.0.1:9761");
    remote.set_ticket(kTicket);
    remote.set_attachment(7);
    ASSERT_TRUE(state.RememberRemote("other", remote).ok());
    ASSERT_TRUE(state.RememberRemote("gone", remote).ok());
    ASSERT_TRUE(state.ForgetRemote("gone").ok());
  }
  NodeState state(directory.path());
  ASSERT_TRUE(state.Load().ok());
  const std::optional<RememberedAttachment> attachment = state.FindAttachment("vol");
  ASSERT_TRUE(attachment && attachment->clients.size() == 1u);
  EXPECT_EQ(attachment->clients[0].node(), "b");
  EXPECT_EQ(attachment->clients[0].ticket(), kTicket);
  EXPECT_TRUE(attachment->clients[0].read_only());
  ASSERT_EQ(state.remotes().size(), 1u);
  EXPECT_EQ(state.FindRemote("other")->address(), "10.0.0.1:9761");
  EXPECT_EQ(state.FindRemote("other")->attachment(), 7u);
  EXPECT_FALSE(state.FindRemote("gone").has_value());
}

TEST(NodeStateTest, SaysWhenARemoteAttachmentCannotBeUnderstood) {
  const TemporaryDirectory directory;
  for (const char* remotes : {"3", R"({"vol": 3})", R"({"vol": {}})",
                              R"({"vol": {"address": "a", "ticket": "t", "attachment": "x"}})"}) {
    std::ofstream(directory.Child("pools.json"))
        << R"({"version": 3, "remote_attachments": )" << remotes << "}";
    NodeState state(directory.path());
    EXPECT_TRUE(absl::IsDataLoss(state.Load())) << remotes;
  }
}

TEST(NodeStateTest, SaysWhenAnAttachmentCannotBeUnderstood) {
  const TemporaryDirectory directory;
  for (const char* attachments :
       {"3", R"({"vol": 3})", R"({"vol": {}})",
        R"({"vol": {"read_only": false, "restart": "x", "volume_id": "", "attachment": 1,
                    "segment_bytes": 0, "segments": []}})"}) {
    std::ofstream(directory.Child("pools.json"))
        << R"({"version": 2, "attachments": )" << attachments << "}";
    NodeState state(directory.path());
    EXPECT_TRUE(absl::IsDataLoss(state.Load())) << attachments;
  }
}

}  // namespace
}  // namespace keelson::service
