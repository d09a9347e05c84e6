// Node: limits of what the clients of a volume may ask for. They are remembered by the volume's
// name (NodeState), until it is detached, and every engine that comes to serve it begins with them.

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/names.h"
#include "blockstore/service/node.h"

namespace keelson::service {
namespace {

// Less would keep one request of a client waiting for minutes.
constexpr std::uint64_t kBandwidthMin = std::uint64_t{64} << 10;

absl::StatusOr<engine::QosLimits> ParseQos(const v1::Qos& qos) {
  engine::QosLimits limits;
  limits.iops = qos.iops();
  limits.bytes_per_second = qos.bandwidth_bytes_per_second();
  if (limits.bytes_per_second == 0 || limits.bytes_per_second >= kBandwidthMin) return limits;
  return absl::InvalidArgumentError(
      absl::StrCat("bandwidth_bytes_per_second is 0 (no limit) or at least ", kBandwidthMin,
                   ", not ", limits.bytes_per_second));
}

}  // namespace

absl::Status Node::RememberQos(const std::string& name, const engine::QosLimits& limits) {
  return state_.SetQos(name, limits);
}

void Node::ApplyQos(const std::string& name, const engine::QosLimits& limits) {
  if (Shard* const shard = AttachedOn(name); shard != nullptr) {
    shard->thread().Run([shard, &name, &limits] { shard->volumes().SetQos(name, limits); });
  } else if (const absl::StatusOr<Slot*> slot = FindVolume(name); slot.ok()) {
    (*slot)->shard->thread().Run([&slot, &name, &limits] { (*slot)->host->SetQos(name, limits); });
  }
}

absl::Status Node::AttachVolume(const v1::AttachVolumeRequest& request,
                                v1::AttachVolumeResponse* response) {
  RETURN_IF_ERROR(Ready());
  const std::string& name = request.name();
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockDevice(name, "attach volume"));
  if (!request.has_qos()) return AttachWithFrontend(request, response);
  ASSIGN_OR_RETURN(const engine::QosLimits limits, ParseQos(request.qos()));
  RETURN_IF_ERROR(replica::CheckName("volume", name));
  // Durable first: an attachment that a crash leaves to be resumed has them.
  const engine::QosLimits before = state_.FindQos(name);
  RETURN_IF_ERROR(RememberQos(name, limits));
  if (absl::Status attached = AttachWithFrontend(request, response); !attached.ok()) {
    RETURN_IF_ERROR(RememberQos(name, before));
    return attached;
  }
  ApplyQos(name, limits);
  return absl::OkStatus();
}

absl::Status Node::SetQos(const v1::SetQosRequest& request, v1::SetQosResponse*) {
  RETURN_IF_ERROR(Ready());
  const std::string& name = request.volume();
  ASSIGN_OR_RETURN(const engine::QosLimits limits, ParseQos(request.qos()));
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockDevice(name, "set qos"));
  ASSIGN_OR_RETURN(const ChangeLock::Guard resuming, LockVolume(name, "set qos"));
  if (ServingShard(name) == nullptr && !state_.FindAttachment(name)) {
    return absl::NotFoundError(absl::StrCat("volume '", name, "' is not attached on this node"));
  }
  RETURN_IF_ERROR(RememberQos(name, limits));
  ApplyQos(name, limits);
  KEEL_LOG_INFO("event=qos_set volume={} iops={} bytes_per_second={}", name, limits.iops,
                limits.bytes_per_second);
  return absl::OkStatus();
}

}  // namespace keelson::service
