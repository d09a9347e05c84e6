#include "csi/controller.h"

#include <gmock/gmock.h>

#include "tests/unit/csi/csi_fixture.h"

namespace keelson::csi {
namespace {

using grpc::StatusCode;
using ::testing::HasSubstr;
using Stub = pb::Controller::Stub;

class ControllerTest : public CsiTest {
 protected:
  explicit ControllerTest(bool alpha = false) : CsiTest(alpha) {}

  template <class Request, class Response>
  StatusCode Code(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                  const Request& request) {
    Response response;
    const grpc::Status status = Ask(*controller_stub_, method, request, &response);
    EXPECT_TRUE(status.ok() || !status.error_message().empty());
    EXPECT_EQ(status.error_details(), "");
    return status.error_code();
  }
  StatusCode CreateCode(const pb::CreateVolumeRequest& request) {
    return Create(request).error_code();
  }
};

class AlphaControllerTest : public ControllerTest {
 protected:
  AlphaControllerTest() : ControllerTest(true) {}
};

TEST_F(ControllerTest, CreateVolumeGivesTheBytesThatWereAskedFor) {
  ASSERT_EQ(CreateCode(CreateRequest("a", 300 << 20, 300 << 20)), StatusCode::OK);
  EXPECT_EQ(created_.volume().capacity_bytes(), 300 << 20);
  EXPECT_TRUE(created_.volume().volume_context().empty());
  ASSERT_EQ(CreateCode(CreateRequest("b")), StatusCode::OK);
  EXPECT_EQ(created_.volume().capacity_bytes(), kGib);
}

TEST_F(ControllerTest, CreateVolumeTwiceIsOneVolumeAndAnotherSizeIsRefused) {
  ASSERT_EQ(CreateCode(CreateRequest("a", kGib)), StatusCode::OK);
  const std::string id = created_.volume().volume_id();
  ASSERT_EQ(CreateCode(CreateRequest("a", kGib)), StatusCode::OK);
  EXPECT_EQ(created_.volume().volume_id(), id);
  ASSERT_EQ(CreateCode(CreateRequest("a", kGib / 2, 2 * kGib)), StatusCode::OK);
  EXPECT_EQ(CreateCode(CreateRequest("a", 2 * kGib)), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(CreateCode(CreateRequest("a", 1, kGib / 2)), StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(cluster_.volume_count(), 1u);
}

TEST_F(ControllerTest, CreateVolumeRefusesMalformedRequestsBeforeAskingAnybody) {
  EXPECT_EQ(CreateCode(CreateRequest("")), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(CreateCode(CreateRequest(std::string(129, 'n'))), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(CreateCode(CreateRequest("n", -1)), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(CreateCode(CreateRequest("n", 2, 1)), StatusCode::INVALID_ARGUMENT);
  pb::CreateVolumeRequest request = CreateRequest("n");
  request.clear_volume_capabilities();
  EXPECT_EQ(CreateCode(request), StatusCode::INVALID_ARGUMENT);
  request = CreateRequest("n");
  request.mutable_volume_content_source();
  EXPECT_EQ(CreateCode(request), StatusCode::INVALID_ARGUMENT);
  *request.mutable_volume_capabilities(0) = Mount(Mode::MULTI_NODE_MULTI_WRITER);
  request.clear_volume_content_source();
  const grpc::Status status = Create(request);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("volumeMode: Block"));
  EXPECT_EQ(cluster_.Last("CreateVolume"), "");
}

TEST_F(ControllerTest, ReservedParametersAreIgnoredAndUnknownOnesAreRefused) {
  pb::CreateVolumeRequest request = CreateRequest("a");
  (*request.mutable_parameters())["csi.storage.k8s.io/pvc/name"] = "claim";
  (*request.mutable_parameters())["replicas"] = "3";
  (*request.mutable_mutable_parameters())["storage.kubernetes.io/x"] = "y";
  (*request.mutable_mutable_parameters())["iops"] = "100";
  ASSERT_EQ(CreateCode(request), StatusCode::OK);
  EXPECT_THAT(cluster_.Last("CreateVolume"), HasSubstr("replicas"));
  EXPECT_THAT(cluster_.Last("CreateVolume"), HasSubstr("iops"));
  EXPECT_THAT(cluster_.Last("CreateVolume"), ::testing::Not(HasSubstr("k8s.io")));
  request.set_name("b");
  (*request.mutable_parameters())["replicsa"] = "3";
  EXPECT_EQ(CreateCode(request), StatusCode::INVALID_ARGUMENT);
}

TEST_F(ControllerTest, AVolumeFromASourceNamesItAndIsNotSmaller) {
  ASSERT_EQ(CreateCode(CreateRequest("a", kGib)), StatusCode::OK);
  const std::string source = created_.volume().volume_id();
  pb::CreateVolumeRequest request = CreateRequest("b", 2 * kGib);
  request.mutable_volume_content_source()->mutable_volume()->set_volume_id(source);
  ASSERT_EQ(CreateCode(request), StatusCode::OK);
  EXPECT_EQ(created_.volume().content_source().volume().volume_id(), source);
  EXPECT_EQ(created_.volume().capacity_bytes(), 2 * kGib);
  request.set_name("c");
  request.mutable_capacity_range()->set_required_bytes(kGib / 2);
  EXPECT_EQ(CreateCode(request), StatusCode::OUT_OF_RANGE);
  for (const char* missing : {"ks-77", "No such id", "../x"}) {
    request.mutable_volume_content_source()->mutable_volume()->set_volume_id(missing);
    EXPECT_EQ(CreateCode(request), StatusCode::NOT_FOUND) << missing;
    request.mutable_volume_content_source()->mutable_snapshot()->set_snapshot_id(missing);
    EXPECT_EQ(CreateCode(request), StatusCode::NOT_FOUND) << missing;
  }
}

TEST_F(ControllerTest, TopologyGoesThroughInBothForms) {
  pb::CreateVolumeRequest request = CreateRequest("a");
  (*request.mutable_accessibility_requirements()->add_requisite()->mutable_segments())["r"] = "1";
  (*request.mutable_accessibility_requirements()->add_preferred()->mutable_segments())["p"] = "2";
  ASSERT_EQ(CreateCode(request), StatusCode::OK);
  EXPECT_THAT(cluster_.Last("CreateVolume"), HasSubstr("requisite { segments { key: \"r\""));
  EXPECT_THAT(cluster_.Last("CreateVolume"), HasSubstr("preferred { segments { key: \"p\""));
  cluster_.Change(created_.volume().volume_id(), [](control::Volume* volume) {
    (*volume->add_accessible()->mutable_segments())["k"] = "v";
  });
  ASSERT_EQ(CreateCode(request), StatusCode::OK);
  ASSERT_EQ(created_.volume().accessible_topology_size(), 1);
  EXPECT_EQ(created_.volume().accessible_topology(0).segments().at("k"), "v");
}

TEST_F(ControllerTest, TheProvisionersErrorsKeepTheirCodesAndNeverLackAMessage) {
  for (const absl::Status& status :
       {absl::ResourceExhaustedError("full"), absl::OutOfRangeError("large"),
        absl::AbortedError(""), absl::UnavailableError(""), absl::DeadlineExceededError("slow")}) {
    cluster_.Refuse("CreateVolume", status);
    const grpc::Status answer = Create(CreateRequest("a"));
    EXPECT_EQ(static_cast<int>(answer.error_code()), static_cast<int>(status.code()));
    EXPECT_NE(answer.error_message(), "");
    EXPECT_EQ(answer.error_details(), "");
  }
  cluster_.Refuse("CreateVolume", absl::UnknownError("?"));
  EXPECT_EQ(CreateCode(CreateRequest("a")), StatusCode::INTERNAL);
}

TEST_F(ControllerTest, DeletingWhatDoesNotExistIsDone) {
  pb::DeleteVolumeRequest request;
  EXPECT_EQ(Code(&Stub::DeleteVolume, request), StatusCode::INVALID_ARGUMENT);
  for (const char* id : {"ks-77", "Not An Id", "../../etc"}) {
    request.set_volume_id(id);
    EXPECT_EQ(Code(&Stub::DeleteVolume, request), StatusCode::OK) << id;
  }
  EXPECT_THAT(cluster_.Last("DeleteVolume"), HasSubstr("ks-77"));
}

TEST_F(ControllerTest, APublishedVolumeIsNotDeletedUntilItIsUnpublished) {
  const std::string id = Attach("a", Mount(Mode::SINGLE_NODE_MULTI_WRITER));
  pb::DeleteVolumeRequest request;
  request.set_volume_id(id);
  EXPECT_EQ(Code(&Stub::DeleteVolume, request), StatusCode::FAILED_PRECONDITION);
  pb::ControllerUnpublishVolumeRequest unpublish;
  EXPECT_EQ(Code(&Stub::ControllerUnpublishVolume, unpublish), StatusCode::INVALID_ARGUMENT);
  unpublish.set_volume_id(id);
  EXPECT_EQ(Code(&Stub::ControllerUnpublishVolume, unpublish), StatusCode::OK);
  EXPECT_EQ(Code(&Stub::ControllerUnpublishVolume, unpublish), StatusCode::OK);
  EXPECT_EQ(Code(&Stub::DeleteVolume, request), StatusCode::OK);
  unpublish.set_node_id("gone");
  EXPECT_EQ(Code(&Stub::ControllerUnpublishVolume, unpublish), StatusCode::OK);
}

TEST_F(ControllerTest, PublishHandsTheContextThroughAndHasTheErrorsOfTheTable) {
  const auto capability = Mount(Mode::SINGLE_NODE_WRITER);
  const std::string id = Attach("a", capability);
  EXPECT_EQ(published_[id].publish_context().at("keelson.io/attachment"), "1");
  pb::ControllerPublishVolumeRequest request;
  EXPECT_EQ(Code(&Stub::ControllerPublishVolume, request), StatusCode::INVALID_ARGUMENT);
  request.set_volume_id(id);
  EXPECT_EQ(Code(&Stub::ControllerPublishVolume, request), StatusCode::INVALID_ARGUMENT);
  request.set_node_id("node-a");
  EXPECT_EQ(Code(&Stub::ControllerPublishVolume, request), StatusCode::INVALID_ARGUMENT);
  *request.mutable_volume_capability() = capability;
  EXPECT_EQ(Code(&Stub::ControllerPublishVolume, request), StatusCode::OK);
  request.set_readonly(true);
  EXPECT_EQ(Code(&Stub::ControllerPublishVolume, request), StatusCode::ALREADY_EXISTS);
  for (const char* node : {"node-b", "no/node"}) {
    request.set_node_id(node);
    EXPECT_EQ(Code(&Stub::ControllerPublishVolume, request), StatusCode::NOT_FOUND) << node;
  }
  request.set_node_id("node-a");
  for (const char* volume : {"ks-77", "No Volume"}) {
    request.set_volume_id(volume);
    EXPECT_EQ(Code(&Stub::ControllerPublishVolume, request), StatusCode::NOT_FOUND) << volume;
  }
}

TEST_F(ControllerTest, ValidationConfirmsWhatCanBeAndSaysWhyNot) {
  ASSERT_EQ(CreateCode(CreateRequest("a")), StatusCode::OK);
  pb::ValidateVolumeCapabilitiesRequest request;
  EXPECT_EQ(Code(&Stub::ValidateVolumeCapabilities, request), StatusCode::INVALID_ARGUMENT);
  request.set_volume_id("ks-77");
  EXPECT_EQ(Code(&Stub::ValidateVolumeCapabilities, request), StatusCode::INVALID_ARGUMENT);
  *request.add_volume_capabilities() = Mount(Mode::SINGLE_NODE_WRITER);
  EXPECT_EQ(Code(&Stub::ValidateVolumeCapabilities, request), StatusCode::NOT_FOUND);
  request.set_volume_id(created_.volume().volume_id());
  (*request.mutable_volume_context())["storage.kubernetes.io/csiProvisionerIdentity"] = "x";
  pb::ValidateVolumeCapabilitiesResponse response;
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ValidateVolumeCapabilities, request, &response).ok());
  EXPECT_EQ(response.confirmed().volume_capabilities_size(), 1);
  *request.add_volume_capabilities() = Mount(Mode::MULTI_NODE_MULTI_WRITER);
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ValidateVolumeCapabilities, request, &response).ok());
  EXPECT_FALSE(response.has_confirmed());
  EXPECT_NE(response.message(), "");
}

TEST_F(ControllerTest, ListVolumesPagesAndTellsWhereEachIsServed) {
  const std::string id = Attach("a", Mount(Mode::SINGLE_NODE_WRITER));
  for (const char* name : {"b", "c", "d"}) ASSERT_TRUE(Create(CreateRequest(name)).ok());
  pb::ListVolumesRequest request;
  request.set_max_entries(3);
  pb::ListVolumesResponse page;
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ListVolumes, request, &page).ok());
  ASSERT_EQ(page.entries_size(), 3);
  EXPECT_EQ(page.entries(0).status().published_node_ids_size(), 1);
  EXPECT_EQ(page.entries(1).status().published_node_ids_size(), 0);
  request.set_max_entries(0);
  request.set_starting_token(page.next_token());
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ListVolumes, request, &page).ok());
  EXPECT_EQ(page.entries_size(), 1);
  EXPECT_EQ(page.next_token(), "");
  request.set_starting_token("bad");
  EXPECT_EQ(Code(&Stub::ListVolumes, request), StatusCode::ABORTED);
  request.set_max_entries(-1);
  EXPECT_EQ(Code(&Stub::ListVolumes, request), StatusCode::INVALID_ARGUMENT);
  // One that is recorded and not served yet is not published.
  cluster_.Change(
      id, [](control::Volume* volume) { volume->mutable_publications(0)->set_attached(false); });
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ListVolumes, pb::ListVolumesRequest(), &page).ok());
  EXPECT_EQ(page.entries(0).status().published_node_ids_size(), 0);
}

