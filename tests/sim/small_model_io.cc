// SmallModel: what reaches members late, clients' calls, flushes, reconcile and resync.

#include "absl/strings/str_cat.h"
#include "tests/sim/small_model.h"
#include "tests/sim/small_model_bits.h"

namespace keelson::sim {

// --- Messages ---

void SmallModel::Deliveries(const ModelState& state, const Visit& visit) {
  const auto arrives = [this, &state](std::uint8_t epoch, int m) {
    const ModelMember& member = state.members[At(m)];
    return member.session == epoch || (member.session > epoch && Is(Mutation::kAcceptFencedEpoch));
  };
  for (int m = 0; m < kModelMembers; ++m) {
    for (int e = 0; e < kModelEngines; ++e) {
      if (!Has(state.engines[At(e)].accept_sent, m) || !arrives(EpochNumber(e), m)) continue;
      if (Has(state.engines[At(e)].open, m)) {
        HearOfAcceptance(state, e, m, visit);
      } else {
        ModelState next = state;
        DeliverAccept(&next, e, m, false);
        visit(next, {"accept unheard", e, m});
      }
    }
    for (int w = 0; w < state.used; ++w) {
      const ModelWrite& write = state.writes[At(w)];
      if (!Has(write.in_flight, m) || !arrives(write.epoch, m)) continue;
      ModelState next = state;
      DeliverWrite(&next, w, m, Has(state.engines[std::size_t{write.epoch} - 1].open, m));
      visit(next, {"apply write", write.epoch - 1, m, w});
    }
  }
}

void SmallModel::DeliverAccept(ModelState* state, int e, int m, bool heard) {
  ModelEngine& engine = state->engines[At(e)];
  ModelMember& member = state->members[At(m)];
  Drop(&engine.accept_sent, m);
  if (VersionOf(engine.under_way) > VersionOf(member.configuration)) {
    member.configuration = engine.under_way;
  }
  if (heard) {
    Add(&engine.accept_known, m);
  } else {
    ++coverage_.leftovers;
  }
}

// When that makes a majority, what is still in flight arrives with it or not until the next one.
void SmallModel::HearOfAcceptance(const ModelState& state, int e, int m, const Visit& visit) {
  ModelState next = state;
  ModelEngine& engine = next.engines[At(e)];
  DeliverAccept(&next, e, m, true);
  if (!decisions_.InForce(engine.accept_known)) {
    visit(next, {"accept", e, m});
    return;
  }
  const auto finish = [this, e, m, &visit](ModelState finished, bool everywhere) {
    ModelEngine& ending = finished.engines[At(e)];
    for (int other = 0; other < kModelMembers && everywhere; ++other) {
      if (Has(ending.accept_sent, other) && Reaches(finished, e, other)) {
        DeliverAccept(&finished, e, other, true);
      }
    }
    ending.in_force = ending.under_way;
    ending.under_way = {};
    ending.accept_sent = ending.accept_known = 0;
    if (ending.phase == Phase::kProposing) {
      ending.phase = Phase::kServing;
      ending.generation = 1;
      if (Is(Mutation::kSkipReconcile)) ending.reconciled = 0b11;
    }
    visit(finished, {everywhere ? "accept, as all do; in force" : "accept; in force", e, m});
  };
  finish(next, false);
  if (engine.accept_sent != 0) finish(next, true);
}

void SmallModel::DeliverWrite(ModelState* state, int w, int m, bool heard) {
  ModelWrite& write = state->writes[At(w)];
  ModelMember& member = state->members[At(m)];
  Drop(&write.in_flight, m);
  Add(&write.applied, m);
  if (!Is(Mutation::kForgetNotes)) {
    std::uint8_t& note = member.note[write.block];
    note = std::max(note, write.generation);
  }
  member.volatile_value[write.block] = static_cast<std::uint8_t>(w + 1);
  if (heard) {
    Add(&write.known, m);
  } else {
    ++coverage_.leftovers;
  }
}

// --- Clients ---

void SmallModel::Writes(const ModelState& state, int e, const Visit& visit) {
  const ModelEngine& engine = state.engines[At(e)];
  if (state.issued == bounds_.writes) return;
  for (int b = 0; b < kModelBlocks; ++b) {
    if (!Has(engine.reconciled, b) || IsHeld(state, e, b)) continue;
    ModelState next = state;
    ++next.issued;
    ModelWrite& write = next.writes[next.used++];
    write.block = static_cast<std::uint8_t>(b);
    write.epoch = EpochNumber(e);
    write.generation = static_cast<std::uint8_t>(EpochNumber(e) * 8 + engine.generation);
    write.outstanding = 1;
    write.sent = write.in_flight =
        static_cast<Bits>((InSyncOf(engine) | engine.syncing) & engine.open);
    visit(next, {"write block", e, -1, b});
  }
}

void SmallModel::Reads(const ModelState& state, int e, const Visit& visit) {
  const ModelEngine& engine = state.engines[At(e)];
  if (!MayAnswerReads(state, e)) return;
  for (int b = 0; b < kModelBlocks; ++b) {
    if (!Has(engine.reconciled, b) || IsHeld(state, e, b)) continue;
    for (int m = 0; m < kModelMembers; ++m) {
      if (engine.in_force.state[At(m)] != kModelInSync || !Reaches(state, e, m)) continue;
      ModelState next = state;
      Read(&next, e, b, m);
      visit(next, {"read block", e, m, b});
    }
  }
}

bool SmallModel::MayAcknowledge(const ModelState& state, int w, Bits needed) const {
  const ModelWrite& write = state.writes[At(w)];
  return write.outstanding != 0 &&
         Covers(static_cast<Bits>(write.known | write.failed), write.sent) &&
         Covers(write.known, needed);
}

void SmallModel::Acknowledgements(const ModelState& state, int e, const Visit& visit) {
  const ModelEngine& engine = state.engines[At(e)];
  const Bits needed = Is(Mutation::kAckBeforeDegrade)
                          ? static_cast<Bits>(InSyncOf(engine) & engine.open)
                          : InSyncOf(engine);
  for (int w = 0; w < state.used; ++w) {
    if (state.writes[At(w)].epoch != EpochNumber(e) || !MayAcknowledge(state, w, needed)) continue;
    ModelState next = state;
    Acknowledge(&next, w);
    visit(next, {"acknowledge write", e, -1, w});
  }
}

void SmallModel::Acknowledge(ModelState* state, int w) {
  ModelWrite& write = state->writes[At(w)];
  const ModelEngine& engine = state->engines[std::size_t{write.epoch} - 1];
  write.outstanding = 0;
  // An older engine may hear last of a write that a restarted member answered and lost. That is
  // R3's loss, as if it had acknowledged before.
  bool may_be_lost = false;
  for (int later = write.epoch; later < kModelEngines; ++later) {
    may_be_lost = may_be_lost || state->engines[At(later)].restarted != 0;
  }
  std::uint8_t& floor = state->floor[write.block];
  if (!may_be_lost && IsOlder(*state, floor, static_cast<std::uint8_t>(w + 1))) {
    floor = static_cast<std::uint8_t>(w + 1);
  }
  ++coverage_.acknowledged;
  // What was not applied shows in a read later; with the rule left out on purpose that is what is
  // to be found.
  if (!Covers(write.applied, InSyncOf(engine.in_force)) && !Is(Mutation::kAckBeforeDegrade)) {
    Broken(absl::StrCat("degrade-before-ack: write ", w, " is not applied on an InSync member"));
  }
}

// A majority answers a heartbeat now; or, before the grace of a later engine has passed, one that
// did before.
bool SmallModel::MayAnswerReads(const ModelState& state, int e) const {
  bool later_serves = false;
  for (int later = e + 1; later < kModelEngines; ++later) {
    later_serves = later_serves || state.engines[At(later)].phase >= Phase::kProposing;
  }
  if (!later_serves || Is(Mutation::kSkipGrace)) return true;
  int heard = 0;
  for (int m = 0; m < kModelMembers; ++m) heard += Reaches(state, e, m) ? 1 : 0;
  return heard > kModelMembers / 2;
}

void SmallModel::Read(ModelState* state, int e, int b, int m) {
  const std::uint8_t value = state->members[At(m)].volatile_value[At(b)];
  std::uint8_t& floor = state->floor[At(b)];
  ++coverage_.reads;
  if (IsOlder(*state, value, floor)) {
    Broken(absl::StrCat("reads-are-stable: engine ", e + 1, " reads ", int{value}, " from block ",
                        b, " after ", int{floor}, " was read or acknowledged"));
  }
  floor = value;
}

// --- Flush and generations ---

// All writes of the generation that is being ended.
bool SmallModel::HasEnded(const ModelState& state, int e) const {
  const ModelEngine& engine = state.engines[At(e)];
  bool ended = engine.ending != 0;
  for (const ModelWrite& write : state.writes) {
    if (write.outstanding != 0 && write.epoch == EpochNumber(e)) {
      ended = ended && write.generation > EpochNumber(e) * 8 + engine.ending;
    }
  }
  return ended;
}

void SmallModel::FlushAt(const ModelState& state, int e, int m, const Visit& visit) {
  const ModelEngine& engine = state.engines[At(e)];
  if (!Has(InSyncOf(engine), m) || !Reaches(state, e, m)) return;
  const bool flush = engine.flushing != 0 && !Has(engine.flushed_at, m);
  const bool end = HasEnded(state, e) && !Has(engine.ended_at, m);
  for (const bool ending : {false, true}) {
    if (ending ? !end : !flush) continue;
    ModelState next = state;
    ModelMember& member = next.members[At(m)];
    if (!ending || !Is(Mutation::kCleanWithoutFlush)) {
      member.durable_value = member.volatile_value;
    }
    Add(ending ? &next.engines[At(e)].ended_at : &next.engines[At(e)].flushed_at, m);
    visit(next, {ending ? "end the generation at" : "flush at", e, m});
  }
}

void SmallModel::Flushes(const ModelState& state, int e, const Visit& visit) {
  const ModelEngine& engine = state.engines[At(e)];
  bool unflushed = state.floor != state.durable_floor;
  for (const ModelMember& member : state.members) {
    unflushed = unflushed || member.durable_value != member.volatile_value;
  }
  if (engine.flushing == 0 && state.flushes < bounds_.flushes && unflushed) {
    ModelState next = state;
    ++next.flushes;
    ModelEngine& flushing = next.engines[At(e)];
    flushing.flushing = 1;
    flushing.flushed_at = 0;
    flushing.flush_floor = state.floor;
    visit(next, {"flush", e});
  }
  if (engine.ending == 0 && engine.generation <= bounds_.rolls && state.issued > 0 &&
      engine.reconciled == 0b11) {
    ModelState next = state;
    ModelEngine& rolling = next.engines[At(e)];
    rolling.ending = rolling.generation++;
    rolling.ended_at = 0;
    visit(next, {"end the generation", e});
  }
  const bool enough = Is(Mutation::kFlushLies) ? engine.flushed_at != 0
                                               : Covers(engine.flushed_at, InSyncOf(engine));
  if (engine.flushing != 0 && enough) {
    ModelState next = state;
    ModelEngine& flushing = next.engines[At(e)];
    for (std::size_t b = 0; b < kModelBlocks; ++b) {
      if (IsOlder(state, state.durable_floor[b], engine.flush_floor[b])) {
        next.durable_floor[b] = engine.flush_floor[b];
      }
    }
    flushing.flushing = flushing.flushed_at = 0;
    flushing.flush_floor = {};
    ++coverage_.flushes;
    visit(next, {"complete the flush", e});
  }
  if (HasEnded(state, e) && engine.under_way.epoch == 0 &&
      Covers(engine.ended_at, InSyncOf(engine))) {
    const auto clean = decisions_.AdvanceClean(
        engine.in_force, static_cast<std::uint8_t>(EpochNumber(e) * 8 + engine.ending));
    ModelState next = state;
    ModelEngine& rolling = next.engines[At(e)];
    rolling.ending = rolling.ended_at = 0;
    if (clean.has_value()) Propose(&next, e, *clean);
    ++coverage_.cleaned;
    visit(next, {"record the clean generation", e});
  }
}

// --- Reconcile (R11) ---

// Nothing is noted there, or all were made equal.
bool SmallModel::IsKnownEqual(const ModelState& state, int e, int b) const {
  const ModelEngine& engine = state.engines[At(e)];
  const Bits in_sync = InSyncOf(engine.in_force);
  bool noted = false;
  for (int m = 0; m < kModelMembers; ++m) {
    if (!Has(in_sync, m)) continue;
    if (!Reaches(state, e, m)) return false;
    noted = noted || state.members[At(m)].note[At(b)] > engine.in_force.clean;
  }
  return !noted ||
         (engine.reconcile_source[At(b)] != 0 && Covers(engine.reconcile_done[At(b)], in_sync));
}

void SmallModel::Reconcile(const ModelState& state, int e, const Visit& visit) {
  const ModelEngine& engine = state.engines[At(e)];
  const Bits in_sync = InSyncOf(engine.in_force);
  bool all_reached = true;
  for (int m = 0; m < kModelMembers; ++m) {
    all_reached = all_reached && (!Has(in_sync, m) || Reaches(state, e, m));
  }
  if (!all_reached) return;
  for (int b = 0; b < kModelBlocks; ++b) {
    if (Has(engine.reconciled, b)) continue;
    const int source = int{engine.reconcile_source[At(b)]} - 1;
    if (IsKnownEqual(state, e, b)) {
      ModelState next = state;
      ModelEngine& reconciling = next.engines[At(e)];
      Add(&reconciling.reconciled, b);
      reconciling.reconcile_source[At(b)] = 0;
      reconciling.reconcile_done[At(b)] = 0;
      visit(next, {"know that all are equal in block", e, -1, b});
      continue;
    }
    for (int m = 0; m < kModelMembers; ++m) {
      if (!Has(in_sync, m) || Has(engine.reconcile_done[At(b)], m)) continue;
      ModelState next = state;
      ModelMember& member = next.members[At(m)];
      // Without a source, or when it has gone, this one becomes it.
      const bool is_source = source < 0 || !Has(in_sync, source);
      const ModelMember& from = state.members[At(is_source ? m : source)];
      member.note[At(b)] = std::max(member.note[At(b)], from.note[At(b)]);
      member.volatile_value[At(b)] = from.volatile_value[At(b)];
      member.durable_value[At(b)] = from.volatile_value[At(b)];
      ModelEngine& reconciling = next.engines[At(e)];
      if (is_source) {
        reconciling.reconcile_source[At(b)] = static_cast<std::uint8_t>(m + 1);
        reconciling.reconcile_done[At(b)] = 0;
      }
      Add(&reconciling.reconcile_done[At(b)], m);
      visit(next, {"reconcile block", e, m, b});
    }
  }
}

// --- Return (R12) ---

void SmallModel::Resync(const ModelState& state, int e, const Visit& visit) {
  const ModelEngine& engine = state.engines[At(e)];
  const ModelMember* source = nullptr;  // all that are InSync are equal where reconciled
  for (int m = 0; m < kModelMembers; ++m) {
    if (engine.in_force.state[At(m)] == kModelInSync && Reaches(state, e, m)) {
      source = &state.members[At(m)];
    }
  }
  for (int m = 0; m < kModelMembers; ++m) {
    const ModelMember& member = state.members[At(m)];
    if (IsWitness(m) || !Reaches(state, e, m) || Has(InSyncOf(engine), m)) continue;
    if (!Has(engine.syncing, m)) {
      if (engine.under_way.epoch != 0) continue;
      const auto begun = decisions_.StartSync(engine.in_force, m, member.incarnation);
      if (!begun.has_value()) continue;
      ModelState next = state;
      next.members[At(m)].configuration = engine.in_force;
      Add(&next.engines[At(e)].syncing, m);
      Propose(&next, e, *begun);
      visit(next, {"begin to sync", e, m});
      continue;
    }
    if (engine.in_force.state[At(m)] != kModelSyncing) continue;
    bool listed = true, outstanding = false;  // no write misses it; one to it has not ended
    for (const ModelWrite& write : state.writes) {
      if (write.epoch != EpochNumber(e)) continue;
      listed = listed && (write.outstanding == 0 || Has(write.sent, m));
      outstanding = outstanding || write.outstanding != 0;
    }
    if (!listed) continue;
    for (int b = 0; b < kModelBlocks; ++b) {
      if (Has(engine.copied[At(m)], b) || !Has(engine.reconciled, b) || IsHeld(state, e, b))
        continue;
      if (source == nullptr) continue;
      ModelState next = state;
      ModelMember& copy = next.members[At(m)];
      const std::uint8_t through = engine.in_force.in_sync_through[At(m)];
      if (source->note[At(b)] > through || copy.note[At(b)] > through) {
        copy.note[At(b)] = std::max(copy.note[At(b)], source->note[At(b)]);
        copy.volatile_value[At(b)] = source->volatile_value[At(b)];
      }
      Add(&next.engines[At(e)].copied[At(m)], b);
      visit(next, {"copy block", e, m, b});
    }
    const bool complete = engine.copied[At(m)] == 0b11 || Is(Mutation::kInSyncWithoutCopy);
    if (engine.under_way.epoch != 0 || outstanding || !complete) continue;
    const auto joined = decisions_.MarkInSync(engine.in_force, m);
    if (!joined.has_value()) continue;
    ModelState next = state;
    next.members[At(m)].durable_value = member.volatile_value;
    Drop(&next.engines[At(e)].syncing, m);
    next.engines[At(e)].copied[At(m)] = 0;
    Propose(&next, e, *joined);
    ++coverage_.rejoined;
    visit(next, {"make InSync", e, m});
  }
}

}  // namespace keelson::sim
