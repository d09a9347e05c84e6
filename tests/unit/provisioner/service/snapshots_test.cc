// Snapshots, and volumes made from them.

#include "tests/unit/provisioner/service/provisioner_fixture.h"

namespace keelson::provisioner {
namespace {

class SnapshotsTest : public ProvisionerFixture {
 protected:
  api::CreateVolumeRequest FromSnapshot(const std::string& name, const std::string& snapshot,
                                        std::uint64_t bytes = kGiB) {
    api::CreateVolumeRequest request = Ask(name, bytes);
    request.set_source_snapshot_id(snapshot);
    return request;
  }
  api::CreateVolumeRequest FromVolume(const std::string& name, const std::string& volume,
                                      std::uint64_t bytes = kGiB) {
    api::CreateVolumeRequest request = Ask(name, bytes);
    request.set_source_volume_id(volume);
    return request;
  }
  std::size_t Listed(const std::string& volume = "", const std::string& snapshot = "") {
    api::ListSnapshotsRequest request;
    request.set_source_volume_id(volume);
    request.set_snapshot_id(snapshot);
    const auto response = controller_->ListSnapshots(request);
    EXPECT_TRUE(response.ok()) << response.status();
    return static_cast<std::size_t>(response->snapshots_size());
  }
};

TEST_F(SnapshotsTest, IsCutOfAVolumeThatNobodyUsesAndLeavesNoEngine) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  const auto snapshot = Snapshot(id, "s");
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_TRUE(snapshot->ready());
  EXPECT_EQ(snapshot->size_bytes(), kGiB);
  EXPECT_EQ(snapshot->source_volume_id(), id);
  EXPECT_EQ(snapshot->created_unix_ns(), 77);
  EXPECT_EQ(nodes_.SnapshotCount(), 3u);
  Pass(10);
  EXPECT_TRUE(nodes_.EnginesOf(id).empty());
  EXPECT_EQ(Snapshot(id, "s")->id(), snapshot->id());
  EXPECT_EQ(nodes_.SnapshotCount(), 3u);
}

TEST_F(SnapshotsTest, ANameBelongsToOneVolume) {
  const std::string one = MustCreate(Ask("one")).id();
  const std::string two = MustCreate(Ask("two")).id();
  ASSERT_TRUE(Snapshot(one, "s").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Snapshot(two, "s").status()));
  EXPECT_TRUE(absl::IsNotFound(Snapshot("ks-00000000000000000000-0-00000000", "t").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Snapshot("", "t").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Snapshot(one, "").status()));
}

TEST_F(SnapshotsTest, ListsByVolumeAndById) {
  const std::string one = MustCreate(Ask("one")).id();
  const std::string two = MustCreate(Ask("two")).id();
  const std::string first = Snapshot(one, "s1")->id();
  ASSERT_TRUE(Snapshot(one, "s2").ok());
  ASSERT_TRUE(Snapshot(two, "s3").ok());
  EXPECT_EQ(Listed(), 3u);
  EXPECT_EQ(Listed(one), 2u);
  EXPECT_EQ(Listed("", first), 1u);
  EXPECT_EQ(Listed("", "nothing"), 0u);
  EXPECT_EQ(Listed("nothing"), 0u);
}

TEST_F(SnapshotsTest, ADeletedSnapshotIsGoneFromEveryNode) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  const std::string snapshot = Snapshot(id, "s")->id();
  EXPECT_TRUE(DeleteSnapshot(snapshot).ok());
  EXPECT_TRUE(DeleteSnapshot(snapshot).ok());
  EXPECT_TRUE(DeleteSnapshot("whatever").ok());
  EXPECT_EQ(nodes_.SnapshotCount(), 0u);
  EXPECT_EQ(Listed(), 0u);
  EXPECT_NE(Snapshot(id, "s")->id(), snapshot);
}

TEST_F(SnapshotsTest, AVolumeFromASnapshotStandsBesideItsSourceAndMayBeLarger) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  const std::string snapshot = Snapshot(id, "s")->id();
  const api::Volume restored = MustCreate(FromSnapshot("restored", snapshot, 2 * kGiB));
  EXPECT_EQ(restored.source_snapshot_id(), snapshot);
  EXPECT_EQ(restored.capacity_bytes(), 2 * kGiB);
  EXPECT_EQ(CopiesOf(restored.id()), CopiesOf(id));
  EXPECT_EQ(nodes_.SizeOf(restored.id()), 2 * kGiB);
  EXPECT_TRUE(absl::IsOutOfRange(
      controller_->CreateVolume(FromSnapshot("small", snapshot, kGiB / 2)).status()));
  EXPECT_TRUE(absl::IsNotFound(
      controller_->CreateVolume(FromSnapshot("none", "kss-00000000000000000000-0-00000000"))
          .status()));
  Pass(10);
  EXPECT_TRUE(nodes_.EnginesOf(id).empty());
  EXPECT_TRUE(nodes_.EnginesOf(restored.id()).empty());
}

TEST_F(SnapshotsTest, AVolumeFromASnapshotIsAttachedUnderANumberThatItsSourceNeverHad) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  ASSERT_TRUE(Publish(id, "a").ok());
  ASSERT_TRUE(Unpublish(id, "a").ok());
  ASSERT_TRUE(Publish(id, "b").ok());
  const std::string restored = MustCreate(FromSnapshot("restored", Snapshot(id, "s")->id())).id();
  const auto attached = [this] {
    const std::vector<std::string> calls = nodes_.calls();
    return std::count(calls.begin(), calls.end(), "AttachVolume c");
  };
  ASSERT_EQ(attached(), 0);
  ASSERT_TRUE(Publish(restored, "c").ok());
  EXPECT_EQ(attached(), 1) << "a lower number is refused, and costs another round";
}

