#include "blockstore/io/seeded_bug.h"

#ifdef KEELSON_SEEDED_BUGS

#include <array>

namespace keelson {
namespace {

struct Named {
  Bug bug;
  std::string_view name;
};

constexpr auto kBugs = std::to_array<Named>({
    {kNoBug, ""},
    {kAcceptLowerEpoch, "accept-lower-epoch"},
    {kEqualEpochKeepsSession, "equal-epoch-keeps-session"},
    {kHigherEpochKeepsSession, "higher-epoch-keeps-session"},
    {kPrepareWithoutDrain, "prepare-without-drain"},
    {kPromiseNotDurable, "promise-not-durable"},
    {kConfigurationNotDurable, "configuration-not-durable"},
    {kAttachWithoutMajority, "attach-without-majority"},
    {kAttachFromLowestConfiguration, "attach-from-lowest-configuration"},
    {kFirstConfigurationNotCommitted, "first-configuration-not-committed"},
    {kUnreadableRecordVotes, "unreadable-record-votes"},
    {kTrustRestartedMember, "trust-restarted-member"},
    {kAttachWithoutGrace, "attach-without-grace"},
    {kKeepIncompleteSnapshots, "keep-incomplete-snapshots"},
    {kCommitWithoutMajority, "commit-without-majority"},
    {kWitnessCountsAsCopy, "witness-counts-as-copy"},
    {kMarkOutLastCopy, "mark-out-last-copy"},
    {kInSyncThroughRises, "in-sync-through-rises"},
    {kChangeWithoutPredecessor, "change-without-predecessor"},
    {kChangeWithoutOldMajority, "change-without-old-majority"},
    {kTwoMembersAtOnce, "two-members-at-once"},
    {kNewMemberIsCurrent, "new-member-is-current"},
    {kTakeBackRestartedMember, "take-back-restarted-member"},
    {kSameIncarnationAfterBoot, "same-incarnation-after-boot"},
    {kSameIncarnationAfterError, "same-incarnation-after-error"},
    {kReplayOtherBootsLog, "replay-other-boots-log"},
    {kAckBeforeLog, "ack-before-log"},
    {kSkipRegionNote, "skip-region-note"},
    {kNoteAfterData, "note-after-data"},
    {kTrimWithoutNote, "trim-without-note"},
    {kCopyWithoutNote, "copy-without-note"},
    {kAckBeforeDegrade, "ack-before-degrade"},
    {kAckWithoutMinInSync, "ack-without-min-in-sync"},
    {kRefusalLeavesDifference, "refusal-leaves-difference"},
    {kRefusalWithoutDegrade, "refusal-without-degrade"},
    {kFlushOneMember, "flush-one-member"},
    {kFlushFailureIgnored, "flush-failure-ignored"},
    {kFlushRetriedIntoSuccess, "flush-retried-into-success"},
    {kFlushJoinsRunning, "flush-joins-running"},
    {kFlushNotDurable, "flush-not-durable"},
    {kMapChangesAfterFlush, "map-changes-after-flush"},
    {kReadWithoutLease, "read-without-lease"},
    {kLeaseFromAnswer, "lease-from-answer"},
    {kReadFromSyncing, "read-from-syncing"},
    {kReadDuringWrite, "read-during-write"},
    {kReadUnverified, "read-unverified"},
    {kCleanWithoutFlush, "clean-without-flush"},
    {kCleanBeforeWritesEnd, "clean-before-writes-end"},
    {kCleanWithFailedMember, "clean-with-failed-member"},
    {kCleanWhileUnreconciled, "clean-while-unreconciled"},
    {kNoReconcile, "no-reconcile"},
    {kReadBeforeReconcile, "read-before-reconcile"},
    {kReconcileWithoutFlush, "reconcile-without-flush"},
    {kJoinWithoutBarrier, "join-without-barrier"},
    {kResyncWithoutRangeLock, "resync-without-range-lock"},
    {kResyncIgnoresOwnNotes, "resync-ignores-own-notes"},
    {kResyncKeepsAbsentBlocks, "resync-keeps-absent-blocks"},
    {kResyncTrustsPosition, "resync-trusts-position"},
    {kLiveWritesPassBy, "live-writes-pass-by"},
    {kProgressWithoutFlush, "progress-without-flush"},
    {kProgressOverRefusal, "progress-over-refusal"},
    {kInSyncBeforeFlush, "in-sync-before-flush"},
    {kResyncGivesUp, "resync-gives-up"},
    {kForceWithMajority, "force-with-majority"},
    {kForceKeepsMembers, "force-keeps-members"},
    {kForceTellsNobody, "force-tells-nobody"},
    {kSucceededVotesAgain, "succeeded-votes-again"},
    {kSealWithoutHold, "seal-without-hold"},
    {kSealLate, "seal-late"},
    {kDropSnapshotAtOnce, "drop-snapshot-at-once"},
    {kUnpublishWithoutDrain, "unpublish-without-drain"},
    {kServeUnlistedClient, "serve-unlisted-client"},
    {kClientSessionWithoutDrain, "client-session-without-drain"},
    {kStaleChecksumsCount, "stale-checksums-count"},
    {kChecksumsSurviveCopy, "checksums-survive-copy"},
    {kReuseBeforeDurable, "reuse-before-durable"},
});

}  // namespace

bool SetSeededBug(std::string_view name) {
  for (const Named& one : kBugs) {
    if (one.name != name) continue;
    internal::seeded_bug = one.bug;
    return true;
  }
  return false;
}

std::vector<std::string_view> SeededBugNames() {
  std::vector<std::string_view> names;
  for (const Named& one : kBugs) {
    if (one.bug != kNoBug) names.push_back(one.name);
  }
  return names;
}

}  // namespace keelson

#endif
