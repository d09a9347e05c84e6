#pragma once
// What the specification says of a volume that is published a second time on a node
// (NodePublishVolume, the table of access modes). Pure functions; any thread.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "csi/host.h"
#include "csi/names.h"

namespace keelson::csi {

// Whether a volume with this mode may be at several target paths of one node.
//
// SINGLE_NODE_WRITER may: callers that know the finer modes use it for nothing, and those that do
// not use it for ReadWriteOnce, where several pods of a node share the volume.
bool MaySharePath(pb::VolumeCapability::AccessMode::Mode mode);

// Of a publication at `target` while the volume is at `places` on this node (without its staging
// path). FAILED_PRECONDITION names where it is.
absl::Status CheckFurtherPath(pb::VolumeCapability::AccessMode::Mode mode,
                              const std::string& target, const std::vector<Mounted>& places);

// Of a publication where one is already: OK when it is the same, else ALREADY_EXISTS.
absl::Status CheckSamePath(const Mounted& there, dev_t device, bool block, bool read_only);

}  // namespace keelson::csi
