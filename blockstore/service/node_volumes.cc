// Node: the calls about volumes.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"
#include "blockstore/service/node.h"
#include "blockstore/service/replica_messages.h"

namespace keelson::service {
namespace {

constexpr std::uint32_t kHoldMillisMax = 10'000;

}  // namespace

// The calls that a volume attached by a target answers by its engine are passed on to
// node_targets.cc.

template <typename T>
absl::StatusOr<T> Node::Change(Slot* slot, std::string_view operation,
                               absl::FunctionRef<io::Task<absl::StatusOr<T>>(PoolHost*)> make) {
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, slot->changes.Take(operation, kPatience));
  return slot->shard->thread().Run([slot, make] { return make(slot->host); });
}

absl::Status Node::Change(Slot* slot, std::string_view operation,
                          absl::FunctionRef<io::Task<absl::Status>(PoolHost*)> make) {
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, slot->changes.Take(operation, kPatience));
  return slot->shard->thread().Run([slot, make] { return make(slot->host); });
}

absl::StatusOr<Node::Slot*> Node::FindVolume(std::string_view name) {
  std::lock_guard lock(tables_mutex_);
  const auto found = volumes_.find(name);
  if (found != volumes_.end()) return found->second;
  return absl::NotFoundError(
      absl::StrCat("there is no volume '", std::string(name), "' on this daemon"));
}

absl::StatusOr<Node::Slot*> Node::PoolWithMostSpace() {
  Slot* best = nullptr;
  std::uint64_t best_free_bytes = 0;
  for (Slot* slot : OpenSlots()) {
    const PoolHost* host = slot->host;
    const auto [healthy, space] =
        slot->shard->thread().Run([host] { return std::pair(host->healthy(), host->space()); });
    if (!healthy || (best != nullptr && space.free_bytes <= best_free_bytes)) continue;
    best = slot;
    best_free_bytes = space.free_bytes;
  }
  if (best != nullptr) return best;
  return absl::FailedPreconditionError(
      "no pool is open and healthy; see `keelctl pool list`, or make one with `keelctl pool "
      "create DIR --size SIZE`");
}

absl::Status Node::ReserveName(const std::string& name, Slot* slot) {
  std::lock_guard lock(tables_mutex_);
  const auto [found, inserted] = volumes_.emplace(name, slot);
  if (inserted) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("there is already a volume '", name, "' in pool ", found->second->directory));
}

void Node::ReleaseName(const std::string& name) {
  std::lock_guard lock(tables_mutex_);
  volumes_.erase(name);
}

absl::Status Node::CreateVolume(const v1::CreateVolumeRequest& request,
                                v1::CreateVolumeResponse* response) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(Slot* const slot,
                   request.pool().empty() ? PoolWithMostSpace() : FindPool(request.pool()));
  RETURN_IF_ERROR(ReserveName(request.name(), slot));
  absl::StatusOr<v1::Volume> volume =
      Change<v1::Volume>(slot, "create volume", [&request](PoolHost* host) {
        return host->CreateVolume(request.name(), request.size_bytes());
      });
  if (!volume.ok()) {
    ReleaseName(request.name());
    return volume.status();
  }
  *response->mutable_volume() = *std::move(volume);
  return absl::OkStatus();
}

absl::Status Node::ListVolumes(const v1::ListVolumesRequest&, v1::ListVolumesResponse* response) {
  RETURN_IF_ERROR(Ready());
  std::vector<v1::Volume> all;
  for (Slot* slot : OpenSlots()) {
    const PoolHost* host = slot->host;
    std::vector<v1::Volume> volumes = slot->shard->thread().Run([host] { return host->Volumes(); });
    std::move(volumes.begin(), volumes.end(), std::back_inserter(all));
  }
  for (const std::unique_ptr<Shard>& shard : shards_) {
    for (v1::Volume& volume :
         shard->thread().Run([&shard] { return shard->volumes().Volumes(); })) {
      // A volume with one copy that was attached by a target is one volume.
      std::erase_if(all, [&volume](const v1::Volume& v) { return v.name() == volume.name(); });
      all.push_back(std::move(volume));
    }
  }
  for (v1::Volume& volume :
       RemoteShard()->thread().Run([this] { return RemoteShard()->remotes().Volumes(); })) {
    const auto attached = std::find_if(all.begin(), all.end(), [&volume](const v1::Volume& other) {
      return other.name() == volume.name() && other.attached();
    });
    if (attached == all.end()) {
      all.push_back(std::move(volume));
    } else {
      attached->set_uri(volume.uri());
    }
  }
  std::sort(all.begin(), all.end(),
            [](const v1::Volume& a, const v1::Volume& b) { return a.name() < b.name(); });
  for (v1::Volume& volume : all) {
    DescribeDevice(volume.name(), &volume);
    *response->add_volumes() = std::move(volume);
  }
  return absl::OkStatus();
}

