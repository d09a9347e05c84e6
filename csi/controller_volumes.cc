// Controller RPCs that change volumes.

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

absl::Status SetSource(const pb::VolumeContentSource& source, control::CreateVolumeRequest* ask) {
  switch (source.type_case()) {
    case pb::VolumeContentSource::kSnapshot:
      RETURN_IF_ERROR(CheckPresent("volume_content_source.snapshot.snapshot_id",
                                   source.snapshot().snapshot_id()));
      if (!CanBeId(source.snapshot().snapshot_id())) {
        return absl::NotFoundError("volume_content_source: there is no such snapshot");
      }
      ask->set_source_snapshot_id(source.snapshot().snapshot_id());
      return absl::OkStatus();
    case pb::VolumeContentSource::kVolume:
      RETURN_IF_ERROR(
          CheckPresent("volume_content_source.volume.volume_id", source.volume().volume_id()));
      if (!CanBeId(source.volume().volume_id())) {
        return absl::NotFoundError("volume_content_source: there is no such volume");
      }
      ask->set_source_volume_id(source.volume().volume_id());
      return absl::OkStatus();
    case pb::VolumeContentSource::TYPE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("volume_content_source must be a snapshot or a volume");
}

}  // namespace

grpc::Status Controller::CreateVolume(grpc::ServerContext* context,
                                      const pb::CreateVolumeRequest* request,
                                      pb::CreateVolumeResponse* response) {
  return Call(*context, "CreateVolume", *request,
              [&] { return Create(*context, *request, response); });
}

absl::Status Controller::Create(const grpc::ServerContext& context,
                                const pb::CreateVolumeRequest& request,
                                pb::CreateVolumeResponse* response) {
  RETURN_IF_ERROR(CheckName("name", request.name()));
  RETURN_IF_ERROR(CheckCapabilities(request.volume_capabilities()));
  control::CreateVolumeRequest ask;
  ask.set_name(request.name());
  if (request.has_capacity_range()) {
    RETURN_IF_ERROR(CheckCapacityRange(request.capacity_range()));
    ask.set_required_bytes(static_cast<std::uint64_t>(request.capacity_range().required_bytes()));
    ask.set_limit_bytes(static_cast<std::uint64_t>(request.capacity_range().limit_bytes()));
  }
  ToControl(request.volume_capabilities(), ask.mutable_capabilities());
  CopyParameters(request.parameters(), ask.mutable_parameters());
  CopyParameters(request.mutable_parameters(), ask.mutable_mutable_parameters());
  if (request.has_volume_content_source()) {
    RETURN_IF_ERROR(SetSource(request.volume_content_source(), &ask));
  }
  ToControl(request.accessibility_requirements().requisite(), ask.mutable_requisite());
  ToControl(request.accessibility_requirements().preferred(), ask.mutable_preferred());

  control::CreateVolumeResponse answer;
  RETURN_IF_ERROR(Ask(context, *provisioner_, &Stub::CreateVolume, ask, &answer));
  *response->mutable_volume() = FromControl(answer.volume());
  return absl::OkStatus();
}

grpc::Status Controller::DeleteVolume(grpc::ServerContext* context,
                                      const pb::DeleteVolumeRequest* request,
                                      pb::DeleteVolumeResponse*) {
  return Call(*context, "DeleteVolume", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPresent("volume_id", request->volume_id()));
    if (!CanBeId(request->volume_id())) return absl::OkStatus();
    control::DeleteVolumeRequest ask;
    ask.set_volume_id(request->volume_id());
    control::DeleteVolumeResponse answer;
    return Ask(*context, *provisioner_, &Stub::DeleteVolume, ask, &answer);
  });
}

grpc::Status Controller::ControllerExpandVolume(grpc::ServerContext* context,
                                                const pb::ControllerExpandVolumeRequest* request,
                                                pb::ControllerExpandVolumeResponse* response) {
  return Call(*context, "ControllerExpandVolume", *request,
              [&] { return Expand(*context, *request, response); });
}