TEST_F(ControllerTest, CapacityNamesTheLargestVolumeAndIsNothingForWhatCannotBe) {
  pb::GetCapacityRequest request;
  pb::GetCapacityResponse response;
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::GetCapacity, request, &response).ok());
  EXPECT_GT(response.available_capacity(), 0);
  EXPECT_EQ(response.maximum_volume_size().value(), response.available_capacity() / 2);
  *request.add_volume_capabilities() = Mount(Mode::MULTI_NODE_MULTI_WRITER);
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::GetCapacity, request, &response).ok());
  EXPECT_EQ(response.available_capacity(), 0);
}

TEST_F(ControllerTest, ExpandHasTheErrorsOfTheTableAndTellsWhetherTheNodeMustAct) {
  ASSERT_TRUE(Create(CreateRequest("a", kGib)).ok());
  pb::ControllerExpandVolumeRequest request;
  EXPECT_EQ(Code(&Stub::ControllerExpandVolume, request), StatusCode::INVALID_ARGUMENT);
  request.set_volume_id(created_.volume().volume_id());
  EXPECT_EQ(Code(&Stub::ControllerExpandVolume, request), StatusCode::INVALID_ARGUMENT);
  request.mutable_capacity_range()->set_required_bytes(2 * kGib);
  pb::ControllerExpandVolumeResponse response;
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ControllerExpandVolume, request, &response).ok());
  EXPECT_EQ(response.capacity_bytes(), 2 * kGib);
  EXPECT_TRUE(response.node_expansion_required());
  *request.mutable_volume_capability() = Block(Mode::SINGLE_NODE_WRITER);
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ControllerExpandVolume, request, &response).ok());
  EXPECT_FALSE(response.node_expansion_required());
  *request.mutable_volume_capability() = Mount(Mode::MULTI_NODE_MULTI_WRITER);
  EXPECT_EQ(Code(&Stub::ControllerExpandVolume, request), StatusCode::INVALID_ARGUMENT);
  request.clear_volume_capability();
  request.mutable_capacity_range()->set_required_bytes(std::int64_t{1} << 50);
  EXPECT_EQ(Code(&Stub::ControllerExpandVolume, request), StatusCode::OUT_OF_RANGE);
  request.set_volume_id("ks-77");
  EXPECT_EQ(Code(&Stub::ControllerExpandVolume, request), StatusCode::NOT_FOUND);
}

