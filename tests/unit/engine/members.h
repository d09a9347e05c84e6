#pragma once
// Configurations of members A, B, C and a witness W, as the tests of the engine's decisions name
// them. Header only.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "blockstore/engine/segment_engine.h"
#include "blockstore/replica/configuration.h"
#include "blockstore/replica/replica_port.h"

namespace keelson::engine {

inline pool::Uuid TestId(char kind, char name) {
  pool::Uuid uuid;
  uuid.bytes.fill(static_cast<std::uint8_t>(name));
  uuid.bytes[0] = static_cast<std::uint8_t>(kind);
  return uuid;
}

inline pool::ReplicaId ReplicaOf(char name) { return pool::ReplicaId(TestId('r', name)); }

inline pool::Epoch TestEpoch(std::uint64_t attachment) {
  return {attachment, 0, pool::EngineId(TestId('e', 'e'))};
}

inline pool::Generation GenerationOf(std::uint64_t attachment, std::uint64_t counter) {
  return {TestEpoch(attachment), counter};
}

// `life` counts the incarnations.
inline replica::Member MemberOf(char name, replica::MemberState state, char life = 1) {
  replica::Member member;
  member.pool = pool::PoolId(TestId('p', name));
  member.replica = ReplicaOf(name);
  member.incarnation = TestId(life, name);
  member.address = std::string(1, name) + ":7100";
  member.state = state;
  return member;
}

inline replica::Member InSync(char name) { return MemberOf(name, replica::MemberState::kInSync); }
inline replica::Member Syncing(char name) { return MemberOf(name, replica::MemberState::kSyncing); }
inline replica::Member Out(char name) { return MemberOf(name, replica::MemberState::kOut); }
inline replica::Member Witness(char name) {
  replica::Member member = Out(name);
  member.witness = true;
  return member;
}

// Version (epoch 1, counter 10), clean through (1, 5).
inline replica::Configuration ConfigurationOf(std::vector<replica::Member> members) {
  replica::Configuration configuration;
  configuration.volume = pool::VolumeId(TestId('v', 'v'));
  configuration.volume_name = "volume";
  configuration.version = {TestEpoch(1), 10};
  configuration.members = std::move(members);
  configuration.size_bytes = std::uint64_t{8} << 20;
  configuration.clean = GenerationOf(1, 5);
  return configuration;
}

inline replica::ConfiguredSnapshot SnapshotOf(char name, bool complete) {
  replica::ConfiguredSnapshot snapshot;
  snapshot.id = pool::SnapshotId(TestId('s', name));
  snapshot.name = std::string(1, name);
  snapshot.sealed = GenerationOf(1, static_cast<std::uint8_t>(name));
  snapshot.size_bytes = std::uint64_t{8} << 20;
  snapshot.complete = complete;
  return snapshot;
}

}  // namespace keelson::engine
