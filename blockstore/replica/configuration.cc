#include "blockstore/replica/configuration.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/seeded_bug.h"

namespace keelson::replica {
namespace {

// A region's and an extent's number have 32 bits.
constexpr std::uint64_t kSegmentBytesMax = pool::kExtentBytes << 32;
// Of a name or an address. Longer than any that is given, so that a record stays small.
constexpr std::size_t kTextBytesMax = 4096;
// A change adds one data member before it removes another.
constexpr std::size_t kDataMembersInChangeMax = kDataMembersMax + 1;

absl::Status Broken(const Configuration& configuration, std::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat("configuration of volume ",
                                                 configuration.volume.ToString(), " segment ",
                                                 configuration.segment, ": ", std::string(rule),
                                                 "; it is not used, and a replica whose record "
                                                 "it is has to be removed and added again"));
}

bool IsSize(std::uint64_t size_bytes) {
  return size_bytes >= pool::kBlockBytes && size_bytes <= kSegmentBytesMax &&
         size_bytes % pool::kBlockBytes == 0;
}

std::string_view StateName(MemberState state) {
  switch (state) {
    case MemberState::kOut:
      return "Out";
    case MemberState::kSyncing:
      return "Syncing";
    case MemberState::kInSync:
      return "InSync";
  }
  return "unknown";
}

// What is wrong with the member by itself; empty when nothing is.
std::string_view ProblemOf(const Member& member) {
  if (member.pool.is_nil()) return "a member has no pool";
  if (member.replica.is_nil()) return "a member has no replica id";
  if (member.address.size() > kTextBytesMax) return "a member's address is too long";
  if (StateName(member.state) == "unknown") return "a member's state is unknown";
  if (member.witness && member.state != MemberState::kOut && !SeededBug(kWitnessCountsAsCopy)) {
    return "a witness is not Out, but it has no data";
  }
  return {};
}

std::string_view ProblemOf(const std::vector<Member>& members) {
  if (members.size() > kMembersMax) return "too many members";
  std::size_t data = 0, in_sync = 0;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (const std::string_view problem = ProblemOf(members[i]); !problem.empty()) return problem;
    data += members[i].witness ? 0 : 1;
    in_sync += members[i].state == MemberState::kInSync ? 1 : 0;
    for (std::size_t j = 0; j < i; ++j) {
      if (members[j].replica == members[i].replica) return "the same replica is a member twice";
    }
  }
  if (data == 0) return "no member has data";
  if (data > kDataMembersInChangeMax) return "too many members with data";
  if (in_sync == 0 && !SeededBug(kMarkOutLastCopy)) {
    return "no member is InSync, so nothing has every acknowledged write";
  }
  return {};
}

// R13: one data member at a time, and the witness it needs.
std::string_view ProblemOfChange(const std::vector<Member>& before,
                                 const std::vector<Member>& after) {
  std::size_t data = 0, witnesses = 0;
  const auto count_missing = [&](const std::vector<Member>& from, const std::vector<Member>& in) {
    for (const Member& member : from) {
      const bool found = std::any_of(in.begin(), in.end(), [&member](const Member& other) {
        return other.SameReplica(member) && other.witness == member.witness;
      });
      if (!found) ++(member.witness ? witnesses : data);
    }
  };
  count_missing(before, after);
  count_missing(after, before);
  if (data > 1 && !SeededBug(kTwoMembersAtOnce)) {
    return "more than one data member differs from the members before";
  }
  if (witnesses > 1) return "more than one witness differs from the members before";
  return {};
}

std::string_view ProblemOf(const std::vector<ConfiguredSnapshot>& snapshots) {
  if (snapshots.size() > kSnapshotsMax) return "too many snapshots";
  for (std::size_t i = 0; i < snapshots.size(); ++i) {
    const ConfiguredSnapshot& snapshot = snapshots[i];
    if (snapshot.id.is_nil()) return "a snapshot has no id";
    if (snapshot.name.size() > kTextBytesMax) return "a snapshot's name is too long";
    if (!IsSize(snapshot.size_bytes)) return "a snapshot's size is out of its range";
    if (i > 0 && snapshot.sealed < snapshots[i - 1].sealed) {
      return "the snapshots are not in the order of their generations";
    }
  }
  std::vector<pool::SnapshotId> ids;
  ids.reserve(snapshots.size());
  for (const ConfiguredSnapshot& snapshot : snapshots) ids.push_back(snapshot.id);
  std::sort(ids.begin(), ids.end());
  if (std::adjacent_find(ids.begin(), ids.end()) != ids.end()) {
    return "the same snapshot is named twice";
  }
  return {};
}

