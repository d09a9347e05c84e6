// Group snapshots: all of one point in time, or none.

#include "tests/unit/provisioner/service/provisioner_fixture.h"

namespace keelson::provisioner {
namespace {

class GroupsTest : public ProvisionerFixture {
 protected:
  void SetUp() override {
    ProvisionerFixture::SetUp();
    one_ = MustCreate(Ask("one")).id();
    two_ = MustCreate(Ask("two")).id();
    ASSERT_TRUE(Publish(one_, "a").ok());
  }
  absl::StatusOr<api::GroupSnapshot> Group(const std::string& name,
                                           const std::vector<std::string>& volumes) {
    api::CreateGroupSnapshotRequest request;
    request.set_name(name);
    for (const std::string& id : volumes) request.add_source_volume_ids(id);
    return controller_->CreateGroupSnapshot(request);
  }
  absl::Status DeleteGroup(const std::string& id, const std::vector<std::string>& snapshots = {}) {
    api::DeleteGroupSnapshotRequest request;
    request.set_group_snapshot_id(id);
    for (const std::string& one : snapshots) request.add_snapshot_ids(one);
    return controller_->DeleteGroupSnapshot(request);
  }
  // The calls since `first` that matter for the point in time, without the nodes.
  std::vector<std::string> Order(std::size_t first) {
    std::vector<std::string> order;
    const std::vector<std::string> calls = nodes_.calls();
    for (std::size_t i = first; i < calls.size(); ++i) {
      const std::string method = calls[i].substr(0, calls[i].find(' '));
      if (method == "HoldWrites" || method == "CreateSnapshot" || method == "ReleaseWrites") {
        order.push_back(method);
      }
    }
    return order;
  }
  std::string one_;
  std::string two_;
};

TEST_F(GroupsTest, AllAreHeldBeforeTheFirstIsCut) {
  const std::size_t before = nodes_.calls().size();
  const auto group = Group("g", {one_, two_});
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_TRUE(group->ready());
  ASSERT_EQ(group->snapshots_size(), 2);
  EXPECT_EQ(group->snapshots(0).group_snapshot_id(), group->id());
  EXPECT_EQ(Order(before),
            (std::vector<std::string>{"HoldWrites", "HoldWrites", "CreateSnapshot",
                                      "CreateSnapshot", "ReleaseWrites", "ReleaseWrites"}));
  EXPECT_EQ(Group("g", {two_, one_})->id(), group->id());
  EXPECT_TRUE(absl::IsAlreadyExists(Group("g", {one_}).status()));
}

TEST_F(GroupsTest, ARoundThatFailsLeavesNothingAndIsMadeAgain) {
  nodes_.FailNext("CreateSnapshot", absl::AbortedError("the hold is over"));
  const auto group = Group("g", {one_, two_});
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ(nodes_.SnapshotCount(), 6u);
  EXPECT_EQ(nodes_.HoldCount(), 0u);
}

TEST_F(GroupsTest, MembersAreListedAndDeletedWithTheirGroupOnly) {
  const auto group = Group("g", {one_, two_});
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ(controller_->ListSnapshots({})->snapshots_size(), 2);
  EXPECT_TRUE(absl::IsInvalidArgument(DeleteSnapshot(group->snapshots(0).id())));
  EXPECT_TRUE(absl::IsInvalidArgument(DeleteGroup(group->id(), {group->snapshots(0).id()})));
  EXPECT_TRUE(DeleteGroup(group->id()).ok());
  EXPECT_TRUE(DeleteGroup(group->id()).ok());
  EXPECT_EQ(nodes_.SnapshotCount(), 0u);
  EXPECT_EQ(controller_->ListSnapshots({})->snapshots_size(), 0);
  api::GetGroupSnapshotRequest get;
  get.set_group_snapshot_id(group->id());
  EXPECT_TRUE(absl::IsNotFound(controller_->GetGroupSnapshot(get).status()));
}

TEST_F(GroupsTest, BadRequestsAreRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(Group("", {one_}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Group("g", {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Group("g", {one_, one_}).status()));
  EXPECT_TRUE(absl::IsNotFound(Group("g", {one_, "ks-00000000000000000000-0-00000000"}).status()));
  EXPECT_EQ(store_.List(Kind::kGroup)->records.size(), 0u);
}

TEST_F(GroupsTest, SurvivesADeathAtEveryWrite) {
  for (const bool made : {false, true}) {
    for (std::uint64_t write = 1; write < 100; ++write) {
      SCOPED_TRACE(absl::StrCat("death at write ", write, made ? ", made" : ", not made"));
      const std::string name = absl::StrCat("g", made, write);
      store_.FailAt({.write = write, .made = made, .stays = true});
      absl::StatusOr<api::GroupSnapshot> group = Group(name, {one_, two_});
      const bool died = !store_.List(Kind::kVolume).ok();
      Restart();
      for (int i = 0; i < 5 && !group.ok(); ++i) {
        group = Group(name, {one_, two_});
        Pass(5);
      }
      ASSERT_TRUE(group.ok()) << group.status();
      EXPECT_EQ(nodes_.SnapshotCount(), 6u);
      EXPECT_TRUE(DeleteGroup(group->id()).ok());
      Pass(60);
      EXPECT_EQ(nodes_.SnapshotCount(), 0u);
      EXPECT_EQ(store_.List(Kind::kSnapshot)->records.size(), 0u);
      EXPECT_EQ(store_.List(Kind::kGroup)->records.size(), 0u);
      if (HasFailure() || !died) break;
    }
  }
}

}  // namespace
}  // namespace keelson::provisioner
