#include "blockstore/engine/transitions.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "blockstore/io/seeded_bug.h"
#include "blockstore/io/status.h"

namespace keelson::engine {
namespace {

using replica::Configuration;
using replica::ConfiguredSnapshot;
using replica::Member;
using replica::MemberState;

std::string Where(const Configuration& configuration) {
  return absl::StrCat("volume ", configuration.volume.ToString(), " segment ",
                      configuration.segment);
}

absl::Status Refused(const Configuration& from, std::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat(Where(from), ": ", std::string(why)));
}

NextConfiguration Finished(Configuration next) {
  ++next.version.counter;
  RETURN_IF_ERROR(replica::Validate(next));
  return next;
}

auto FindIn(std::vector<Member>* members, const pool::ReplicaId& replica) {
  return std::find_if(members->begin(), members->end(),
                      [&replica](const Member& member) { return member.replica == replica; });
}

absl::StatusOr<Member*> FindMember(Configuration* configuration, const pool::ReplicaId& replica) {
  const auto found = FindIn(&configuration->members, replica);
  if (found != configuration->members.end()) return &*found;
  return absl::NotFoundError(
      absl::StrCat(Where(*configuration), ": replica ", replica.ToString(), " is not a member"));
}

absl::StatusOr<std::vector<ConfiguredSnapshot>::iterator> FindSnapshot(Configuration* configuration,
                                                                       const pool::SnapshotId& id) {
  auto& snapshots = configuration->snapshots;
  const auto found =
      std::find_if(snapshots.begin(), snapshots.end(),
                   [&id](const ConfiguredSnapshot& snapshot) { return snapshot.id == id; });
  if (found != snapshots.end()) return found;
  return absl::NotFoundError(
      absl::StrCat(Where(*configuration), ": there is no snapshot ", id.ToString()));
}

// The InSync copies that writes of so many copies may need: one may always fail.
std::uint32_t NeededOf(std::uint32_t wanted, const Configuration& configuration) {
  const auto copies = static_cast<std::uint32_t>(configuration.data_member_count());
  return std::min(wanted, std::max(copies, 2U) - 1);
}

void LowerMinInSync(Configuration* next) {
  const std::uint32_t wanted = std::max(next->min_in_sync, next->min_in_sync_wanted);
  next->min_in_sync = std::min(next->min_in_sync, NeededOf(wanted, *next));
  next->min_in_sync_wanted = next->min_in_sync < wanted ? wanted : 0;
}

// Not before there are InSync copies enough: no write that goes on is to wait because of it.
void RaiseMinInSync(Configuration* next) {
  const std::uint32_t wanted = next->min_in_sync_wanted;
  const std::uint32_t needed = NeededOf(wanted, *next);
  if (needed <= next->min_in_sync || needed > next->in_sync_count()) return;
  next->min_in_sync = needed;
  if (needed == wanted) next->min_in_sync_wanted = 0;
}

absl::Status CheckLastCopyStays(const Configuration& from, const Member& leaving) {
  if (leaving.state != MemberState::kInSync || from.in_sync_count() > 1) return absl::OkStatus();
  if (SeededBug(kMarkOutLastCopy)) return absl::OkStatus();
  return Refused(from, absl::StrCat("replica ", leaving.replica.ToString(),
                                    " is the last one that is InSync; bring another copy back or "
                                    "let one be rebuilt first"));
}

// A configuration with the members before, ready for one change.
absl::StatusOr<Configuration> BeginChange(const Configuration& from) {
  if (!from.predecessor.empty()) {
    return Refused(from, "a change of its members is under way; ask again when that is in force");
  }
  Configuration next = from;
  if (!SeededBug(kChangeWithoutPredecessor)) next.predecessor = from.members;
  return next;
}

// The witness beside a change of one copy: added, or removed when it is a member.
absl::Status ChangeWitness(const Configuration& from, bool beside_witness, const Member& witness,
                           Configuration* next) {
  if (beside_witness || !witness.witness) {
    return Refused(from, "beside a copy one witness, and nothing else, may be added or removed");
  }
  const auto present = FindIn(&next->members, witness.replica);
  if (present == next->members.end()) {
    Member added = witness;
    added.state = MemberState::kOut;
    added.in_sync_through = {};
    next->members.push_back(std::move(added));
  } else if (present->witness) {
    next->members.erase(present);
  } else {
    return Refused(from, absl::StrCat("replica ", witness.replica.ToString(), " is no witness"));
  }
  return absl::OkStatus();
}

}  // namespace

NextConfiguration MarkOut(const Configuration& from, const pool::ReplicaId& replica) {
  Configuration next = from;
  ASSIGN_OR_RETURN(Member * member, FindMember(&next, replica));
  if (member->state == MemberState::kOut) {
    return Refused(from, absl::StrCat("replica ", replica.ToString(), " is Out already"));
  }
  RETURN_IF_ERROR(CheckLastCopyStays(from, *member));
  if (member->state == MemberState::kInSync || SeededBug(kInSyncThroughRises)) {
    member->in_sync_through = from.clean;
  }
  member->state = MemberState::kOut;
  return Finished(std::move(next));
}

NextConfiguration StartSync(const Configuration& from, const pool::ReplicaId& replica,
                            const pool::Uuid& incarnation, const std::string& address) {
  Configuration next = from;
  ASSIGN_OR_RETURN(Member * member, FindMember(&next, replica));
  const bool witness = member->witness && !SeededBug(kWitnessCountsAsCopy);
  if (witness || member->state == MemberState::kInSync) {
    return Refused(from, absl::StrCat("replica ", replica.ToString(),
                                      member->witness ? " is a witness and holds no data"
                                                      : " is InSync and misses nothing"));
  }
  member->state = MemberState::kSyncing;
  member->incarnation = incarnation;
  member->address = address;
  return Finished(std::move(next));
}