void AppendMembers(const std::vector<Member>& members, std::string* text) {
  for (std::size_t i = 0; i < members.size(); ++i) {
    const Member& member = members[i];
    absl::StrAppend(text, i == 0 ? "" : " ", member.replica.ToString().substr(0, 8), "=",
                    member.witness ? "Witness" : std::string(StateName(member.state)));
  }
}

}  // namespace

const Member* Configuration::Find(const pool::PoolId& pool, const pool::ReplicaId& replica) const {
  const auto found = std::find_if(members.begin(), members.end(), [&](const Member& member) {
    return member.pool == pool && member.replica == replica;
  });
  return found == members.end() ? nullptr : &*found;
}

Member* Configuration::Find(const pool::PoolId& pool, const pool::ReplicaId& replica) {
  return const_cast<Member*>(std::as_const(*this).Find(pool, replica));
}

const ConfiguredSnapshot* Configuration::Find(const pool::SnapshotId& snapshot) const {
  const auto found =
      std::find_if(snapshots.begin(), snapshots.end(),
                   [&snapshot](const ConfiguredSnapshot& one) { return one.id == snapshot; });
  return found == snapshots.end() ? nullptr : &*found;
}

std::size_t Configuration::in_sync_count() const {
  return static_cast<std::size_t>(
      std::count_if(members.begin(), members.end(),
                    [](const Member& member) { return member.state == MemberState::kInSync; }));
}

std::size_t Configuration::data_member_count() const {
  return static_cast<std::size_t>(std::count_if(
      members.begin(), members.end(), [](const Member& member) { return !member.witness; }));
}

absl::Status Validate(const Configuration& configuration) {
  if (configuration.volume.is_nil()) return Broken(configuration, "it names no volume");
  if (configuration.volume_name.size() > kTextBytesMax) {
    return Broken(configuration, "the volume's name is too long");
  }
  if (configuration.version.counter == 0) return Broken(configuration, "it has no version");
  if (configuration.members.empty()) return Broken(configuration, "it has no members");
  std::string_view problem = ProblemOf(configuration.members);
  if (!problem.empty()) return Broken(configuration, problem);
  if (!configuration.predecessor.empty()) {
    problem = ProblemOf(configuration.predecessor);
    if (problem.empty()) {
      problem = ProblemOfChange(configuration.predecessor, configuration.members);
    }
    if (!problem.empty())
      return Broken(configuration, absl::StrCat("before its change, ", std::string(problem)));
  }
  if (configuration.successors.empty() == configuration.quarantined()) {
    return Broken(configuration, "it is quarantined without successors, or has them without being");
  }
  problem = configuration.quarantined() ? ProblemOf(configuration.successors) : "";
  if (!problem.empty()) return Broken(configuration, problem);
  problem = ProblemOf(configuration.snapshots);
  if (!problem.empty()) return Broken(configuration, problem);
  if (!IsSize(configuration.size_bytes)) return Broken(configuration, "its size is out of range");
  if (configuration.min_in_sync == 0 || configuration.min_in_sync > kDataMembersMax ||
      configuration.min_in_sync_wanted > kDataMembersMax) {
    return Broken(configuration, "the copies it needs for a write are out of range");
  }
  const std::uint64_t segment_bytes = configuration.segment_bytes;
  if (configuration.segment_count == 0 || configuration.segment_count > kSegmentsMax ||
      (segment_bytes == 0 && configuration.segment_count > 1) ||
      segment_bytes % pool::kRegionBytes != 0 ||
      (segment_bytes != 0 && configuration.size_bytes > segment_bytes)) {
    return Broken(configuration, "the number or the size of the volume's segments is out of range");
  }
  return absl::OkStatus();
}

std::string ToString(const Configuration& configuration) {
  const pool::Epoch& epoch = configuration.version.epoch;
  std::string text = absl::StrCat("version=", epoch.attachment, ".", epoch.restart, ".",
                                  epoch.engine.ToString().substr(0, 8), "/",
                                  configuration.version.counter, " members=[");
  AppendMembers(configuration.members, &text);
  absl::StrAppend(&text, "]");
  if (!configuration.predecessor.empty()) {
    absl::StrAppend(&text, " before=[");
    AppendMembers(configuration.predecessor, &text);
    absl::StrAppend(&text, "]");
  }
  absl::StrAppend(&text, " clean=", configuration.clean.epoch.attachment, ".",
                  configuration.clean.epoch.restart, "/", configuration.clean.counter);
  if (!configuration.snapshots.empty()) {
    absl::StrAppend(&text, " snapshots=", configuration.snapshots.size());
  }
  if (configuration.was_forced()) {
    absl::StrAppend(&text, " forced=", configuration.forced.attachment);
  }
  if (configuration.quarantined()) {
    absl::StrAppend(&text, " succeeded_by=", configuration.succeeded_by.attachment);
  }
  return text;
}

}  // namespace keelson::replica
