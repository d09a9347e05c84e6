#pragma once
// SeededBug: bugs that a test puts into the product, to prove that the tests would find them. Each
// takes away one sentence of docs/protocol.md at the place that keeps it:
//
//   if (!SeededBug(kAckBeforeLog)) ...
//
// Without the CMake option KEELSON_SEEDED_BUGS (a release) the answer is false at compile time, and
// nothing of this is in the program. With it a test chooses one bug, by name, before it runs
// anything: any thread asks, nobody changes it meanwhile. tests/sim/seeded_bugs.txt says which rule
// each breaks and what finds it. Nothing fails.

#include <cstdint>
#ifdef KEELSON_SEEDED_BUGS
#include <string_view>
#include <vector>
#endif

namespace keelson {

enum Bug : std::uint8_t {
  kNoBug,
  // A member: what it promised, accepted and serves (R1, R2).
  kAcceptLowerEpoch,         // Prepare of a lower epoch than the promised one
  kEqualEpochKeepsSession,   // the session before one of the same epoch goes on
  kHigherEpochKeepsSession,  // the session before one of a higher epoch goes on
  kPrepareWithoutDrain,      // answered while I/O of the earlier session is under way
  kPromiseNotDurable,
  kConfigurationNotDurable,
  // The attach (R1, R2, R3, R9, R15).
  kAttachWithoutMajority,
  kAttachFromLowestConfiguration,
  kFirstConfigurationNotCommitted,
  kUnreadableRecordVotes,
  kTrustRestartedMember,  // InSync although another one did not restart
  kAttachWithoutGrace,
  kKeepIncompleteSnapshots,
  // Configurations (R2, R6, R7, R13).
  kCommitWithoutMajority,
  kWitnessCountsAsCopy,
  kMarkOutLastCopy,
  kInSyncThroughRises,  // of a member that was not InSync
  kChangeWithoutPredecessor,
  kChangeWithoutOldMajority,
  kTwoMembersAtOnce,
  kNewMemberIsCurrent,  // only what changes from now on is copied to it
  // A restart (R3, R4).
  kTakeBackRestartedMember,  // in the attachment, as if it had only been away
  kSameIncarnationAfterBoot,
  kSameIncarnationAfterError,
  kReplayOtherBootsLog,
  // Writes (R4, R5, R6, R7).
  kAckBeforeLog,
  kSkipRegionNote,
  kNoteAfterData,
  kTrimWithoutNote,
  kCopyWithoutNote,
  kAckBeforeDegrade,
  kAckWithoutMinInSync,
  kRefusalLeavesDifference,  // all refused a write: nothing is reconciled
  kRefusalWithoutDegrade,    // some refused a write: they stay InSync
  // Flush (R8).
  kFlushOneMember,
  kFlushFailureIgnored,
  kFlushRetriedIntoSuccess,
  kFlushJoinsRunning,  // counts one that began before the request
  kFlushNotDurable,
  kMapChangesAfterFlush,  // the batch has changes whose data the flush did not cover
  // Reads (R9).
  kReadWithoutLease,
  kLeaseFromAnswer,  // counted from the answer, not from the sending
  kReadFromSyncing,
  kReadDuringWrite,
  kReadUnverified,
  // Generations, reconcile (R10, R11).
  kCleanWithoutFlush,
  kCleanBeforeWritesEnd,
  kCleanWithFailedMember,
  kCleanWhileUnreconciled,
  kNoReconcile,
  kReadBeforeReconcile,
  kReconcileWithoutFlush,
  // Return and rebuild (R12).
  kJoinWithoutBarrier,  // what is missing is listed while writes that are not sent to it go on
  kResyncWithoutRangeLock,
  kResyncIgnoresOwnNotes,
  kResyncKeepsAbsentBlocks,
  kResyncTrustsPosition,  // whatever was noted since
  kLiveWritesPassBy,      // a Syncing member does not get them
  kProgressWithoutFlush,
  kProgressOverRefusal,  // progress is recorded above a region that a refused write left unequal
  kInSyncBeforeFlush,
  kResyncGivesUp,
  // Force (R14).
  kForceWithMajority,    // although a majority and an InSync member answer
  kForceKeepsMembers,    // beside the replica that was named
  kForceTellsNobody,     // of those that it left behind
  kSucceededVotesAgain,  // one that was told so votes, and accepts, as if it had not been
  // Snapshots (R15).
  kSealWithoutHold,
  kSealLate,  // a member is used without the configuration
  kDropSnapshotAtOnce,
  // Other nodes (R16).
  kUnpublishWithoutDrain,
  kServeUnlistedClient,
  kClientSessionWithoutDrain,  // a client's new session begins beside what it had under way
  // Checksums, space (R17, R18).
  kStaleChecksumsCount,
  kChecksumsSurviveCopy,
  kReuseBeforeDurable,
};

#ifdef KEELSON_SEEDED_BUGS

namespace internal {
inline Bug seeded_bug = kNoBug;
}  // namespace internal

inline bool SeededBug(Bug bug) { return internal::seeded_bug == bug; }

// The bug of that name, and no other, from now on; "": none. False when no bug has the name.
bool SetSeededBug(std::string_view name);
std::vector<std::string_view> SeededBugNames();

#else

constexpr bool SeededBug(Bug /*bug*/) { return false; }

#endif

}  // namespace keelson
