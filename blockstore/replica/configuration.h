#pragma once
// Configuration: the record of who the members of a segment are and what each of them has, kept by
// the members themselves (docs/protocol.md). The highest version that a majority accepted is in
// force. A value type: no I/O, any thread.

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/pool/ids.h"

namespace keelson::replica {

inline constexpr std::size_t kDataMembersMax = 5;
inline constexpr std::size_t kMembersMax = 8;  // with witnesses, and while one is being exchanged
inline constexpr std::size_t kSnapshotsMax = 1000;
inline constexpr std::uint32_t kSegmentsMax = 1024;  // of a volume

// Out: missed something; not written to. Syncing: written to while what it missed is copied; never
// read from. InSync: has every acknowledged write. A witness is always Out: it has no data.
enum class MemberState : std::uint8_t { kOut = 1, kSyncing = 2, kInSync = 3 };

struct Member {
  pool::PoolId pool;
  pool::ReplicaId replica;
  // Of the pool when the member was last prepared. Another one means that acknowledged writes may
  // be gone (R3).
  pool::Uuid incarnation;
  std::string address;  // "host:port" of its data protocol; empty when it only is used locally
  bool witness = false;
  MemberState state = MemberState::kOut;
  // While not InSync: everything up to this generation is in its data. Never rises until it is
  // InSync again (R6).
  pool::Generation in_sync_through;

  bool SameReplica(const Member& other) const {
    return pool == other.pool && replica == other.replica;
  }
  bool operator==(const Member&) const = default;
};

// Ordered: of the same segment, in one history, the higher version is the newer one.
struct ConfigurationVersion {
  pool::Epoch epoch;
  std::uint64_t counter = 0;
  auto operator<=>(const ConfigurationVersion&) const = default;
};

struct ConfiguredSnapshot {
  pool::SnapshotId id;
  std::string name;
  pool::Generation sealed;  // the last generation whose writes it holds
  std::uint64_t size_bytes = 0;
  std::int64_t created_unix_ns = 0;
  // Every segment of the volume has it. One that is not is withdrawn by the next attach (R15).
  bool complete = false;
  bool operator==(const ConfiguredSnapshot&) const = default;
};

struct Configuration {
  pool::VolumeId volume;
  std::string volume_name;
  std::uint32_t segment = 0;
  ConfigurationVersion version;
  std::vector<Member> members;
  // The members before the change under way; empty when none is. Until this configuration is
  // accepted by a majority of these too, it is not in force (R13).
  std::vector<Member> predecessor;
  std::vector<ConfiguredSnapshot> snapshots;  // oldest first
  std::uint64_t size_bytes = 0;               // of the segment
  // Everything up to this generation is equal and flushed on all InSync members (R10).
  pool::Generation clean;
  // The InSync copies that a write needs (R7), and how many were asked for where that is more: a
  // removal leaves too few for them, and they count again when there are enough. 0: no more.
  std::uint32_t min_in_sync = 1;
  std::uint32_t min_in_sync_wanted = 0;
  // Of the volume, as segment 0 has it; what the others say is what it was when they were made.
  std::uint32_t segment_count = 1;
  // What a segment holds that is followed by another; 0: the volume has one, of any size.
  std::uint64_t segment_bytes = 0;
  // R14: the epoch under which an operator last went on from one copy alone; the default when none
  // ever did. It stays in every later version: where two records differ in it they are of two
  // histories, whose data and notes do not compare.
  pool::Epoch forced;
  // R3: the last epoch that was attached from members that had all restarted, so that writes that
  // were acknowledged and not flushed may be gone; the default when none was.
  pool::Epoch lost;
  // Only in a replica's own record: the epoch under which an operator went on without it, and the
  // members of that configuration. It is kept as it is, but has no vote and is no source.
  pool::Epoch succeeded_by;
  std::vector<Member> successors;

  bool operator==(const Configuration&) const = default;

  bool was_forced() const { return forced != pool::Epoch{}; }
  bool quarantined() const { return succeeded_by != pool::Epoch{}; }

  const Member* Find(const pool::PoolId& pool, const pool::ReplicaId& replica) const;
  Member* Find(const pool::PoolId& pool, const pool::ReplicaId& replica);
  const ConfiguredSnapshot* Find(const pool::SnapshotId& snapshot) const;
  bool Has(const pool::SnapshotId& snapshot) const { return Find(snapshot) != nullptr; }
  std::size_t in_sync_count() const;
  std::size_t data_member_count() const;
};

// The votes that make a majority of `members`.
inline std::size_t MajorityOf(const std::vector<Member>& members) { return members.size() / 2 + 1; }

// Whether `voted` (true for a member that voted) holds a majority of the configuration's members
// and, while a change is under way, of its predecessor's.
template <typename Voted>
bool HasMajority(const Configuration& configuration, Voted voted) {
  const auto enough = [&voted](const std::vector<Member>& members) {
    std::size_t count = 0;
    for (const Member& member : members) count += voted(member) ? 1 : 0;
    return count >= MajorityOf(members);
  };
  return enough(configuration.members) &&
         (configuration.predecessor.empty() || enough(configuration.predecessor));
}

// INVALID_ARGUMENT with the rule that is broken: no members or too many, the same replica twice, a
// witness that is not Out, no data member, sizes and counts out of their range, no version.
absl::Status Validate(const Configuration& configuration);

// The bytes of records.proto's ConfigurationRecord, and back. Parse validates: INVALID_ARGUMENT.
std::string Serialize(const Configuration& configuration);
absl::StatusOr<Configuration> ParseConfiguration(std::string_view bytes);

// One line for a log: version, members with states.
std::string ToString(const Configuration& configuration);

}  // namespace keelson::replica
