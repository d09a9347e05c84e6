#include "tests/sim/small_model.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/small_model_bits.h"
#include "tests/sim/small_model_symmetry.h"

namespace keelson::sim {

std::string ModelStep::ToString() const {
  std::string text = what;
  if (number >= 0) absl::StrAppend(&text, " ", number);
  if (member >= 0)
    absl::StrAppend(&text, " member ", std::string(1, static_cast<char>('A' + member)));
  if (engine >= 0) absl::StrAppend(&text, " engine ", engine + 1);
  return text;
}

ModelState SmallModel::Initial() const {
  ModelState state{};
  ModelConfiguration configuration{};
  configuration.epoch = 1;
  configuration.counter = 1;
  for (int m = 0; m < kModelMembers; ++m) {
    configuration.state[At(m)] = IsWitness(m) ? kModelOut : kModelInSync;
  }
  for (ModelMember& member : state.members) {
    member.configuration = configuration;
    member.promised = member.session = 1;
  }
  ModelEngine& engine = state.engines[0];
  engine.phase = Phase::kServing;
  engine.open = 0b111;
  engine.in_force = configuration;
  engine.generation = 1;
  engine.reconciled = 0b11;
  return state;
}

void SmallModel::Expand(const ModelState& state, const Visit& visit) {
  if (bounds_.reduced) {
    ExpandReduced(state, visit);
  } else {
    ExpandFully(state, visit);
  }
}

void SmallModel::ExpandFully(const ModelState& state, const Visit& visit) {
  Deliveries(state, visit);
  for (int e = 0; e < kModelEngines; ++e) {
    const Phase phase = state.engines[At(e)].phase;
    if (phase == Phase::kUnused || phase == Phase::kEnded) continue;
    for (int m = 0; m < kModelMembers; ++m) Link(state, e, m, visit);
    if (phase == Phase::kPreparing) Attach(state, e, visit);
    if (phase == Phase::kServing) {
      Reconcile(state, e, visit);
      Resync(state, e, visit);
      Writes(state, e, visit);
      Reads(state, e, visit);
      Acknowledgements(state, e, visit);
      for (int m = 0; m < kModelMembers; ++m) FlushAt(state, e, m, visit);
      Flushes(state, e, visit);
      Configurations(state, e, visit);
    }
  }
  BeginAttach(state, visit);
  for (int m = 0; m < kModelMembers; ++m) Failures(state, m, visit);
}

// --- Failures ---

void SmallModel::BeginAttach(const ModelState& state, const Visit& visit) {
  int newest = 0;
  while (newest + 1 < kModelEngines && state.engines[At(newest + 1)].phase != Phase::kUnused) {
    ++newest;
  }
  const bool ended = state.engines[At(newest)].phase == Phase::kEnded;
  if (newest + 1 == kModelEngines || (!ended && state.failures == bounds_.failures)) return;
  ModelState next = state;
  next.failures = static_cast<std::uint8_t>(state.failures + (ended ? 0 : 1));
  next.engines[At(newest + 1)].phase = Phase::kPreparing;
  visit(next, {"begin an attach", newest + 1});
}

void SmallModel::Failures(const ModelState& state, int m, const Visit& visit) {
  if (state.failures == bounds_.failures) return;
  for (const bool landed : {false, true}) {
    if (state.members[At(m)].session == 0 || (landed && !AnythingInFlight(state, m))) continue;
    ModelState next = state;
    ++next.failures;
    EndSession(&next, m, landed);
    visit(next, {"kill the process", -1, m, landed});
  }
  PowerLoss(state, m, visit);
  for (int e = 0; e < kModelEngines; ++e) {
    if (!Reaches(state, e, m)) continue;
    ModelState next = state;
    ++next.failures;
    CloseLink(&next, e, m);
    visit(next, {"lose the connection", e, m});
  }
}

// Each block keeps what was flushed, or what was written last.
void SmallModel::PowerLoss(const ModelState& state, int m, const Visit& visit) {
  for (int choice = 0; choice < 1 << (kModelBlocks + 1); ++choice) {
    const bool landed = Has(static_cast<Bits>(choice), kModelBlocks);
    if (landed && !AnythingInFlight(state, m)) continue;
    ModelState next = state;
    ++next.failures;
    EndSession(&next, m, landed);
    ModelMember& member = next.members[At(m)];
    ++member.incarnation;
    bool repeats = false;
    for (int b = 0; b < kModelBlocks; ++b) {
      std::uint8_t& durable = member.durable_value[At(b)];
      std::uint8_t& latest = member.volatile_value[At(b)];
      const bool kept = Has(static_cast<Bits>(choice), b);
      repeats = repeats || (kept && durable == latest);
      (kept ? durable : latest) = kept ? latest : durable;
    }
    if (!repeats) visit(next, {"cut the power", -1, m, choice});
  }
}

// --- Sessions ---

bool SmallModel::Reaches(const ModelState& state, int e, int m) const {
  return Has(state.engines[At(e)].open, m) && state.members[At(m)].session == EpochNumber(e);
}

bool SmallModel::AnythingInFlight(const ModelState& state, int m) const {
  const std::uint8_t epoch = state.members[At(m)].session;
  if (epoch == 0) return false;
  bool any = Has(state.engines[std::size_t{epoch} - 1].accept_sent, m);
  for (const ModelWrite& write : state.writes) {
    any = any || (write.epoch == epoch && Has(write.in_flight, m));
  }
  return any;
}

void SmallModel::EndSession(ModelState* state, int m, bool landed) {
  const std::uint8_t epoch = state->members[At(m)].session;
  state->members[At(m)].session = 0;
  if (epoch == 0) return;
  if (Has(state->engines[std::size_t{epoch} - 1].accept_sent, m) && landed) {
    DeliverAccept(state, epoch - 1, m, false);
  }
  Drop(&state->engines[std::size_t{epoch} - 1].accept_sent, m);
  for (int w = 0; w < state->used; ++w) {
    ModelWrite& write = state->writes[At(w)];
    if (write.epoch != epoch) continue;
    if (Has(write.in_flight, m) && landed) DeliverWrite(state, w, m, false);
    Drop(&write.in_flight, m);
  }
  // An engine that serves notices at once: until it does it can only wait.
  ModelEngine& engine = state->engines[std::size_t{epoch} - 1];
  if (engine.phase != Phase::kPreparing && Has(engine.open, m)) CloseLink(state, epoch - 1, m);
}

// The member ends what came before, this engine's earlier session too.
void SmallModel::Prepare(ModelState* state, int e, int m, bool landed) {
  ModelMember& member = state->members[At(m)];
  const bool same_epoch = member.promised == EpochNumber(e);
  if (!Is(same_epoch ? Mutation::kKeepSessionInEpoch : Mutation::kAcceptFencedEpoch)) {
    EndSession(state, m, landed);
  }
  member.promised = member.session = EpochNumber(e);
  Add(&state->engines[At(e)].open, m);
}

// The engine gives up on the connection. What it had sent may still be on its way.
void SmallModel::CloseLink(ModelState* state, int e, int m) const {
  ModelEngine& engine = state->engines[At(e)];
  Drop(&engine.open, m);
  Drop(&engine.syncing, m);
  engine.copied[At(m)] = 0;
  for (ModelWrite& write : state->writes) {
    if (write.epoch != EpochNumber(e) || !Has(write.sent, m) || Has(write.known, m)) continue;
    if (write.outstanding != 0) Add(&write.failed, m);
  }
}

void SmallModel::Link(const ModelState& state, int e, int m, const Visit& visit) {
  const ModelEngine& engine = state.engines[At(e)];
  if (Has(engine.open, m)) {
    if (Reaches(state, e, m)) return;
    ModelState next = state;
    CloseLink(&next, e, m);
    visit(next, {"notice the end of the session", e, m});
    return;
  }
  if (state.members[At(m)].promised > EpochNumber(e)) return;
  // An InSync member that failed is marked Out first, unless it is the last (R6).
  const Bits in_sync = InSyncOf(engine);
  if (engine.phase == Phase::kServing && Has(in_sync, m) && in_sync != Bit(m)) return;
  for (const bool landed : {false, true}) {
    if (landed && !AnythingInFlight(state, m)) continue;
    ModelState next = state;
    if (engine.phase == Phase::kPreparing) {
      Prepare(&next, e, m, landed);
      ModelEngine& attaching = next.engines[At(e)];
      Add(&attaching.answered, m);
      attaching.answer[At(m)] = next.members[At(m)].configuration;
      attaching.answer_incarnation[At(m)] = next.members[At(m)].incarnation;
    } else {
      RePrepare(&next, e, m, landed);
    }
    visit(next, {"prepare", e, m, landed});
  }
}

void SmallModel::RePrepare(ModelState* state, int e, int m, bool landed) {
  ModelEngine& engine = state->engines[At(e)];
  Prepare(state, e, m, landed);
  if (engine.under_way.epoch != 0 && !Has(engine.accept_known, m)) Add(&engine.accept_sent, m);
  if (!Has(InSyncOf(engine), m)) return;
  const ModelConfiguration& latest =
      engine.under_way.epoch != 0 ? engine.under_way : engine.in_force;
  if (latest.incarnation[At(m)] != state->members[At(m)].incarnation &&
      !Is(Mutation::kTrustRestarted)) {
    // Acknowledged writes may be gone: the attachment ends in errors.
    engine = ModelEngine{};
    engine.phase = Phase::kEnded;
    for (ModelWrite& write : state->writes) {
      if (write.epoch == EpochNumber(e)) write.outstanding = 0;
    }
    return;
  }
  for (ModelWrite& write : state->writes) {
    if (write.epoch != EpochNumber(e) || write.outstanding == 0 || Has(write.known, m)) continue;
    Drop(&write.failed, m);
    Add(&write.sent, m);
    Add(&write.in_flight, m);
  }
}

void SmallModel::Attach(const ModelState& state, int e, const Visit& visit) {
  const ModelEngine& engine = state.engines[At(e)];
  const auto decision = decisions_.Attach(engine, EpochNumber(e));
  if (!decision.has_value()) return;
  ModelState next = state;
  ModelEngine& attaching = next.engines[At(e)];
  attaching.phase = Phase::kProposing;
  attaching.answered = 0;
  attaching.answer = {};
  attaching.answer_incarnation = {};
  Propose(&next, e, decision->first);
  ++coverage_.take_overs;
  if (decision->restarted) {
    ++coverage_.restarted_take_overs;
    attaching.restarted = 1;
    next.floor = next.durable_floor;
  }
  visit(next, {"write the first configuration", e});
}

// --- Configurations ---

void SmallModel::Propose(ModelState* state, int e, const ModelConfiguration& configuration) {
  ModelEngine& engine = state->engines[At(e)];
  engine.under_way = configuration;
  engine.accept_sent = engine.open;
  engine.accept_known = 0;
  if (InSyncOf(configuration) == 0) Broken("last-copy-stays: a configuration has no InSync member");
}

void SmallModel::Configurations(const ModelState& state, int e, const Visit& visit) {
  const ModelEngine& engine = state.engines[At(e)];
  for (int m = 0; m < kModelMembers; ++m) {
    if (engine.under_way.epoch != 0 || Has(engine.open, m)) continue;
    if (engine.in_force.state[At(m)] != kModelInSync) continue;
    const auto without = decisions_.MarkOut(engine.in_force, m);
    if (!without.has_value()) continue;
    ModelState next = state;
    Propose(&next, e, *without);
    ++coverage_.degraded;
    visit(next, {"mark Out", e, m});
  }
}

// --- States that are the same ---

// Drops what can make no difference any more.
void SmallModel::Forget(ModelState* state) const {
  for (int e = 0; e < kModelEngines; ++e) {
    ModelEngine& engine = state->engines[At(e)];
    if (engine.phase != Phase::kServing && engine.phase != Phase::kProposing) continue;
    int fenced = 0;
    for (const ModelMember& member : state->members) fenced += member.promised > EpochNumber(e);
    if (fenced <= kModelMembers / 2) continue;
    // It puts nothing in force any more, so it waits for ever for whoever is not there to answer.
    const auto never_all = [&](Bits have) {
      for (int m = 0; m < kModelMembers; ++m) {
        const bool gone = state->members[At(m)].promised > EpochNumber(e);
        if (gone && Has(InSyncOf(engine), m) && !Has(have, m)) return true;
      }
      return false;
    };
    bool may_finish = MayAnswerReads(*state, e);
    engine.accept_known = 0;
    for (ModelWrite& write : state->writes) {
      if (write.epoch != EpochNumber(e) || write.outstanding == 0) continue;
      if (never_all(write.known)) {
        write.sent = write.failed = write.known = write.applied = 0;
      } else {
        may_finish = true;
      }
    }
    if (engine.flushing != 0 && never_all(engine.flushed_at)) {
      engine.flushing = engine.flushed_at = 0;
      engine.flush_floor = {};
    }
    if (fenced < kModelMembers || may_finish || engine.flushing != 0) continue;
    engine = ModelEngine{};
    engine.phase = Phase::kEnded;
    for (ModelWrite& write : state->writes) {
      if (write.epoch == EpochNumber(e)) write.outstanding = 0;
    }
  }
  for (ModelWrite& write : state->writes) {
    if (write.outstanding != 0) continue;
    write.sent = write.failed = write.known = write.applied = 0;
    if (write.in_flight == 0) write.generation = 0;
  }
}

ModelState SmallModel::Canonical(ModelState state) const {
  if (!Is(Mutation::kAcceptFencedEpoch) && !Is(Mutation::kAckBeforeDegrade)) Forget(&state);
  if (bounds_.reduced) Simplify(&state);
  return LeastOfSymmetric(state, bounds_.witness ? kModelMembers - 1 : kModelMembers);
}

}  // namespace keelson::sim
