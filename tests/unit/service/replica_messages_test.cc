#include "blockstore/service/replica_messages.h"

#include <gtest/gtest.h>

#include <string>

namespace keelson::service {
namespace {

std::string Id(char digit) { return std::string(32, digit); }

v1::Member MemberOf(char digit, bool witness = false) {
  v1::Member member;
  member.set_pool_id(Id(digit));
  member.set_replica_id(Id(digit));
  member.set_incarnation(Id('e'));
  member.set_address("127.0.0.1:4711");
  member.set_witness(witness);
  member.set_state(witness ? v1::MEMBER_STATE_OUT : v1::MEMBER_STATE_IN_SYNC);
  return member;
}

v1::CreateReplicaRequest ValidReplica() {
  v1::CreateReplicaRequest request;
  request.set_volume_id(Id('f'));
  request.set_volume("vol");
  request.set_replica_id(Id('1'));
  request.set_pool(Id('1'));
  request.set_size_bytes(std::uint64_t{1} << 20);
  *request.add_members() = MemberOf('1');
  *request.add_members() = MemberOf('2');
  *request.add_members() = MemberOf('3', /*witness=*/true);
  return request;
}

v1::AttachTarget ValidTarget() {
  v1::AttachTarget target;
  target.set_volume_id(Id('f'));
  target.set_attachment(7);
  *target.add_segments()->add_members() = MemberOf('1');
  return target;
}

void ExpectRefused(const v1::CreateReplicaRequest& request, const std::string& word) {
  const absl::Status status = ParseNewMember(request).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_NE(std::string(status.message()).find(word), std::string::npos) << status;
}

TEST(ReplicaMessagesTest, MakesTheFirstConfigurationOfTheRequestsMembers) {
  const absl::StatusOr<replica::NewMember> made = ParseNewMember(ValidReplica());
  ASSERT_TRUE(made.ok()) << made.status();
  const replica::Configuration& configuration = made->configuration;
  EXPECT_EQ(configuration.version.epoch, pool::Epoch());
  EXPECT_EQ(configuration.version.counter, 1u);
  ASSERT_EQ(configuration.members.size(), 3u);
  EXPECT_EQ(configuration.members[0].incarnation.ToString(), Id('e'));
  EXPECT_EQ(configuration.members[1].state, replica::MemberState::kInSync);
  EXPECT_TRUE(configuration.members[2].witness);
  EXPECT_EQ(configuration.min_in_sync, 1u);
}

TEST(ReplicaMessagesTest, RefusesReplicasThatCannotBe) {
  v1::CreateReplicaRequest request = ValidReplica();
  request.set_replica_id("12");
  ExpectRefused(request, "replica_id");
  request = ValidReplica();
  request.set_volume_id(Id('0'));
  ExpectRefused(request, "volume_id");
  request = ValidReplica();
  request.mutable_members(1)->set_replica_id(Id('1'));
  ExpectRefused(request, "twice");
  request = ValidReplica();
  request.mutable_members(2)->set_state(v1::MEMBER_STATE_IN_SYNC);
  ExpectRefused(request, "witness");
  request = ValidReplica();
  request.set_witness(true);
  ExpectRefused(request, "witness in one place");
  request = ValidReplica();
  request.clear_members();
  ExpectRefused(request, "no members");
  request = ValidReplica();
  request.set_size_bytes(5);
  ExpectRefused(request, "size");
}

TEST(ReplicaMessagesTest, GivesEachEngineAnEpochOfItsOwn) {
  const auto first = ParseTarget("vol", ValidTarget(), 3);
  const auto second = ParseTarget("vol", ValidTarget(), 3);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->epoch.attachment, 7u);
  EXPECT_EQ(first->epoch.restart, 3u);
  EXPECT_NE(first->epoch.engine, second->epoch.engine);
}

TEST(ReplicaMessagesTest, RefusesTargetsThatNameNothing) {
  v1::AttachTarget target = ValidTarget();
  target.set_attachment(0);
  EXPECT_TRUE(absl::IsInvalidArgument(ParseTarget("vol", target, 0).status()));
  target = ValidTarget();
  target.clear_segments();
  EXPECT_TRUE(absl::IsInvalidArgument(ParseTarget("vol", target, 0).status()));
  target = ValidTarget();
  target.add_segments();
  target.set_segment_bytes(1 << 20);
  EXPECT_TRUE(absl::IsInvalidArgument(ParseTarget("vol", target, 0).status()));
  target = ValidTarget();
  *target.add_segments()->add_members() = MemberOf('2');
  EXPECT_TRUE(absl::IsInvalidArgument(ParseTarget("vol", target, 0).status())) << "no size";
}

TEST(ReplicaMessagesTest, TakesThePresentMembersIntoATarget) {
  v1::GetVolumeStatusResponse status;
  v1::Configuration* configuration = status.add_segments()->mutable_configuration();
  *configuration->add_members() = MemberOf('2');
  *configuration->add_members() = MemberOf('3');
  *configuration->add_predecessor() = MemberOf('2');
  *configuration->add_predecessor() = MemberOf('4');
  const v1::AttachTarget target = PresentTarget(ValidTarget(), status);
  EXPECT_EQ(target.attachment(), 7u);
  ASSERT_EQ(target.segments_size(), 1);
  ASSERT_EQ(target.segments(0).members_size(), 3);
  EXPECT_EQ(target.segments(0).members(1).replica_id(), Id('3'));
  EXPECT_EQ(target.segments(0).members(2).replica_id(), Id('4'));
}

}  // namespace
}  // namespace keelson::service
