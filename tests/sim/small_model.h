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

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>

namespace keelson::sim {

inline constexpr int kModelMembers = 3;
inline constexpr int kModelBlocks = 2;
inline constexpr int kModelWritesMax = 3;
inline constexpr int kModelEngines = 3;

// A rule that is left out, to see that the exploration finds what it is for.
enum class Mutation {
  kNone,
  kAckBeforeDegrade,    // R6: acknowledges what the members that can be reached have
  kAcceptFencedEpoch,   // R1: Prepare does not end the sessions of lower epochs
  kKeepSessionInEpoch,  // R6: nor, in the same epoch, what is in flight from the earlier session
  kCountWitness,        // R2: a witness is taken for a copy
  kTrustRestarted,      // R3: another incarnation is not noticed
  kSkipReconcile,       // R11
  kSkipGrace,           // R9: the old engine goes on reading
  kFlushLies,           // R8: a flush completes when one member has flushed
  kForgetNotes,         // R5: a write does not note its region
  kCleanWithoutFlush,   // R10: a generation becomes clean without EndGeneration
  kInSyncWithoutCopy,   // R12
};

struct ModelBounds {
  bool witness = false;  // the third member is one
  int writes = 2;
  int failures = 2;
  int rolls = 1;    // generations that an engine ends
  int flushes = 1;  // of clients
  Mutation mutation = Mutation::kNone;
};

using Bits = std::uint8_t;  // one for each member, or block

// Generations are epoch * 8 + counter; 0 is the default one.
struct ModelConfiguration {
  std::uint8_t epoch, counter;
  std::array<std::uint8_t, kModelMembers> state, incarnation, in_sync_through;
  std::uint8_t clean;
  bool operator==(const ModelConfiguration&) const = default;
};

struct ModelMember {
  ModelConfiguration configuration;
  std::uint8_t promised, incarnation;
  std::uint8_t session;  // the epoch of the engine whose it is; 0: none
  std::array<std::uint8_t, kModelBlocks> note, volatile_value, durable_value;
};

enum class Phase : std::uint8_t { kUnused, kPreparing, kProposing, kServing, kEnded };

struct ModelEngine {
  Phase phase;
  Bits open;  // sessions that the engine believes in
  Bits answered;
  std::array<ModelConfiguration, kModelMembers> answer;
  std::array<std::uint8_t, kModelMembers> answer_incarnation;
  ModelConfiguration in_force, under_way;  // under_way.epoch is 0 when there is none
  Bits accept_sent, accept_known;
  std::uint8_t generation;                                  // counter of the open one
  std::uint8_t restarted;                                   // it trusts members that restarted (R3)
  Bits reconciled;                                          // blocks
  std::array<std::uint8_t, kModelBlocks> reconcile_source;  // member + 1
  std::array<Bits, kModelBlocks> reconcile_done;
  Bits syncing;  // members that are written to in this session
  std::array<Bits, kModelMembers> copied;
  std::uint8_t ending;  // the generation's counter; 0: none
  Bits ended_at;
  std::uint8_t flushing;
  Bits flushed_at;
  std::array<std::uint8_t, kModelBlocks> flush_floor;
};

// Write number w puts the value w + 1 into its block.
struct ModelWrite {
  std::uint8_t block, epoch, generation;
  std::uint8_t outstanding;  // it holds its range
  Bits sent, failed, in_flight, known;
  Bits applied;  // by whoever; for the check only
};

struct ModelState {
  std::array<ModelMember, kModelMembers> members;
  std::array<ModelEngine, kModelEngines> engines;  // epoch 1, 2, 3
  std::array<ModelWrite, kModelWritesMax> writes;
  std::uint8_t issued, failures, flushes;
  // What a read of the block may not be older than; and what it may not be older than after a loss
  // that R3 allows.
  std::array<std::uint8_t, kModelBlocks> floor, durable_floor;
};
static_assert(std::has_unique_object_representations_v<ModelState>, "it is hashed as bytes");

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

  explicit SmallModel(const ModelBounds& bounds) : bounds_(bounds) {}

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
  void Forget(ModelState* state) const;
  bool Is(Mutation mutation) const { return bounds_.mutation == mutation; }
  bool IsWitness(int member) const { return bounds_.witness && member == kModelMembers - 1; }
  void Broken(const std::string& what) { violation_ = what; }

  void Failures(const ModelState& state, const Visit& visit);
  void PowerLoss(const ModelState& state, int member, const Visit& visit);
  void Deliveries(const ModelState& state, const Visit& visit);
  void Attach(const ModelState& state, int e, const Visit& visit);
  void Links(const ModelState& state, int e, const Visit& visit);
  void Configurations(const ModelState& state, int e, const Visit& visit);
  void Reconcile(const ModelState& state, int e, const Visit& visit);
  void Resync(const ModelState& state, int e, const Visit& visit);
  void Clients(const ModelState& state, int e, const Visit& visit);
  void Flushes(const ModelState& state, int e, const Visit& visit);

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
  void Acknowledge(ModelState* state, int w);
  void Read(ModelState* state, int e, int block, int source);
  bool MayAnswerReads(const ModelState& state, int e) const;
  bool Reaches(const ModelState& state, int e, int member) const;

  ModelBounds bounds_;
  std::string violation_;
  ModelCoverage coverage_;
};

}  // namespace keelson::sim
