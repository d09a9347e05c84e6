#pragma once
// What the nodes answered about volumes, put together: which configuration is the highest, who
// serves the volume, which members cannot be asked. Until there is a provisioner, keelctl decides
// from this. Pure functions of values; any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/keelson/v1/blockstore.pb.h"

namespace keelson::ctl {

struct NodeAnswer {
  std::string name;
  absl::Status status;  // why it did not answer; the rest is empty then
  v1::GetNodeResponse node;
  std::vector<v1::Replica> replicas;
  std::vector<v1::Volume> volumes;                    // served there, or with one copy there
  std::optional<v1::GetVolumeStatusResponse> volume;  // the one asked for, when it is known there
};

// A member, or a replica that is none any more, and where it is.
struct PlacedMember {
  v1::Member member;
  std::string node;  // empty: on a node that did not answer, or is not named
  std::optional<v1::Replica> replica;
};

struct SegmentView {
  std::uint32_t segment = 0;
  v1::Configuration configuration;      // the highest that was found; without members: none was
  std::vector<PlacedMember> members;    // of the configuration and of its predecessor
  std::vector<PlacedMember> leftovers;  // replicas of the segment that are not members
  // The last attachment under which an operator went on from one copy, by what any replica knows.
  std::uint64_t forced_attachment = 0;

  const PlacedMember* OnNode(const std::string& node) const;      // a member there, or nullptr
  const PlacedMember* Find(const std::string& replica_id) const;  // also left over; or nullptr
  std::size_t copies() const;                                     // members with data
  std::size_t in_sync() const;
};

struct VolumeView {
  std::string name;
  std::string volume_id;
  std::vector<SegmentView> segments;  // as many as segment 0 says that there are; one at least
  std::vector<PlacedMember> strays;   // replicas of further segments, which did not come to be
  std::uint64_t promised = 0;         // the highest attachment that a replica has promised
  std::vector<std::string> silent_nodes;
  std::string serving_node;   // where it is attached now, and not known to have ended; may be empty
  std::string resuming_node;  // where it is still to be resumed
  std::optional<v1::GetVolumeStatusResponse> status;  // of serving_node, else of resuming_node
  std::vector<std::string> session_nodes;             // with a replica that an engine uses

  // What every segment but the last holds. 0: there can be one only.
  std::uint64_t segment_bytes() const { return segments[0].configuration.segment_bytes(); }
  std::uint64_t size_bytes() const;
  std::size_t copies() const;   // of the segment that has the fewest
  std::size_t in_sync() const;  // the same
};

// Whether `a` is an older version of the same segment's configuration, or of an older history.
bool Older(const v1::Configuration& a, const v1::Configuration& b);

// NOT_FOUND; FAILED_PRECONDITION when several volumes have the name, or several nodes one of its
// pools.
absl::StatusOr<VolumeView> FindVolume(const std::vector<NodeAnswer>& nodes,
                                      const std::string& name);

// The names of all volumes that were found, sorted.
std::vector<std::string> VolumeNames(const std::vector<NodeAnswer>& nodes);

// OK when enough members answer for an attachment; else UNAVAILABLE and which are missing.
absl::Status CheckReachable(const VolumeView& volume);
absl::Status CheckReachable(const VolumeView& volume, const SegmentView& segment);
// OK when no engine uses the volume; else FAILED_PRECONDITION and where it is in use.
absl::Status CheckUnused(const VolumeView& volume);

// Whether an operator went on from another copy, so that it is kept and never used again by itself.
bool LeftBehind(const SegmentView& segment, const v1::Replica& replica);
// Whether it has heard of that. Until then a majority of such copies could still be attached.
bool Quarantined(const v1::Replica& replica);
// What going on from this replica alone may lose, and what becomes of the others: some sentences.
std::string ExplainForce(const VolumeView& volume, const SegmentView& segment,
                         const PlacedMember& placed);

// One sentence on what the volume waits for, or why it is as it is.
std::string Explain(const VolumeView& volume);

// "a", "a and b", "a, b and c".
std::string Enumerate(const std::vector<std::string>& names);

}  // namespace keelson::ctl