NextConfiguration MarkInSync(const Configuration& from, const pool::ReplicaId& replica) {
  Configuration next = from;
  ASSIGN_OR_RETURN(Member * member, FindMember(&next, replica));
  if (member->state != MemberState::kSyncing) {
    return Refused(from, absl::StrCat("replica ", replica.ToString(),
                                      " is not Syncing, so nothing was copied to it"));
  }
  member->state = MemberState::kInSync;
  member->in_sync_through = {};
  RaiseMinInSync(&next);
  return Finished(std::move(next));
}

NextConfiguration AdvanceClean(const Configuration& from, const pool::Generation& generation) {
  if (generation <= from.clean) return Refused(from, "its clean generation only rises");
  if (generation.epoch > from.version.epoch) {
    return Refused(from, "a generation of a later engine cannot be clean yet");
  }
  Configuration next = from;
  next.clean = generation;
  return Finished(std::move(next));
}

NextConfiguration AddMember(const Configuration& from, Member member,
                            const std::optional<Member>& witness) {
  ASSIGN_OR_RETURN(Configuration next, BeginChange(from));
  if (FindIn(&next.members, member.replica) != next.members.end()) {
    return absl::AlreadyExistsError(
        absl::StrCat(Where(from), ": replica ", member.replica.ToString(), " is a member already"));
  }
  member.state = MemberState::kOut;
  member.in_sync_through = SeededBug(kNewMemberIsCurrent) ? from.clean : pool::Generation{};
  const bool is_witness = member.witness;
  next.members.push_back(std::move(member));
  if (witness.has_value()) RETURN_IF_ERROR(ChangeWitness(from, is_witness, *witness, &next));
  return Finished(std::move(next));
}

NextConfiguration RemoveMember(const Configuration& from, const pool::ReplicaId& replica,
                               const std::optional<Member>& witness) {
  ASSIGN_OR_RETURN(Configuration next, BeginChange(from));
  ASSIGN_OR_RETURN(const Member* member, FindMember(&next, replica));
  RETURN_IF_ERROR(CheckLastCopyStays(from, *member));
  const bool is_witness = member->witness;
  next.members.erase(FindIn(&next.members, replica));
  if (witness.has_value()) RETURN_IF_ERROR(ChangeWitness(from, is_witness, *witness, &next));
  if (SeededBug(kTwoMembersAtOnce)) {
    std::erase_if(next.members, [](const Member& other) {
      return !other.witness && other.state != MemberState::kInSync;
    });
  }
  if (!is_witness) LowerMinInSync(&next);
  return Finished(std::move(next));
}

NextConfiguration FinishMembership(const Configuration& from) {
  if (from.predecessor.empty()) return Refused(from, "no change of its members is under way");
  Configuration next = from;
  next.predecessor.clear();
  return Finished(std::move(next));
}

NextConfiguration AddSnapshot(const Configuration& from, ConfiguredSnapshot snapshot) {
  for (const ConfiguredSnapshot& other : from.snapshots) {
    if (other.id == snapshot.id || other.name == snapshot.name) {
      return absl::AlreadyExistsError(absl::StrCat(Where(from), ": it has the snapshot ",
                                                   snapshot.id.ToString(), " \"", snapshot.name,
                                                   "\", or one of that name, already"));
    }
  }
  Configuration next = from;
  next.snapshots.push_back(std::move(snapshot));
  return Finished(std::move(next));
}

NextConfiguration CompleteSnapshot(const Configuration& from, const pool::SnapshotId& snapshot) {
  Configuration next = from;
  ASSIGN_OR_RETURN(const auto found, FindSnapshot(&next, snapshot));
  if (found->complete) {
    return Refused(from, absl::StrCat("snapshot ", snapshot.ToString(), " is complete already"));
  }
  found->complete = true;
  return Finished(std::move(next));
}

NextConfiguration RemoveSnapshot(const Configuration& from, const pool::SnapshotId& snapshot) {
  Configuration next = from;
  ASSIGN_OR_RETURN(const auto found, FindSnapshot(&next, snapshot));
  next.snapshots.erase(found);
  return Finished(std::move(next));
}

NextConfiguration SetMinInSync(const Configuration& from, std::uint32_t copies) {
  if (copies == 0 || copies > from.data_member_count()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Where(from), ": writes cannot wait for ", copies, " copies: it has ",
                     from.data_member_count(), "; add copies first, or name a number from 1 to ",
                     from.data_member_count()));
  }
  Configuration next = from;
  next.min_in_sync = copies;
  next.min_in_sync_wanted = 0;
  return Finished(std::move(next));
}

NextConfiguration SetSegmentCount(const Configuration& from, std::uint32_t count) {
  if (from.segment != 0 || count <= from.segment_count) {
    return Refused(from, absl::StrCat("it says that the volume has ", from.segment_count,
                                      " segments; that cannot become ", count, " here"));
  }
  Configuration next = from;
  next.segment_count = count;
  return Finished(std::move(next));
}

NextConfiguration Grow(const Configuration& from, std::uint64_t size_bytes) {
  if (size_bytes <= from.size_bytes) {
    return Refused(from, absl::StrCat("it has ", from.size_bytes, " bytes; it cannot be grown to ",
                                      size_bytes));
  }
  Configuration next = from;
  next.size_bytes = size_bytes;
  return Finished(std::move(next));
}

}  // namespace keelson::engine
