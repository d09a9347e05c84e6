#include "csi/identity.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "csi/call.h"

namespace keelson::csi {

Identity::Identity(std::string driver_name, std::string version,
                   std::function<absl::Status()> probe)
    : driver_name_(std::move(driver_name)),
      version_(std::move(version)),
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
  return Call(*context, "GetPluginCapabilities", *request, [&] {
    for (const auto type : {pb::PluginCapability::Service::CONTROLLER_SERVICE,
                            pb::PluginCapability::Service::VOLUME_ACCESSIBILITY_CONSTRAINTS,
                            pb::PluginCapability::Service::GROUP_CONTROLLER_SERVICE}) {
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
