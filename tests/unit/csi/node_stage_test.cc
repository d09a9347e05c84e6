#include <gmock/gmock.h>

#include "tests/unit/csi/csi_fixture.h"

namespace keelson::csi {
namespace {

using grpc::StatusCode;
using ::testing::HasSubstr;

using NodeStageTest = CsiTest;

constexpr Mode::Mode kMode = Mode::SINGLE_NODE_MULTI_WRITER;

TEST_F(NodeStageTest, ANewVolumeIsFormattedOnceAndMounted) {
  const std::string id = AttachAndStage("a", Mount(kMode));
  ASSERT_EQ(host_.mounts().size(), 1u);
  EXPECT_EQ(host_.mounts()[0].fs_type, "ext4");
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(Stage(StageRequest(id, Mount(kMode))).ok());
  EXPECT_EQ(host_.Count("Format"), 1);
  EXPECT_EQ(host_.Count("Mount"), 1);
  EXPECT_TRUE(Unstage(id).ok());
  EXPECT_TRUE(Unstage(id).ok());
  EXPECT_TRUE(host_.mounts().empty());
}

TEST_F(NodeStageTest, MissingOrImpossibleFieldsAreRefused) {
  const std::string id = Attach("a", Mount(kMode));
  const auto code = [&](const std::function<void(pb::NodeStageVolumeRequest*)>& edit) {
    pb::NodeStageVolumeRequest request = StageRequest(id, Mount(kMode));
    edit(&request);
    return Stage(request).error_code();
  };
  EXPECT_EQ(code([](auto* r) { r->clear_volume_id(); }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto* r) { r->clear_volume_capability(); }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto* r) { r->clear_publish_context(); }), StatusCode::INVALID_ARGUMENT);
  for (const char* path : {"", "some/path", "/", "/etc", "/pods", "/pods/../etc", "/podsx/a"}) {
    EXPECT_EQ(code([&](auto* r) { r->set_staging_target_path(path); }),
              StatusCode::INVALID_ARGUMENT)
        << path;
  }
  EXPECT_EQ(code([](auto* r) {
              r->mutable_volume_capability()->mutable_mount()->add_mount_flags("remount");
            }),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code([](auto* r) { r->set_volume_id("ks-77"); }), StatusCode::NOT_FOUND);
  EXPECT_EQ(code([](auto* r) { r->set_volume_id("../../x"); }), StatusCode::NOT_FOUND);
  EXPECT_EQ(host_.Count("Format"), 0);
  EXPECT_EQ(host_.Count("Mount"), 0);
}

TEST_F(NodeStageTest, WhatTheDeviceHoldsIsNeverFormatted) {
  const std::string id = Attach("a", Mount(kMode));
  for (const char* content : {"xfs", "btrfs", "gpt partition table", "LVM2_member"}) {
    DiskOf(id).content = {content, 0};
    const grpc::Status status = Stage(StageRequest(id, Mount(kMode, "ext4")));
    EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION) << content;
    EXPECT_THAT(status.error_message(), HasSubstr(content));
  }
  host_.before = [](const std::string& operation) {
    return operation == "Probe" ? absl::InternalError("input/output error") : absl::OkStatus();
  };
  EXPECT_EQ(Stage(StageRequest(id, Mount(kMode))).error_code(), StatusCode::INTERNAL);
  EXPECT_EQ(host_.Count("Format"), 0);
  EXPECT_EQ(host_.Count("Mount"), 0);
}

TEST_F(NodeStageTest, WithoutATypeWhatIsThereIsTaken) {
  const std::string id = Attach("a", Mount(kMode));
  DiskOf(id).content = {"xfs", kGib};
  EXPECT_TRUE(Stage(StageRequest(id, Mount(kMode))).ok());
  EXPECT_EQ(host_.mounts()[0].fs_type, "xfs");
  EXPECT_EQ(host_.Count("Check"), 1);
  EXPECT_EQ(host_.Count("Grow"), 0);
}

TEST_F(NodeStageTest, ADamagedFileSystemIsLeftAlone) {
  const std::string id = Attach("a", Mount(kMode));
  DiskOf(id).content = {"ext4", kGib};
  host_.before = [](const std::string& operation) {
    return operation == "Check" ? absl::DataLossError("run e2fsck") : absl::OkStatus();
  };
  EXPECT_EQ(Stage(StageRequest(id, Mount(kMode))).error_code(), StatusCode::DATA_LOSS);
  EXPECT_EQ(host_.Count("Format"), 0);
  EXPECT_TRUE(host_.mounts().empty());
}

TEST_F(NodeStageTest, AFileSystemSmallerThanItsDeviceGrows) {
  const std::string id = Attach("a", Mount(kMode));
  DiskOf(id).content = {"ext4", kGib / 2};
  EXPECT_TRUE(Stage(StageRequest(id, Mount(kMode))).ok());
  EXPECT_EQ(host_.Count("Grow"), 1);
}

