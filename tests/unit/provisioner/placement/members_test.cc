#include "provisioner/placement/members.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/provisioner/placement/cluster.h"

namespace keelson::provisioner::placement {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<Member> On(const std::string& names) {
  std::vector<Member> members;
  for (const char name : names) {
    members.push_back({.place = {std::string(1, name), std::string("pool-") + name}});
  }
  return members;
}

// The node of the copy that goes, or the error.
std::string Leaving(const std::vector<NodeState>& nodes, const std::vector<Member>& members,
                    const Constraints& constraints = {}) {
  const auto leaving = ChooseLeaving(nodes, members, constraints);
  return leaving.ok() ? members[*leaving].place.node : std::string(leaving.status().message());
}

class MembersTest : public ::testing::Test {
 protected:
  std::vector<NodeState> nodes_ = {Node("a", 100 * kGiB, "x"), Node("b", 100 * kGiB, "y"),
                                   Node("c", 100 * kGiB, "y"), Node("d", 100 * kGiB, "z")};
  std::vector<Member> members_ = On("abcd");
};

TEST_F(MembersTest, TheFullestPoolLosesItsCopy) {
  nodes_[1].pools[0].promised_bytes = 10 * kGiB;
  nodes_[3].pools[0].promised_bytes = 5 * kGiB;
  EXPECT_EQ(Leaving(nodes_, members_), "b");
}

TEST_F(MembersTest, TheCopyNearItsUserStays) {
  nodes_[1].pools[0].promised_bytes = 10 * kGiB;
  nodes_[3].pools[0].promised_bytes = 5 * kGiB;
  EXPECT_EQ(Leaving(nodes_, members_, {.near_node = "b"}), "d");
}

TEST_F(MembersTest, OneOfTwoInAZoneGoesBeforeTheFullest) {
  nodes_[0].pools[0].promised_bytes = 10 * kGiB;
  nodes_[2].pools[0].promised_bytes = 5 * kGiB;
  EXPECT_EQ(Leaving(nodes_, members_, {.zone_spread = true}), "c");
  EXPECT_EQ(Leaving(nodes_, members_), "a");
}

TEST_F(MembersTest, ACopyWhereNoneMayBeGoesFirst) {
  nodes_[0].pools[0].promised_bytes = 10 * kGiB;
  nodes_[3].schedulable = false;
  EXPECT_EQ(Leaving(nodes_, members_, {.zone_spread = true}), "d");
  nodes_[3].schedulable = true;
  nodes_[2].pools[0].healthy = false;
  EXPECT_EQ(Leaving(nodes_, members_), "c");
  nodes_[2].pools[0].healthy = true;
  EXPECT_EQ(Leaving(nodes_, members_, {.excluded_nodes = {"b"}}), "b");
  nodes_.pop_back();
  EXPECT_EQ(Leaving(nodes_, members_), "d");
}

TEST_F(MembersTest, ACopyThatIsNotInSyncGoesBeforeOnesThatAre) {
  nodes_[3].schedulable = false;
  members_[0].in_sync = false;
  EXPECT_EQ(Leaving(nodes_, members_), "a");
}

TEST_F(MembersTest, ALeavingCopyGoesOnceTheOthersAreInSync) {
  members_[1].leaving = true;
  EXPECT_EQ(Leaving(nodes_, members_), "b");
  members_[3].in_sync = false;
  EXPECT_EQ(ChooseLeaving(nodes_, members_, {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Leaving(nodes_, members_), HasSubstr("the copy on node b is needed until"));
  members_[1].in_sync = false;
  EXPECT_EQ(Leaving(nodes_, members_), "b");
}

TEST_F(MembersTest, TheLastCopyInSyncStays) {
  EXPECT_THAT(Leaving(nodes_, On("a")), HasSubstr("the last copy"));
  std::vector<Member> with_witness = On("ab");
  with_witness[1].witness = true;
  EXPECT_THAT(Leaving(nodes_, with_witness), HasSubstr("the last copy"));
  for (Member& member : members_) member.in_sync = false;
  EXPECT_THAT(Leaving(nodes_, members_), HasSubstr("none of the segment's copies is in sync"));
  members_[0].leaving = true;
  EXPECT_THAT(Leaving(nodes_, members_), HasSubstr("none of the segment's copies is in sync"));
}

TEST_F(MembersTest, AnEngineRunsWhereACopyInSyncAnswers) {
  nodes_[0].answers = false;
  nodes_[1].attached_count = 2;
  nodes_[3].schedulable = false;
  members_[2].in_sync = false;
  EXPECT_EQ(*ChooseEngineNode(nodes_, members_, {}), "b");
  EXPECT_EQ(*ChooseEngineNode(nodes_, members_, {.near_node = "d"}), "d");
  nodes_[1].answers = false;
  EXPECT_EQ(*ChooseEngineNode(nodes_, members_, {}), "d");
  members_[3].witness = true;
  nodes_.erase(nodes_.begin() + 1);
  const absl::Status status = ChooseEngineNode(nodes_, members_, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("node a: does not answer"), HasSubstr("node b: is not known"),
                    HasSubstr("node c: its copy is not in sync")));
}

TEST_F(MembersTest, AnEngineRunsWhereTheFewestAre) {
  nodes_[0].attached_count = nodes_[1].attached_count = nodes_[3].attached_count = 2;
  EXPECT_EQ(*ChooseEngineNode(nodes_, members_, {}), "c");
}

}  // namespace
}  // namespace keelson::provisioner::placement