TEST_F(ControllerTest, ModifyHandsKeysThroughAndRefusesUnknownOnes) {
  ASSERT_TRUE(Create(CreateRequest("a")).ok());
  pb::ControllerModifyVolumeRequest request;
  EXPECT_EQ(Code(&Stub::ControllerModifyVolume, request), StatusCode::INVALID_ARGUMENT);
  request.set_volume_id(created_.volume().volume_id());
  (*request.mutable_mutable_parameters())["iops"] = "5";
  EXPECT_EQ(Code(&Stub::ControllerModifyVolume, request), StatusCode::OK);
  (*request.mutable_mutable_parameters())["XXX_FakeKey"] = "5";
  EXPECT_EQ(Code(&Stub::ControllerModifyVolume, request), StatusCode::INVALID_ARGUMENT);
  request.set_volume_id("non-existing-volume-id");
  EXPECT_EQ(Code(&Stub::ControllerModifyVolume, request), StatusCode::NOT_FOUND);
}

TEST_F(ControllerTest, SnapshotsAreMadeOnceListedByFilterAndDeleted) {
  ASSERT_TRUE(Create(CreateRequest("a")).ok());
  pb::CreateSnapshotRequest request;
  EXPECT_EQ(Code(&Stub::CreateSnapshot, request), StatusCode::INVALID_ARGUMENT);
  request.set_name("s");
  EXPECT_EQ(Code(&Stub::CreateSnapshot, request), StatusCode::INVALID_ARGUMENT);
  request.set_source_volume_id("No Volume");
  EXPECT_EQ(Code(&Stub::CreateSnapshot, request), StatusCode::NOT_FOUND);
  request.set_source_volume_id(created_.volume().volume_id());
  pb::CreateSnapshotResponse made;
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::CreateSnapshot, request, &made).ok());
  EXPECT_TRUE(made.snapshot().ready_to_use());
  EXPECT_EQ(made.snapshot().size_bytes(), kGib);
  EXPECT_EQ(made.snapshot().creation_time().seconds(), 1'700'000'000);
  const std::string id = made.snapshot().snapshot_id();
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::CreateSnapshot, request, &made).ok());
  EXPECT_EQ(made.snapshot().snapshot_id(), id);
  ASSERT_TRUE(Create(CreateRequest("b")).ok());
  request.set_source_volume_id(created_.volume().volume_id());
  EXPECT_EQ(Code(&Stub::CreateSnapshot, request), StatusCode::ALREADY_EXISTS);

  pb::ListSnapshotsRequest list;
  pb::ListSnapshotsResponse found;
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ListSnapshots, list, &found).ok());
  EXPECT_EQ(found.entries_size(), 1);
  for (const char* none : {"kss-77", "No Such"}) {
    list.set_snapshot_id(none);
    ASSERT_TRUE(Ask(*controller_stub_, &Stub::ListSnapshots, list, &found).ok()) << none;
    EXPECT_EQ(found.entries_size(), 0);
  }
  list.set_snapshot_id("");
  list.set_starting_token("bad");
  EXPECT_EQ(Code(&Stub::ListSnapshots, list), StatusCode::ABORTED);

  pb::DeleteSnapshotRequest remove;
  EXPECT_EQ(Code(&Stub::DeleteSnapshot, remove), StatusCode::INVALID_ARGUMENT);
  remove.set_snapshot_id(id);
  EXPECT_EQ(Code(&Stub::DeleteSnapshot, remove), StatusCode::OK);
  EXPECT_EQ(Code(&Stub::DeleteSnapshot, remove), StatusCode::OK);
}

