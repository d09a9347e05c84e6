// SmallModel: Simplify, the part of the reduced search (small_model_reduction.cc) that makes
// bisimilar states equal.

#include <algorithm>
#include <array>
#include <bit>
#include <utility>
#include <vector>

#include "tests/sim/small_model.h"
#include "tests/sim/small_model_bits.h"

namespace keelson::sim {
namespace {

// Calls `visit` with every configuration that the state has, but for those that are none.
template <typename Visitor>
void ForEachConfiguration(ModelState* state, Visitor visit) {
  const auto see = [&visit](ModelConfiguration* configuration) {
    if (configuration->epoch != 0) visit(configuration);
  };
  for (ModelMember& member : state->members) see(&member.configuration);
  for (ModelEngine& engine : state->engines) {
    see(&engine.in_force);
    see(&engine.under_way);
    for (ModelConfiguration& answer : engine.answer) see(&answer);
  }
}

// Where nothing is on its way and the engine does not believe in the session, it makes no
// difference whether the member still has it.
void DropIdleSessions(ModelState* state) {
  for (int m = 0; m < kModelMembers; ++m) {
    ModelMember& member = state->members[At(m)];
    if (member.session == 0) continue;
    const ModelEngine& engine = state->engines[std::size_t{member.session} - 1];
    bool needed = Has(engine.open, m) || Has(engine.accept_sent, m);
    for (const ModelWrite& write : state->writes) {
      needed = needed || (write.epoch == member.session && Has(write.in_flight, m));
    }
    if (!needed) member.session = 0;
  }
}

// Of what members answered an attach looks at the highest configuration only.
void ShareHighestAnswer(ModelState* state) {
  for (ModelEngine& engine : state->engines) {
    if (engine.answered == 0) continue;
    ModelConfiguration highest{};
    for (const ModelConfiguration& answer : engine.answer) {
      if (VersionOf(answer) > VersionOf(highest)) highest = answer;
    }
    for (int m = 0; m < kModelMembers; ++m) {
      if (Has(engine.answered, m)) engine.answer[At(m)] = highest;
    }
  }
}

// Versions are compared within an epoch; the next one is above all.
void RenumberVersions(ModelState* state) {
  std::array<std::uint64_t, kModelEngines + 1> seen{};
  ForEachConfiguration(state, [&seen](ModelConfiguration* configuration) {
    seen[configuration->epoch] |= std::uint64_t{1} << std::min<int>(configuration->counter, 63);
  });
  ForEachConfiguration(state, [&seen](ModelConfiguration* configuration) {
    if (configuration->counter > 63) return;
    const std::uint64_t below = (std::uint64_t{1} << configuration->counter) - 1;
    configuration->counter =
        static_cast<std::uint8_t>(std::popcount(seen[configuration->epoch] & below) + 1);
  });
}

// Incarnations are compared for equality, while the member is not Out; the next one is new. A
// witness's say nothing.
void RenumberIncarnations(ModelState* state, Bits witnesses) {
  ForEachConfiguration(state, [witnesses](ModelConfiguration* configuration) {
    for (int m = 0; m < kModelMembers; ++m) {
      if (configuration->state[At(m)] == kModelOut || Has(witnesses, m)) {
        configuration->incarnation[At(m)] = 0;
      }
    }
  });
  for (int m = 0; m < kModelMembers; ++m) {
    ModelMember& member = state->members[At(m)];
    if (Has(witnesses, m)) member.incarnation = 0;
    std::uint64_t seen = std::uint64_t{1} << member.incarnation;
    const auto rank = [&seen](std::uint8_t* number) {
      *number =
          static_cast<std::uint8_t>(std::popcount(seen & ((std::uint64_t{1} << *number) - 1)));
    };
    ForEachConfiguration(state, [&seen, m](ModelConfiguration* configuration) {
      if (configuration->state[At(m)] == kModelOut) return;
      seen |= std::uint64_t{1} << configuration->incarnation[At(m)];
    });
    for (ModelEngine& engine : state->engines) {
      if (Has(witnesses, m)) engine.answer_incarnation[At(m)] = 0;
      if (Has(engine.answered, m)) seen |= std::uint64_t{1} << engine.answer_incarnation[At(m)];
    }
    ForEachConfiguration(state, [&rank, m](ModelConfiguration* configuration) {
      if (configuration->state[At(m)] != kModelOut) rank(&configuration->incarnation[At(m)]);
    });
    for (ModelEngine& engine : state->engines) {
      if (Has(engine.answered, m)) rank(&engine.answer_incarnation[At(m)]);
    }
    rank(&member.incarnation);
  }
}

// Calls `visit` with every place that holds a value of the block.
template <typename Visitor>
void ForEachValue(ModelState* state, int b, Visitor visit) {
  for (ModelMember& member : state->members) {
    visit(&member.volatile_value[At(b)]);
    visit(&member.durable_value[At(b)]);
  }
  for (ModelEngine& engine : state->engines) visit(&engine.flush_floor[At(b)]);
  visit(&state->floor[At(b)]);
  visit(&state->durable_floor[At(b)]);
}

bool IsUnderWay(const ModelWrite& write) { return write.outstanding != 0 || write.in_flight != 0; }

// The oldest value that there is becomes "never written", if nothing older can come any more.
void RebaseValues(ModelState* state, int b, Bits witnesses) {
  std::uint8_t oldest = 0;
  bool any = false;
  for (int m = 0; m < kModelMembers; ++m) {
    if (Has(witnesses, m)) continue;
    const ModelMember& member = state->members[At(m)];
    for (const std::uint8_t value : {member.volatile_value[At(b)], member.durable_value[At(b)]}) {
      if (!any || IsOlder(*state, value, oldest)) oldest = value;
      any = true;
    }
  }
  if (oldest == 0) return;
  const ModelWrite& base = state->writes[std::size_t{oldest} - 1];
  if (IsUnderWay(base)) return;
  for (int w = 0; w < state->used; ++w) {
    const ModelWrite& write = state->writes[At(w)];
    const auto value = static_cast<std::uint8_t>(w + 1);
    if (write.block == b && IsUnderWay(write) && IsOlder(*state, value, oldest)) return;
  }
  for (int e = 0; e + 1 < base.epoch; ++e) {
    const Phase phase = state->engines[At(e)].phase;
    if (phase != Phase::kUnused && phase != Phase::kEnded) return;
  }
  const ModelState before = *state;
  ForEachValue(state, b, [&before, oldest](std::uint8_t* value) {
    if (!IsOlder(before, oldest, *value)) *value = 0;
  });
}

// Writes that left no trace are dropped; the others are in the order of their blocks, and there in
// that of their values.
void RenumberWrites(ModelState* state) {
  std::array<bool, kModelWritesMax + 1> needed{};
  for (int b = 0; b < kModelBlocks; ++b) {
    ForEachValue(state, b, [&needed](const std::uint8_t* value) { needed[*value] = true; });
  }
  std::vector<int> order;
  for (int w = 0; w < state->used; ++w) {
    if (needed[At(w + 1)] || IsUnderWay(state->writes[At(w)])) order.push_back(w);
  }
  std::sort(order.begin(), order.end(), [state](int a, int b) {
    const ModelWrite& first = state->writes[At(a)];
    const ModelWrite& second = state->writes[At(b)];
    return std::pair(first.block, first.epoch * 16 + a) <
           std::pair(second.block, second.epoch * 16 + b);
  });
  std::array<std::uint8_t, kModelWritesMax + 1> to{};
  std::array<ModelWrite, kModelWritesMax> writes{};
  for (std::size_t i = 0; i < order.size(); ++i) {
    writes[i] = state->writes[At(order[i])];
    to[At(order[i] + 1)] = static_cast<std::uint8_t>(i + 1);
  }
  for (int b = 0; b < kModelBlocks; ++b) {
    ForEachValue(state, b, [&to](std::uint8_t* value) { *value = to[*value]; });
  }
  state->writes = writes;
  state->used = static_cast<std::uint8_t>(order.size());
}

}  // namespace

void SmallModel::Simplify(ModelState* state) const {
  if (!Is(Mutation::kAcceptFencedEpoch)) DropIdleSessions(state);
  ShareHighestAnswer(state);
  RenumberVersions(state);
  RenumberIncarnations(state, Witnesses());
  for (ModelWrite& write : state->writes) write.applied = write.known;
  if (bounds_.rolls == 0) {
    // Nothing is ever clean, so a note says that there is one.
    for (ModelMember& member : state->members) {
      for (std::uint8_t& note : member.note) note = std::min<std::uint8_t>(note, 1);
    }
    for (ModelWrite& write : state->writes) {
      write.generation = std::min<std::uint8_t>(write.generation, 1);
    }
  }
  // Only an older engine's acknowledgement asks.
  bool older_serves = false;
  for (ModelEngine& engine : state->engines) {
    if (!older_serves) engine.restarted = 0;
    older_serves = older_serves || engine.phase == Phase::kServing;
  }
  for (int b = 0; b < kModelBlocks; ++b) RebaseValues(state, b, Witnesses());
  RenumberWrites(state);
}

}  // namespace keelson::sim
