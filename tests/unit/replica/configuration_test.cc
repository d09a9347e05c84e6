#include "blockstore/replica/configuration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/pool/records.pb.h"

namespace keelson::replica {
namespace {

pool::Uuid Id(std::uint8_t number) {
  pool::Uuid uuid;
  uuid.bytes.fill(number);
  return uuid;
}

pool::Epoch EpochOf(std::uint64_t attachment) { return {attachment, 3, pool::EngineId(Id(0xee))}; }

Member DataMember(std::uint8_t number, MemberState state) {
  Member member;
  member.pool = pool::PoolId(Id(number));
  member.replica = pool::ReplicaId(Id(static_cast<std::uint8_t>(0x80 + number)));
  member.incarnation = Id(static_cast<std::uint8_t>(0x40 + number));
  member.address = "10.0.0." + std::to_string(number) + ":7100";
  member.state = state;
  if (state != MemberState::kInSync) member.in_sync_through = {EpochOf(2), 7};
  return member;
}

Member Witness(std::uint8_t number) {
  Member member = DataMember(number, MemberState::kOut);
  member.witness = true;
  return member;
}

ConfiguredSnapshot Snapshot(std::uint8_t number) {
  ConfiguredSnapshot snapshot;
  snapshot.id = pool::SnapshotId(Id(number));
  snapshot.name = "snapshot-" + std::to_string(number);
  snapshot.sealed = {EpochOf(2), number};
  snapshot.size_bytes = 1 << 20;
  snapshot.created_unix_ns = -5;
  snapshot.complete = number % 2 == 0;
  return snapshot;
}

Configuration Whole() {
  Configuration configuration;
  configuration.volume = pool::VolumeId(Id(0x10));
  configuration.volume_name = std::string("a name that is no text: \xff\0", 26);
  configuration.segment = 4;
  configuration.version = {EpochOf(9), 12};
  configuration.members = {DataMember(1, MemberState::kInSync),
                           DataMember(2, MemberState::kSyncing), Witness(3)};
  configuration.predecessor = {DataMember(1, MemberState::kInSync)};
  configuration.snapshots = {Snapshot(1), Snapshot(2)};
  configuration.size_bytes = std::uint64_t{64} << 20;
  configuration.clean = {EpochOf(8), 21};
  configuration.min_in_sync = 2;
  configuration.min_in_sync_wanted = 3;
  configuration.segment_count = 5;
  configuration.segment_bytes = std::uint64_t{128} << 20;
  configuration.forced = EpochOf(7);
  configuration.lost = EpochOf(6);
  configuration.succeeded_by = EpochOf(10);
  configuration.successors = {DataMember(4, MemberState::kInSync)};
  return configuration;
}

TEST(ConfigurationTest, ReadsBackAllThatItHolds) {
  const Configuration whole = Whole();
  ASSERT_TRUE(Validate(whole).ok()) << Validate(whole);
  const absl::StatusOr<Configuration> again = ParseConfiguration(Serialize(whole));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, whole);
}

TEST(ConfigurationTest, ReadsARecordFromBeforeItSaidHowManyCopiesWereAskedFor) {
  const Configuration whole = Whole();
  pool::ConfigurationRecord record;
  ASSERT_TRUE(record.ParseFromString(Serialize(whole)));
  record.clear_min_in_sync_wanted();
  const absl::StatusOr<Configuration> again = ParseConfiguration(record.SerializeAsString());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->min_in_sync, 2u);
  EXPECT_EQ(again->min_in_sync_wanted, 0u) << "no more than that";
}

struct Breach {
  const char* message;  // a part of it
  std::function<void(Configuration*)> commit;
};

