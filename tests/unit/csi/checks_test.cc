#include "csi/checks.h"

#include <gtest/gtest.h>

namespace keelson::csi {
namespace {

using Mode = pb::VolumeCapability::AccessMode;

bool Refused(const absl::Status& status) {
  return absl::IsInvalidArgument(status) && !status.message().empty();
}

TEST(ChecksTest, StringsAreRefusedFromTheFirstByteOverTheirLimit) {
  pb::ControllerPublishVolumeRequest request;
  request.set_volume_id(std::string(128, 'v'));
  request.set_node_id(std::string(256, 'n'));
  EXPECT_TRUE(CheckSizes(request).ok());
  request.set_volume_id(std::string(129, 'v'));
  EXPECT_TRUE(Refused(CheckSizes(request)));
  request.set_volume_id("v");
  request.set_node_id(std::string(257, 'n'));
  EXPECT_TRUE(Refused(CheckSizes(request)));
}

TEST(ChecksTest, PathsMayBeAsLongAsTheSystemAllows) {
  pb::NodePublishVolumeRequest request;
  request.set_target_path(std::string(4095, 'p'));
  EXPECT_TRUE(CheckSizes(request).ok());
  request.set_staging_target_path(std::string(4096, 'p'));
  EXPECT_TRUE(Refused(CheckSizes(request)));
}

TEST(ChecksTest, MapsHaveFourKibibytesTogether) {
  pb::CreateVolumeRequest request;
  for (int i = 0; i < 32; ++i) {
    (*request.mutable_parameters())[std::string(64, static_cast<char>('a' + i % 26)) +
                                    std::string(static_cast<std::size_t>(i / 26), '-')] =
        std::string(62, 'v');
  }
  EXPECT_TRUE(CheckSizes(request).ok());
  (*request.mutable_parameters())["more"] = std::string(200, 'v');
  EXPECT_TRUE(Refused(CheckSizes(request)));
}

TEST(ChecksTest, MountFlagsHaveFourKibibytesTogetherAndAreCheckedInsideOfCapabilities) {
  pb::CreateVolumeRequest request;
  auto* mount = request.add_volume_capabilities()->mutable_mount();
  for (int i = 0; i < 4; ++i) mount->add_mount_flags(std::string(1024, 'f'));
  EXPECT_TRUE(CheckSizes(request).ok());
  mount->add_mount_flags("f");
  EXPECT_TRUE(Refused(CheckSizes(request)));
}

TEST(ChecksTest, KeysOfSecretsArePlainAndAreNotRepeatedInTheError) {
  pb::DeleteVolumeRequest request;
  (*request.mutable_secrets())["user.name-1_x"] = "value";
  EXPECT_TRUE(CheckSizes(request).ok());
  (*request.mutable_secrets())["bad key"] = "hidden";
  const absl::Status status = CheckSizes(request);
  EXPECT_TRUE(Refused(status));
  EXPECT_EQ(status.message().find("bad key"), absl::string_view::npos);
}

TEST(ChecksTest, NamesMayHaveAnyTextButNoControlCharacters) {
  EXPECT_TRUE(CheckName("name", "pvc-1 \xC3\xA4/..\n\t").ok());
  for (const char* bad : {"", "a\x01", "a\x0B", "a\x1F", "a\x7F", "a\xC2\x80", "a\xC2\x9F"}) {
    EXPECT_TRUE(Refused(CheckName("name", bad))) << bad;
  }
  EXPECT_TRUE(CheckName("name", "a\xC2\xA0").ok());
}

TEST(ChecksTest, IdsThatWereNeverGivenOutAreKnownByTheirForm) {
  EXPECT_TRUE(CanBeId("ks-00112233445566778899-abcdefgh"));
  for (const char* id : {"", "../etc", "A", "a b", "a/b", "a.b"}) EXPECT_FALSE(CanBeId(id)) << id;
  EXPECT_FALSE(CanBeId(std::string(65, 'a')));
}

TEST(ChecksTest, NodesAreLabelValues) {
  EXPECT_TRUE(CanBeNode("ip-10-0-0-1.eu-west-1.compute.internal"));
  for (const char* name : {"", "-a", "a-", "a/b", "a b"}) EXPECT_FALSE(CanBeNode(name)) << name;
  EXPECT_FALSE(CanBeNode(std::string(64, 'a')));
}

TEST(ChecksTest, AFileSystemIsNeverSharedByWritersOnSeveralNodes) {
  for (int mode = Mode::SINGLE_NODE_WRITER; mode <= Mode::SINGLE_NODE_MULTI_WRITER; ++mode) {
    pb::VolumeCapability capability;
    capability.mutable_access_mode()->set_mode(static_cast<Mode::Mode>(mode));
    capability.mutable_block();
    EXPECT_TRUE(CheckCapability(capability).ok()) << mode;
    capability.mutable_mount();
    const bool shared =
        mode == Mode::MULTI_NODE_SINGLE_WRITER || mode == Mode::MULTI_NODE_MULTI_WRITER;
    EXPECT_EQ(Refused(CheckCapability(capability)), shared) << mode;
  }
}

TEST(ChecksTest, ACapabilityHasAKnownTypeModeAndFileSystem) {
  pb::VolumeCapability capability;
  capability.mutable_access_mode()->set_mode(Mode::SINGLE_NODE_WRITER);
  EXPECT_TRUE(Refused(CheckCapability(capability)));
  for (const char* known : {"", "ext4", "xfs"}) {
    capability.mutable_mount()->set_fs_type(known);
    EXPECT_TRUE(CheckCapability(capability).ok()) << known;
  }
  capability.mutable_mount()->set_fs_type("ntfs");
  EXPECT_TRUE(Refused(CheckCapability(capability)));
  capability.mutable_mount()->set_fs_type("");
  capability.mutable_mount()->set_volume_mount_group("1000");
  EXPECT_TRUE(Refused(CheckCapability(capability)));
  capability.mutable_mount()->clear_volume_mount_group();
  capability.mutable_access_mode()->set_mode(Mode::UNKNOWN);
  EXPECT_TRUE(Refused(CheckCapability(capability)));
  capability.mutable_access_mode()->set_mode(static_cast<Mode::Mode>(99));
  EXPECT_TRUE(Refused(CheckCapability(capability)));
}

TEST(ChecksTest, ACapacityRangeIsPositiveAndInOrder) {
  pb::CapacityRange range;
  EXPECT_TRUE(Refused(CheckCapacityRange(range)));
  range.set_required_bytes(10);
  EXPECT_TRUE(CheckCapacityRange(range).ok());
  range.set_limit_bytes(10);
  EXPECT_TRUE(CheckCapacityRange(range).ok());
  range.set_limit_bytes(9);
  EXPECT_TRUE(Refused(CheckCapacityRange(range)));
  range.set_limit_bytes(-1);
  EXPECT_TRUE(Refused(CheckCapacityRange(range)));
  range.set_limit_bytes(0);
  range.set_required_bytes(-1);
  EXPECT_TRUE(Refused(CheckCapacityRange(range)));
}

TEST(ChecksTest, KubernetesReservesTwoPrefixes) {
  EXPECT_TRUE(IsReserved("csi.storage.k8s.io/pvc/name"));
  EXPECT_TRUE(IsReserved("storage.kubernetes.io/csiProvisionerIdentity"));
  EXPECT_FALSE(IsReserved("csi.storage.k8s.io.evil/x"));
  EXPECT_FALSE(IsReserved("replicas"));
}

}  // namespace
}  // namespace keelson::csi