TEST_F(ControllerTest, GroupsAreCutFoundAndDeletedTogether) {
  using Group = pb::GroupController::Stub;
  pb::CreateVolumeGroupSnapshotRequest request;
  pb::CreateVolumeGroupSnapshotResponse made;
  const auto code = [&] {
    return Ask(*group_stub_, &Group::CreateVolumeGroupSnapshot, request, &made).error_code();
  };
  EXPECT_EQ(code(), StatusCode::INVALID_ARGUMENT);
  request.set_name("g");
  EXPECT_EQ(code(), StatusCode::INVALID_ARGUMENT);
  for (const char* name : {"a", "b"}) {
    ASSERT_TRUE(Create(CreateRequest(name)).ok());
    request.add_source_volume_ids(created_.volume().volume_id());
  }
  ASSERT_EQ(code(), StatusCode::OK);
  ASSERT_EQ(made.group_snapshot().snapshots_size(), 2);
  const std::string id = made.group_snapshot().group_snapshot_id();
  EXPECT_EQ(made.group_snapshot().snapshots(1).group_snapshot_id(), id);
  request.add_source_volume_ids(request.source_volume_ids(0));
  EXPECT_EQ(code(), StatusCode::INVALID_ARGUMENT);
  pb::DeleteSnapshotRequest member;
  member.set_snapshot_id(made.group_snapshot().snapshots(0).snapshot_id());
  EXPECT_EQ(Code(&Stub::DeleteSnapshot, member), StatusCode::INVALID_ARGUMENT);

  pb::GetVolumeGroupSnapshotRequest get;
  pb::GetVolumeGroupSnapshotResponse got;
  get.set_group_snapshot_id(id);
  get.add_snapshot_ids("kss-77");
  EXPECT_EQ(Ask(*group_stub_, &Group::GetVolumeGroupSnapshot, get, &got).error_code(),
            StatusCode::INVALID_ARGUMENT);
  get.clear_snapshot_ids();
  EXPECT_TRUE(Ask(*group_stub_, &Group::GetVolumeGroupSnapshot, get, &got).ok());
  pb::DeleteVolumeGroupSnapshotRequest remove;
  pb::DeleteVolumeGroupSnapshotResponse removed;
  remove.set_group_snapshot_id(id);
  EXPECT_TRUE(Ask(*group_stub_, &Group::DeleteVolumeGroupSnapshot, remove, &removed).ok());
  EXPECT_TRUE(Ask(*group_stub_, &Group::DeleteVolumeGroupSnapshot, remove, &removed).ok());
  EXPECT_EQ(Ask(*group_stub_, &Group::GetVolumeGroupSnapshot, get, &got).error_code(),
            StatusCode::NOT_FOUND);
}

