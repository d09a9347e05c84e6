#include "tests/sim/small_model_decisions.h"

#include "blockstore/engine/attach_plan.h"
#include "blockstore/engine/ballot.h"

namespace keelson::sim {
namespace {

using replica::Configuration;
using replica::Member;
using replica::MemberState;

constexpr std::uint8_t kCountersPerEpoch = 8;

pool::Uuid Numbered(std::uint8_t kind, int number) {
  pool::Uuid uuid;
  uuid.bytes[0] = kind;
  uuid.bytes[1] = static_cast<std::uint8_t>(number + 1);
  return uuid;
}

pool::Epoch EpochOf(std::uint8_t number) { return {number, 0, {}}; }

}  // namespace

pool::ReplicaId ModelReplica(int member) { return pool::ReplicaId(Numbered('r', member)); }

pool::Uuid ModelIncarnation(int member, std::uint8_t number) {
  pool::Uuid uuid = Numbered('i', member);
  uuid.bytes[2] = number;
  return uuid;
}

pool::Generation ModelGeneration(std::uint8_t code) {
  return {EpochOf(code / kCountersPerEpoch), static_cast<std::uint64_t>(code % kCountersPerEpoch)};
}

std::uint8_t ModelGenerationCode(const pool::Generation& generation) {
  return static_cast<std::uint8_t>(generation.epoch.attachment * kCountersPerEpoch +
                                   generation.counter);
}

Configuration ToProduct(const ModelConfiguration& model, Bits witnesses) {
  Configuration configuration;
  configuration.volume = pool::VolumeId(Numbered('v', 0));
  configuration.version = {EpochOf(model.epoch), model.counter};
  configuration.size_bytes = kModelBlocks * pool::kRegionBytes;
  configuration.clean = ModelGeneration(model.clean);
  for (int m = 0; m < kModelMembers; ++m) {
    const auto index = static_cast<std::size_t>(m);
    Member member;
    member.pool = pool::PoolId(Numbered('p', m));
    member.replica = ModelReplica(m);
    member.incarnation = ModelIncarnation(m, model.incarnation[index]);
    member.state = static_cast<MemberState>(model.state[index]);
    member.in_sync_through = ModelGeneration(model.in_sync_through[index]);
    member.witness = ((witnesses >> m) & 1) != 0;
    configuration.members.push_back(std::move(member));
  }
  return configuration;
}

ModelConfiguration FromProduct(const Configuration& configuration) {
  ModelConfiguration model{};
  model.epoch = static_cast<std::uint8_t>(configuration.version.epoch.attachment);
  model.counter = static_cast<std::uint8_t>(configuration.version.counter);
  model.clean = ModelGenerationCode(configuration.clean);
  for (std::size_t m = 0; m < configuration.members.size(); ++m) {
    const Member& member = configuration.members[m];
    model.state[m] = static_cast<std::uint8_t>(member.state);
    model.incarnation[m] = member.incarnation.bytes[2];
    model.in_sync_through[m] = ModelGenerationCode(member.in_sync_through);
  }
  return model;
}

std::optional<ModelDecision> DecideAttach(const ModelEngine& engine, std::uint8_t epoch,
                                          Bits witnesses, Mutation mutation) {
  const Bits known_witnesses = mutation == Mutation::kCountWitness ? Bits{0} : witnesses;
  engine::SegmentHint hint;
  hint.volume = pool::VolumeId(Numbered('v', 0));
  engine::SegmentOptions options;
  options.grace_ns = 1;
  options.member_wait_ns = 1;
  std::array<Configuration, kModelMembers> seen;
  for (std::size_t m = 0; m < seen.size(); ++m) {
    ModelConfiguration answer = engine.answer[m];
    if (mutation == Mutation::kCountWitness && answer.epoch != 0) {
      answer.state[kModelMembers - 1] = static_cast<std::uint8_t>(MemberState::kInSync);
    }
    seen[m] = ToProduct(answer, known_witnesses);
  }
  hint.members = seen[0].members;
  engine::AttachPlan plan(hint, EpochOf(epoch), 0, options);
  for (int m = 0; m < kModelMembers; ++m) {
    const auto index = static_cast<std::size_t>(m);
    if (((engine.answered >> m) & 1) == 0) continue;
    const Member& member = hint.members[index];
    replica::PrepareAnswer answer;
    answer.pool = member.pool;
    answer.replica = member.replica;
    answer.incarnation = ModelIncarnation(m, engine.answer_incarnation[index]);
    answer.configuration = seen[index];
    plan.OnAnswer(member, answer, 0);
    if (((engine.open >> m) & 1) == 0) plan.OnFailure(member, absl::UnavailableError("ended"));
  }
  if (mutation == Mutation::kTrustRestarted) {
    // The highest configuration's incarnations are what the members are said to have.
    const Configuration* highest = nullptr;
    for (std::size_t m = 0; m < seen.size(); ++m) {
      if (((engine.answered >> m) & 1) == 0) continue;
      if (highest == nullptr || seen[m].version > highest->version) highest = &seen[m];
    }
    engine::AttachPlan trusting(hint, EpochOf(epoch), 0, options);
    for (std::size_t m = 0; m < seen.size(); ++m) {
      if (((engine.answered & engine.open) >> m & 1) == 0) continue;
      const Member& member = highest->members[m];
      trusting.OnAnswer(member,
                        {member.pool, member.replica, member.incarnation, seen[m], {}, false}, 0);
    }
    plan = trusting;
  }
  const engine::AttachDecision decision = plan.Decide(2);
  if (decision.kind != engine::AttachDecision::Kind::kReady) return std::nullopt;
  return ModelDecision{FromProduct(*decision.first), decision.restarted};
}

bool InForce(const ModelConfiguration& configuration, Bits accepted, Bits witnesses) {
  engine::Ballot ballot(ToProduct(configuration, witnesses));
  for (int m = 0; m < kModelMembers; ++m) {
    if (((accepted >> m) & 1) != 0) ballot.OnAccepted(ModelReplica(m));
  }
  return ballot.in_force();
}

}  // namespace keelson::sim
