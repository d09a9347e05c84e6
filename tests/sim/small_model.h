#pragma once
// SmallModel: a segment of three members as a value of a few hundred bytes, with every step that
// can happen to it, so that all its futures can be visited (small_model_test.cc). Attaches and
// configurations are decided by the engine's own code (AttachPlan, transitions, Ballot); members,
// connections and clients are simple models of what docs/protocol.md says.
//
// What is asynchronous, because it may land late or be lost: Write and Accept, their effect and
// their answer. Prepare, Flush, Read and copies happen in one step while the session is open. Time
// is left out: a wait may end at any moment, and the grace is a rule on who may still read.
// Membership changes and snapshots are not in it. A region is one block.
//
// Bounds: three members, of which one may be a witness; two blocks; up to three writes and three
// engines; failures, generations and flushes as a test says. How many states that gives is in
// docs/testing.md.
//
// The full search takes every step in every order. The reduced one leaves out orders that differ in
// nothing that anybody can see (small_model_reduction.cc says which, and why).

#include <cstdint>
#include <functional>
#include <string>

#include "tests/sim/small_model_decisions.h"
#include "tests/sim/small_model_state.h"

namespace keelson::sim {

// What happened, for a person: "deliver write 1 to B of engine 2".
struct ModelStep {
  const char* what;
  int engine = -1, member = -1, number = -1;
  std::string ToString() const;
};

// What the exploration has come across: a test asserts that it was not empty.
struct ModelCoverage {
  std::uint64_t acknowledged = 0, reads = 0, take_overs = 0, restarted_take_overs = 0;
  std::uint64_t degraded = 0, rejoined = 0, cleaned = 0, flushes = 0, leftovers = 0;
};

class SmallModel {
 public:
  // Called for every state that one step leads to.
  using Visit = std::function<void(const ModelState&, const ModelStep&)>;

  explicit SmallModel(const ModelBounds& bounds)
      : bounds_(bounds), decisions_(Witnesses(), bounds.mutation) {}

  // All members InSync under the first engine, which serves.
  ModelState Initial() const;
  void Expand(const ModelState& state, const Visit& visit);
  // The invariant that a step broke, since it was last asked; empty while none is.
  const std::string& violation() const { return violation_; }
  const ModelCoverage& coverage() const { return coverage_; }
  // The same for all states that differ only in which member, or which block, is which, or in what
  // can make no difference any more.
  ModelState Canonical(ModelState state) const;

 private:
  Bits Witnesses() const { return bounds_.witness && !Is(Mutation::kCountWitness) ? 0b100 : 0; }
  void ExpandFully(const ModelState& state, const Visit& visit);
  void Forget(ModelState* state) const;
  bool Is(Mutation mutation) const { return bounds_.mutation == mutation; }
  bool IsWitness(int member) const { return bounds_.witness && member == kModelMembers - 1; }
  void Broken(const std::string& what) { violation_ = what; }

  void BeginAttach(const ModelState& state, const Visit& visit);
  void Failures(const ModelState& state, int member, const Visit& visit);
  void PowerLoss(const ModelState& state, int member, const Visit& visit);
  void Deliveries(const ModelState& state, const Visit& visit);
  void Attach(const ModelState& state, int e, const Visit& visit);
  void Link(const ModelState& state, int e, int member, const Visit& visit);
  void Configurations(const ModelState& state, int e, const Visit& visit);
  void Reconcile(const ModelState& state, int e, const Visit& visit);
  void Resync(const ModelState& state, int e, const Visit& visit);
  void Writes(const ModelState& state, int e, const Visit& visit);
  void Reads(const ModelState& state, int e, const Visit& visit);
  void Acknowledgements(const ModelState& state, int e, const Visit& visit);
  void FlushAt(const ModelState& state, int e, int member, const Visit& visit);
  void Flushes(const ModelState& state, int e, const Visit& visit);

  // --- small_model_reduction.cc ---
  void ExpandReduced(const ModelState& state, const Visit& visit);
  void AtMember(const ModelState& state, int member, int first, const Visit& visit);
  void Observers(const ModelState& state, int member, const Visit& visit);
  void EndingLink(const ModelState& state, int e, int member, int first, const Visit& visit);
  void CompleteWrite(const ModelState& state, int w, const Visit& visit);
  void PutInForce(const ModelState& state, int e, int first, const Visit& visit);
  void HearMajority(const ModelState& state, int e, int first, const Visit& visit);
  void LateDeliveries(const ModelState& state, const Visit& visit);
  bool IsLazyWrite(const ModelState& state, int w, int member) const;
  bool IsLazyAccept(const ModelState& state, int e, int member) const;
  // Takes at once what takes nothing away: acknowledgements, reads, knowing what is equal.
  void Settle(ModelState* state);
  bool SettleReads(ModelState* state, int e);
  // Gives values that differ in nothing that matters the same bytes.
  void Simplify(ModelState* state) const;

  void RePrepare(ModelState* state, int e, int member, bool landed);
  // Ends the member's session; with `landed` after everything in flight in it took effect, unheard.
  void EndSession(ModelState* state, int member, bool landed);
  bool AnythingInFlight(const ModelState& state, int member) const;
  void Prepare(ModelState* state, int e, int member, bool landed);
  void CloseLink(ModelState* state, int e, int member) const;
  void Propose(ModelState* state, int e, const ModelConfiguration& configuration);
  void DeliverAccept(ModelState* state, int e, int member, bool heard);
  void HearOfAcceptance(const ModelState& state, int e, int member, const Visit& visit);
  void DeliverWrite(ModelState* state, int w, int member, bool heard);
  bool MayAcknowledge(const ModelState& state, int w, Bits needed) const;
  bool IsKnownEqual(const ModelState& state, int e, int block) const;
  bool HasEnded(const ModelState& state, int e) const;
  void Acknowledge(ModelState* state, int w);
  void Read(ModelState* state, int e, int block, int source);
  bool MayAnswerReads(const ModelState& state, int e) const;
  bool Reaches(const ModelState& state, int e, int member) const;

  ModelBounds bounds_;
  ModelDecisions decisions_;
  std::string violation_;
  ModelCoverage coverage_;
};

}  // namespace keelson::sim