TEST_F(NodeStageTest, WhereAMountedOneCannotGrowItGrowsBefore) {
  const std::string id = Attach("a", Mount(kMode));
  DiskOf(id).content = {"ext4", kGib / 2};
  host_.grows_mounted = false;
  EXPECT_TRUE(Stage(StageRequest(id, Mount(kMode))).ok());
  EXPECT_EQ(host_.Count("GrowUnmounted"), 1);
  EXPECT_EQ(host_.Count("Grow"), 0);
}

TEST_F(NodeStageTest, ARepeatedCallGoesOnWhereTheFirstOneDied) {
  const std::string id = Attach("a", Mount(kMode));
  DiskOf(id).content = {"ext4", kGib / 2};
  for (const char* fatal : {"Check", "Mount", "Grow"}) {
    host_.before = [&](const std::string& operation) {
      return operation == fatal ? absl::InternalError("died") : absl::OkStatus();
    };
    EXPECT_EQ(Stage(StageRequest(id, Mount(kMode))).error_code(), StatusCode::INTERNAL) << fatal;
  }
  host_.before = nullptr;
  EXPECT_EQ(host_.mounts().size(), 1u);
  EXPECT_TRUE(Stage(StageRequest(id, Mount(kMode))).ok());
  EXPECT_EQ(host_.mounts().size(), 1u);
  EXPECT_EQ(DiskOf(id).content.fs_size_bytes, std::uint64_t{kGib});
}