TEST_F(SnapshotsTest, AVolumeFromAVolumeLeavesNoSnapshotBehind) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  ASSERT_TRUE(Publish(id, "a").ok());
  const api::Volume clone = MustCreate(FromVolume("clone", id));
  EXPECT_EQ(clone.source_volume_id(), id);
  EXPECT_EQ(MustCreate(FromVolume("clone", id)).id(), clone.id());
  EXPECT_EQ(Listed(), 0u);
  Pass(10);
  EXPECT_EQ(nodes_.SnapshotCount(), 0u);
  EXPECT_EQ(store_.List(Kind::kSnapshot)->records.size(), 0u);
  EXPECT_EQ(nodes_.ReplicaCount(), 6u);
}

TEST_F(SnapshotsTest, ACloneThatIsRefusedLeavesNothingBehind) {
  const std::string id = MustCreate(Ask("pvc-1", 2 * kGiB)).id();
  EXPECT_TRUE(absl::IsOutOfRange(controller_->CreateVolume(FromVolume("small", id)).status()));
  EXPECT_EQ(store_.List(Kind::kSnapshot)->records.size(), 0u);
  EXPECT_TRUE(Delete(id).ok());
  Pass(10);
  EXPECT_EQ(nodes_.ReplicaCount(), 0u);
  EXPECT_EQ(store_.List(Kind::kVolume)->records.size(), 0u);
}

TEST_F(SnapshotsTest, ACloneThatIsDeletedBeforeItIsMadeLeavesNothingBehind) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  nodes_.FailNext("AttachVolume", absl::UnavailableError("not now"), 1000);
  EXPECT_FALSE(controller_->CreateVolume(FromVolume("clone", id)).ok());
  for (const auto& row : reconciler_->records().volumes().All()) {
    EXPECT_TRUE(Delete(row.value.id()).ok());
  }
  nodes_.FailNext("AttachVolume", absl::OkStatus(), 0);
  Pass(120);
  EXPECT_EQ(store_.List(Kind::kSnapshot)->records.size(), 0u);
  EXPECT_EQ(store_.List(Kind::kVolume)->records.size(), 0u);
  EXPECT_EQ(nodes_.ReplicaCount(), 0u);
}

TEST_F(SnapshotsTest, ASnapshotThatIsDeletedWhileAVolumeIsMadeFromItIsThereUntilThen) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  const std::string snapshot = Snapshot(id, "s")->id();
  Pass(10);
  nodes_.FailNext("AttachVolume", absl::UnavailableError("not now"), 1000);
  EXPECT_FALSE(controller_->CreateVolume(FromSnapshot("restored", snapshot)).ok());
  EXPECT_FALSE(DeleteSnapshot(snapshot).ok());
  nodes_.FailNext("AttachVolume", absl::OkStatus(), 0);
  Pass(120);
  EXPECT_EQ(MustCreate(FromSnapshot("restored", snapshot)).source_snapshot_id(), snapshot);
  EXPECT_EQ(nodes_.SnapshotCount(), 0u);
  EXPECT_EQ(store_.List(Kind::kSnapshot)->records.size(), 0u);
}

TEST_F(SnapshotsTest, AVolumeWhoseSourceIsGoneIsGivenUp) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  const std::string snapshot = Snapshot(id, "s")->id();
  Pass(10);
  nodes_.FailNext("AttachVolume", absl::UnavailableError("not now"), 1000);
  EXPECT_FALSE(controller_->CreateVolume(FromSnapshot("restored", snapshot)).ok());
  // A deletion that had not seen it yet.
  const Record record = store_.List(Kind::kSnapshot)->records.front();
  ASSERT_TRUE(store_.Delete(Kind::kSnapshot, record.key, record.revision).ok());
  store_.DrainWatchers();
  EXPECT_TRUE(
      absl::IsNotFound(controller_->CreateVolume(FromSnapshot("restored", snapshot)).status()));
  Pass(120);
  EXPECT_EQ(store_.List(Kind::kVolume)->records.size(), 1u);
  EXPECT_EQ(nodes_.ReplicaCount(), 3u);
}

TEST_F(SnapshotsTest, SnapshotsOutliveTheirVolume) {
  const std::string id = MustCreate(Ask("pvc-1")).id();
  const std::string snapshot = Snapshot(id, "s")->id();
  EXPECT_TRUE(Delete(id).ok());
  Pass(10);
  api::GetVolumeRequest get;
  get.set_volume_id(id);
  EXPECT_TRUE(absl::IsNotFound(controller_->GetVolume(get).status()));
  EXPECT_TRUE(absl::IsNotFound(Publish(id, "a").status()));
  EXPECT_EQ(Listed(), 1u);
  const api::Volume restored = MustCreate(FromSnapshot("restored", snapshot));
  EXPECT_NE(MustCreate(Ask("pvc-1")).id(), id);
  EXPECT_TRUE(DeleteSnapshot(snapshot).ok());
  Pass(10);
  EXPECT_EQ(nodes_.ReplicaCount(), 6u) << "the deleted volume's replicas go with its last snapshot";
}

}  // namespace
}  // namespace keelson::provisioner
