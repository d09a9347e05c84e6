#include <gmock/gmock.h>

#include "tests/unit/csi/csi_fixture.h"

namespace keelson::csi {
namespace {

using grpc::StatusCode;

using NodePublishTest = CsiTest;

constexpr Mode::Mode kShared = Mode::SINGLE_NODE_MULTI_WRITER;

// The specification's table: what a second NodePublishVolume answers, by target path and arguments.
struct SecondPublish {
  Mode::Mode mode;
  bool block;
  StatusCode other_target;
};

class SecondPublishTest : public CsiTest, public ::testing::WithParamInterface<SecondPublish> {};

TEST_P(SecondPublishTest, FollowsTheTable) {
  const SecondPublish& row = GetParam();
  const auto capability = row.block ? Block(row.mode) : Mount(row.mode);
  const std::string id = Attach("a", capability);
  const bool reader =
      row.mode == Mode::SINGLE_NODE_READER_ONLY || row.mode == Mode::MULTI_NODE_READER_ONLY;
  DiskOf(id).device.read_only = reader;
  if (!row.block) DiskOf(id).content = {"ext4", kGib};
  ASSERT_TRUE(Stage(StageRequest(id, capability)).ok());
  ASSERT_TRUE(Publish(PublishRequest(id, capability, kTarget)).ok());
  // Same target, same arguments; same target, others.
  EXPECT_EQ(Publish(PublishRequest(id, capability, kTarget)).error_code(), StatusCode::OK);
  // (A raw volume has no staged file system, which is what is told first.)
  const auto changed = PublishRequest(id, row.block ? Mount(kShared) : Block(kShared), kTarget);
  EXPECT_EQ(Publish(changed).error_code(),
            row.block ? StatusCode::FAILED_PRECONDITION : StatusCode::ALREADY_EXISTS);
  // Another target, same arguments.
  EXPECT_EQ(Publish(PublishRequest(id, capability, kOtherTarget)).error_code(), row.other_target);
  EXPECT_EQ(host_.Exists(kOtherTarget), row.other_target == StatusCode::OK);
}

INSTANTIATE_TEST_SUITE_P(
    Modes, SecondPublishTest,
    ::testing::Values(
        SecondPublish{Mode::SINGLE_NODE_WRITER, false, StatusCode::OK},
        SecondPublish{Mode::SINGLE_NODE_READER_ONLY, false, StatusCode::FAILED_PRECONDITION},
        SecondPublish{Mode::MULTI_NODE_READER_ONLY, false, StatusCode::OK},
        SecondPublish{Mode::SINGLE_NODE_SINGLE_WRITER, false, StatusCode::FAILED_PRECONDITION},
        SecondPublish{Mode::SINGLE_NODE_MULTI_WRITER, false, StatusCode::OK},
        SecondPublish{Mode::SINGLE_NODE_WRITER, true, StatusCode::OK},
        SecondPublish{Mode::SINGLE_NODE_READER_ONLY, true, StatusCode::FAILED_PRECONDITION},
        SecondPublish{Mode::MULTI_NODE_READER_ONLY, true, StatusCode::OK},
        SecondPublish{Mode::MULTI_NODE_SINGLE_WRITER, true, StatusCode::OK},
        SecondPublish{Mode::MULTI_NODE_MULTI_WRITER, true, StatusCode::OK},
        SecondPublish{Mode::SINGLE_NODE_SINGLE_WRITER, true, StatusCode::FAILED_PRECONDITION},
        SecondPublish{Mode::SINGLE_NODE_MULTI_WRITER, true, StatusCode::OK}),
    [](const auto& row) {
      return Mode::Mode_Name(row.param.mode) + (row.param.block ? "_block" : "_mount");
    });

TEST_F(NodePublishTest, OtherArgumentsAtTheSameTargetAreRefused) {
  const std::string id = AttachAndStage("a", Mount(kShared));
  auto request = PublishRequest(id, Mount(kShared), kTarget);
  ASSERT_TRUE(Publish(request).ok());
  request.set_readonly(true);
  EXPECT_EQ(Publish(request).error_code(), StatusCode::ALREADY_EXISTS);
  request.set_target_path(kOtherTarget);
  EXPECT_TRUE(Publish(request).ok());
  EXPECT_TRUE(host_.mounts().back().read_only);
  request.set_readonly(false);
  EXPECT_EQ(Publish(request).error_code(), StatusCode::ALREADY_EXISTS);
}

TEST_F(NodePublishTest, MissingOrImpossibleFieldsAreRefused) {
  const std::string id = AttachAndStage("a", Mount(kShared));
  const auto code = [&](const std::function<void(pb::NodePublishVolumeRequest*)>& edit) {
    pb::NodePublishVolumeRequest request = PublishRequest(id, Mount(kShared), kTarget);
    edit(&request);
    return Publish(request).error_code();
  };
  EXPECT_EQ(code([](auto* r) { r->clear_volume_id(); }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto* r) { r->clear_target_path(); }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto* r) { r->clear_volume_capability(); }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto* r) { r->clear_staging_target_path(); }), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(code([](auto* r) { r->set_staging_target_path("/pods/elsewhere"); }),
            StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(code([](auto* r) { r->set_target_path("/etc/cron.d/x"); }),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto* r) { r->set_target_path("/pods/a/../../etc"); }),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto* r) { r->set_volume_id("ks-77"); }), StatusCode::NOT_FOUND);
  EXPECT_FALSE(host_.Exists(kTarget));
}

