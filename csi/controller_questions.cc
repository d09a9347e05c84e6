// Controller RPCs that change nothing: what there is, what can be, how it is.

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "csi/ask.h"
#include "csi/call.h"
#include "csi/checks.h"
#include "csi/controller.h"
#include "csi/status.h"
#include "csi/translate.h"

namespace keelson::csi {
namespace {

using Stub = control::Provisioner::StubInterface;

// Of one page, however many were asked for: the clients of Kubernetes take answers of 4 MiB.
constexpr std::int32_t kPageEntriesMax = 4000;
constexpr std::int32_t kHealthPageEntries = 500;

std::uint32_t PageEntries(std::int32_t max_entries, std::int32_t most) {
  return static_cast<std::uint32_t>(max_entries == 0 ? most : std::min(max_entries, most));
}

// Only where it is served: Kubernetes attaches again where this and its own record differ.
template <class Status>
void SetPublished(const control::Volume& volume, Status* status) {
  for (const control::Publication& publication : volume.publications()) {
    if (publication.attached()) status->add_published_node_ids(publication.node());
  }
}

// Ours is empty and Kubernetes adds keys of its own.
absl::Status CheckVolumeContext(const StringMap& volume_context) {
  for (const auto& [key, value] : volume_context) {
    if (!IsReserved(key)) {
      return absl::InvalidArgumentError("volume_context has a key that this driver never set");
    }
  }
  return absl::OkStatus();
}

}  // namespace

grpc::Status Controller::ValidateVolumeCapabilities(
    grpc::ServerContext* context, const pb::ValidateVolumeCapabilitiesRequest* request,
    pb::ValidateVolumeCapabilitiesResponse* response) {
  return Call(*context, "ValidateVolumeCapabilities", *request,
              [&] { return Validate(*context, *request, response); });
}

absl::Status Controller::Validate(const grpc::ServerContext& context,
                                  const pb::ValidateVolumeCapabilitiesRequest& request,
                                  pb::ValidateVolumeCapabilitiesResponse* response) {
  RETURN_IF_ERROR(CheckPresent("volume_id", request.volume_id()));
  if (request.volume_capabilities().empty()) {
    return absl::InvalidArgumentError("volume_capabilities is missing");
  }
  control::Volume volume;
  RETURN_IF_ERROR(GetVolume(context, request.volume_id(), &volume));
  // What can never be is not an error of the call: it is the answer.
  absl::Status possible = CheckCapabilities(request.volume_capabilities());
  if (possible.ok()) possible = CheckVolumeContext(request.volume_context());
  if (!possible.ok()) {
    response->set_message(std::string(possible.message()));
    return absl::OkStatus();
  }
  control::ValidateVolumeRequest ask;
  ask.set_volume_id(request.volume_id());
  ToControl(request.volume_capabilities(), ask.mutable_capabilities());
  CopyParameters(request.parameters(), ask.mutable_parameters());
  CopyParameters(request.mutable_parameters(), ask.mutable_mutable_parameters());
  control::ValidateVolumeResponse answer;
  RETURN_IF_ERROR(Ask(context, *provisioner_, &Stub::ValidateVolume, ask, &answer));
  if (!answer.reason().empty()) {
    response->set_message(answer.reason());
    return absl::OkStatus();
  }
  pb::ValidateVolumeCapabilitiesResponse::Confirmed& confirmed = *response->mutable_confirmed();
  *confirmed.mutable_volume_context() = request.volume_context();
  *confirmed.mutable_volume_capabilities() = request.volume_capabilities();
  *confirmed.mutable_parameters() = request.parameters();
  *confirmed.mutable_mutable_parameters() = request.mutable_parameters();
  return absl::OkStatus();
}

grpc::Status Controller::ListVolumes(grpc::ServerContext* context,
                                     const pb::ListVolumesRequest* request,
                                     pb::ListVolumesResponse* response) {
  return Call(*context, "ListVolumes", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckMaxEntries(request->max_entries()));
    control::ListVolumesRequest ask;
    ask.set_max_entries(PageEntries(request->max_entries(), kPageEntriesMax));
    ask.set_starting_token(request->starting_token());
    control::ListVolumesResponse answer;
    RETURN_IF_ERROR(Ask(*context, *provisioner_, &Stub::ListVolumes, ask, &answer));
    for (const control::Volume& volume : answer.volumes()) {
      pb::ListVolumesResponse::Entry& entry = *response->add_entries();
      *entry.mutable_volume() = FromControl(volume);
      SetPublished(volume, entry.mutable_status());
    }
    response->set_next_token(answer.next_token());
    return absl::OkStatus();
  });
}