TEST_F(NodeStageTest, StagedOtherwiseIsAlreadyThere) {
  const std::string id = AttachAndStage("a", Mount(kMode, "ext4"));
  EXPECT_EQ(Stage(StageRequest(id, Mount(kMode, "xfs"))).error_code(), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(Stage(StageRequest(id, Mount(Mode::MULTI_NODE_READER_ONLY))).error_code(),
            StatusCode::ALREADY_EXISTS);
  auto capability = Mount(kMode);
  capability.mutable_mount()->add_mount_flags("noexec");
  EXPECT_EQ(Stage(StageRequest(id, capability)).error_code(), StatusCode::ALREADY_EXISTS);
  const std::string other = Attach("b", Mount(kMode));
  EXPECT_EQ(Stage(StageRequest(other, Mount(kMode))).error_code(), StatusCode::ALREADY_EXISTS);
}

TEST_F(NodeStageTest, ReadersMountWithoutReplayingTheJournal) {
  const auto reader = Mount(Mode::MULTI_NODE_READER_ONLY);
  const std::string id = Attach("a", reader);
  EXPECT_EQ(Stage(StageRequest(id, reader)).error_code(), StatusCode::FAILED_PRECONDITION);
  DiskOf(id).content = {"ext4", kGib / 2};
  EXPECT_TRUE(Stage(StageRequest(id, reader)).ok());
  const std::vector<std::pair<std::string, std::string>> ext4 = {{"noload", ""}};
  EXPECT_TRUE(host_.last_options.read_only);
  EXPECT_EQ(host_.last_options.file_system, ext4);
  EXPECT_EQ(host_.Count("Check"), 0);
  EXPECT_EQ(host_.Count("Grow"), 0);
  EXPECT_EQ(host_.Count("Format"), 0);
  ASSERT_TRUE(Unstage(id).ok());
  DiskOf(id).content = {"xfs", kGib};
  EXPECT_TRUE(Stage(StageRequest(id, reader)).ok());
  const std::vector<std::pair<std::string, std::string>> xfs = {{"nouuid", ""}, {"norecovery", ""}};
  EXPECT_EQ(host_.last_options.file_system, xfs);
}

TEST_F(NodeStageTest, AReadOnlyPublicationIsMountedReadOnly) {
  const std::string id = Attach("a", Mount(kMode), true);
  DiskOf(id).content = {"ext4", kGib};
  EXPECT_TRUE(Stage(StageRequest(id, Mount(kMode))).ok());
  EXPECT_TRUE(host_.last_options.read_only);
}

TEST_F(NodeStageTest, AnAttachmentOlderThanThePublicationIsNotUsed) {
  const std::string id = Attach("a", Mount(kMode));
  pb::NodeStageVolumeRequest request = StageRequest(id, Mount(kMode));
  cluster_.ChangeStatus(id, [](store::GetVolumeStatusResponse* s) { s->set_attachment(9); });
  (*request.mutable_publish_context())["keelson.io/attachment"] = "10";
  EXPECT_EQ(Stage(request).error_code(), StatusCode::UNAVAILABLE);
  for (const char* bad : {"", "0", "x", "9x", "-1"}) {
    (*request.mutable_publish_context())["keelson.io/attachment"] = bad;
    EXPECT_EQ(Stage(request).error_code(), StatusCode::INVALID_ARGUMENT) << bad;
  }
  EXPECT_EQ(host_.Count("Format"), 0);
  (*request.mutable_publish_context())["keelson.io/attachment"] = "8";
  EXPECT_TRUE(Stage(request).ok());
}

TEST_F(NodeStageTest, AVolumeThatIsNotServedYetIsTriedAgain) {
  const std::string id = Attach("a", Mount(kMode));
  cluster_.ChangeStatus(id, [](store::GetVolumeStatusResponse* s) {
    s->set_attached(false);
    s->set_error("no majority");
  });
  const grpc::Status status = Stage(StageRequest(id, Mount(kMode)));
  EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("no majority"));
  cluster_.ChangeStatus(id, [](store::GetVolumeStatusResponse* s) {
    s->clear_device();
    s->set_uri("nbd+unix:///volume");
  });
  EXPECT_EQ(Stage(StageRequest(id, Mount(kMode))).error_code(), StatusCode::FAILED_PRECONDITION);
  // What serves other nodes, or nobody, is not attached here.
  cluster_.ChangeStatus(id, [](store::GetVolumeStatusResponse* s) { s->clear_device(); });
  EXPECT_EQ(Stage(StageRequest(id, Mount(kMode))).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(NodeStageTest, OfAVolumeOnSeveralNodesItSeesWhatThisOneShowsAsAClient) {
  const std::string id = Attach("a", Mount(kMode));
  const auto shown = [](store::GetVolumeStatusResponse* s) {
    s->mutable_remote()->set_size_bytes(s->size_bytes());
    s->set_size_bytes(0);
    s->set_attached(false);  // the engine is elsewhere
  };
  cluster_.ChangeStatus(id, [&shown](store::GetVolumeStatusResponse* s) {
    shown(s);
    s->clear_device();
    s->set_device_warning("its block device is being resumed");
  });
  const grpc::Status resuming = Stage(StageRequest(id, Mount(kMode)));
  EXPECT_EQ(resuming.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_THAT(resuming.error_message(), HasSubstr("being resumed"));
  cluster_.ChangeStatus(id, [&shown](store::GetVolumeStatusResponse* s) {
    shown(s);
    s->mutable_remote()->set_size_bytes(0);
    s->mutable_remote()->set_problem("not reached yet");
  });
  EXPECT_THAT(Stage(StageRequest(id, Mount(kMode))).error_message(), HasSubstr("not reached yet"));
  cluster_.ChangeStatus(id, shown);
  EXPECT_TRUE(Stage(StageRequest(id, Mount(kMode))).ok());
}

TEST_F(NodeStageTest, ADeviceLargerThanItsVolumeIsNotTouched) {
  const std::string id = Attach("a", Mount(kMode));
  DiskOf(id).device.size_bytes = 2 * kGib;
  EXPECT_EQ(Stage(StageRequest(id, Mount(kMode))).error_code(), StatusCode::INTERNAL);
  EXPECT_EQ(host_.Count("Format"), 0);
}

TEST_F(NodeStageTest, AStagedRawVolumeIsOnlyChecked) {
  const std::string id = AttachAndStage("a", Block(kMode));
  EXPECT_EQ(host_.Count("Probe"), 0);
  EXPECT_TRUE(host_.mounts().empty());
  EXPECT_TRUE(Unstage(id).ok());
}

TEST_F(NodeStageTest, WhatIsInUseOtherwiseIsNotMountedAgain) {
  const std::string id = AttachAndStage("a", Block(kMode));
  ASSERT_TRUE(Publish(PublishRequest(id, Block(kMode), kTarget)).ok());
  grpc::Status status = Stage(StageRequest(id, Mount(kMode)));
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("raw device"));
  EXPECT_EQ(host_.Count("Format"), 0);
  EXPECT_EQ(host_.Count("Mount"), 0);
  ASSERT_TRUE(Unpublish(id, kTarget).ok());
  ASSERT_TRUE(Stage(StageRequest(id, Mount(kMode, "ext4"))).ok());
  pb::NodeStageVolumeRequest second = StageRequest(id, Mount(kMode, "xfs"));
  second.set_staging_target_path("/pods/staging/second");
  status = Stage(second);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("holds ext4"));
}

TEST_F(NodeStageTest, APublishedVolumeIsNotUnstaged) {
  const std::string id = AttachAndStage("a", Mount(kMode));
  ASSERT_TRUE(Publish(PublishRequest(id, Mount(kMode), kTarget)).ok());
  EXPECT_EQ(Unstage(id).error_code(), StatusCode::FAILED_PRECONDITION);
  ASSERT_TRUE(Unpublish(id, kTarget).ok());
  EXPECT_TRUE(Unstage(id).ok());
}

TEST_F(NodeStageTest, ABusyVolumeSaysSoAndIsUnstagedLater) {
  const std::string id = AttachAndStage("a", Mount(kMode));
  host_.before = [](const std::string& operation) {
    return operation == "Unmount" ? absl::FailedPreconditionError("in use") : absl::OkStatus();
  };
  EXPECT_EQ(Unstage(id).error_code(), StatusCode::FAILED_PRECONDITION);
  host_.before = nullptr;
  EXPECT_TRUE(Unstage(id).ok());
}

}  // namespace
}  // namespace keelson::csi
