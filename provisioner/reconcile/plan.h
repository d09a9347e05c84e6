#pragma once
// What is planned into a volume's record: where its replicas go. Values in, values out, but for the
// ids that are drawn; any thread.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "provisioner/reconcile/environment.h"

namespace keelson::provisioner {

// The segments of a new volume by its record (settings, size, topology). RESOURCE_EXHAUSTED: no
// room, and for each node why.
absl::StatusOr<std::vector<rec::SegmentRecord>> PlanSegments(
    const std::vector<placement::NodeState>& nodes, const rec::VolumeRecord& volume,
    std::uint64_t* segment_bytes, const Environment& environment);

// One segment anew.
absl::StatusOr<rec::SegmentRecord> PlanSegment(const std::vector<placement::NodeState>& nodes,
                                               const rec::VolumeRecord& volume,
                                               std::uint64_t size_bytes,
                                               const Environment& environment);

// A clone's: beside each copy of the source that has everything. UNAVAILABLE: there is none.
absl::StatusOr<std::vector<rec::SegmentRecord>> PlanCloneSegments(
    const rec::VolumeRecord& source, const v1::GetVolumeStatusResponse& status,
    const rec::SnapshotRecord& snapshot, const Environment& environment);

// One more copy, or witness, for a segment, not on a node that has one.
absl::StatusOr<rec::ReplicaRecord> PlanReplica(const rec::VolumeRecord& volume, int segment,
                                               bool witness, const std::string& near_node,
                                               const Environment& environment);

// Copies with data that are to stay.
int CopiesOf(const rec::SegmentRecord& segment);

// How many copies must have everything for writes: what was asked for, and less while the segment
// has so few copies that one failure would stop it.
std::uint32_t MinInSyncNow(const rec::VolumeRecord& volume, int segment);

// What its clients may ask for.
v1::Qos QosOf(const control::v1::Settings& settings);

void AddOrphan(const rec::ReplicaRecord& replica, rec::VolumeRecord* volume);

// The constraints of a volume's placement.
placement::Constraints ConstraintsOf(const rec::VolumeRecord& volume,
                                     const Environment& environment);

}  // namespace keelson::provisioner
