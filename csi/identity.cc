#include "csi/identity.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "csi/call.h"

namespace keelson::csi {

Identity::Identity(std::string driver_name, std::string version, bool enable_alpha,
                   std::function<absl::Status()> probe)
    : driver_name_(std::move(driver_name)),
      version_(std::move(version)),
      enable_alpha_(enable_alpha),
      probe_(std::move(probe)) {}

grpc::Status Identity::GetPluginInfo(grpc::ServerContext* context,
                                     const pb::GetPluginInfoRequest* request,
                                     pb::GetPluginInfoResponse* response) {
  return Call(*context, "GetPluginInfo", *request, [&] {
    response->set_name(driver_name_);
    response->set_vendor_version(version_);
    return absl::OkStatus();
  });
}

grpc::Status Identity::GetPluginCapabilities(grpc::ServerContext* context,
                                             const pb::GetPluginCapabilitiesRequest* request,
                                             pb::GetPluginCapabilitiesResponse* response) {
  using PluginService = pb::PluginCapability::Service;
  return Call(*context, "GetPluginCapabilities", *request, [&] {
    for (const PluginService::Type type :
         {PluginService::CONTROLLER_SERVICE, PluginService::VOLUME_ACCESSIBILITY_CONSTRAINTS,
          PluginService::GROUP_CONTROLLER_SERVICE, PluginService::SNAPSHOT_METADATA_SERVICE}) {
      if (type == PluginService::SNAPSHOT_METADATA_SERVICE && !enable_alpha_) continue;
      response->add_capabilities()->mutable_service()->set_type(type);
    }
    response->add_capabilities()->mutable_volume_expansion()->set_type(
        pb::PluginCapability::VolumeExpansion::ONLINE);
    return absl::OkStatus();
  });
}

grpc::Status Identity::Probe(grpc::ServerContext* context, const pb::ProbeRequest* request,
                             pb::ProbeResponse* response) {
  return Call(*context, "Probe", *request, [&] {
    const absl::Status ready = probe_();
    if (!ready.ok()) {
      spdlog::warn("event=not-ready reason=\"{}\"", std::string(ready.message()));
    }
    response->mutable_ready()->set_value(ready.ok());
    return absl::OkStatus();
  });
}

}  // namespace keelson::csi
