#include "blockstore/engine/local_ports.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace keelson::engine {

absl::StatusOr<AttachTarget> LocalTarget(replica::ReplicaStore* store, pool::ReplicaId id) {
  for (const replica::ReplicaInfo& info : store->List()) {
    if (info.id != id) continue;
    if (!info.configuration.has_value()) {
      return absl::DataLossError(
          absl::StrCat("volume ", info.name, " has no readable configuration in this pool"));
    }
    if (info.configuration->members.size() != 1) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", info.name, " has ", info.configuration->members.size(),
                       " members: attach it with all of them named"));
    }
    if (info.in_session) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", info.name, " is already attached"));
    }
    if (info.segment != 0 || info.configuration->segment_count > 1) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", info.name, " has several segments: attach it with all of them"));
    }
    AttachTarget target;
    target.name = info.name;
    target.segment_bytes = info.configuration->segment_bytes;
    target.epoch = {info.promised.attachment + 1, 0, pool::EngineId(store->pool().MakeId())};
    target.segments.push_back(
        {info.configuration->volume, info.configuration->segment, info.configuration->members, {}});
    return target;
  }
  return absl::NotFoundError(absl::StrCat("there is no replica ", id.ToString(), " in this pool"));
}

}  // namespace keelson::engine
