#include "csi/node.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "csi/backend.h"
#include "csi/beneath.h"
#include "csi/call.h"
#include "csi/checks.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

constexpr std::chrono::seconds kBlockStorePatience(20);

}  // namespace

Node::Node(store::BlockStore::StubInterface* block_store, Host* host, VolumeWork* work,
           NodeOptions options)
    : block_store_(*block_store), host_(*host), work_(*work), options_(std::move(options)) {}

grpc::Status Node::NodeGetCapabilities(grpc::ServerContext* context,
                                       const pb::NodeGetCapabilitiesRequest* request,
                                       pb::NodeGetCapabilitiesResponse* response) {
  using Rpc = pb::NodeServiceCapability::RPC;
  return Call(*context, "NodeGetCapabilities", *request, [&] {
    for (const Rpc::Type type : {Rpc::STAGE_UNSTAGE_VOLUME, Rpc::GET_VOLUME_STATS,
                                 Rpc::EXPAND_VOLUME, Rpc::SINGLE_NODE_MULTI_WRITER}) {
      response->add_capabilities()->mutable_rpc()->set_type(type);
    }
    if (!options_.enable_alpha) return absl::OkStatus();
    for (const Rpc::Type type : {Rpc::GET_VOLUME_HEALTH, Rpc::GET_STORAGE_HEALTH}) {
      response->add_capabilities()->mutable_rpc()->set_type(type);
    }
    return absl::OkStatus();
  });
}

grpc::Status Node::NodeGetInfo(grpc::ServerContext* context, const pb::NodeGetInfoRequest* request,
                               pb::NodeGetInfoResponse* response) {
  return Call(*context, "NodeGetInfo", *request, [&] {
    response->set_node_id(options_.name);
    response->set_max_volumes_per_node(options_.volumes_max);
    for (const auto& [key, value] : options_.topology) {
      (*response->mutable_accessible_topology()->mutable_segments())[key] = value;
    }
    return absl::OkStatus();
  });
}

namespace {

// Of a volume on several nodes this one sees what it shows as a client, wherever the engine is.
void SeeThroughClient(store::GetVolumeStatusResponse* status) {
  const bool resuming = status->device().empty() && !status->device_warning().empty();
  status->set_size_bytes(status->remote().size_bytes());
  status->set_attached(status->size_bytes() > 0 && status->error().empty() && !resuming);
  if (status->attached() || !status->error().empty()) return;
  status->set_error(resuming ? status->device_warning() : status->remote().problem());
}

bool IsShownNowhere(const store::GetVolumeStatusResponse& status) {
  return status.uri().empty() && status.device().empty() && status.device_warning().empty();
}

}  // namespace

absl::StatusOr<store::GetVolumeStatusResponse> Node::Status(const std::string& volume_id) {
  const absl::Status not_here = absl::NotFoundError(absl::StrCat(
      "volume ", CanBeId(volume_id) ? volume_id : "with this volume_id",
      " is not attached on node ", options_.name, "; ControllerPublishVolume attaches it"));
  if (!CanBeId(volume_id)) return not_here;
  store::GetVolumeStatusRequest ask;
  ask.set_name(volume_id);
  store::GetVolumeStatusResponse answer;
  const auto context = ContextFor(kBlockStorePatience);
  const absl::Status status =
      BackendStatus(block_store_.GetVolumeStatus(context.get(), ask, &answer), "block store");
  if (absl::IsNotFound(status)) return not_here;
  RETURN_IF_ERROR(status);
  if (answer.has_remote()) {
    SeeThroughClient(&answer);
  } else if (answer.attached() && IsShownNowhere(answer)) {
    // An engine for the provisioner's own purposes, or for other nodes.
    return not_here;
  }
  return answer;
}

absl::StatusOr<Node::Served> Node::FindServed(const std::string& volume_id) {
  Served served;
  ASSIGN_OR_RETURN(served.status, Status(volume_id));
  if (!served.status.attached()) {
    return absl::UnavailableError(
        absl::StrCat("volume ", volume_id, " is not served on node ", options_.name,
                     " yet; try again. The block store says: ", served.status.error()));
  }
  if (served.status.device().empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume ", volume_id, " is attached on node ", options_.name,
        " without a block device; choose a 'frontend' in its StorageClass that makes one"));
  }
  ASSIGN_OR_RETURN(served.device, host_.FindDevice(served.status.device()));
  if (served.device.size_bytes > served.status.size_bytes()) {
    // It may have grown between the two looks.
    ASSIGN_OR_RETURN(served.status, Status(volume_id));
  }
  if (served.device.size_bytes > served.status.size_bytes()) {
    return absl::InternalError(absl::StrCat(
        "device ", served.device.path, " has ", served.device.size_bytes, " bytes and volume ",
        volume_id, " only ", served.status.size_bytes(), "; it is not touched"));
  }
  return served;
}

absl::StatusOr<Node::Served> Node::FindAt(const std::string& volume_id, const std::string& path,
                                          Mounted* mounted) {
  ASSIGN_OR_RETURN(Served served, FindServed(volume_id));
  const absl::Status not_there = absl::NotFoundError(
      absl::StrCat("volume ", volume_id, " is neither staged nor published at that volume_path"));
  // A path that cannot be is one where the volume is not.
  if (!CheckPath("volume_path", path, options_.mount_root).ok()) return not_there;
  ASSIGN_OR_RETURN(std::optional<Mounted> found, host_.MountedAt(path));
  if (!found.has_value() || found->device != served.device.number || !found->whole) {
    return not_there;
  }
  *mounted = *std::move(found);
  return served;
}

absl::Status Node::CheckAlpha() const {
  if (options_.enable_alpha) return absl::OkStatus();
  return absl::UnimplementedError(
      "alpha in this version of the specification; start keelson-csi with --enable-alpha for it");
}

}  // namespace keelson::csi
