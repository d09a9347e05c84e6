#include "blockstore/engine/ballot.h"

#include <gtest/gtest.h>

#include "tests/unit/engine/members.h"

namespace keelson::engine {
namespace {

using replica::Configuration;

TEST(BallotTest, IsInForceWithAMajorityOfBothSets) {
  Configuration changing = ConfigurationOf({InSync('A'), Out('B'), Witness('W')});
  changing.predecessor = {InSync('A')};
  Ballot ballot(changing);
  ballot.OnAccepted(ReplicaOf('B'));
  ballot.OnAccepted(ReplicaOf('W'));
  EXPECT_FALSE(ballot.in_force()) << "the only member before has not accepted";
  ballot.OnAccepted(ReplicaOf('A'));
  EXPECT_TRUE(ballot.in_force());
}

TEST(BallotTest, AMemberCountsOnceAndAStrangerNever) {
  Ballot ballot(ConfigurationOf({InSync('A'), InSync('B'), InSync('C')}));
  ballot.OnAccepted(ReplicaOf('A'));
  ballot.OnAccepted(ReplicaOf('A'));
  ballot.OnAccepted(ReplicaOf('X'));
  EXPECT_FALSE(ballot.in_force());
  EXPECT_TRUE(ballot.HasAccepted(ReplicaOf('A')));
  EXPECT_FALSE(ballot.HasAccepted(ReplicaOf('B')));
  ballot.OnAccepted(ReplicaOf('C'));
  EXPECT_TRUE(ballot.in_force());
}

}  // namespace
}  // namespace keelson::engine
