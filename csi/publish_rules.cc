#include "csi/publish_rules.h"

#include "absl/strings/str_cat.h"

namespace keelson::csi {

using AccessMode = pb::VolumeCapability::AccessMode;

bool MaySharePath(AccessMode::Mode mode) {
  switch (mode) {
    case AccessMode::SINGLE_NODE_SINGLE_WRITER:
    case AccessMode::SINGLE_NODE_READER_ONLY:
      return false;
    default:
      return true;
  }
}

absl::Status CheckFurtherPath(AccessMode::Mode mode, const std::string& target,
                              const std::vector<Mounted>& places) {
  if (MaySharePath(mode)) return absl::OkStatus();
  for (const Mounted& place : places) {
    if (place.path == target) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("the volume is published on this node at ", place.path, ", and ",
                     AccessMode::Mode_Name(mode), " allows one path only; unpublish it there"));
  }
  return absl::OkStatus();
}

absl::Status CheckSamePath(const Mounted& there, dev_t device, bool block, bool read_only) {
  const char* difference = nullptr;
  if (there.device != device || !there.whole) {
    difference = "something else is mounted there";
  } else if (there.block != block) {
    difference = "it is published there with another access type";
  } else if (!block && there.read_only != read_only) {
    difference =
        there.read_only ? "it is published there read-only" : "it is published there for writing";
  }
  if (difference == nullptr) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("target_path ", there.path, ": ", difference, "; unpublish it first"));
}

}  // namespace keelson::csi
