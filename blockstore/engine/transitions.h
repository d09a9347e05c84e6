#pragma once
// Transitions: from a segment's configuration to the next one, as pure functions. Each returns the
// configuration with the next version of the same epoch, or says why the rules forbid it
// (docs/protocol.md; R6, R10, R12, R13, R15). Nothing is in force by that: the engine has the
// result accepted first (ballot.h). Owned by nobody, any thread, no I/O.
//
// `from` is the highest version of this engine: the one in force, or the one under way when it will
// not be sent any more. Members are named by their replica id, which is unique in a configuration.
//
// Errors: NOT_FOUND (no such member or snapshot), ALREADY_EXISTS, FAILED_PRECONDITION (a rule
// forbids it now), INVALID_ARGUMENT (the result would not be a valid configuration).

#include <optional>

#include "absl/status/statusor.h"
#include "blockstore/pool/ids.h"
#include "blockstore/replica/configuration.h"

namespace keelson::engine {

using NextConfiguration = absl::StatusOr<replica::Configuration>;

// The member missed something. An InSync one had everything through the clean generation; a Syncing
// one has what it had. Refuses the last InSync member: the segment waits for it instead (R6).
NextConfiguration MarkOut(const replica::Configuration& from, const pool::ReplicaId& replica);

// The member is written to from now on, while what it missed is copied. `incarnation` and `address`
// are what it was prepared with. Also for a Syncing member that came back. Not for a witness.
NextConfiguration StartSync(const replica::Configuration& from, const pool::ReplicaId& replica,
                            const pool::Uuid& incarnation, const std::string& address);

// A Syncing member has everything. From the moment this is sent, acknowledgements wait for it
// (R12).
NextConfiguration MarkInSync(const replica::Configuration& from, const pool::ReplicaId& replica);

// Everything through `generation` is applied and flushed on every InSync member of `from`; the
// caller has checked that those are the ones that flushed (R10). It only rises.
NextConfiguration AdvanceClean(const replica::Configuration& from,
                               const pool::Generation& generation);

// R13: one data member at a time, never while an earlier change is under way. The result names the
// members before; FinishMembership comes when it is in force. `member` begins Out, from generation
// 0. `witness` is added beside it or, when it is a member already, removed. `member` may be a
// witness itself, without another.
NextConfiguration AddMember(const replica::Configuration& from, replica::Member member,
                            const std::optional<replica::Member>& witness = std::nullopt);
// `witness` is added or removed beside it as above. Refuses the last InSync member. When a copy
// goes, `min in sync` falls to a number that one of the copies left may miss, at least 1 (R7).
NextConfiguration RemoveMember(const replica::Configuration& from, const pool::ReplicaId& replica,
                               const std::optional<replica::Member>& witness = std::nullopt);
NextConfiguration FinishMembership(const replica::Configuration& from);

// R15. Complete at once only when the volume has no other segment.
NextConfiguration AddSnapshot(const replica::Configuration& from,
                              replica::ConfiguredSnapshot snapshot);
NextConfiguration CompleteSnapshot(const replica::Configuration& from,
                                   const pool::SnapshotId& snapshot);
NextConfiguration RemoveSnapshot(const replica::Configuration& from,
                                 const pool::SnapshotId& snapshot);

// R7. INVALID_ARGUMENT: 0, or more than there are copies.
NextConfiguration SetMinInSync(const replica::Configuration& from, std::uint32_t copies);

// Of segment 0: the volume has so many segments from now on. Only more than before.
NextConfiguration SetSegmentCount(const replica::Configuration& from, std::uint32_t count);

NextConfiguration Grow(const replica::Configuration& from, std::uint64_t size_bytes);

}  // namespace keelson::engine
