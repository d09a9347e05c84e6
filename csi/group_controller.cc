#include "csi/group_controller.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "csi/ask.h"
#include "csi/call.h"
#include "csi/checks.h"
#include "csi/status.h"
#include "csi/translate.h"

namespace keelson::csi {
namespace {

using Stub = control::Provisioner::StubInterface;

absl::Status CheckSources(const pb::CreateVolumeGroupSnapshotRequest& request) {
  if (request.source_volume_ids().empty()) {
    return absl::InvalidArgumentError("source_volume_ids is missing");
  }
  std::set<std::string> seen;
  for (const std::string& id : request.source_volume_ids()) {
    RETURN_IF_ERROR(CheckPresent("an entry of source_volume_ids", id));
    if (!CanBeId(id)) {
      return absl::NotFoundError("source_volume_ids: one of them is not a volume of ours");
    }
    if (!seen.insert(id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("source_volume_ids names ", id, " twice; once is enough"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

grpc::Status GroupController::GroupControllerGetCapabilities(
    grpc::ServerContext* context, const pb::GroupControllerGetCapabilitiesRequest* request,
    pb::GroupControllerGetCapabilitiesResponse* response) {
  return Call(*context, "GroupControllerGetCapabilities", *request, [&] {
    response->add_capabilities()->mutable_rpc()->set_type(
        pb::GroupControllerServiceCapability::RPC::CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT);
    return absl::OkStatus();
  });
}

grpc::Status GroupController::CreateVolumeGroupSnapshot(
    grpc::ServerContext* context, const pb::CreateVolumeGroupSnapshotRequest* request,
    pb::CreateVolumeGroupSnapshotResponse* response) {
  return Call(*context, "CreateVolumeGroupSnapshot", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckName("name", request->name()));
    RETURN_IF_ERROR(CheckSources(*request));
    control::CreateGroupSnapshotRequest ask;
    ask.set_name(request->name());
    *ask.mutable_source_volume_ids() = request->source_volume_ids();
    CopyParameters(request->parameters(), ask.mutable_parameters());
    control::CreateGroupSnapshotResponse answer;
    RETURN_IF_ERROR(Ask(*context, *provisioner_, &Stub::CreateGroupSnapshot, ask, &answer));
    *response->mutable_group_snapshot() = FromControl(answer.group());
    return absl::OkStatus();
  });
}

grpc::Status GroupController::DeleteVolumeGroupSnapshot(
    grpc::ServerContext* context, const pb::DeleteVolumeGroupSnapshotRequest* request,
    pb::DeleteVolumeGroupSnapshotResponse*) {
  return Call(*context, "DeleteVolumeGroupSnapshot", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPresent("group_snapshot_id", request->group_snapshot_id()));
    if (!CanBeId(request->group_snapshot_id())) return absl::OkStatus();
    control::DeleteGroupSnapshotRequest ask;
    ask.set_group_snapshot_id(request->group_snapshot_id());
    *ask.mutable_snapshot_ids() = request->snapshot_ids();
    control::DeleteGroupSnapshotResponse answer;
    const absl::Status status =
        Ask(*context, *provisioner_, &Stub::DeleteGroupSnapshot, ask, &answer);
    return absl::IsNotFound(status) ? absl::OkStatus() : status;
  });
}

grpc::Status GroupController::GetVolumeGroupSnapshot(
    grpc::ServerContext* context, const pb::GetVolumeGroupSnapshotRequest* request,
    pb::GetVolumeGroupSnapshotResponse* response) {
  return Call(*context, "GetVolumeGroupSnapshot", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPresent("group_snapshot_id", request->group_snapshot_id()));
    if (!CanBeId(request->group_snapshot_id())) {
      return absl::NotFoundError("there is no group snapshot with this group_snapshot_id");
    }
    control::GetGroupSnapshotRequest ask;
    ask.set_group_snapshot_id(request->group_snapshot_id());
    *ask.mutable_snapshot_ids() = request->snapshot_ids();
    control::GetGroupSnapshotResponse answer;
    RETURN_IF_ERROR(Ask(*context, *provisioner_, &Stub::GetGroupSnapshot, ask, &answer));
    *response->mutable_group_snapshot() = FromControl(answer.group());
    return absl::OkStatus();
  });
}

}  // namespace keelson::csi
