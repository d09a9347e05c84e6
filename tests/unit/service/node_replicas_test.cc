// Replicas and attachments by a target, through a Node that holds all members itself.

#include <gtest/gtest.h>

#include <thread>

#include "blockstore/pool/ids.h"
#include "tests/unit/service/nbd_client.h"
#include "tests/unit/service/node_fixture.h"

namespace keelson::service {
namespace {

class NodeReplicasTest : public NodeFixture {
 protected:
  static constexpr std::uint64_t kSize = 8 * kMebi;

  void SetUp() override {
    NodeFixture::SetUp();
    if (IsSkipped()) return;
    for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(CreatePool(name).ok());
    for (const v1::Pool& pool : Pools()) members_.push_back(MemberIn(pool));
  }

  static v1::Member MemberIn(const v1::Pool& pool) {
    v1::Member member;
    member.set_pool_id(pool.id());
    member.set_replica_id(pool::Uuid::Random().ToString());
    member.set_incarnation(pool.incarnation());
    member.set_state(v1::MEMBER_STATE_IN_SYNC);
    return member;
  }
  absl::Status CreateReplica(const v1::Member& member, std::size_t count,
                             std::uint64_t size_bytes = kSize) {
    v1::CreateReplicaRequest request;
    request.set_volume_id(volume_id_);
    request.set_volume("vol");
    request.set_replica_id(member.replica_id());
    request.set_pool(member.pool_id());
    request.set_size_bytes(size_bytes);
    request.set_segment(segment_);
    request.set_segment_count(segment_ + 1);
    request.set_segment_bytes(segment_bytes_);
    for (std::size_t i = 0; i < count; ++i) *request.add_members() = members_[i];
    v1::CreateReplicaResponse response;
    return node_->CreateReplica(request, &response);
  }
  absl::StatusOr<std::string> AttachTarget(std::uint64_t attachment) {
    v1::AttachVolumeRequest request;
    request.set_name("vol");
    request.mutable_target()->set_volume_id(volume_id_);
    request.mutable_target()->set_attachment(attachment);
    request.mutable_target()->set_segment_bytes(segment_bytes_);
    v1::SegmentHint* hint = request.mutable_target()->add_segments();
    for (const v1::Member& member : members_) *hint->add_members() = member;
    hint->set_force_from_replica_id(force_from_);
    v1::AttachVolumeResponse response;
    const absl::Status status = node_->AttachVolume(request, &response);
    if (!status.ok()) return status;
    return response.uri();
  }
  v1::GetVolumeStatusResponse Status() {
    v1::GetVolumeStatusRequest request;
    request.set_name("vol");
    v1::GetVolumeStatusResponse response;
    const absl::Status status = node_->GetVolumeStatus(request, &response);
    EXPECT_TRUE(status.ok()) << status;
    return response;
  }
  std::vector<v1::Replica> Replicas() {
    v1::ListReplicasResponse response;
    EXPECT_TRUE(node_->ListReplicas({}, &response).ok());
    return {response.replicas().begin(), response.replicas().end()};
  }
  void MakeThreeCopies() {
    for (const v1::Member& member : members_) ASSERT_TRUE(CreateReplica(member, 3).ok());
  }

