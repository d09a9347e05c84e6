#pragma once
// What a state of SmallModel is: some hundred bytes, compared and hashed as such. No code.

#include <array>
#include <cstdint>
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
  bool reduced = true;
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

// Write number w puts the value w + 1 into its block; later writes of an engine to a block have
// higher numbers.
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
  std::uint8_t used;  // of `writes`
  // What a read of the block may not be older than; and what it may not be older than after a loss
  // that R3 allows.
  std::array<std::uint8_t, kModelBlocks> floor, durable_floor;
};
static_assert(std::has_unique_object_representations_v<ModelState>, "it is hashed as bytes");

}  // namespace keelson::sim
