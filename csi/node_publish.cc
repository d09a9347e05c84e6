// NodePublishVolume and NodeUnpublishVolume: the volume at the path of one pod.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "csi/beneath.h"
#include "csi/call.h"
#include "csi/checks.h"
#include "csi/node.h"
#include "csi/publish_rules.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

void Forget(const std::string& path, std::vector<Mounted>* places) {
  places->erase(std::remove_if(places->begin(), places->end(),
                               [&](const Mounted& place) { return place.path == path; }),
                places->end());
}

}  // namespace

grpc::Status Node::NodePublishVolume(grpc::ServerContext* context,
                                     const pb::NodePublishVolumeRequest* request,
                                     pb::NodePublishVolumeResponse* response) {
  return Call(*context, "NodePublishVolume", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPresent("volume_id", request->volume_id()));
    RETURN_IF_ERROR(CheckPresent("target_path", request->target_path()));
    if (!request->has_volume_capability()) {
      return absl::InvalidArgumentError("volume_capability is missing");
    }
    RETURN_IF_ERROR(CheckCapability(request->volume_capability()));
    RETURN_IF_ERROR(ParseMountFlags(request->volume_capability().mount().mount_flags()).status());
    if (request->staging_target_path().empty()) {
      return absl::FailedPreconditionError(
          "staging_target_path is missing; volumes are staged before they are published");
    }
    RETURN_IF_ERROR(CheckPath("target_path", request->target_path(), options_.mount_root));
    RETURN_IF_ERROR(
        CheckPath("staging_target_path", request->staging_target_path(), options_.mount_root));
    return Work(*context, ShownId(request->volume_id()), *request, response,
                [this](const pb::NodePublishVolumeRequest& asked, pb::NodePublishVolumeResponse*) {
                  return Publish(asked);
                });
  });
}

absl::Status Node::Publish(const pb::NodePublishVolumeRequest& request) {
  ASSIGN_OR_RETURN(const Served served, FindServed(request.volume_id()));
  const absl::Status status = request.volume_capability().has_block()
                                  ? PublishBlock(request, served)
                                  : PublishFilesystem(request, served);
  if (status.ok()) {
    spdlog::info("event=published volume={} path={}", request.volume_id(), request.target_path());
  }
  return status;
}

absl::Status Node::PublishFilesystem(const pb::NodePublishVolumeRequest& request,
                                     const Served& served) {
  const std::string& target = request.target_path();
  const std::string& staging = request.staging_target_path();
  const dev_t device = served.device.number;
  const auto mode = request.volume_capability().access_mode().mode();
  ASSIGN_OR_RETURN(const std::optional<Mounted> staged, host_.MountedAt(staging));
  if (!staged.has_value() || staged->block || staged->device != device || !staged->whole) {
    return absl::FailedPreconditionError(absl::StrCat("volume ", request.volume_id(),
                                                      " is not staged at ", staging,
                                                      "; NodeStageVolume comes first"));
  }
  const bool read_only = request.readonly() || IsReaderOnly(mode) || staged->read_only;
  ASSIGN_OR_RETURN(const std::optional<Mounted> there, host_.MountedAt(target));
  if (there.has_value()) return CheckSamePath(*there, device, false, read_only);

  ASSIGN_OR_RETURN(std::vector<Mounted> places, host_.MountsOf(device));
  Forget(staging, &places);
  RETURN_IF_ERROR(CheckFurtherPath(mode, target, places));
  ASSIGN_OR_RETURN(const bool made, host_.MakeTarget(target, true));
  const absl::Status status = host_.Bind(staging, device, target, read_only);
  if (!status.ok() && made) host_.RemoveTarget(target).IgnoreError();
  return status;
}

absl::Status Node::PublishBlock(const pb::NodePublishVolumeRequest& request, const Served& served) {
  const std::string& target = request.target_path();
  const auto mode = request.volume_capability().access_mode().mode();
  // A device node of a read-only mount can be written to all the same.
  if ((request.readonly() || IsReaderOnly(mode)) && !served.device.read_only) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume ", request.volume_id(),
        " is attached for writing, and a raw device cannot be "
        "read-only at one path alone; publish it read-only on the node (access mode ReadOnlyMany, "
        "or ControllerPublishVolume with readonly)"));
  }
  ASSIGN_OR_RETURN(const std::optional<Mounted> there, host_.MountedAt(target));
  if (there.has_value()) return CheckSamePath(*there, served.device.number, true, false);
  ASSIGN_OR_RETURN(const std::vector<Mounted> places, host_.MountsOf(served.device.number));
  RETURN_IF_ERROR(CheckFurtherPath(mode, target, places));
  for (const Mounted& place : places) {
    if (place.block) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("volume ", request.volume_id(), " is mounted as a file system at ", place.path,
                     "; writes to its raw device would destroy that"));
  }
  ASSIGN_OR_RETURN(const bool made, host_.MakeTarget(target, false));
  const absl::Status status = host_.BindDevice(served.device, target);
  if (!status.ok() && made) host_.RemoveTarget(target).IgnoreError();
  return status;
}

grpc::Status Node::NodeUnpublishVolume(grpc::ServerContext* context,
                                       const pb::NodeUnpublishVolumeRequest* request,
                                       pb::NodeUnpublishVolumeResponse* response) {
  return Call(*context, "NodeUnpublishVolume", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPresent("volume_id", request->volume_id()));
    RETURN_IF_ERROR(CheckPath("target_path", request->target_path(), options_.mount_root));
    return Work(
        *context, ShownId(request->volume_id()), *request, response,
        [this](const pb::NodeUnpublishVolumeRequest& asked, pb::NodeUnpublishVolumeResponse*) {
          RETURN_IF_ERROR(host_.Unmount(asked.target_path()));
          RETURN_IF_ERROR(host_.RemoveTarget(asked.target_path()));
          spdlog::info("event=unpublished volume={} path={}", ShownId(asked.volume_id()),
                       asked.target_path());
          return absl::OkStatus();
        });
  });
}

}  // namespace keelson::csi
