// SmallModel: the reduced search. It reaches a violation exactly when the full one does, by four
// arguments; small_model_test.cc compares the two on small bounds, with every mutation.
//
// Late delivery. What a Write or an Accept changes at its member nobody looks at before the next
// step of that member (its end, a Prepare, a flush), the acknowledgement of the write, or the
// moment in which the configuration comes into force. A delivery commutes with every other step, so
// it is taken only right before one of those: AtMember, CompleteWrite, PutInForce. A delivery that
// others can see at once, which a mutation makes possible, is a step of its own: LateDeliveries.
//
// Settling. An acknowledgement, a read and the knowledge that a block is equal take nothing away
// from any later step: they only raise what a later read is held to, and let more steps happen. So
// from the state after them every violation is found that is found from the state before.
//
// Simplifying. Numbers that are only compared are numbered densely, and what cannot make a
// difference any more is dropped: bisimilar states become one.
//
// Budgets. Of two states that are the same but for what may still happen (failures, writes), the
// one that has used less finds whatever the other one does (small_model_test.cc).

#include "tests/sim/small_model.h"
#include "tests/sim/small_model_bits.h"

namespace keelson::sim {

void SmallModel::ExpandReduced(const ModelState& state, const Visit& visit) {
  const Visit settled = [this, &visit](const ModelState& next, const ModelStep& step) {
    ModelState after = next;
    Settle(&after);
    visit(after, step);
  };
  LateDeliveries(state, settled);
  for (int w = 0; w < state.used; ++w) CompleteWrite(state, w, settled);
  for (int e = 0; e < kModelEngines; ++e) {
    const Phase phase = state.engines[At(e)].phase;
    if (phase == Phase::kUnused || phase == Phase::kEnded) continue;
    if (phase != Phase::kPreparing) PutInForce(state, e, 0, settled);
    if (phase == Phase::kPreparing) Attach(state, e, settled);
    if (phase != Phase::kServing) continue;
    Reconcile(state, e, settled);
    Resync(state, e, settled);
    Writes(state, e, settled);
    // What Settle leaves is what only a mutation acknowledges.
    Acknowledgements(state, e, settled);
    Flushes(state, e, settled);
    Configurations(state, e, settled);
  }
  BeginAttach(state, settled);
  for (int m = 0; m < kModelMembers; ++m) AtMember(state, m, 0, settled);
}

// --- Late delivery ---

// Nobody but the member, the acknowledgement and an end of the session has to do with it.
bool SmallModel::IsLazyWrite(const ModelState& state, int w, int m) const {
  const ModelWrite& write = state.writes[At(w)];
  if (!Has(write.in_flight, m) || state.members[At(m)].session != write.epoch) return false;
  if (!Has(state.engines[std::size_t{write.epoch} - 1].open, m)) {
    return !Is(Mutation::kKeepSessionInEpoch);
  }
  return write.outstanding != 0 && !Has(write.failed, m);
}

bool SmallModel::IsLazyAccept(const ModelState& state, int e, int m) const {
  return Has(state.engines[At(e)].accept_sent, m) && state.members[At(m)].session == EpochNumber(e);
}

// The steps of the member, after each set of what is on its way to it. Items are the writes, and
// then the engines' Accepts; from `first` on, as their order makes no difference.
void SmallModel::AtMember(const ModelState& state, int m, int first, const Visit& visit) {
  Observers(state, m, visit);
  for (int item = first; item < kModelWritesMax + kModelEngines; ++item) {
    ModelState next = state;
    if (item < state.used) {
      if (!IsLazyWrite(state, item, m)) continue;
      const int e = state.writes[At(item)].epoch - 1;
      DeliverWrite(&next, item, m, Has(state.engines[At(e)].open, m));
      // That is CompleteWrite's.
      if (MayAcknowledge(next, item, InSyncOf(next.engines[At(e)]))) continue;
    } else if (item >= kModelWritesMax) {
      const int e = item - kModelWritesMax;
      if (!IsLazyAccept(state, e, m)) continue;
      const bool heard = Has(state.engines[At(e)].open, m);
      DeliverAccept(&next, e, m, heard);
      // And that is PutInForce's.
      if (heard && decisions_.InForce(next.engines[At(e)].accept_known)) continue;
    } else {
      continue;
    }
    AtMember(next, m, item + 1, visit);
  }
}

void SmallModel::Observers(const ModelState& state, int m, const Visit& visit) {
  for (int e = 0; e < kModelEngines; ++e) {
    const ModelEngine& engine = state.engines[At(e)];
    if (engine.phase == Phase::kUnused || engine.phase == Phase::kEnded) continue;
    EndingLink(state, e, m, 0, visit);
    if (engine.phase == Phase::kServing) FlushAt(state, e, m, visit);
  }
  Failures(state, m, visit);
}

// A Prepare may end the attachment, which nobody hears of a configuration after: then what is on
// its way to the other members comes first, or never.
void SmallModel::EndingLink(const ModelState& state, int e, int m, int first, const Visit& visit) {
  bool ends = false;
  Link(state, e, m, [&](const ModelState& next, const ModelStep& step) {
    const bool ended = next.engines[At(e)].phase == Phase::kEnded;
    ends = ends || ended;
    if (first == 0 || ended) visit(next, step);
  });
  for (int other = first; other < kModelMembers && ends; ++other) {
    if (other == m || !IsLazyAccept(state, e, other)) continue;
    ModelState next = state;
    const bool heard = Has(state.engines[At(e)].open, other);
    DeliverAccept(&next, e, other, heard);
    if (heard && decisions_.InForce(next.engines[At(e)].accept_known)) continue;
    EndingLink(next, e, m, other + 1, visit);
  }
}

void SmallModel::CompleteWrite(const ModelState& state, int w, const Visit& visit) {
  ModelState next = state;
  const ModelWrite& write = next.writes[At(w)];
  const int e = write.epoch - 1;
  if (write.outstanding == 0) return;
  for (int m = 0; m < kModelMembers; ++m) {
    const bool open = Has(state.engines[At(e)].open, m);
    if (open && IsLazyWrite(state, w, m)) DeliverWrite(&next, w, m, true);
  }
  Acknowledgements(next, e, [&](const ModelState& after, const ModelStep& step) {
    if (step.number == w) visit(after, step);
  });
}

// What is on its way to members whose answers the engine does not wait for any more comes before,
// or never; then the answers of some of the others make the majority.
void SmallModel::PutInForce(const ModelState& state, int e, int first, const Visit& visit) {
  HearMajority(state, e, 0, visit);
  for (int m = first; m < kModelMembers; ++m) {
    if (!IsLazyAccept(state, e, m) || Has(state.engines[At(e)].open, m)) continue;
    ModelState next = state;
    DeliverAccept(&next, e, m, false);
    PutInForce(next, e, m + 1, visit);
  }
}

void SmallModel::HearMajority(const ModelState& state, int e, int first, const Visit& visit) {
  for (int m = first; m < kModelMembers; ++m) {
    if (!IsLazyAccept(state, e, m) || !Has(state.engines[At(e)].open, m)) continue;
    HearOfAcceptance(state, e, m, [&](const ModelState& next, const ModelStep& step) {
      if (next.engines[At(e)].under_way.epoch == 0) {
        visit(next, step);
      } else {
        HearMajority(next, e, m + 1, visit);
      }
    });
  }
}

void SmallModel::LateDeliveries(const ModelState& state, const Visit& visit) {
  if (!Is(Mutation::kAcceptFencedEpoch) && !Is(Mutation::kKeepSessionInEpoch)) return;
  Deliveries(state, [&](const ModelState& next, const ModelStep& step) {
    const bool is_write = step.number >= 0;
    const bool lazy = is_write ? IsLazyWrite(state, step.number, step.member)
                               : IsLazyAccept(state, step.engine, step.member);
    if (!lazy) visit(next, step);
  });
}

// --- Settling ---

void SmallModel::Settle(ModelState* state) {
  for (bool changed = true; changed && violation_.empty();) {
    changed = false;
    for (int w = 0; w < state->used; ++w) {
      if (state->writes[At(w)].outstanding == 0) continue;
      const ModelEngine& engine = state->engines[std::size_t{state->writes[At(w)].epoch} - 1];
      if (!MayAcknowledge(*state, w, InSyncOf(engine))) continue;
      Acknowledge(state, w);
      changed = true;
    }
    for (int e = 0; e < kModelEngines; ++e) {
      ModelEngine& engine = state->engines[At(e)];
      if (engine.phase != Phase::kServing) continue;
      for (int b = 0; b < kModelBlocks; ++b) {
        if (Has(engine.reconciled, b) || !IsKnownEqual(*state, e, b)) continue;
        Add(&engine.reconciled, b);
        engine.reconcile_source[At(b)] = 0;
        engine.reconcile_done[At(b)] = 0;
        changed = true;
      }
      if (SettleReads(state, e)) changed = true;
    }
  }
}

bool SmallModel::SettleReads(ModelState* state, int e) {
  const auto floor = state->floor;
  if (!MayAnswerReads(*state, e)) return false;
  const ModelEngine& engine = state->engines[At(e)];
  for (int b = 0; b < kModelBlocks; ++b) {
    if (!Has(engine.reconciled, b) || IsHeld(*state, e, b)) continue;
    for (int m = 0; m < kModelMembers && violation_.empty(); ++m) {
      if (engine.in_force.state[At(m)] != kModelInSync || !Reaches(*state, e, m)) continue;
      Read(state, e, b, m);
    }
  }
  return floor != state->floor;
}

}  // namespace keelson::sim