TEST(ConfigurationTest, RefusesWhateverBreaksARuleAndSaysWhich) {
  const Breach breaches[] = {
      {"number or the size", [](Configuration* c) { c->segment_count = kSegmentsMax + 1; }},
      {"number or the size", [](Configuration* c) { c->segment_bytes = 0; }},
      {"number or the size", [](Configuration* c) { c->segment_bytes = 64 << 20 | 4096; }},
      {"number or the size", [](Configuration* c) { c->segment_bytes = 32 << 20; }},
      {"quarantined", [](Configuration* c) { c->successors.clear(); }},
      {"names no volume", [](Configuration* c) { c->volume = {}; }},
      {"volume's name is too long", [](Configuration* c) { c->volume_name.assign(5000, 'x'); }},
      {"no version", [](Configuration* c) { c->version = {}; }},
      {"no version", [](Configuration* c) { c->version.counter = 0; }},
      {"no members", [](Configuration* c) { c->members.clear(); }},
      {"too many members",
       [](Configuration* c) {
         for (std::uint8_t i = 10; i < 17; ++i) c->members.push_back(Witness(i));
       }},
      {"too many members with data",
       [](Configuration* c) {
         for (std::uint8_t i = 10; i < 15; ++i) {
           c->members.push_back(DataMember(i, MemberState::kOut));
         }
       }},
      {"no member has data",
       [](Configuration* c) {
         c->members = {Witness(1), Witness(2)};
       }},
      {"no member is InSync",
       [](Configuration* c) { c->members[0].state = MemberState::kSyncing; }},
      {"member twice",
       [](Configuration* c) { c->members.push_back(DataMember(1, MemberState::kOut)); }},
      {"member twice", [](Configuration* c) { c->members[1].replica = c->members[2].replica; }},
      {"a witness is not Out",
       [](Configuration* c) { c->members[2].state = MemberState::kInSync; }},
      {"a witness is not Out",
       [](Configuration* c) { c->members[2].state = MemberState::kSyncing; }},
      {"state is unknown", [](Configuration* c) { c->members[1].state = MemberState{0}; }},
      {"state is unknown", [](Configuration* c) { c->members[1].state = MemberState{4}; }},
      {"has no pool", [](Configuration* c) { c->members[1].pool = {}; }},
      {"has no replica id", [](Configuration* c) { c->members[1].replica = {}; }},
      {"address is too long", [](Configuration* c) { c->members[1].address.assign(5000, 'x'); }},
      {"before its change, a witness is not Out",
       [](Configuration* c) { c->predecessor[0].witness = true; }},
      {"more than one data member differs",
       [](Configuration* c) { c->predecessor[0] = DataMember(5, MemberState::kInSync); }},
      {"more than one witness differs",
       [](Configuration* c) {
         c->predecessor = {c->members[0], c->members[1], Witness(6)};
         c->predecessor[0].state = MemberState::kInSync;
       }},
      {"a snapshot has no id", [](Configuration* c) { c->snapshots[0].id = {}; }},
      {"a snapshot's name is too long",
       [](Configuration* c) { c->snapshots[0].name.assign(5000, 'x'); }},
      {"snapshot's size is out", [](Configuration* c) { c->snapshots[0].size_bytes = 0; }},
      {"order of their generations",
       [](Configuration* c) { std::swap(c->snapshots[0], c->snapshots[1]); }},
      {"named twice", [](Configuration* c) { c->snapshots[0].id = c->snapshots[1].id; }},
      {"too many snapshots", [](Configuration* c) { c->snapshots.resize(kSnapshotsMax + 1); }},
      {"size is out of range", [](Configuration* c) { c->size_bytes = 0; }},
      {"size is out of range", [](Configuration* c) { c->size_bytes = 4097; }},
      {"size is out of range", [](Configuration* c) { c->size_bytes = std::uint64_t{1} << 53; }},
      {"needs for a write", [](Configuration* c) { c->min_in_sync = 0; }},
      {"needs for a write", [](Configuration* c) { c->min_in_sync = 6; }},
      {"needs for a write", [](Configuration* c) { c->min_in_sync_wanted = 6; }},
  };
  for (const Breach& breach : breaches) {
    Configuration broken = Whole();
    breach.commit(&broken);
    const absl::Status status = Validate(broken);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << breach.message;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(breach.message));
    EXPECT_EQ(ParseConfiguration(Serialize(broken)).status(), status) << breach.message;
  }
}

