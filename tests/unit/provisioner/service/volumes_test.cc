// Volumes from their creation to their deletion, as the provisioner's callers see them and as the
// nodes do.

#include "tests/unit/provisioner/service/provisioner_fixture.h"

namespace keelson::provisioner {
namespace {

using VolumesTest = ProvisionerFixture;

TEST_F(VolumesTest, AVolumeHasItsCopiesOnDistinctNodesWhenItIsReported) {
  const api::Volume volume = MustCreate(Ask("pvc-1"));
  EXPECT_EQ(volume.capacity_bytes(), kGiB);
  EXPECT_TRUE(volume.ready());
  EXPECT_EQ(volume.settings().replicas(), 3u);
  EXPECT_EQ(nodes_.ReplicaCount(), 3u);
  EXPECT_EQ(CopiesOf(volume.id()).size(), 3u);
  EXPECT_TRUE(nodes_.EnginesOf(volume.id()).empty());
}

TEST_F(VolumesTest, ARepeatedCallFindsTheVolumeAndAnotherWishIsRefused) {
  const api::Volume volume = MustCreate(Ask("pvc-1"));
  EXPECT_EQ(MustCreate(Ask("pvc-1")).id(), volume.id());
  Restart();
  EXPECT_EQ(MustCreate(Ask("pvc-1")).id(), volume.id());
  EXPECT_EQ(nodes_.ReplicaCount(), 3u);
  EXPECT_TRUE(absl::IsAlreadyExists(controller_->CreateVolume(Ask("pvc-1", 2 * kGiB)).status()));
  EXPECT_TRUE(absl::IsAlreadyExists(
      controller_->CreateVolume(Ask("pvc-1", kGiB, {{"replicas", "2"}})).status()));
}

TEST_F(VolumesTest, SizesAreWhatWasAskedForOrRefused) {
  EXPECT_EQ(MustCreate(Ask("none", 0)).capacity_bytes(), 10 * kGiB);
  EXPECT_EQ(MustCreate(Ask("odd", kGiB + 1)).capacity_bytes(), kGiB + 4096);
  api::CreateVolumeRequest exact = Ask("exact", kGiB + 1);
  exact.set_limit_bytes(kGiB + 1);
  EXPECT_TRUE(absl::IsOutOfRange(controller_->CreateVolume(exact).status()));
  exact.set_limit_bytes(kGiB);
  EXPECT_TRUE(absl::IsInvalidArgument(controller_->CreateVolume(exact).status()));
  api::CreateVolumeRequest below = Ask("below", 0);
  below.set_limit_bytes(3 * kGiB);
  EXPECT_EQ(MustCreate(below).capacity_bytes(), 3 * kGiB);
  EXPECT_TRUE(
      absl::IsOutOfRange(controller_->CreateVolume(Ask("huge", std::uint64_t{1} << 60)).status()));
}

TEST_F(VolumesTest, WhatCannotBePlacedSaysWhyForEachNode) {
  const absl::Status full = controller_->CreateVolume(Ask("large", 900 * kGiB)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  const absl::Status five =
      controller_->CreateVolume(Ask("five", kGiB, {{"replicas", "5"}})).status();
  EXPECT_TRUE(absl::IsResourceExhausted(five)) << five;
  EXPECT_EQ(nodes_.ReplicaCount(), 0u);
  EXPECT_EQ(store_.List(Kind::kVolume)->records.size(), 0u);
}

// A volume with copies can be used everywhere, so that where it is to be used binds none of them
// for good; a local one is where it is used.
TEST_F(VolumesTest, GoesWhereItIsToBeUsedIfItCan) {
  const auto at = [](const std::string& node) {
    api::Topology topology;
    (*topology.mutable_segments())[kTopologyNode] = node;
    return topology;
  };
  api::CreateVolumeRequest request = Ask("one", kGiB);
  *request.add_requisite() = at("d");
  const std::vector<std::string> copies = CopiesOf(MustCreate(request).id());
  EXPECT_EQ(copies.size(), 3u);
  EXPECT_EQ(std::count(copies.begin(), copies.end(), "d"), 1);
  request = Ask("three", kGiB);
  for (const char* const node : {"b", "c", "d"}) *request.add_requisite() = at(node);
  EXPECT_EQ(CopiesOf(MustCreate(request).id()), (std::vector<std::string>{"b", "c", "d"}));
  request = Ask("local", kGiB, {{"replicas", "1"}, {"dataLocality", "strictLocal"}});
  *request.add_requisite() = at("c");
  const api::Volume local = MustCreate(request);
  EXPECT_EQ(CopiesOf(local.id()), std::vector<std::string>{"c"});
  ASSERT_EQ(local.accessible_size(), 1);
  EXPECT_EQ(local.accessible(0).segments().at(kTopologyNode), "c");
}

TEST_F(VolumesTest, BadRequestsAreNamed) {
  const auto refused = [&](const api::CreateVolumeRequest& request, const std::string& what) {
    const absl::Status status = controller_->CreateVolume(request).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << what << ": " << status;
    EXPECT_NE(std::string(status.message()).find(what), std::string::npos) << status;
  };
  refused(Ask(""), "name");
  refused(Ask(std::string(129, 'x')), "name");
  refused(Ask("a\nb"), "name");
  refused(Ask("v", kGiB, {{"replicass", "3"}}), "replicass");
  refused(Ask("v", kGiB, {{"replicas", "6"}}), "replicas");
  refused(Ask("v", kGiB, {{"encrypted", "true"}}), "encrypted");
  api::CreateVolumeRequest request = Ask("v");
  request.clear_capabilities();
  refused(request, "volume_capabilities");
  request = Ask("v");
  *request.mutable_capabilities(0) = Mount(api::MULTI_NODE_MULTI_WRITER);
  refused(request, "ReadWriteMany");
  request = Ask("v");
  request.mutable_capabilities(0)->set_fs_type("ntfs");
  refused(request, "ntfs");
  EXPECT_TRUE(absl::IsNotFound(controller_
                                   ->GetVolume([] {
                                     api::GetVolumeRequest get;
                                     get.set_volume_id("../../etc/passwd");
                                     return get;
                                   }())
                                   .status()));
}

TEST_F(VolumesTest, ADeletedVolumeIsGoneEverywhereAndItsNameIsFree) {
  const api::Volume volume = MustCreate(Ask("pvc-1"));
  EXPECT_TRUE(Delete(volume.id()).ok());
  EXPECT_TRUE(Delete(volume.id()).ok());
  EXPECT_TRUE(Delete("ks-00000000000000000000-0-00000000").ok());
  EXPECT_TRUE(Delete("whatever").ok());
  EXPECT_EQ(nodes_.ReplicaCount(), 0u);
  EXPECT_EQ(store_.List(Kind::kVolume)->records.size(), 0u);
  EXPECT_NE(MustCreate(Ask("pvc-1")).id(), volume.id());
}

TEST_F(VolumesTest, ReplicasOnANodeThatIsAwayAreDeletedWhenItAnswers) {
  const api::Volume volume = MustCreate(Ask("pvc-1"));
  const std::string away = CopiesOf(volume.id()).front();
  nodes_.SetDown(away, true);
  Pass(30);
  EXPECT_TRUE(Delete(volume.id()).ok());
  EXPECT_EQ(nodes_.ReplicaCount(), 1u);
  // Its name can be used at once.
  const api::Volume next = MustCreate(Ask("pvc-1"));
  EXPECT_NE(next.id(), volume.id());
  nodes_.SetDown(away, false);
  Pass(60);
  EXPECT_EQ(nodes_.ReplicaCount(), 3u);
  EXPECT_EQ(MustCreate(Ask("pvc-1")).id(), next.id());
}

TEST_F(VolumesTest, AnotherPlaceIsTakenWhenANodeRefuses) {
  nodes_.FailNext("CreateReplica", absl::ResourceExhaustedError("the pool is full"));
  const api::Volume volume = MustCreate(Ask("pvc-1"));
  EXPECT_EQ(CopiesOf(volume.id()).size(), 3u);
  Pass(60);
  EXPECT_EQ(nodes_.ReplicaCount(), 3u) << "what was made in vain is left over";
}

TEST_F(VolumesTest, ListsInPages) {
  std::set<std::string> made;
  for (int i = 0; i < 5; ++i) made.insert(MustCreate(Ask(absl::StrCat("v", i))).id());
  std::set<std::string> listed;
  api::ListVolumesRequest request;
  request.set_max_entries(2);
  for (int page = 0; page < 3; ++page) {
    const auto response = controller_->ListVolumes(request);
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->volumes_size(), page < 2 ? 2 : 1);
    EXPECT_EQ(response->next_token().empty(), page == 2);
    for (const api::Volume& volume : response->volumes()) listed.insert(volume.id());
    request.set_starting_token(response->next_token());
  }
  EXPECT_EQ(listed, made);
  request.set_starting_token("nonsense\nevent=forged");
  const absl::Status refused = controller_->ListVolumes(request).status();
  EXPECT_TRUE(absl::IsAborted(refused));
  EXPECT_EQ(std::string(refused.message()).find("forged"), std::string::npos);
}

TEST_F(VolumesTest, GrowsWhetherPublishedOrNot) {
  const api::Volume volume = MustCreate(Ask("pvc-1"));
  api::ExpandVolumeRequest request;
  request.set_volume_id(volume.id());
  request.set_required_bytes(2 * kGiB);
  auto grown = controller_->ExpandVolume(request);
  ASSERT_TRUE(grown.ok()) << grown.status();
  EXPECT_EQ(grown->capacity_bytes(), 2 * kGiB);
  EXPECT_EQ(nodes_.SizeOf(volume.id()), 2 * kGiB);
  Pass(10);
  EXPECT_TRUE(nodes_.EnginesOf(volume.id()).empty()) << "an engine for maintenance is left";
  ASSERT_TRUE(Publish(volume.id(), "a").ok());
  request.set_required_bytes(3 * kGiB);
  EXPECT_TRUE(controller_->ExpandVolume(request).ok());
  EXPECT_EQ(nodes_.SizeOf(volume.id()), 3 * kGiB);
  request.set_required_bytes(kGiB);  // it is large enough
  EXPECT_EQ(controller_->ExpandVolume(request)->capacity_bytes(), 3 * kGiB);
}

TEST_F(VolumesTest, ModifiesAllOfTheKeysOrNone) {
  const api::Volume volume = MustCreate(Ask("pvc-1"));
  api::ModifyVolumeRequest request;
  request.set_volume_id(volume.id());
  (*request.mutable_mutable_parameters())["iops"] = "500";
  (*request.mutable_mutable_parameters())["zoneSpread"] = "true";
  EXPECT_TRUE(absl::IsInvalidArgument(controller_->ModifyVolume(request)));
  api::GetVolumeRequest get;
  get.set_volume_id(volume.id());
  EXPECT_EQ(controller_->GetVolume(get)->settings().iops(), 0u);
  request.mutable_mutable_parameters()->erase("zoneSpread");
  EXPECT_TRUE(controller_->ModifyVolume(request).ok());
  EXPECT_EQ(controller_->GetVolume(get)->settings().iops(), 500u);
}

TEST_F(VolumesTest, LimitsReachTheEngineWhenItStartsAndWhenTheyChange) {
  const api::Volume volume = MustCreate(Ask("pvc-1", kGiB, {{"iops", "300"}}));
  ASSERT_TRUE(Publish(volume.id(), "a").ok());
  EXPECT_EQ(nodes_.QosOf(volume.id()).iops(), 300u);
  api::ModifyVolumeRequest request;
  request.set_volume_id(volume.id());
  (*request.mutable_mutable_parameters())["bandwidth"] = "1Mi";
  ASSERT_TRUE(controller_->ModifyVolume(request).ok());
  Pass(5);
  EXPECT_EQ(nodes_.QosOf(volume.id()).iops(), 300u);
  EXPECT_EQ(nodes_.QosOf(volume.id()).bandwidth_bytes_per_second(), 1u << 20);
}

TEST_F(VolumesTest, TellsTheCapacityOfTheCluster) {
  api::GetCapacityRequest request;
  const auto before = controller_->GetCapacity(request);
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_GT(before->available_bytes(), 0u);
  EXPECT_GT(before->largest_volume_bytes(), 0u);
  MustCreate(Ask("pvc-1", 50 * kGiB));
  EXPECT_LT(controller_->GetCapacity(request)->available_bytes(), before->available_bytes());
}

}  // namespace
}  // namespace keelson::provisioner