TEST_F(ControllerTest, WhatIsAlphaIsNeitherAdvertisedNorAnswered) {
  pb::ControllerGetCapabilitiesResponse capabilities;
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ControllerGetCapabilities,
                  pb::ControllerGetCapabilitiesRequest(), &capabilities)
                  .ok());
  EXPECT_EQ(capabilities.capabilities_size(), 12);
  EXPECT_EQ(Code(&Stub::ControllerGetVolume, pb::ControllerGetVolumeRequest()),
            StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(Code(&Stub::GetSnapshot, pb::GetSnapshotRequest()), StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(Code(&Stub::ControllerGetVolumeHealth, pb::ControllerGetVolumeHealthRequest()),
            StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(Code(&Stub::ControllerListVolumeHealth, pb::ControllerListVolumeHealthRequest()),
            StatusCode::UNIMPLEMENTED);
  grpc::ClientContext context;
  pb::GetMetadataAllocatedResponse nothing;
  auto reader = metadata_stub_->GetMetadataAllocated(&context, pb::GetMetadataAllocatedRequest());
  EXPECT_FALSE(reader->Read(&nothing));
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::UNIMPLEMENTED);
}

TEST_F(AlphaControllerTest, HealthListsOnlyVolumesWithAProblem) {
  std::string ill;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(Create(CreateRequest("v" + std::to_string(i))).ok());
    if (i == 3) ill = created_.volume().volume_id();
  }
  cluster_.Change(ill, [](control::Volume* volume) {
    volume->set_problem("one copy is away");
    volume->set_severity(control::DEGRADED);
  });
  pb::ControllerListVolumeHealthRequest list;
  list.set_max_entries(2);
  pb::ControllerListVolumeHealthResponse listed;
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ControllerListVolumeHealth, list, &listed).ok());
  ASSERT_EQ(listed.entries_size(), 1);
  EXPECT_EQ(listed.entries(0).volume_id(), ill);
  ASSERT_EQ(listed.entries(0).health_statuses_size(), 1);
  EXPECT_EQ(listed.entries(0).health_statuses(0).status(), pb::DEGRADED);
  list.set_starting_token(listed.next_token());
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ControllerListVolumeHealth, list, &listed).ok());
  EXPECT_EQ(listed.entries_size(), 0);
  EXPECT_EQ(listed.next_token(), "");

  pb::ControllerGetVolumeHealthRequest get;
  get.set_volume_id(ill);
  pb::ControllerGetVolumeHealthResponse got;
  ASSERT_TRUE(Ask(*controller_stub_, &Stub::ControllerGetVolumeHealth, get, &got).ok());
  EXPECT_EQ(got.volume_health().health_statuses(0).message(), "one copy is away");
  get.set_volume_id("ks-77");
  EXPECT_EQ(Code(&Stub::ControllerGetVolumeHealth, get), StatusCode::NOT_FOUND);
}

