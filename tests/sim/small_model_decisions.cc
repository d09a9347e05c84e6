#include "tests/sim/small_model_decisions.h"

#include <utility>

#include "blockstore/engine/attach_plan.h"
#include "blockstore/engine/ballot.h"
#include "blockstore/engine/transitions.h"

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

template <typename T>
void Append(const T& value, std::string* text) {
  text->append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

Configuration ModelDecisions::ToProduct(const ModelConfiguration& model) const {
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
    member.witness = ((witnesses_ >> m) & 1) != 0;
    configuration.members.push_back(std::move(member));
  }
  return configuration;
}

template <typename Ask>
ModelDecisions::Next ModelDecisions::Remembered(char kind, const ModelConfiguration& from,
                                                int argument, Ask ask) {
  std::string key(1, kind);
  Append(from, &key);
  Append(argument, &key);
  if (const auto found = transitions_.find(key); found != transitions_.end()) return found->second;
  const absl::StatusOr<Configuration> asked = ask(ToProduct(from));
  Next next;
  if (asked.ok()) next = FromProduct(*asked);
  transitions_.emplace(std::move(key), next);
  return next;
}

std::optional<ModelConfiguration> ModelDecisions::MarkOut(const ModelConfiguration& from,
                                                          int member) {
  return Remembered('o', from, member, [member](const Configuration& before) {
    return engine::MarkOut(before, ModelReplica(member));
  });
}

std::optional<ModelConfiguration> ModelDecisions::StartSync(const ModelConfiguration& from,
                                                            int member, std::uint8_t incarnation) {
  const int argument = member * 256 + incarnation;
  return Remembered('s', from, argument, [member, incarnation](const Configuration& before) {
    return engine::StartSync(before, ModelReplica(member), ModelIncarnation(member, incarnation),
                             "");
  });
}

std::optional<ModelConfiguration> ModelDecisions::MarkInSync(const ModelConfiguration& from,
                                                             int member) {
  return Remembered('i', from, member, [member](const Configuration& before) {
    return engine::MarkInSync(before, ModelReplica(member));
  });
}

std::optional<ModelConfiguration> ModelDecisions::AdvanceClean(const ModelConfiguration& from,
                                                               std::uint8_t generation) {
  return Remembered('c', from, generation, [generation](const Configuration& before) {
    return engine::AdvanceClean(before, ModelGeneration(generation));
  });
}

std::optional<ModelDecision> ModelDecisions::Attach(const ModelEngine& engine, std::uint8_t epoch) {
  std::string key(1, static_cast<char>(epoch));
  Append(engine.open, &key);
  Append(engine.answered, &key);
  Append(engine.answer, &key);
  Append(engine.answer_incarnation, &key);
  if (const auto found = attaches_.find(key); found != attaches_.end()) return found->second;
  const std::optional<ModelDecision> decision = DecideAttach(engine, epoch);
  attaches_.emplace(std::move(key), decision);
  return decision;
}

std::optional<ModelDecision> ModelDecisions::DecideAttach(const ModelEngine& engine,
                                                          std::uint8_t epoch) const {
  engine::SegmentHint hint;
  hint.volume = pool::VolumeId(Numbered('v', 0));
  engine::SegmentOptions options;
  options.grace_ns = 1;
  options.member_wait_ns = 1;
  std::array<Configuration, kModelMembers> seen;
  for (std::size_t m = 0; m < seen.size(); ++m) {
    ModelConfiguration answer = engine.answer[m];
    if (mutation_ == Mutation::kCountWitness && answer.epoch != 0) {
      answer.state[kModelMembers - 1] = static_cast<std::uint8_t>(MemberState::kInSync);
    }
    seen[m] = ToProduct(answer);
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
  if (mutation_ == Mutation::kTrustRestarted) {
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

bool ModelDecisions::InForce(Bits accepted) {
  std::optional<bool>& known = ballots_[accepted];
  if (known.has_value()) return *known;
  Configuration configuration = ToProduct(ModelConfiguration{});
  engine::Ballot ballot(std::move(configuration));
  for (int m = 0; m < kModelMembers; ++m) {
    if (((accepted >> m) & 1) != 0) ballot.OnAccepted(ModelReplica(m));
  }
  known = ballot.in_force();
  return *known;
}

}  // namespace keelson::sim
