#include "tests/sim/small_model_symmetry.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "tests/sim/small_model_bits.h"

namespace keelson::sim {
namespace {

Bits Permuted(Bits bits, const std::array<int, kModelMembers>& to) {
  Bits result = 0;
  for (int m = 0; m < kModelMembers; ++m) {
    if (Has(bits, m)) Add(&result, to[At(m)]);
  }
  return result;
}

template <typename T>
std::array<T, kModelMembers> Permuted(const std::array<T, kModelMembers>& values,
                                      const std::array<int, kModelMembers>& to) {
  std::array<T, kModelMembers> result;
  for (int m = 0; m < kModelMembers; ++m) result[At(to[At(m)])] = values[At(m)];
  return result;
}

void Permute(ModelConfiguration* configuration, const std::array<int, kModelMembers>& to) {
  configuration->state = Permuted(configuration->state, to);
  configuration->incarnation = Permuted(configuration->incarnation, to);
  configuration->in_sync_through = Permuted(configuration->in_sync_through, to);
}

void Permute(ModelEngine* engine, const std::array<int, kModelMembers>& to) {
  if (engine->phase == Phase::kUnused) return;
  for (Bits* bits : {&engine->open, &engine->answered, &engine->accept_sent, &engine->accept_known,
                     &engine->syncing, &engine->ended_at, &engine->flushed_at,
                     &engine->reconcile_done[0], &engine->reconcile_done[1]}) {
    *bits = Permuted(*bits, to);
  }
  engine->answer = Permuted(engine->answer, to);
  engine->answer_incarnation = Permuted(engine->answer_incarnation, to);
  engine->copied = Permuted(engine->copied, to);
  for (ModelConfiguration& answer : engine->answer) Permute(&answer, to);
  Permute(&engine->in_force, to);
  Permute(&engine->under_way, to);
  for (std::uint8_t& source : engine->reconcile_source) {
    if (source != 0) source = static_cast<std::uint8_t>(to[std::size_t{source} - 1] + 1);
  }
}

ModelState PermutedMembers(const ModelState& state, const std::array<int, kModelMembers>& to) {
  ModelState next = state;
  next.members = Permuted(state.members, to);
  for (ModelMember& member : next.members) Permute(&member.configuration, to);
  for (ModelEngine& engine : next.engines) Permute(&engine, to);
  for (ModelWrite& write : next.writes) {
    for (Bits* bits :
         {&write.sent, &write.failed, &write.in_flight, &write.known, &write.applied}) {
      *bits = Permuted(*bits, to);
    }
  }
  return next;
}

void SwapBlocks(ModelState* state) {
  const auto swap_bits = [](Bits* bits) {
    *bits = static_cast<Bits>((*bits >> 1 & 1) | (*bits & 1) << 1);
  };
  const auto swap = [](auto* values) { std::swap((*values)[0], (*values)[1]); };
  for (ModelMember& member : state->members) {
    swap(&member.note);
    swap(&member.volatile_value);
    swap(&member.durable_value);
  }
  for (ModelEngine& engine : state->engines) {
    swap_bits(&engine.reconciled);
    swap(&engine.reconcile_source);
    swap(&engine.reconcile_done);
    for (Bits& copied : engine.copied) swap_bits(&copied);
    swap(&engine.flush_floor);
  }
  for (int w = 0; w < state->used; ++w) {
    state->writes[At(w)].block = static_cast<std::uint8_t>(1 - state->writes[At(w)].block);
  }
  swap(&state->floor);
  swap(&state->durable_floor);
}

// A number of what the state says about the member, whatever its place.
std::uint64_t SignatureOf(const ModelState& state, int m) {
  std::uint64_t hash = 0;
  const auto mix = [&hash](std::uint64_t value) {
    hash = (hash ^ value) * 0x9fb21c651e98df25;
    hash ^= hash >> 29;
  };
  const auto mix_configuration = [&](const ModelConfiguration& configuration) {
    mix(std::uint64_t{configuration.epoch} << 8 | configuration.counter);
    mix(std::uint64_t{configuration.state[At(m)]} << 16 |
        std::uint64_t{configuration.incarnation[At(m)]} << 8 |
        configuration.in_sync_through[At(m)]);
  };
  const ModelMember& member = state.members[At(m)];
  mix_configuration(member.configuration);
  mix(std::uint64_t{member.promised} << 16 | std::uint64_t{member.incarnation} << 8 |
      member.session);
  for (std::size_t b = 0; b < kModelBlocks; ++b) {
    mix(std::uint64_t{member.note[b]} << 16 | std::uint64_t{member.volatile_value[b]} << 8 |
        member.durable_value[b]);
  }
  for (const ModelEngine& engine : state.engines) {
    if (engine.phase == Phase::kUnused) continue;
    for (const Bits bits :
         {engine.open, engine.answered, engine.accept_sent, engine.accept_known, engine.syncing,
          engine.ended_at, engine.flushed_at, engine.reconcile_done[0], engine.reconcile_done[1]}) {
      mix(Has(bits, m));
    }
    mix_configuration(engine.in_force);
    mix_configuration(engine.under_way);
    mix(engine.copied[At(m)]);
  }
  for (int w = 0; w < state.used; ++w) {
    const ModelWrite& write = state.writes[At(w)];
    for (const Bits bits : {write.sent, write.failed, write.in_flight, write.known}) {
      mix(Has(bits, m));
    }
  }
  return hash;
}

// Considers every order of the members that agrees with their signatures.
void Consider(const ModelState& state, int exchangeable, ModelState* least, bool* any) {
  std::array<std::uint64_t, kModelMembers> signatures{};
  std::array<int, kModelMembers> order = {0, 1, 2};  // place -> member
  for (int m = 0; m < exchangeable; ++m) signatures[At(m)] = SignatureOf(state, m);
  do {
    bool sorted = true;
    for (int place = 1; place < exchangeable; ++place) {
      sorted = sorted && signatures[At(order[At(place - 1)])] <= signatures[At(order[At(place)])];
    }
    if (!sorted) continue;
    std::array<int, kModelMembers> to{};
    for (int place = 0; place < kModelMembers; ++place) to[At(order[At(place)])] = place;
    const ModelState candidate = PermutedMembers(state, to);
    if (!*any || std::memcmp(&candidate, least, sizeof candidate) < 0) *least = candidate;
    *any = true;
  } while (std::next_permutation(order.begin(), order.begin() + exchangeable));
}

}  // namespace

ModelState LeastOfSymmetric(const ModelState& state, int exchangeable) {
  ModelState least;
  bool any = false;
  Consider(state, exchangeable, &least, &any);
  ModelState swapped = state;
  SwapBlocks(&swapped);
  Consider(swapped, exchangeable, &least, &any);
  return least;
}

}  // namespace keelson::sim