TEST(ConfigurationTest, AllowsASixthCopyAndItsWitnessWhileOneOfFiveMoves) {
  Configuration moving = Whole();
  moving.members.clear();
  for (std::uint8_t i = 1; i <= 5; ++i) {
    moving.members.push_back(DataMember(i, MemberState::kInSync));
  }
  moving.predecessor = moving.members;
  moving.members.push_back(DataMember(6, MemberState::kOut));
  moving.members.push_back(Witness(7));
  EXPECT_TRUE(Validate(moving).ok()) << Validate(moving);
}

TEST(ConfigurationTest, RefusesEveryCutOfItsBytesWithoutACrash) {
  const std::string bytes = Serialize(Whole());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto parsed = ParseConfiguration(std::string_view(bytes).substr(0, size));
    // A cut between two fields may leave out only what has a default.
    EXPECT_TRUE(!parsed.ok() || Validate(*parsed).ok()) << size;
    if (!parsed.ok()) {
      EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << size;
    }
  }
  EXPECT_FALSE(ParseConfiguration("").ok());
}

TEST(ConfigurationTest, RefusesOrUnderstandsDamagedBytesWithoutACrash) {
  std::mt19937_64 random(4);
  const std::string bytes = Serialize(Whole());
  for (int i = 0; i < 20000; ++i) {
    std::string damaged = bytes;
    for (std::uint64_t edits = 1 + random() % 4; edits > 0; --edits) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    const auto parsed = ParseConfiguration(damaged);
    if (!parsed.ok()) continue;
    ASSERT_TRUE(Validate(*parsed).ok());
    const auto again = ParseConfiguration(Serialize(*parsed));
    ASSERT_TRUE(again.ok()) << again.status();
    ASSERT_EQ(*again, *parsed);
  }
}

TEST(ConfigurationTest, FindsAMemberByPoolAndReplica) {
  Configuration whole = Whole();
  Member* found = whole.Find(pool::PoolId(Id(2)), pool::ReplicaId(Id(0x82)));
  EXPECT_EQ(found, &whole.members[1]);
  EXPECT_EQ(whole.Find(pool::PoolId(Id(1)), pool::ReplicaId(Id(0x82))), nullptr);
}

TEST(ConfigurationTest, CountsCopiesWithoutTheWitness) {
  EXPECT_EQ(Whole().data_member_count(), 2U);
  EXPECT_EQ(Whole().in_sync_count(), 1U);
}

TEST(ConfigurationTest, NeedsAMajorityOfTheMembersAndOfThoseBefore) {
  Configuration configuration = Whole();
  const auto all_but = [](std::uint8_t missing) {
    return [missing](const Member& member) { return member.pool != pool::PoolId(Id(missing)); };
  };
  EXPECT_TRUE(HasMajority(configuration, all_but(2)));
  EXPECT_FALSE(HasMajority(configuration, all_but(1))) << "the only one before has not voted";
  configuration.predecessor.clear();
  EXPECT_TRUE(HasMajority(configuration, all_but(1)));
  configuration.members.pop_back();
  EXPECT_FALSE(HasMajority(configuration, all_but(1))) << "half is no majority";
}

TEST(ConfigurationTest, OrdersVersionsByEpochFirst) {
  const ConfigurationVersion older = {EpochOf(1), 100};
  EXPECT_LT(older, (ConfigurationVersion{EpochOf(2), 1}));
  EXPECT_LT(older, (ConfigurationVersion{EpochOf(1), 101}));
}

TEST(ConfigurationTest, SaysInALineWhoIsWhat) {
  const std::string line = ToString(Whole());
  EXPECT_EQ(line,
            "version=9.3.eeeeeeee/12 members=[81818181=InSync 82828282=Syncing 83838383=Witness] "
            "before=[81818181=InSync] clean=8.3/21 snapshots=2 forced=7 "
            "succeeded_by=10");
}

}  // namespace
}  // namespace keelson::replica