  const std::string volume_id_ = pool::Uuid::Random().ToString();
  std::vector<v1::Member> members_;
  std::uint32_t segment_ = 0;  // of the replicas that follow
  std::uint64_t segment_bytes_ = 0;
  std::string force_from_;  // of the attachments that follow
};
INSTANTIATE_TEST_SUITE_P(DefaultBackend, NodeReplicasTest, testing::Values(io::Backend::kAuto));

TEST_P(NodeReplicasTest, MakesAReplicaOnce) {
  ASSERT_TRUE(CreateReplica(members_[0], 3).ok());
  ASSERT_TRUE(CreateReplica(members_[0], 3).ok());
  const std::vector<v1::Replica> replicas = Replicas();
  ASSERT_EQ(replicas.size(), 1u);
  EXPECT_EQ(replicas[0].volume(), "vol");
  EXPECT_EQ(replicas[0].configuration().members_size(), 3);
  EXPECT_FALSE(replicas[0].in_session());
  EXPECT_FALSE(replicas[0].restarted());
  EXPECT_TRUE(Volumes().empty()) << "a replica alone is no volume of this daemon";
}

TEST_P(NodeReplicasTest, ServesAVolumeOfThreeCopies) {
  MakeThreeCopies();
  const absl::StatusOr<std::string> uri = AttachTarget(1);
  ASSERT_TRUE(uri.ok()) << uri.status();
  EXPECT_EQ(*AttachTarget(1), *uri) << "asked again, it is attached already";
  const std::unique_ptr<NbdClient> client = NbdClient::Connect(*uri);
  ASSERT_NE(client, nullptr);
  EXPECT_EQ(client->Write(0, std::string(4096, 'x')), 0);
  const v1::GetVolumeStatusResponse status = Status();
  EXPECT_TRUE(status.attached());
  EXPECT_EQ(status.size_bytes(), kSize);
  ASSERT_EQ(status.segments_size(), 1);
  for (const v1::MemberStatus& member : status.segments(0).members()) {
    EXPECT_TRUE(member.connected());
    EXPECT_EQ(member.member().state(), v1::MEMBER_STATE_IN_SYNC);
  }
  EXPECT_TRUE(Snapshot("vol", "snap").ok());
  EXPECT_EQ(Snapshots("vol"), std::vector<std::string>{"snap"});
  EXPECT_TRUE(Grow("vol", 2 * kSize).ok());
  EXPECT_EQ(Volumes().at(0).size_bytes(), 2 * kSize);
  EXPECT_TRUE(DeleteSnapshot("vol", "snap").ok());
  EXPECT_TRUE(Detach("vol").ok());
}

TEST_P(NodeReplicasTest, ScrubsAnAttachedVolumeAndShowsIt) {
  MakeThreeCopies();
  v1::ScrubVolumeRequest request;
  request.set_name("vol");
  v1::ScrubVolumeResponse response;
  EXPECT_TRUE(absl::IsNotFound(node_->ScrubVolume(request, &response)));
  const absl::StatusOr<std::string> uri = AttachTarget(1);
  ASSERT_TRUE(uri.ok()) << uri.status();
  const std::unique_ptr<NbdClient> client = NbdClient::Connect(*uri);
  ASSERT_NE(client, nullptr);
  EXPECT_EQ(client->Write(0, std::string(4096, 'x')), 0);
  EXPECT_FALSE(Status().segments(0).has_scrub());
  ASSERT_TRUE(node_->ScrubVolume(request, &response).ok());
  v1::GetVolumeStatusResponse status = Status();
  while (status.segments(0).scrub().running()) status = Status();
  const v1::Scrub& scrub = status.segments(0).scrub();
  EXPECT_EQ(scrub.ended_early(), "");
  EXPECT_EQ(scrub.regions(), 1u);
  EXPECT_EQ(scrub.read_bytes(), 3u * 4096);
  EXPECT_EQ(scrub.bad_blocks(), 0u);
  EXPECT_TRUE(Detach("vol").ok());
}

TEST_P(NodeReplicasTest, ChangesTheMembersOfAnAttachedVolume) {
  ASSERT_TRUE(CreateReplica(members_[0], 1).ok());
  const v1::Member added = members_[1];
  ASSERT_TRUE(CreateReplica(added, 1).ok());
  members_.resize(1);
  v1::AddReplicaRequest add;
  add.set_volume("vol");
  *add.mutable_member() = added;
  v1::AddReplicaResponse add_response;
  EXPECT_TRUE(absl::IsNotFound(node_->AddReplica(add, &add_response))) << "not attached";
  ASSERT_TRUE(AttachTarget(1).ok());
  ASSERT_TRUE(node_->AddReplica(add, &add_response).ok());
  EXPECT_EQ(Status().segments(0).members_size(), 2);
  v1::RemoveReplicaRequest remove;
  remove.set_volume("vol");
  remove.set_replica_id(added.replica_id());
  v1::RemoveReplicaResponse remove_response;
  ASSERT_TRUE(node_->RemoveReplica(remove, &remove_response).ok());
  EXPECT_EQ(Status().segments(0).members_size(), 1);
  remove.set_replica_id("x");
  EXPECT_TRUE(absl::IsInvalidArgument(node_->RemoveReplica(remove, &remove_response)));
}

TEST_P(NodeReplicasTest, SetsHowManyCopiesWritesNeed) {
  MakeThreeCopies();
  v1::SetMinInSyncRequest request;
  request.set_volume("vol");
  request.set_min_in_sync(3);
  v1::SetMinInSyncResponse response;
  EXPECT_TRUE(absl::IsNotFound(node_->SetMinInSync(request, &response))) << "not attached";
  ASSERT_TRUE(AttachTarget(1).ok());
  ASSERT_TRUE(node_->SetMinInSync(request, &response).ok());
  EXPECT_EQ(Status().segments(0).configuration().min_in_sync(), 3u);
  request.set_min_in_sync(4);
  EXPECT_TRUE(absl::IsInvalidArgument(node_->SetMinInSync(request, &response)));
}

TEST_P(NodeReplicasTest, LimitsAndHoldsAreOfAVolumeOfThreeCopiesToo) {
  MakeThreeCopies();
  ASSERT_TRUE(AttachTarget(1).ok());
  v1::SetQosRequest qos;
  qos.set_volume("vol");
  qos.mutable_qos()->set_iops(300);
  v1::SetQosResponse qos_response;
  ASSERT_TRUE(node_->SetQos(qos, &qos_response).ok());
  Restart();
  EXPECT_EQ(Status().qos().iops(), 300u);
  while (!Status().attached()) std::this_thread::yield();
  EXPECT_EQ(Status().qos().iops(), 300u);
  v1::HoldWritesRequest hold;
  hold.set_volume("vol");
  hold.set_hold_id(pool::Uuid::Random().ToString());
  hold.set_limit_ms(10'000);
  v1::HoldWritesResponse hold_response;
  ASSERT_TRUE(node_->HoldWrites(hold, &hold_response).ok());
  v1::CreateSnapshotRequest cut;
  cut.set_volume("vol");
  cut.set_name("s");
  cut.set_hold_id(hold.hold_id());
  v1::CreateSnapshotResponse cut_response;
  ASSERT_TRUE(node_->CreateSnapshot(cut, &cut_response).ok());
  EXPECT_TRUE(cut_response.snapshot().complete());
  v1::ReleaseWritesRequest release;
  release.set_volume("vol");
  release.set_hold_id(hold.hold_id());
  v1::ReleaseWritesResponse release_response;
  EXPECT_TRUE(node_->ReleaseWrites(release, &release_response).ok());
  EXPECT_TRUE(Detach("vol").ok());
  ASSERT_TRUE(AttachTarget(2).ok());
  EXPECT_FALSE(Status().has_qos());
}

TEST_P(NodeReplicasTest, GoesOnFromOneReplicaWhenAskedTo) {
  MakeThreeCopies();
  ASSERT_TRUE(AttachTarget(1).ok());
  ASSERT_TRUE(Detach("vol").ok());
  const v1::Member kept = members_[0];
  for (std::size_t i : {1u, 2u}) {
    v1::DeleteReplicaRequest gone;
    gone.set_pool(members_[i].pool_id());
    gone.set_replica_id(members_[i].replica_id());
    v1::DeleteReplicaResponse response;
    ASSERT_TRUE(node_->DeleteReplica(gone, &response).ok());
  }
  force_from_ = "x";
  EXPECT_TRUE(absl::IsInvalidArgument(AttachTarget(2).status()));
  force_from_ = kept.replica_id();
  ASSERT_TRUE(AttachTarget(3).ok());
  EXPECT_TRUE(Status().segments(0).configuration().forced());
  EXPECT_EQ(Status().segments(0).configuration().forced_attachment(), 3u);
}

TEST_P(NodeReplicasTest, MakesTheMembersOfACloneWhereTheirSourcesAre) {
  MakeThreeCopies();
  const absl::StatusOr<std::string> uri = AttachTarget(1);
  ASSERT_TRUE(uri.ok()) << uri.status();
  {
    const std::unique_ptr<NbdClient> client = NbdClient::Connect(*uri);
    ASSERT_NE(client, nullptr);
    EXPECT_EQ(client->Write(0, std::string(4096, 'x')), 0);
  }
  ASSERT_TRUE(Snapshot("vol", "snap").ok());
  v1::ListReplicasRequest list;
  list.set_snapshots_of("vol");
  v1::ListReplicasResponse listed;
  ASSERT_TRUE(node_->ListReplicas(list, &listed).ok());
  ASSERT_EQ(listed.replicas(0).configuration().snapshots_size(), 1);
  const v1::Snapshot snapshot = listed.replicas(0).configuration().snapshots(0);
  EXPECT_EQ(snapshot.name(), "snap");
  EXPECT_TRUE(snapshot.complete());
  const std::vector<v1::Member> sources = members_;
  for (v1::Member& member : members_) member.set_replica_id(pool::Uuid::Random().ToString());
  v1::CreateReplicaRequest request;
  request.set_volume_id(pool::Uuid::Random().ToString());
  request.set_volume("clone");
  request.set_size_bytes(kSize);
  for (const v1::Member& member : members_) *request.add_members() = member;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    request.set_replica_id(members_[i].replica_id());
    request.set_pool(members_[i].pool_id());
    request.set_clone_of_replica_id(sources[i].replica_id());
    request.set_clone_snapshot_id("x");
    v1::CreateReplicaResponse response;
    EXPECT_TRUE(absl::IsInvalidArgument(node_->CreateReplica(request, &response)));
    request.set_clone_snapshot_id(snapshot.id());
    const absl::Status made = node_->CreateReplica(request, &response);
    ASSERT_TRUE(made.ok()) << made;
  }
  v1::AttachVolumeRequest attach;
  attach.set_name("clone");
  attach.mutable_target()->set_volume_id(request.volume_id());
  attach.mutable_target()->set_attachment(2);
  v1::SegmentHint* hint = attach.mutable_target()->add_segments();
  for (const v1::Member& member : members_) *hint->add_members() = member;
  v1::AttachVolumeResponse attached;
  const absl::Status status = node_->AttachVolume(attach, &attached);
  ASSERT_TRUE(status.ok()) << status;
  const std::unique_ptr<NbdClient> client = NbdClient::Connect(attached.uri());
  ASSERT_NE(client, nullptr);
  std::string data;
  EXPECT_EQ(client->Read(0, 4096, &data), 0);
  EXPECT_EQ(data, std::string(4096, 'x'));
}

TEST_P(NodeReplicasTest, GrowsByASegment) {
  segment_bytes_ = kSize;
  for (const v1::Member& member : members_) ASSERT_TRUE(CreateReplica(member, 3).ok());
  ASSERT_TRUE(AttachTarget(1).ok());
  const std::vector<v1::Member> first = members_;
  v1::GrowVolumeRequest grow;
  grow.set_name("vol");
  grow.set_size_bytes(kSize + 4 * kMebi);
  EXPECT_FALSE(Grow("vol", grow.size_bytes()).ok()) << "more than one segment holds";
  v1::SegmentHint* hint = grow.add_new_segments();
  hint->set_segment(1);
  for (v1::Member& member : members_) {
    member.set_replica_id(pool::Uuid::Random().ToString());
    *hint->add_members() = member;
  }
  segment_ = 1;
  for (const v1::Member& member : members_) {
    ASSERT_TRUE(CreateReplica(member, 3, 4 * kMebi).ok());
  }
  v1::GrowVolumeResponse response;
  const absl::Status grown = node_->GrowVolume(grow, &response);
  ASSERT_TRUE(grown.ok()) << grown;
  EXPECT_EQ(response.volume().size_bytes(), kSize + 4 * kMebi);
  EXPECT_EQ(Status().segments_size(), 2);
  const std::optional<RememberedAttachment> remembered = [this] {
    NodeState state(options_.state_directory);
    EXPECT_TRUE(state.Load().ok());
    return state.FindAttachment("vol");
  }();
  ASSERT_TRUE(remembered.has_value());
  EXPECT_EQ(remembered->target.segments_size(), 2) << "or it could not be resumed";
}

TEST_P(NodeReplicasTest, KeepsADeletedReplicaOutOfASession) {
  MakeThreeCopies();
  ASSERT_TRUE(AttachTarget(1).ok());
  v1::DeleteReplicaRequest request;
  request.set_pool(members_[0].pool_id());
  request.set_replica_id(members_[0].replica_id());
  v1::DeleteReplicaResponse response;
  EXPECT_TRUE(absl::IsFailedPrecondition(node_->DeleteReplica(request, &response)));
  ASSERT_TRUE(Detach("vol").ok());
  EXPECT_TRUE(node_->DeleteReplica(request, &response).ok());
  EXPECT_TRUE(node_->DeleteReplica(request, &response).ok()) << "idempotent";
  EXPECT_EQ(Replicas().size(), 2u);
}

TEST_P(NodeReplicasTest, RefusesTheNameOfAVolumeThatIsAttached) {
  ASSERT_TRUE(CreatePool("d").ok());
  ASSERT_TRUE(CreateVolume("vol", kSize, directory_.Child("d")).ok());
  MakeThreeCopies();
  ASSERT_TRUE(Attach("vol").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(AttachTarget(1).status()));
  ASSERT_TRUE(Detach("vol").ok());
  ASSERT_TRUE(AttachTarget(2).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Attach("vol").status()));
}

TEST_P(NodeReplicasTest, ForgetsADetachedTarget) {
  MakeThreeCopies();
  ASSERT_TRUE(AttachTarget(1).ok());
  ASSERT_TRUE(Detach("vol").ok());
  Restart();
  v1::GetVolumeStatusRequest request;
  request.set_name("vol");
  v1::GetVolumeStatusResponse response;
  EXPECT_TRUE(absl::IsNotFound(node_->GetVolumeStatus(request, &response)));
}

}  // namespace
}  // namespace keelson::service