absl::Status Controller::Expand(const grpc::ServerContext& context,
                                const pb::ControllerExpandVolumeRequest& request,
                                pb::ControllerExpandVolumeResponse* response) {
  RETURN_IF_ERROR(CheckPresent("volume_id", request.volume_id()));
  if (!request.has_capacity_range()) {
    return absl::InvalidArgumentError("capacity_range is missing");
  }
  RETURN_IF_ERROR(CheckCapacityRange(request.capacity_range()));
  if (request.has_volume_capability()) {
    RETURN_IF_ERROR(CheckCapability(request.volume_capability()));
  }
  if (!CanBeId(request.volume_id())) {
    return absl::NotFoundError("there is no volume with this volume_id; it is not one of ours");
  }
  control::ExpandVolumeRequest ask;
  ask.set_volume_id(request.volume_id());
  ask.set_required_bytes(static_cast<std::uint64_t>(request.capacity_range().required_bytes()));
  ask.set_limit_bytes(static_cast<std::uint64_t>(request.capacity_range().limit_bytes()));
  control::ExpandVolumeResponse answer;
  RETURN_IF_ERROR(Ask(context, *provisioner_, &Stub::ExpandVolume, ask, &answer));
  response->set_capacity_bytes(static_cast<std::int64_t>(answer.capacity_bytes()));
  // The block store shows the device's new size by itself; a file system must be told.
  response->set_node_expansion_required(!request.volume_capability().has_block());
  return absl::OkStatus();
}

grpc::Status Controller::ControllerModifyVolume(grpc::ServerContext* context,
                                                const pb::ControllerModifyVolumeRequest* request,
                                                pb::ControllerModifyVolumeResponse*) {
  return Call(*context, "ControllerModifyVolume", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPresent("volume_id", request->volume_id()));
    if (!CanBeId(request->volume_id())) {
      return absl::NotFoundError("there is no volume with this volume_id; it is not one of ours");
    }
    control::ModifyVolumeRequest ask;
    ask.set_volume_id(request->volume_id());
    CopyParameters(request->mutable_parameters(), ask.mutable_mutable_parameters());
    control::ModifyVolumeResponse answer;
    return Ask(*context, *provisioner_, &Stub::ModifyVolume, ask, &answer);
  });
}

grpc::Status Controller::ControllerPublishVolume(grpc::ServerContext* context,
                                                 const pb::ControllerPublishVolumeRequest* request,
                                                 pb::ControllerPublishVolumeResponse* response) {
  return Call(*context, "ControllerPublishVolume", *request,
              [&] { return Publish(*context, *request, response); });
}

absl::Status Controller::Publish(const grpc::ServerContext& context,
                                 const pb::ControllerPublishVolumeRequest& request,
                                 pb::ControllerPublishVolumeResponse* response) {
  RETURN_IF_ERROR(CheckPresent("volume_id", request.volume_id()));
  RETURN_IF_ERROR(CheckPresent("node_id", request.node_id()));
  if (!request.has_volume_capability()) {
    return absl::InvalidArgumentError("volume_capability is missing");
  }
  RETURN_IF_ERROR(CheckCapability(request.volume_capability()));
  if (!CanBeId(request.volume_id())) {
    return absl::NotFoundError("there is no volume with this volume_id; it is not one of ours");
  }
  if (!CanBeNode(request.node_id())) {
    return absl::NotFoundError("there is no node with this node_id");
  }
  control::PublishVolumeRequest ask;
  ask.set_volume_id(request.volume_id());
  ask.set_node(request.node_id());
  *ask.mutable_capability() = ToControl(request.volume_capability());
  ask.set_read_only(request.readonly());
  control::PublishVolumeResponse answer;
  RETURN_IF_ERROR(Ask(context, *provisioner_, &Stub::PublishVolume, ask, &answer));
  response->mutable_publish_context()->swap(*answer.mutable_publish_context());
  return absl::OkStatus();
}

grpc::Status Controller::ControllerUnpublishVolume(
    grpc::ServerContext* context, const pb::ControllerUnpublishVolumeRequest* request,
    pb::ControllerUnpublishVolumeResponse*) {
  return Call(*context, "ControllerUnpublishVolume", *request,
              [&] { return Unpublish(*context, *request); });
}

absl::Status Controller::Unpublish(const grpc::ServerContext& context,
                                   const pb::ControllerUnpublishVolumeRequest& request) {
  RETURN_IF_ERROR(CheckPresent("volume_id", request.volume_id()));
  // What does not exist is published nowhere, and nothing is published on a node that does not.
  if (!CanBeId(request.volume_id())) return absl::OkStatus();
  if (!request.node_id().empty() && !CanBeNode(request.node_id())) return absl::OkStatus();
  control::UnpublishVolumeRequest ask;
  ask.set_volume_id(request.volume_id());
  ask.set_node(request.node_id());
  control::UnpublishVolumeResponse answer;
  const absl::Status status = Ask(context, *provisioner_, &Stub::UnpublishVolume, ask, &answer);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace keelson::csi
