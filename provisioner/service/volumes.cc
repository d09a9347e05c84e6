// Controller: volumes come and go, grow and change.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/placement/capacity.h"
#include "provisioner/placement/settings.h"
#include "provisioner/reconcile/ids.h"
#include "provisioner/reconcile/plan.h"
#include "provisioner/service/controller.h"
#include "provisioner/service/request_checks.h"

namespace keelson::provisioner {
namespace {

constexpr std::size_t kUuidDigits = 32;
// A deletion is waited for a little, so that its space is there for the next volume.
constexpr std::int64_t kDeletionPatienceNanos = 3'000'000'000;

template <typename Map>
std::map<std::string, std::string> ToMap(const Map& map) {
  return {map.begin(), map.end()};
}

// What makes two requests for a name the same volume, apart from its size.
std::map<std::string, std::string> Wishes(const api::CreateVolumeRequest& request) {
  std::map<std::string, std::string> wishes = ToMap(request.parameters());
  for (const auto& [key, value] : request.mutable_parameters()) {
    wishes.insert_or_assign(absl::StrCat("mutable/", key), value);
  }
  return wishes;
}

}  // namespace

// --- Creation ---

absl::Status Controller::CheckSame(const api::CreateVolumeRequest& request,
                                   const rec::VolumeRecord& record) const {
  const auto other = [&](std::string_view what) {
    return absl::AlreadyExistsError(absl::StrCat(
        "volume '", request.name(), "' is there already, with another ", std::string(what)));
  };
  if (record.size_bytes() < request.required_bytes() ||
      (request.limit_bytes() != 0 && record.size_bytes() > request.limit_bytes())) {
    return other(absl::StrCat("size, ", record.size_bytes(), " bytes"));
  }
  if (record.source_snapshot_id() != request.source_snapshot_id() ||
      record.source_volume_id() != request.source_volume_id()) {
    return other("source");
  }
  if (record.name().empty()) return absl::OkStatus();  // adopted: what was asked for is not known
  if (ToMap(record.parameters()) != Wishes(request)) return other("set of parameters");
  if (record.capabilities_size() > 0 && request.capabilities_size() > 0 &&
      record.capabilities(0).block() != request.capabilities(0).block()) {
    return other("kind: raw block or file system");
  }
  return absl::OkStatus();
}

absl::Status Controller::PlanSource(const api::CreateVolumeRequest& request, const std::string& key,
                                    rec::VolumeRecord* record) {
  record->set_source_snapshot_id(request.source_snapshot_id());
  record->set_source_volume_id(request.source_volume_id());
  if (!request.source_snapshot_id().empty() && !request.source_volume_id().empty()) {
    return absl::InvalidArgumentError(
        "a volume is made from a snapshot or from a volume, not both");
  }
  std::uint64_t source_bytes = 0;
  if (!request.source_snapshot_id().empty()) {
    ASSIGN_OR_RETURN(const SnapshotRow snapshot, FindSnapshot(request.source_snapshot_id()));
    if (snapshot.value.state() != rec::SnapshotRecord::READY) {
      return absl::UnavailableError(
          absl::StrCat("snapshot ", snapshot.value.id(), " is not ready yet"));
    }
    source_bytes = snapshot.value.size_bytes();
    record->set_clone_of_snapshot_id(snapshot.value.id());
  } else {
    ASSIGN_OR_RETURN(const VolumeRow source, FindVolume(request.source_volume_id()));
    source_bytes = source.value.size_bytes();
    // The reconciler cuts it, and lets it go when nothing is made from it any more.
    record->set_clone_of_snapshot_id(
        NewId(KeyOfName(kSnapshotPrefix, absl::StrCat("clone/", key), 0)));
  }
  if (record->size_bytes() < source_bytes) {
    if (request.required_bytes() != 0 || request.limit_bytes() != 0) {
      const bool limited = request.limit_bytes() != 0 && request.limit_bytes() < source_bytes;
      if (limited || request.required_bytes() != 0) {
        return absl::OutOfRangeError(absl::StrCat(
            "the source has ", source_bytes, " bytes; a volume made from it has at least as many"));
      }
    }
    record->set_size_bytes(source_bytes);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Controller::BeginVolume(const api::CreateVolumeRequest& request) {
  std::lock_guard lock(making_);
  std::string key;
  const absl::StatusOr<VolumeRow> there = FindByName(request.name(), &key);
  if (there.ok()) {
    RETURN_IF_ERROR(CheckSame(request, there->value));
    return there->key;
  }
  if (!absl::IsNotFound(there.status())) return there.status();
  rec::VolumeRecord record;
  record.set_name(request.name());
  record.set_id(NewId(key));
  record.set_uuid(RandomHex(kUuidDigits));
  record.set_created_unix_ns(reconciler_->environment().clock->UnixNanos());
  record.set_state(rec::VolumeRecord::MAKING);
  ASSIGN_OR_RETURN(*record.mutable_settings(),
                   placement::ParseSettings(request.parameters(), request.mutable_parameters()));
  for (const auto& [name, value] : Wishes(request)) (*record.mutable_parameters())[name] = value;
  *record.mutable_capabilities() = request.capabilities();
  *record.mutable_requisite() = request.requisite();
  *record.mutable_preferred() = request.preferred();
  const bool from_source =
      !request.source_snapshot_id().empty() || !request.source_volume_id().empty();
  ASSIGN_OR_RETURN(const std::uint64_t bytes,
                   SizeInRange(request.required_bytes(), request.limit_bytes(),
                               from_source ? kVolumeBytesMin : options_.default_size_bytes));
  record.set_size_bytes(bytes);
  if (from_source) {
    RETURN_IF_ERROR(PlanSource(request, key, &record));
  } else {
    std::uint64_t segment_bytes = 0;
    ASSIGN_OR_RETURN(const std::vector<rec::SegmentRecord> segments,
                     PlanSegments(reconciler_->environment().NodeStates(""), record, &segment_bytes,
                                  reconciler_->environment()));
    record.set_segment_bytes(segment_bytes);
    for (const rec::SegmentRecord& segment : segments) *record.add_segments() = segment;
    if (record.settings().data_locality() == "strictLocal") {
      (*record.add_accessible()->mutable_segments())[kTopologyNode] =
          record.segments(0).replicas(0).node();
    }
  }
  const absl::Status created = reconciler_->records().volumes().Create(key, record);
  if (absl::IsAlreadyExists(created)) {
    return absl::AbortedError(
        absl::StrCat("volume '", request.name(), "' is being made by another call"));
  }
  RETURN_IF_ERROR(created);
  return key;
}

absl::StatusOr<api::Volume> Controller::CreateVolume(const api::CreateVolumeRequest& request) {
  RETURN_IF_ERROR(CheckName("name", request.name()));
  RETURN_IF_ERROR(CheckCapabilities(request.capabilities()));
  ASSIGN_OR_RETURN(const std::string key, BeginVolume(request));
  absl::StatusOr<VolumeRow> row;
  const auto made = [&] {
    row = reconciler_->records().volumes().Find(key);
    return !row.ok() || (row->value.state() != rec::VolumeRecord::MAKING &&
                         row->value.made_bytes() >= row->value.size_bytes());
  };
  RETURN_IF_ERROR(AwaitVolume(key, made, absl::StrCat("volume '", request.name(), "'")));
  if (absl::IsNotFound(row.status())) {
    return absl::NotFoundError(absl::StrCat("volume '", request.name(),
                                            "', or what it was to be made from, was deleted "
                                            "meanwhile"));
  }
  RETURN_IF_ERROR(row.status());
  return Describe(*row);
}

// --- Deletion ---

absl::Status Controller::DeleteVolume(const api::DeleteVolumeRequest& request) {
  const absl::StatusOr<VolumeRow> row = FindVolume(request.volume_id());
  if (absl::IsNotFound(row.status())) return absl::OkStatus();
  RETURN_IF_ERROR(row.status());
  bool kept = false;
  for (const SnapshotRow& snapshot : reconciler_->records().snapshots().All()) {
    kept = kept || (snapshot.value.volume_id() == request.volume_id() &&
                    snapshot.value.state() != rec::SnapshotRecord::DELETING);
  }
  const auto changed =
      reconciler_->records().volumes().Update(row->key, [&](rec::VolumeRecord* record) {
        if (record->id() != request.volume_id()) return absl::OkStatus();
        if (!record->publications().empty()) {
          return absl::FailedPreconditionError(
              absl::StrCat("volume ", record->id(), " is published on node ",
                           record->publications(0).node(), "; unpublish it first"));
        }
        record->set_state(kept ? rec::VolumeRecord::KEPT : rec::VolumeRecord::DELETING);
        return absl::OkStatus();
      });
  if (absl::IsNotFound(changed.status())) return absl::OkStatus();
  RETURN_IF_ERROR(changed.status());
  const std::string key = row->key;
  // Nobody can reach it any more; what follows is space.
  (void)reconciler_->Await([&] { return kept || !reconciler_->records().volumes().Find(key).ok(); },
                           kDeletionPatienceNanos);
  return absl::OkStatus();
}

// --- What there is ---

absl::StatusOr<api::Volume> Controller::GetVolume(const api::GetVolumeRequest& request) {
  ASSIGN_OR_RETURN(const VolumeRow row, FindVolume(request.volume_id()));
  return Describe(row);
}

absl::StatusOr<api::ListVolumesResponse> Controller::ListVolumes(
    const api::ListVolumesRequest& request) {
  // The token is the last key of the page before.
  const std::string& after = request.starting_token();
  if (!after.empty() && KeyOfId(kVolumePrefix, absl::StrCat(after, "-00000000")) != after) {
    return absl::AbortedError("starting_token is not one of ours; list anew");
  }
  api::ListVolumesResponse response;
  std::string last;
  for (const VolumeRow& row : reconciler_->records().volumes().All()) {
    if (row.key <= after || row.value.state() != rec::VolumeRecord::READY) continue;
    if (request.max_entries() != 0 &&
        static_cast<std::uint32_t>(response.volumes_size()) == request.max_entries()) {
      response.set_next_token(last);
      break;
    }
    *response.add_volumes() = Describe(row);
    last = row.key;
  }
  return response;
}

absl::StatusOr<api::ValidateVolumeResponse> Controller::ValidateVolume(
    const api::ValidateVolumeRequest& request) {
  ASSIGN_OR_RETURN(const VolumeRow row, FindVolume(request.volume_id()));
  api::ValidateVolumeResponse response;
  if (request.capabilities().empty()) {
    return absl::InvalidArgumentError("volume_capabilities is missing");
  }
  absl::Status usable = CheckCapabilities(request.capabilities());
  if (usable.ok() && row.value.capabilities_size() > 0 &&
      row.value.capabilities(0).block() != request.capabilities(0).block()) {
    usable = absl::InvalidArgumentError(row.value.capabilities(0).block()
                                            ? "the volume was made as raw block"
                                            : "the volume was made with a file system");
  }
  if (usable.ok() && !request.parameters().empty()) {
    usable = placement::ParseSettings(request.parameters(), request.mutable_parameters()).status();
  }
  if (!usable.ok()) response.set_reason(std::string(usable.message()));
  return response;
}

// --- Changes ---

absl::StatusOr<api::ExpandVolumeResponse> Controller::ExpandVolume(
    const api::ExpandVolumeRequest& request) {
  ASSIGN_OR_RETURN(const VolumeRow row, FindVolume(request.volume_id()));
  if (request.required_bytes() == 0 && request.limit_bytes() == 0) {
    return absl::InvalidArgumentError("capacity_range is missing");
  }
  ASSIGN_OR_RETURN(
      const std::uint64_t bytes,
      SizeInRange(request.required_bytes(), request.limit_bytes(), row.value.size_bytes()));
  if (request.limit_bytes() != 0 && row.value.size_bytes() > request.limit_bytes()) {
    return absl::OutOfRangeError(absl::StrCat("volume ", row.value.id(), " has ",
                                              row.value.size_bytes(),
                                              " bytes already and cannot shrink"));
  }
  const auto changed =
      reconciler_->records().volumes().Update(row.key, [&](rec::VolumeRecord* record) {
        RETURN_IF_ERROR(CheckStillThere(*record, request.volume_id()));
        record->set_size_bytes(std::max(record->size_bytes(), bytes));
        return absl::OkStatus();
      });
  RETURN_IF_ERROR(changed.status());
  absl::Status there;
  RETURN_IF_ERROR(AwaitVolume(
      row.key,
      [&] {
        const absl::StatusOr<VolumeRow> now = reconciler_->records().volumes().Find(row.key);
        there = now.ok() ? CheckStillThere(now->value, request.volume_id()) : now.status();
        return !there.ok() || now->value.made_bytes() >= bytes;
      },
      absl::StrCat("the growth of volume ", row.value.id())));
  RETURN_IF_ERROR(there);
  api::ExpandVolumeResponse response;
  response.set_capacity_bytes(std::max(row.value.size_bytes(), bytes));
  return response;
}

absl::Status Controller::ModifyVolume(const api::ModifyVolumeRequest& request) {
  ASSIGN_OR_RETURN(const VolumeRow row, FindVolume(request.volume_id()));
  const auto changed =
      reconciler_->records().volumes().Update(row.key, [&](rec::VolumeRecord* record) {
        RETURN_IF_ERROR(CheckStillThere(*record, request.volume_id()));
        ASSIGN_OR_RETURN(
            const api::Settings settings,
            placement::ChangeSettings(record->settings(), request.mutable_parameters()));
        *record->mutable_settings() = settings;
        return absl::OkStatus();
      });
  return changed.status();
}

absl::StatusOr<api::GetCapacityResponse> Controller::GetCapacity(
    const api::GetCapacityRequest& request) {
  if (!request.capabilities().empty()) {
    const absl::Status usable = CheckCapabilities(request.capabilities());
    if (!usable.ok()) return api::GetCapacityResponse();  // nothing of that kind can be made
  }
  ASSIGN_OR_RETURN(const api::Settings settings,
                   placement::ParseSettings(request.parameters(), {}));
  rec::VolumeRecord like;
  *like.mutable_settings() = settings;
  // Copies may be anywhere; only strictLocal ties the volume to the place that is asked for.
  if (request.has_topology() && settings.data_locality() == "strictLocal") {
    *like.add_requisite() = request.topology();
  }
  const Environment& environment = reconciler_->environment();
  placement::Volume volume;
  volume.copies = settings.replicas();
  volume.constraints = ConstraintsOf(like, environment);
  volume.segment_bytes = environment.options.segment_bytes_max;
  const placement::Capacity capacity = placement::FindCapacity(environment.NodeStates(""), volume);
  api::GetCapacityResponse response;
  response.set_available_bytes(capacity.available_bytes);
  response.set_largest_volume_bytes(std::min(capacity.largest_volume_bytes, kVolumeBytesMax));
  return response;
}

}  // namespace keelson::provisioner
