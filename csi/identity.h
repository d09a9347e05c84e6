#pragma once
// Identity: who the driver is, what it can do, and whether it is ready. On every endpoint; the
// answers are the same in every mode, as one driver's instances must agree. Called on gRPC's
// threads; has no state that changes.

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "csi/names.h"
#include "proto/csi/v1/csi.grpc.pb.h"

namespace keelson::csi {

class Identity final : public pb::Identity::Service {
 public:
  // Without `enable_alpha`, SnapshotMetadata is not advertised. `probe` asks the programs behind
  // the driver whether they are there, briefly; called on gRPC's threads.
  Identity(std::string driver_name, std::string version, bool enable_alpha,
           std::function<absl::Status()> probe);

  grpc::Status GetPluginInfo(grpc::ServerContext* context, const pb::GetPluginInfoRequest* request,
                             pb::GetPluginInfoResponse* response) override;
  grpc::Status GetPluginCapabilities(grpc::ServerContext* context,
                                     const pb::GetPluginCapabilitiesRequest* request,
                                     pb::GetPluginCapabilitiesResponse* response) override;
  // Not ready, rather than an error, while what is behind the driver does not answer: it is the
  // other program that must come back, and restarting this one helps nobody.
  grpc::Status Probe(grpc::ServerContext* context, const pb::ProbeRequest* request,
                     pb::ProbeResponse* response) override;

 private:
  const std::string driver_name_;
  const std::string version_;
  const bool enable_alpha_;
  const std::function<absl::Status()> probe_;
};

}  // namespace keelson::csi
