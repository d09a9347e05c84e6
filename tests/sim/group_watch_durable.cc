// GroupWatch: what can be held against an engine at once, long before a client could see it: what
// the members' disks were asked (flushes, clean generations, members called InSync), when members
// promised what (sessions, leases), and what each configuration makes of the one before.

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/sim/group_watch.h"
#include "tests/sim/sim_disk.h"

namespace keelson::sim {

using replica::Configuration;
using replica::Member;
using replica::MemberState;

namespace {

const Member* FindReplica(const std::vector<Member>& members, const pool::ReplicaId& replica) {
  const auto found = std::find_if(members.begin(), members.end(), [&replica](const Member& member) {
    return member.replica == replica;
  });
  return found == members.end() ? nullptr : &*found;
}

bool SameReplicas(const std::vector<Member>& a, const std::vector<Member>& b) {
  return a.size() == b.size() && std::all_of(a.begin(), a.end(), [&b](const Member& member) {
           return FindReplica(b, member.replica) != nullptr;
         });
}

// The stamp in a block that a client wrote (Versions).
Version VersionOf(std::span<const std::byte> bytes) {
  std::uint64_t stamp = 0;
  std::memcpy(&stamp, bytes.data(), sizeof(stamp));
  return static_cast<Version>(stamp);
}

std::string Short(const pool::Uuid& id) { return id.ToString().substr(0, 8); }

}  // namespace

void GroupWatch::WriteBegins(const pool::ReplicaId& member, const pool::Generation& generation,
                             std::span<const std::byte> bytes) {
  traces_[member].writing[VersionOf(bytes)] = generation;
  generations_[VersionOf(bytes)] = generation;
  CheckUnpublished(member, VersionOf(bytes));
}

void GroupWatch::WriteEnds(const pool::ReplicaId& member, std::span<const std::byte> bytes) {
  traces_[member].writing.erase(VersionOf(bytes));
  CheckUnpublished(member, VersionOf(bytes));
}

void GroupWatch::CheckUnpublished(const pool::ReplicaId& member, Version version) {
  if (!unpublished_.contains(version)) return;
  Violate("client-list", absl::StrCat("version ", version, " is applied at ", Short(member),
                                      " after its client was unpublished"));
}

std::optional<pool::Generation> GroupWatch::GenerationOf(const pool::ReplicaId& member,
                                                         Version version, std::uint64_t block,
                                                         std::span<const std::byte> bytes) const {
  const auto trace = traces_.find(member);
  if (trace == traces_.end()) return std::nullopt;
  const auto found = trace->second.writing.find(version);
  if (found == trace->second.writing.end()) return std::nullopt;
  if (!versions_->Matches(version, block, 0, bytes.first(kModelSectorBytes))) return std::nullopt;
  return found->second;
}

void GroupWatch::Applied(const pool::ReplicaId& member, const pool::Generation& generation) {
  traces_[member].applied_ns[generation] = world_->now_ns();
  const Configuration* const now = in_force();
  if (now == nullptr || generation > now->clean || generation.epoch != now->version.epoch) return;
  const Member* const named = FindReplica(now->members, member);
  if (named == nullptr || named->state != MemberState::kInSync) return;
  Violate("clean-is-equal",
          absl::StrCat("a write of generation ", generation.counter,
                       ", which is clean, was applied at InSync member ", Short(member)));
}

// R15: a snapshot that is in force may be wanted, whatever is proposed.
void GroupWatch::Dropped(const pool::ReplicaId& member,
                         const std::vector<pool::SnapshotId>& snapshots) {
  const Configuration* const now = in_force();
  for (const pool::SnapshotId& snapshot : snapshots) {
    if (now == nullptr || !now->Has(snapshot)) continue;
    Violate("snapshot-is-a-cut", absl::StrCat("member ", Short(member), " has dropped snapshot ",
                                              now->Find(snapshot)->name, ", which is in force"));
  }
}

// R15, R12: it has the configuration, and has sealed its head for what that names.
void GroupWatch::CheckSealed(const pool::ReplicaId& member, const pool::Generation& generation,
                             const std::vector<pool::SnapshotId>& snapshots) {
  const replica::ConfigurationVersion& with = traces_[member].opened_with;
  if (with.epoch == generation.epoch && highest_[member] < with) {
    Violate("snapshot-is-a-cut",
            absl::StrCat("member ", Short(member), " is written to, but has not the ", with.counter,
                         "th configuration, which was in force before its session"));
  }
  const Configuration* const now = in_force();
  if (now == nullptr || now->version.epoch != generation.epoch) return;
  for (const replica::ConfiguredSnapshot& snapshot : now->snapshots) {
    if (snapshot.sealed.epoch != generation.epoch || generation <= snapshot.sealed) continue;
    if (std::find(snapshots.begin(), snapshots.end(), snapshot.id) != snapshots.end()) continue;
    Violate("snapshot-is-a-cut",
            absl::StrCat("a write of generation ", generation.counter, " was applied at ",
                         Short(member), ", which has not sealed its head for snapshot ",
                         snapshot.name, " of generation ", snapshot.sealed.counter));
  }
}

// R1: an earlier session's changes have ended before a new one is answered.
void GroupWatch::ChangeEnded(const pool::ReplicaId& member, std::int64_t began_ns) {
  const std::int64_t prepared_ns = traces_[member].prepared_ns;
  if (began_ns < prepared_ns && prepared_ns < world_->now_ns()) {
    Violate("one-writer", absl::StrCat("a change of an earlier session was under way at ",
                                       Short(member), " after a later one had been answered"));
  }
}

void GroupWatch::ProgressRecorded(const pool::ReplicaId& member, std::int64_t began_ns) {
  const Trace& trace = traces_[member];
  for (const auto& [generation, copied_ns] : trace.copied_ns) {
    if (copied_ns > began_ns || copied_ns <= trace.disk->flushed_at_ns()) continue;
    Violate("divergent-is-recorded",
            absl::StrCat("member ", Short(member), " recorded progress without a flush"));
  }
}

std::int64_t GroupWatch::LeftAt(const pool::ReplicaId& member, const pool::Epoch& epoch) const {
  std::int64_t left_ns = INT64_MAX;
  const auto trace = traces_.find(member);
  if (trace == traces_.end()) return left_ns;
  const auto& promised = trace->second.promised_ns;
  for (auto it = promised.upper_bound(epoch); it != promised.end(); ++it) {
    left_ns = std::min(left_ns, it->second);
  }
  return left_ns;
}

void GroupWatch::Copied(const pool::ReplicaId& member, const pool::Epoch& epoch,
                        const pool::Generation& generation, std::uint32_t region) {
  traces_[member].copied_ns[generation] = world_->now_ns();
  traces_[member].region_copied_ns[region] = world_->now_ns();
  const Configuration* const now = in_force();
  const Member* const named = now == nullptr ? nullptr : FindReplica(now->members, member);
  if (named == nullptr || named->state != MemberState::kInSync || now->version.epoch != epoch) {
    return;
  }
  traces_[member].reconciled_ns[region] = {epoch, world_->now_ns()};
}

// R11: what is read has been made equal and flushed.
void GroupWatch::CheckReconciled(std::uint64_t first, std::uint64_t count,
                                 const pool::Epoch& epoch) {
  const Configuration* const now = in_force();
  if (now->version.epoch != epoch) return;
  constexpr std::uint64_t kRegionBlocks = pool::kRegionBytes / kModelBlockBytes;
  for (const Member& member : now->members) {
    if (member.state != MemberState::kInSync) continue;
    const Trace& trace = traces_[member.replica];
    for (std::uint64_t region = first / kRegionBlocks;
         region <= (first + count - 1) / kRegionBlocks; ++region) {
      const auto found = trace.reconciled_ns.find(region);
      if (found == trace.reconciled_ns.end() || found->second.first != epoch) continue;
      if (found->second.second <= trace.disk->flushed_at_ns()) continue;
      Violate("reads-are-stable",
              absl::StrCat("region ", region, " was read, but what was reconciled there at ",
                           Short(member.replica), " is not flushed"));
    }
  }
}

void GroupWatch::Refused(const pool::Epoch& epoch, std::uint64_t first, std::uint64_t count,
                         Version version) {
  const Configuration* const now = in_force();
  const auto generation = generations_.find(version);
  if (now->version.epoch != epoch || generation == generations_.end()) return;
  Refusal refusal{epoch, generation->second, first, count, world_->now_ns(), {}};
  for (const Member& member : now->members) {
    if (member.state == MemberState::kInSync) refusal.members.insert(member.replica);
  }
  if (refusal.members.size() > 1) refusals_.push_back(std::move(refusal));
}

// R6: of those that refused it and are InSync still, all but one have been copied to since.
bool GroupWatch::MadeEqual(const Refusal& refusal) const {
  constexpr std::uint64_t kRegionBlocks = pool::kRegionBytes / kModelBlockBytes;
  const std::uint64_t last = (refusal.first + refusal.count - 1) / kRegionBlocks;
  for (std::uint64_t region = refusal.first / kRegionBlocks; region <= last; ++region) {
    std::size_t as_they_were = 0;
    for (const Member& member : in_force()->members) {
      if (member.state != MemberState::kInSync || !refusal.members.contains(member.replica)) {
        continue;
      }
      const auto trace = traces_.find(member.replica);
      if (trace == traces_.end()) continue;
      const auto found = trace->second.region_copied_ns.find(region);
      const bool copied = found != trace->second.region_copied_ns.end();
      if (!copied || found->second < refusal.at_ns) ++as_they_were;
    }
    if (as_they_were > 1) return false;
  }
  return true;
}

void GroupWatch::ReadAnswered(const std::byte* into, std::uint64_t first, std::uint64_t count,
                              const pool::Epoch& epoch, const Configuration& configuration,
                              std::int64_t lease_ns, std::int64_t began_ns) {
  CheckReconciled(first, count, epoch);
  for (const Refusal& refusal : refusals_) {
    const bool overlaps = first < refusal.first + refusal.count && refusal.first < first + count;
    if (!overlaps || refusal.epoch != epoch || began_ns <= refusal.at_ns) continue;
    if (in_force()->version.epoch != epoch || MadeEqual(refusal)) continue;
    Violate("reads-are-stable",
            absl::StrCat("blocks ", first, "+", count, " were read, but a write there that every ",
                         "copy refused has not been made equal"));
  }
  const auto arrived = arrived_ns_.extract(into);
  if (arrived.empty()) return;
  const std::int64_t since_ns = arrived.mapped() - lease_ns;
  const auto& members = configuration.members;
  const auto left = std::count_if(members.begin(), members.end(), [&](const Member& member) {
    return LeftAt(member.replica, epoch) < since_ns;
  });
  if (2 * (members.size() - static_cast<std::size_t>(left)) > members.size()) return;
  Violate("reads-are-stable",
          absl::StrCat("a read through epoch ", epoch.attachment, ".", epoch.restart,
                       " was answered, though a majority had promised a higher one for longer "
                       "than a lease"));
}

// R9: not before the grace, unless everybody that was ever named has promised.
void GroupWatch::CheckGrace(const Configuration& first, const Configuration& base) {
  const pool::Epoch& epoch = first.version.epoch;
  const auto& answered_ns = answered_ns_[epoch];
  std::vector<Member> named = hints_[epoch].first;
  for (const auto& [member, answer] : answers_[epoch]) {
    if (!answer.configuration.has_value()) continue;
    for (const auto* members : {&answer.configuration->members, &answer.configuration->predecessor,
                                &answer.configuration->successors}) {
      named.insert(named.end(), members->begin(), members->end());
    }
  }
  const auto has_promised = [&](const Member& one) { return answered_ns.contains(one.replica); };
  if (std::all_of(named.begin(), named.end(), has_promised)) return;
  for (const auto* members : {&base.members, &base.predecessor}) {
    std::vector<std::int64_t> votes;
    for (const Member& member : *members) {
      const auto found = answered_ns.find(member.replica);
      if (found != answered_ns.end()) votes.push_back(found->second);
    }
    const std::size_t majority = members->size() / 2 + 1;
    if (members->empty() || votes.size() < majority) continue;
    std::sort(votes.begin(), votes.end());
    if (world_->now_ns() >= votes[majority - 1] + hints_[epoch].second) continue;
    Violate("reads-are-stable",
            absl::StrCat(replica::ToString(first), " comes before the grace has passed, and not ",
                         "everybody has promised its epoch"));
  }
}

std::int64_t GroupWatch::MayReadUntil(const pool::Epoch& epoch, const Configuration& configuration,
                                      std::int64_t lease_ns) const {
  const auto beats = beats_.find(epoch);
  const bool source = std::any_of(
      configuration.members.begin(), configuration.members.end(), [&](const Member& member) {
        return member.state == MemberState::kInSync && LeftAt(member.replica, epoch) == INT64_MAX;
      });
  if (beats == beats_.end() || !source) return 0;
  std::int64_t newest_ns = 0;
  for (const auto& [member, sent_ns] : beats->second) newest_ns = std::max(newest_ns, sent_ns);
  std::vector<std::int64_t> answered;
  for (const Member& member : configuration.members) {
    const auto beat = beats->second.find(member.replica);
    if (beat != beats->second.end()) {
      answered.push_back(beat->second);
    } else if (traces_.contains(member.replica) &&
               traces_.at(member.replica).promised_ns.contains(epoch) &&
               LeftAt(member.replica, epoch) == INT64_MAX) {
      answered.push_back(newest_ns);  // in the engine's process, which looks at it with each beat
    }
  }
  const std::size_t needed = configuration.members.size() / 2 + 1;
  if (answered.size() < needed) return 0;
  std::sort(answered.rbegin(), answered.rend());
  return answered[needed - 1] + lease_ns;
}

void GroupWatch::Flushed(const pool::Epoch& epoch, std::int64_t began_ns) {
  const Configuration* const now = in_force();
  if (now == nullptr || now->version.epoch != epoch) return;
  for (const Member& member : now->members) {
    if (member.state != MemberState::kInSync) continue;
    if (traces_[member.replica].disk->flushed_at_ns() >= began_ns) continue;
    Violate("flush-is-real",
            absl::StrCat("a flush was acknowledged, but InSync member ", Short(member.replica),
                         " has not flushed since it began"));
  }
}

void GroupWatch::CheckNext(const Configuration& before, const Configuration& after) {
  if (after.forced != before.forced) return;  // CheckForced
  if (!SameReplicas(before.members, after.members) &&
      !SameReplicas(before.members, after.predecessor)) {
    Violate("one-change",
            absl::StrCat("the members before are not named: ", replica::ToString(before),
                         " is followed by ", replica::ToString(after)));
  }
  for (const Member& now : after.members) {
    const Member* const old = FindReplica(before.members, now.replica);
    if (old != nullptr) CheckNextMember(before, *old, now);
  }
  if (after.clean != before.clean) CheckClean(after);
}

void GroupWatch::CheckNextMember(const Configuration& before, const Member& old,
                                 const Member& now) {
  if (now.state == MemberState::kInSync) {
    const Trace& trace = traces_[now.replica];
    if (old.state == MemberState::kInSync) return;
    for (const auto& [generation, copied_ns] : trace.copied_ns) {
      // What is noted later will be made equal after a crash; a reconcile may have copied it.
      if (generation > before.clean || copied_ns <= trace.disk->flushed_at_ns()) continue;
      Violate("divergent-is-recorded",
              absl::StrCat("member ", Short(now.replica),
                           " is called InSync, but what was copied to it is not flushed"));
    }
    return;
  }
  const pool::Generation& through =
      old.state == MemberState::kInSync ? before.clean : old.in_sync_through;
  if (now.in_sync_through > through) {
    Violate("divergent-is-recorded",
            absl::StrCat("the in-sync-through of ", Short(now.replica), " rises from ",
                         through.counter, " to ", now.in_sync_through.counter));
  }
}

// R10: flushed on every member that is InSync in the configuration that says so, and what all of
// them refused is equal.
void GroupWatch::CheckClean(const Configuration& configuration) {
  for (const Refusal& refusal : refusals_) {
    const bool over =
        refusal.epoch == configuration.version.epoch && refusal.generation <= configuration.clean;
    if (!over || in_force()->version.epoch != refusal.epoch || MadeEqual(refusal)) continue;
    Violate("clean-is-equal",
            absl::StrCat("generation ", configuration.clean.counter,
                         " is called clean, but a write of it to block ", refusal.first,
                         " that every copy refused has not been made equal"));
  }
  for (const Member& member : configuration.members) {
    if (member.state != MemberState::kInSync) continue;
    const Trace& trace = traces_[member.replica];
    for (const auto& [generation, applied_ns] : trace.applied_ns) {
      if (generation > configuration.clean || applied_ns <= trace.disk->flushed_at_ns()) continue;
      Violate("clean-is-equal",
              absl::StrCat("generation ", configuration.clean.counter,
                           " is called clean, but InSync member ", Short(member.replica),
                           " has not flushed a write of generation ", generation.counter));
    }
  }
}

}  // namespace keelson::sim