absl::Status Node::DeleteVolume(const v1::DeleteVolumeRequest& request, v1::DeleteVolumeResponse*) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(Slot* const slot, FindVolume(request.name()));
  RETURN_IF_ERROR(Change(slot, "delete volume", [&request](PoolHost* host) {
    return host->DeleteVolume(request.name());
  }));
  ReleaseName(request.name());
  return state_.SetReadOnly(request.name(), false);
}

absl::Status Node::CreateSnapshot(const v1::CreateSnapshotRequest& request,
                                  v1::CreateSnapshotResponse* response) {
  RETURN_IF_ERROR(Ready());
  std::optional<pool::Uuid> hold;
  if (!request.hold_id().empty()) {
    ASSIGN_OR_RETURN(hold, ParseId("hold_id", request.hold_id()));
  }
  if (AttachedOn(request.volume()) != nullptr) {
    ASSIGN_OR_RETURN(
        *response->mutable_snapshot(),
        ChangeAttached<v1::Snapshot>(request.volume(), "create snapshot", [&](VolumeHost* volumes) {
          return volumes->CreateSnapshot(request.volume(), request.name(), hold);
        }));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(Slot* const slot, FindVolume(request.volume()));
  ASSIGN_OR_RETURN(*response->mutable_snapshot(),
                   Change<v1::Snapshot>(slot, "create snapshot", [&](PoolHost* host) {
                     return host->CreateSnapshot(request.volume(), request.name(), hold);
                   }));
  return absl::OkStatus();
}

absl::Status Node::HoldWrites(const v1::HoldWritesRequest& request, v1::HoldWritesResponse*) {
  RETURN_IF_ERROR(Ready());
  const std::string& name = request.volume();
  ASSIGN_OR_RETURN(const pool::Uuid hold, ParseId("hold_id", request.hold_id()));
  if (request.limit_ms() == 0 || request.limit_ms() > kHoldMillisMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("limit_ms is 1 to ", kHoldMillisMax, ", not ", request.limit_ms()));
  }
  const std::int64_t duration_ns = std::int64_t{request.limit_ms()} * 1'000'000;
  if (AttachedOn(name) != nullptr) {
    return ChangeAttached(name, "hold writes", [&](VolumeHost* volumes) {
      return volumes->HoldWrites(name, hold, duration_ns);
    });
  }
  ASSIGN_OR_RETURN(Slot* const slot, FindVolume(name));
  return Change(slot, "hold writes",
                [&](PoolHost* host) { return host->HoldWrites(name, hold, duration_ns); });
}

absl::Status Node::ReleaseWrites(const v1::ReleaseWritesRequest& request,
                                 v1::ReleaseWritesResponse*) {
  RETURN_IF_ERROR(Ready());
  const std::string& name = request.volume();
  ASSIGN_OR_RETURN(const pool::Uuid hold, ParseId("hold_id", request.hold_id()));
  // Beside whatever changes the volume: nothing else ends what that may wait for.
  absl::Status released;
  if (Shard* const shard = AttachedOn(name); shard != nullptr) {
    released = shard->thread().Run(
        [shard, &name, &hold] { return shard->volumes().ReleaseWrites(name, hold); });
  } else if (const absl::StatusOr<Slot*> slot = FindVolume(name); slot.ok()) {
    released = (*slot)->shard->thread().Run(
        [&slot, &name, &hold] { return (*slot)->host->ReleaseWrites(name, hold); });
  }
  // Its hold has ended with the attachment.
  return absl::IsNotFound(released) ? absl::OkStatus() : released;
}

absl::Status Node::DeleteSnapshot(const v1::DeleteSnapshotRequest& request,
                                  v1::DeleteSnapshotResponse*) {
  RETURN_IF_ERROR(Ready());
  if (AttachedOn(request.volume()) != nullptr) {
    return ChangeAttached(request.volume(), "delete snapshot", [&request](VolumeHost* volumes) {
      return volumes->DeleteSnapshot(request.volume(), request.name());
    });
  }
  ASSIGN_OR_RETURN(Slot* const slot, FindVolume(request.volume()));
  return Change(slot, "delete snapshot", [&request](PoolHost* host) {
    return host->DeleteSnapshot(request.volume(), request.name());
  });
}

