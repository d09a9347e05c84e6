#include <gmock/gmock.h>

#include "tests/unit/csi/csi_fixture.h"

namespace keelson::csi {
namespace {

using grpc::StatusCode;
using Stub = pb::Node::Stub;

constexpr Mode::Mode kMode = Mode::SINGLE_NODE_MULTI_WRITER;

class NodeSizeTest : public CsiTest {
 protected:
  explicit NodeSizeTest(bool alpha = false) : CsiTest(alpha) {}

  StatusCode Stats(const std::string& id, const std::string& path) {
    pb::NodeGetVolumeStatsRequest request;
    request.set_volume_id(id);
    request.set_volume_path(path);
    stats_.Clear();
    return Ask(*node_stub_, &Stub::NodeGetVolumeStats, request, &stats_).error_code();
  }
  StatusCode Expand(const std::string& id, const std::string& path, std::int64_t required = 0) {
    pb::NodeExpandVolumeRequest request;
    request.set_volume_id(id);
    request.set_volume_path(path);
    if (required != 0) request.mutable_capacity_range()->set_required_bytes(required);
    expanded_.Clear();
    return Ask(*node_stub_, &Stub::NodeExpandVolume, request, &expanded_).error_code();
  }

  pb::NodeGetVolumeStatsResponse stats_;
  pb::NodeExpandVolumeResponse expanded_;
};

class AlphaNodeTest : public NodeSizeTest {
 protected:
  AlphaNodeTest() : NodeSizeTest(true) {}
};

TEST_F(NodeSizeTest, StatisticsAreOfBytesAndInodes) {
  const std::string id = AttachAndStage("a", Mount(kMode));
  ASSERT_TRUE(Publish(PublishRequest(id, Mount(kMode), kTarget)).ok());
  for (const char* path : {kTarget, kStaging}) {
    ASSERT_EQ(Stats(id, path), StatusCode::OK);
    ASSERT_EQ(stats_.usage_size(), 2);
    EXPECT_EQ(stats_.usage(0).unit(), pb::VolumeUsage::BYTES);
    EXPECT_EQ(stats_.usage(0).total(), 1000);
    EXPECT_EQ(stats_.usage(1).unit(), pb::VolumeUsage::INODES);
    EXPECT_EQ(stats_.usage(1).used(), 10);
  }
}

TEST_F(NodeSizeTest, StatisticsOfARawVolumeAreItsSize) {
  const std::string id = AttachAndStage("a", Block(kMode));
  ASSERT_TRUE(Publish(PublishRequest(id, Block(kMode), kTarget)).ok());
  ASSERT_EQ(Stats(id, kTarget), StatusCode::OK);
  ASSERT_EQ(stats_.usage_size(), 1);
  EXPECT_EQ(stats_.usage(0).total(), kGib);
}

TEST_F(NodeSizeTest, AVolumeOrPathThatIsNotThereIsNotFound) {
  const std::string id = AttachAndStage("a", Mount(kMode));
  const std::string other = Attach("b", Mount(kMode));
  EXPECT_EQ(Stats("", kStaging), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Stats(id, ""), StatusCode::INVALID_ARGUMENT);
  for (const char* path : {"some/path", "/etc", kTarget}) {
    EXPECT_EQ(Stats(id, path), StatusCode::NOT_FOUND) << path;
  }
  EXPECT_EQ(Stats("No Volume", "some/path"), StatusCode::NOT_FOUND);
  EXPECT_EQ(Stats(other, kStaging), StatusCode::NOT_FOUND);
  EXPECT_EQ(Expand("", kStaging), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Expand(id, ""), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Expand(id, "some/path"), StatusCode::NOT_FOUND);
  EXPECT_EQ(Expand("ks-77", "some/path"), StatusCode::NOT_FOUND);
  EXPECT_EQ(host_.Count("Grow"), 0);
}

TEST_F(NodeSizeTest, ExpandGrowsToTheDeviceWhateverIsAskedFor) {
  const std::string id = AttachAndStage("a", Mount(kMode));
  EXPECT_EQ(Expand(id, kStaging, 2 * kGib), StatusCode::OUT_OF_RANGE);
  cluster_.ChangeStatus(id, [](store::GetVolumeStatusResponse* s) { s->set_size_bytes(2 * kGib); });
  EXPECT_EQ(Expand(id, kStaging, 2 * kGib), StatusCode::UNAVAILABLE);
  DiskOf(id).device.size_bytes = 2 * kGib;
  EXPECT_EQ(host_.Count("Grow"), 0);
  EXPECT_EQ(Expand(id, kStaging, 2 * kGib), StatusCode::OK);
  EXPECT_EQ(expanded_.capacity_bytes(), 2 * kGib);
  EXPECT_EQ(Expand(id, kStaging), StatusCode::OK);
  EXPECT_EQ(DiskOf(id).content.fs_size_bytes, std::uint64_t{2} << 30);
}

TEST_F(NodeSizeTest, ARawVolumeNeedsNoExpansion) {
  const std::string id = AttachAndStage("a", Block(kMode));
  ASSERT_TRUE(Publish(PublishRequest(id, Block(kMode), kTarget)).ok());
  EXPECT_EQ(Expand(id, kTarget, kGib), StatusCode::OK);
  EXPECT_EQ(expanded_.capacity_bytes(), kGib);
  EXPECT_EQ(host_.Count("Grow"), 0);
}

TEST_F(NodeSizeTest, AReadOnlyFileSystemIsNotGrown) {
  const auto reader = Mount(Mode::MULTI_NODE_READER_ONLY);
  const std::string id = Attach("a", reader);
  DiskOf(id).content = {"ext4", kGib / 2};
  ASSERT_TRUE(Stage(StageRequest(id, reader)).ok());
  EXPECT_EQ(Expand(id, kStaging), StatusCode::FAILED_PRECONDITION);
}

TEST_F(NodeSizeTest, InfoNamesTheNodeAndWhereItIs) {
  pb::NodeGetInfoResponse info;
  ASSERT_TRUE(Ask(*node_stub_, &Stub::NodeGetInfo, pb::NodeGetInfoRequest(), &info).ok());
  EXPECT_EQ(info.node_id(), "node-a");
  EXPECT_EQ(info.max_volumes_per_node(), 8);
  EXPECT_EQ(info.accessible_topology().segments().at("topology.keelson.io/node"), "node-a");
  pb::NodeGetCapabilitiesResponse capabilities;
  ASSERT_TRUE(
      Ask(*node_stub_, &Stub::NodeGetCapabilities, pb::NodeGetCapabilitiesRequest(), &capabilities)
          .ok());
  EXPECT_EQ(capabilities.capabilities_size(), 4);
}

TEST_F(NodeSizeTest, HealthIsUnknownToThoseWhoDidNotEnableIt) {
  pb::NodeGetVolumeHealthResponse volume;
  EXPECT_EQ(Ask(*node_stub_, &Stub::NodeGetVolumeHealth, pb::NodeGetVolumeHealthRequest(), &volume)
                .error_code(),
            StatusCode::UNIMPLEMENTED);
  pb::NodeGetStorageHealthResponse storage;
  EXPECT_EQ(
      Ask(*node_stub_, &Stub::NodeGetStorageHealth, pb::NodeGetStorageHealthRequest(), &storage)
          .error_code(),
      StatusCode::UNIMPLEMENTED);
}

TEST_F(AlphaNodeTest, HealthTellsWhatTheBlockStoreTells) {
  const std::string id = Attach("a", Mount(kMode));
  pb::NodeGetVolumeHealthRequest request;
  request.set_volume_id(id);
  pb::NodeGetVolumeHealthResponse response;
  const auto ask = [&] {
    return Ask(*node_stub_, &Stub::NodeGetVolumeHealth, request, &response).error_code();
  };
  ASSERT_EQ(ask(), StatusCode::OK);
  EXPECT_EQ(response.volume_health().health_statuses_size(), 0);
  cluster_.ChangeStatus(id, [](store::GetVolumeStatusResponse* s) {
    auto* segment = s->add_segments();
    segment->set_waiting_for("a majority");
    segment->add_members()->set_problem("away");
    segment->add_members()->set_problem("away too");
  });
  ASSERT_EQ(ask(), StatusCode::OK);
  ASSERT_EQ(response.volume_health().health_statuses_size(), 2);
  EXPECT_EQ(response.volume_health().health_statuses(0).status(), pb::INACCESSIBLE);
  EXPECT_EQ(response.volume_health().health_statuses(1).status(), pb::DEGRADED);
  request.set_volume_id("ks-77");
  EXPECT_EQ(ask(), StatusCode::NOT_FOUND);

  pb::NodeGetStorageHealthResponse storage;
  cluster_.Refuse("GetNode", absl::UnavailableError("away"));
  ASSERT_TRUE(
      Ask(*node_stub_, &Stub::NodeGetStorageHealth, pb::NodeGetStorageHealthRequest(), &storage)
          .ok());
  ASSERT_EQ(storage.backend_health_size(), 1);
  EXPECT_EQ(storage.backend_health(0).status(), pb::STORAGE_UNREACHABLE);
}

}  // namespace
}  // namespace keelson::csi