TEST_F(NodePublishTest, ATargetThatCouldNotBeMountedIsRemovedAndOneOfOthersIsNot) {
  const std::string id = AttachAndStage("a", Mount(kShared));
  host_.before = [](const std::string& operation) {
    return operation == "Bind" ? absl::InternalError("no") : absl::OkStatus();
  };
  EXPECT_EQ(Publish(PublishRequest(id, Mount(kShared), kTarget)).error_code(),
            StatusCode::INTERNAL);
  EXPECT_FALSE(host_.Exists(kTarget));
  ASSERT_TRUE(host_.MakeTarget(kTarget, true).ok());
  EXPECT_FALSE(Publish(PublishRequest(id, Mount(kShared), kTarget)).ok());
  EXPECT_TRUE(host_.Exists(kTarget));
}

TEST_F(NodePublishTest, SomethingElseAtTheTargetIsLeftThere) {
  const std::string id = AttachAndStage("a", Mount(kShared));
  Mounted other;
  other.path = kTarget;
  other.device = 3;
  host_.MountBehindTheBack(other);
  EXPECT_EQ(Publish(PublishRequest(id, Mount(kShared), kTarget)).error_code(),
            StatusCode::ALREADY_EXISTS);
}

TEST_F(NodePublishTest, APodsOwnViewOfADirectoryIsNoSecondPublication) {
  const auto capability = Mount(Mode::SINGLE_NODE_SINGLE_WRITER);
  const std::string id = AttachAndStage("a", capability);
  Mounted part;
  part.path = "/pods/a/subpath";
  part.device = DiskOf(id).device.number;
  part.whole = false;
  host_.MountBehindTheBack(part);
  EXPECT_TRUE(Publish(PublishRequest(id, capability, kTarget)).ok());
}

TEST_F(NodePublishTest, UnpublishRemovesMountAndTargetAndCanBeRepeated) {
  const std::string id = AttachAndStage("a", Mount(kShared));
  ASSERT_TRUE(Publish(PublishRequest(id, Mount(kShared), kTarget)).ok());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Unpublish(id, kTarget).ok());
  EXPECT_FALSE(host_.Exists(kTarget));
  EXPECT_EQ(host_.mounts().size(), 1u);
  EXPECT_EQ(Unpublish("", kTarget).error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Unpublish(id, "").error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Unpublish(id, "/etc").error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(NodePublishTest, UnpublishNeedsNeitherTheBlockStoreNorTheVolume) {
  const std::string id = AttachAndStage("a", Mount(kShared));
  ASSERT_TRUE(Publish(PublishRequest(id, Mount(kShared), kTarget)).ok());
  cluster_.Refuse("GetVolumeStatus", absl::UnavailableError("away"));
  EXPECT_TRUE(Unpublish(id, kTarget).ok());
  EXPECT_TRUE(Unstage(id).ok());
}

TEST_F(NodePublishTest, AVolumeThatGrowsMeanwhileIsPublishedAllTheSame) {
  const std::string id = AttachAndStage("a", Mount(kShared));
  host_.before = [&](const std::string& operation) {
    if (operation != "FindDevice") return absl::OkStatus();
    cluster_.Change(id, [](control::Volume* volume) { volume->set_capacity_bytes(2 * kGib); });
    DiskOf(id).device.size_bytes = 2 * kGib;
    return absl::OkStatus();
  };
  const grpc::Status status = Publish(PublishRequest(id, Mount(kShared), kTarget));
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(NodePublishTest, ADeviceIsNotShownRawWhileItsFileSystemIsMounted) {
  const std::string id = AttachAndStage("a", Mount(kShared));
  EXPECT_EQ(Publish(PublishRequest(id, Block(kShared), kTarget)).error_code(),
            StatusCode::FAILED_PRECONDITION);
  EXPECT_FALSE(host_.Exists(kTarget));
  EXPECT_EQ(host_.mounts().size(), 1u);
}

TEST_F(NodePublishTest, ARawVolumeIsReadOnlyOnlyWhenItsDeviceIs) {
  const std::string id = AttachAndStage("a", Block(kShared));
  auto request = PublishRequest(id, Block(kShared), kTarget);
  request.set_readonly(true);
  EXPECT_EQ(Publish(request).error_code(), StatusCode::FAILED_PRECONDITION);
  DiskOf(id).device.read_only = true;
  EXPECT_TRUE(Publish(request).ok());
  EXPECT_TRUE(host_.mounts().back().block);
}

}  // namespace
}  // namespace keelson::csi
