// NodeGetVolumeHealth and NodeGetStorageHealth (alpha): what the local block store says.

#include <chrono>
#include <string>

#include "absl/strings/str_cat.h"
#include "csi/backend.h"
#include "csi/call.h"
#include "csi/checks.h"
#include "csi/node.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

constexpr std::chrono::seconds kBlockStorePatience(10);

// One entry for each pair of status and reason, as the specification has it: the first message
// stays.
void AddStatus(pb::VolumeHealthErrorType status, const std::string& reason,
               const std::string& message, pb::VolumeHealth* health) {
  for (const pb::VolumeHealth::HealthStatus& each : health->health_statuses()) {
    if (each.status() == status && each.reason() == reason) return;
  }
  pb::VolumeHealth::HealthStatus& entry = *health->add_health_statuses();
  entry.set_status(status);
  entry.set_reason(reason);
  entry.set_message(message);
}

void AddSegment(const store::SegmentStatus& segment, pb::VolumeHealth* health) {
  if (!segment.error().empty()) {
    AddStatus(pb::INACCESSIBLE, "AttachmentEnded", segment.error(), health);
  }
  if (!segment.waiting_for().empty()) {
    AddStatus(pb::INACCESSIBLE, "Waiting", segment.waiting_for(), health);
  }
  for (const store::MemberStatus& member : segment.members()) {
    if (member.member().witness() || member.problem().empty()) continue;
    AddStatus(pb::DEGRADED, "CopiesMissing", member.problem(), health);
  }
}

}  // namespace

grpc::Status Node::NodeGetVolumeHealth(grpc::ServerContext* context,
                                       const pb::NodeGetVolumeHealthRequest* request,
                                       pb::NodeGetVolumeHealthResponse* response) {
  return Call(*context, "NodeGetVolumeHealth", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckAlpha());
    RETURN_IF_ERROR(CheckPresent("volume_id", request->volume_id()));
    ASSIGN_OR_RETURN(const store::GetVolumeStatusResponse status, Status(request->volume_id()));
    pb::VolumeHealth& health = *response->mutable_volume_health();
    health.set_volume_id(request->volume_id());
    if (!status.attached()) AddStatus(pb::INACCESSIBLE, "NotServed", status.error(), &health);
    if (status.attached() && !status.remote().problem().empty()) {
      AddStatus(pb::INACCESSIBLE, "EngineNotReached", status.remote().problem(), &health);
    }
    for (const store::SegmentStatus& segment : status.segments()) AddSegment(segment, &health);
    return absl::OkStatus();
  });
}

grpc::Status Node::NodeGetStorageHealth(grpc::ServerContext* context,
                                        const pb::NodeGetStorageHealthRequest* request,
                                        pb::NodeGetStorageHealthResponse* response) {
  return Call(*context, "NodeGetStorageHealth", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckAlpha());
    store::GetNodeResponse answer;
    const auto ask = ContextFor(*context, kBlockStorePatience);
    const absl::Status status = BackendStatus(
        block_store_.GetNode(ask.get(), store::GetNodeRequest(), &answer), "block store");
    if (!status.ok()) {
      pb::StorageHealth& health = *response->add_backend_health();
      health.set_status(pb::STORAGE_UNREACHABLE);
      health.set_reason("BlockStoreNotReachable");
      health.set_message(std::string(status.message()));
      return absl::OkStatus();
    }
    for (const store::Pool& pool : answer.pools()) {
      if (pool.error().empty()) continue;
      pb::StorageHealth& health = *response->add_backend_health();
      health.set_status(pb::STORAGE_DEGRADED);
      health.set_reason("PoolFailed");
      health.set_message(absl::StrCat("pool ", pool.directory(), ": ", pool.error()));
      break;
    }
    return absl::OkStatus();
  });
}

}  // namespace keelson::csi