absl::Status Node::ListSnapshots(const v1::ListSnapshotsRequest& request,
                                 v1::ListSnapshotsResponse* response) {
  RETURN_IF_ERROR(Ready());
  if (Shard* const shard = AttachedOn(request.volume()); shard != nullptr) {
    ASSIGN_OR_RETURN(const std::vector<v1::Snapshot> snapshots,
                     shard->thread().Run([shard, &request] {
                       return shard->volumes().Snapshots(request.volume());
                     }));
    for (const v1::Snapshot& snapshot : snapshots) *response->add_snapshots() = snapshot;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(Slot* const slot, FindVolume(request.volume()));
  ASSIGN_OR_RETURN(const std::vector<v1::Snapshot> snapshots,
                   slot->shard->thread().Run(
                       [slot, &request] { return slot->host->Snapshots(request.volume()); }));
  for (const v1::Snapshot& snapshot : snapshots) *response->add_snapshots() = snapshot;
  return absl::OkStatus();
}

absl::Status Node::CloneVolume(const v1::CloneVolumeRequest& request,
                               v1::CloneVolumeResponse* response) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(Slot* const slot, FindVolume(request.source()));
  RETURN_IF_ERROR(ReserveName(request.name(), slot));
  absl::StatusOr<v1::Volume> volume =
      Change<v1::Volume>(slot, "clone volume", [&request](PoolHost* host) {
        return host->CloneVolume(request.source(), request.snapshot(), request.name(),
                                 request.size_bytes());
      });
  if (!volume.ok()) {
    ReleaseName(request.name());
    return volume.status();
  }
  *response->mutable_volume() = *std::move(volume);
  return absl::OkStatus();
}

absl::Status Node::GrowVolume(const v1::GrowVolumeRequest& request,
                              v1::GrowVolumeResponse* response) {
  RETURN_IF_ERROR(Ready());
  if (AttachedOn(request.name()) != nullptr) {
    if (request.new_segments_size() > 0) {
      RETURN_IF_ERROR(ChangeMembers(request.name(), "add segments", [&](VolumeHost* volumes) {
        return volumes->AddSegments(request.name(), request.new_segments());
      }));
    }
    ASSIGN_OR_RETURN(
        *response->mutable_volume(),
        ChangeAttached<v1::Volume>(request.name(), "grow volume", [&request](VolumeHost* volumes) {
          return volumes->Grow(request.name(), request.size_bytes());
        }));
    return GrowDevice(request.name());
  }
  ASSIGN_OR_RETURN(Slot* const slot, FindVolume(request.name()));
  ASSIGN_OR_RETURN(*response->mutable_volume(),
                   Change<v1::Volume>(slot, "grow volume", [&request](PoolHost* host) {
                     return host->GrowVolume(request.name(), request.size_bytes());
                   }));
  return GrowDevice(request.name());
}

absl::Status Node::AttachServed(const v1::AttachVolumeRequest& request,
                                v1::AttachVolumeResponse* response) {
  if (request.has_target() && request.has_remote()) {
    return absl::InvalidArgumentError("target and remote: a volume is attached by one of them");
  }
  if (request.has_target()) return AttachTo(request, response);
  if (request.has_remote()) return AttachRemote(request, response);
  ASSIGN_OR_RETURN(Slot* const slot, FindVolume(request.name()));
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, slot->changes.Take("attach volume", kPatience));
  // Recorded before a read-only attachment and forgotten after a writable one began: a crash
  // between the two can leave a volume read-only that was not, never the other way round.
  const bool was_read_only = state_.IsReadOnly(request.name());
  if (request.read_only()) RETURN_IF_ERROR(state_.SetReadOnly(request.name(), true));
  const engine::QosLimits qos = state_.FindQos(request.name());
  absl::StatusOr<std::string> uri = slot->shard->thread().Run([slot, &request, &qos] {
    return slot->host->Attach(request.name(), request.read_only(), qos);
  });
  const bool is_read_only = uri.ok() ? request.read_only() : was_read_only;
  RETURN_IF_ERROR(state_.SetReadOnly(request.name(), is_read_only));
  if (!uri.ok()) return uri.status();
  response->set_uri(*std::move(uri));
  return absl::OkStatus();
}

absl::Status Node::DetachServed(const std::string& name, bool client_only) {
  const bool remote = state_.FindRemote(name).has_value();
  if (remote) RETURN_IF_ERROR(DetachRemote(name));
  if (client_only) return absl::OkStatus();
  if (AttachedOn(name) != nullptr || state_.FindAttachment(name)) return DetachFrom(name);
  if (remote) return absl::OkStatus();
  ASSIGN_OR_RETURN(Slot* const slot, FindVolume(name));
  RETURN_IF_ERROR(RememberQos(name, {}));
  RETURN_IF_ERROR(
      Change(slot, "detach volume", [&name](PoolHost* host) { return host->Detach(name); }));
  return state_.SetReadOnly(name, false);
}

}  // namespace keelson::service