TEST_F(AlphaControllerTest, GetSnapshotAndGetVolumeFindOneOrNothing) {
  ASSERT_TRUE(Create(CreateRequest("a")).ok());
  pb::ControllerGetVolumeRequest get;
  get.set_volume_id(created_.volume().volume_id());
  EXPECT_EQ(Code(&Stub::ControllerGetVolume, get), StatusCode::OK);
  get.set_volume_id("ks-77");
  EXPECT_EQ(Code(&Stub::ControllerGetVolume, get), StatusCode::NOT_FOUND);
  pb::GetSnapshotRequest snapshot;
  EXPECT_EQ(Code(&Stub::GetSnapshot, snapshot), StatusCode::INVALID_ARGUMENT);
  snapshot.set_snapshot_id("kss-77");
  EXPECT_EQ(Code(&Stub::GetSnapshot, snapshot), StatusCode::NOT_FOUND);
}

TEST_F(ControllerTest, ProbeIsReadyWhenWhatIsBehindAnswers) {
  using Identity = pb::Identity::Stub;
  pb::ProbeResponse response;
  ASSERT_TRUE(Ask(*identity_stub_, &Identity::Probe, pb::ProbeRequest(), &response).ok());
  EXPECT_TRUE(response.ready().value());
  cluster_.Refuse("GetNode", absl::UnavailableError("starting"));
  ASSERT_TRUE(Ask(*identity_stub_, &Identity::Probe, pb::ProbeRequest(), &response).ok());
  EXPECT_FALSE(response.ready().value());
}

}  // namespace
}  // namespace keelson::csi
