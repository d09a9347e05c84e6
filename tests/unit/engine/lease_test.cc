#include "blockstore/engine/lease.h"

#include <gtest/gtest.h>

#include "tests/unit/engine/members.h"

namespace keelson::engine {
namespace {

using replica::Configuration;

constexpr std::int64_t kLease = 100;

TEST(ReadLeaseTest, NothingIsAnsweredBeforeAMajorityAnsweredAHeartbeat) {
  const Configuration three = ConfigurationOf({InSync('A'), InSync('B'), InSync('C')});
  ReadLease lease(kLease);
  EXPECT_FALSE(lease.ValidAt(three, 0));
  lease.OnAnswered(ReplicaOf('A'), 1000);
  EXPECT_FALSE(lease.ValidAt(three, 1000));
  lease.OnAnswered(ReplicaOf('B'), 1000);
  EXPECT_TRUE(lease.ValidAt(three, 1000));
}

TEST(ReadLeaseTest, RunsFromTheSendingOfTheHeartbeat) {
  const Configuration one = ConfigurationOf({InSync('A')});
  ReadLease lease(kLease);
  lease.OnAnswered(ReplicaOf('A'), 1000);
  EXPECT_TRUE(lease.ValidAt(one, 1100));
  EXPECT_FALSE(lease.ValidAt(one, 1101));
}

TEST(ReadLeaseTest, CoversAReadWhoseBytesCameBeforeTheHeartbeatWasSent) {
  ReadLease lease(kLease);
  lease.OnAnswered(ReplicaOf('A'), 1000);
  EXPECT_TRUE(lease.ValidAt(ConfigurationOf({InSync('A')}), 500));
}

TEST(ReadLeaseTest, IsAsOldAsTheOldestHeartbeatOfTheFreshestMajority) {
  const Configuration three = ConfigurationOf({InSync('A'), InSync('B'), InSync('C')});
  ReadLease lease(kLease);
  lease.OnAnswered(ReplicaOf('A'), 3000);
  lease.OnAnswered(ReplicaOf('B'), 1000);
  lease.OnAnswered(ReplicaOf('C'), 2000);
  EXPECT_EQ(lease.ValidUntil(three), 2100);
}

TEST(ReadLeaseTest, ALateAnswerToAnOldHeartbeatDoesNotShortenIt) {
  ReadLease lease(kLease);
  lease.OnAnswered(ReplicaOf('A'), 2000);
  lease.OnAnswered(ReplicaOf('A'), 1000);
  EXPECT_EQ(lease.ValidUntil(ConfigurationOf({InSync('A')})), 2100);
}

TEST(ReadLeaseTest, AWitnessCountsAndAStrangerDoesNot) {
  const Configuration two = ConfigurationOf({InSync('A'), Out('B'), Witness('W')});
  ReadLease lease(kLease);
  lease.OnAnswered(ReplicaOf('A'), 1000);
  lease.OnAnswered(ReplicaOf('X'), 1000);
  EXPECT_FALSE(lease.ValidAt(two, 1000));
  lease.OnAnswered(ReplicaOf('W'), 1000);
  EXPECT_TRUE(lease.ValidAt(two, 1000));
}

TEST(ReadLeaseTest, NeedsAMajorityOfTheMembersBeforeAChangeToo) {
  Configuration changing = ConfigurationOf({InSync('A'), Out('B'), Witness('W')});
  changing.predecessor = {InSync('A')};
  ReadLease lease(kLease);
  lease.OnAnswered(ReplicaOf('B'), 1000);
  lease.OnAnswered(ReplicaOf('W'), 1000);
  EXPECT_FALSE(lease.ValidAt(changing, 1000));
  lease.OnAnswered(ReplicaOf('A'), 900);
  EXPECT_EQ(lease.ValidUntil(changing), 1000);
}

}  // namespace
}  // namespace keelson::engine
