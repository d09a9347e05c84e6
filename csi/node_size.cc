// NodeGetVolumeStats and NodeExpandVolume.

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "csi/beneath.h"
#include "csi/call.h"
#include "csi/checks.h"
#include "csi/node.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

void AddUsage(pb::VolumeUsage::Unit unit, std::uint64_t total, std::uint64_t available,
              std::uint64_t used, pb::NodeGetVolumeStatsResponse* response) {
  pb::VolumeUsage& usage = *response->add_usage();
  usage.set_unit(unit);
  usage.set_total(static_cast<std::int64_t>(total));
  usage.set_available(static_cast<std::int64_t>(available));
  usage.set_used(static_cast<std::int64_t>(used));
}

}  // namespace

grpc::Status Node::NodeGetVolumeStats(grpc::ServerContext* context,
                                      const pb::NodeGetVolumeStatsRequest* request,
                                      pb::NodeGetVolumeStatsResponse* response) {
  return Call(*context, "NodeGetVolumeStats", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPresent("volume_id", request->volume_id()));
    RETURN_IF_ERROR(CheckPresent("volume_path", request->volume_path()));
    // A key of its own: a question that hangs does not keep the volume from being unpublished.
    return Work(*context, absl::StrCat("the statistics of ", ShownId(request->volume_id())),
                *request, response,
                [this](const pb::NodeGetVolumeStatsRequest& asked,
                       pb::NodeGetVolumeStatsResponse* answer) { return Stats(asked, answer); });
  });
}

absl::Status Node::Stats(const pb::NodeGetVolumeStatsRequest& request,
                         pb::NodeGetVolumeStatsResponse* response) {
  Mounted mounted;
  ASSIGN_OR_RETURN(const Served served,
                   FindAt(request.volume_id(), request.volume_path(), &mounted));
  if (mounted.block) {
    pb::VolumeUsage& usage = *response->add_usage();
    usage.set_unit(pb::VolumeUsage::BYTES);
    usage.set_total(static_cast<std::int64_t>(served.device.size_bytes));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const Usage usage, host_.GetUsage(request.volume_path()));
  AddUsage(pb::VolumeUsage::BYTES, usage.bytes_total, usage.bytes_available, usage.bytes_used,
           response);
  AddUsage(pb::VolumeUsage::INODES, usage.inodes_total, usage.inodes_available,
           usage.inodes_total - std::min(usage.inodes_total, usage.inodes_available), response);
  return absl::OkStatus();
}

grpc::Status Node::NodeExpandVolume(grpc::ServerContext* context,
                                    const pb::NodeExpandVolumeRequest* request,
                                    pb::NodeExpandVolumeResponse* response) {
  return Call(*context, "NodeExpandVolume", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPresent("volume_id", request->volume_id()));
    RETURN_IF_ERROR(CheckPresent("volume_path", request->volume_path()));
    if (request->has_capacity_range()) {
      RETURN_IF_ERROR(CheckCapacityRange(request->capacity_range()));
    }
    if (request->has_volume_capability()) {
      RETURN_IF_ERROR(CheckCapability(request->volume_capability()));
    }
    return Work(*context, ShownId(request->volume_id()), *request, response,
                [this](const pb::NodeExpandVolumeRequest& asked,
                       pb::NodeExpandVolumeResponse* answer) { return Expand(asked, answer); });
  });
}

absl::Status Node::Expand(const pb::NodeExpandVolumeRequest& request,
                          pb::NodeExpandVolumeResponse* response) {
  Mounted mounted;
  ASSIGN_OR_RETURN(const Served served,
                   FindAt(request.volume_id(), request.volume_path(), &mounted));
  const Device& device = served.device;
  const auto required = static_cast<std::uint64_t>(request.capacity_range().required_bytes());
  if (required > served.status.size_bytes()) {
    return absl::OutOfRangeError(absl::StrCat("volume ", request.volume_id(), " has ",
                                              served.status.size_bytes(), " bytes and not ",
                                              required, "; ControllerExpandVolume comes first"));
  }
  if (required > device.size_bytes) {
    return absl::UnavailableError(absl::StrCat("device ", device.path,
                                               " does not show the new "
                                               "size yet; try again"));
  }
  if (!mounted.block) {
    if (mounted.fs_read_only) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", request.volume_id(),
                       " is staged read-only; its file system grows when it is next staged for "
                       "writing"));
    }
    RETURN_IF_ERROR(host_.Grow(device, mounted.fs_type, request.volume_path()));
  }
  response->set_capacity_bytes(static_cast<std::int64_t>(device.size_bytes));
  return absl::OkStatus();
}

}  // namespace keelson::csi