grpc::Status Controller::GetCapacity(grpc::ServerContext* context,
                                     const pb::GetCapacityRequest* request,
                                     pb::GetCapacityResponse* response) {
  return Call(*context, "GetCapacity", *request,
              [&] { return Capacity(*context, *request, response); });
}

absl::Status Controller::Capacity(const grpc::ServerContext& context,
                                  const pb::GetCapacityRequest& request,
                                  pb::GetCapacityResponse* response) {
  for (const pb::VolumeCapability& capability : request.volume_capabilities()) {
    // There is no room for volumes that cannot be.
    if (!CheckCapability(capability).ok()) {
      response->mutable_maximum_volume_size()->set_value(0);
      return absl::OkStatus();
    }
  }
  control::GetCapacityRequest ask;
  ToControl(request.volume_capabilities(), ask.mutable_capabilities());
  CopyParameters(request.parameters(), ask.mutable_parameters());
  if (request.has_accessible_topology()) {
    *ask.mutable_topology()->mutable_segments() = request.accessible_topology().segments();
  }
  control::GetCapacityResponse answer;
  RETURN_IF_ERROR(Ask(context, *provisioner_, &Stub::GetCapacity, ask, &answer));
  response->set_available_capacity(static_cast<std::int64_t>(answer.available_bytes()));
  response->mutable_maximum_volume_size()->set_value(
      static_cast<std::int64_t>(answer.largest_volume_bytes()));
  return absl::OkStatus();
}

grpc::Status Controller::ControllerGetVolume(grpc::ServerContext* context,
                                             const pb::ControllerGetVolumeRequest* request,
                                             pb::ControllerGetVolumeResponse* response) {
  return Call(*context, "ControllerGetVolume", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckAlpha());
    RETURN_IF_ERROR(CheckPresent("volume_id", request->volume_id()));
    control::Volume volume;
    RETURN_IF_ERROR(GetVolume(*context, request->volume_id(), &volume));
    *response->mutable_volume() = FromControl(volume);
    SetPublished(volume, response->mutable_status());
    return absl::OkStatus();
  });
}

grpc::Status Controller::ControllerGetVolumeHealth(
    grpc::ServerContext* context, const pb::ControllerGetVolumeHealthRequest* request,
    pb::ControllerGetVolumeHealthResponse* response) {
  return Call(*context, "ControllerGetVolumeHealth", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckAlpha());
    RETURN_IF_ERROR(CheckPresent("volume_id", request->volume_id()));
    control::Volume volume;
    RETURN_IF_ERROR(GetVolume(*context, request->volume_id(), &volume));
    *response->mutable_volume_health() = HealthOf(volume);
    return absl::OkStatus();
  });
}

grpc::Status Controller::ControllerListVolumeHealth(
    grpc::ServerContext* context, const pb::ControllerListVolumeHealthRequest* request,
    pb::ControllerListVolumeHealthResponse* response) {
  return Call(*context, "ControllerListVolumeHealth", *request,
              [&] { return ListHealth(*context, *request, response); });
}

absl::Status Controller::ListHealth(const grpc::ServerContext& context,
                                    const pb::ControllerListVolumeHealthRequest& request,
                                    pb::ControllerListVolumeHealthResponse* response) {
  RETURN_IF_ERROR(CheckAlpha());
  RETURN_IF_ERROR(CheckMaxEntries(request.max_entries()));
  control::ListVolumesRequest ask;
  ask.set_max_entries(PageEntries(request.max_entries(), kHealthPageEntries));
  ask.set_starting_token(request.starting_token());
  // Pages of all volumes, until one has a volume that is not healthy: ours may be shorter than
  // what was asked for, but is empty only at the end.
  do {
    control::ListVolumesResponse answer;
    RETURN_IF_ERROR(Ask(context, *provisioner_, &Stub::ListVolumes, ask, &answer));
    for (const control::Volume& volume : answer.volumes()) {
      if (!volume.problem().empty()) *response->add_entries() = HealthOf(volume);
    }
    ask.set_starting_token(answer.next_token());
  } while (response->entries().empty() && !ask.starting_token().empty());
  response->set_next_token(ask.starting_token());
  return absl::OkStatus();
}

}  // namespace keelson::csi
