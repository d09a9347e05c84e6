#pragma once
// Node: the node service of the specification. Which volumes are here and by which device, it asks
// the local block store; what is staged and published where, the kernel's mount table (Host). It
// remembers nothing itself, so it can be killed at any moment and repeated calls go on.
//
// A volume is staged by mounting its file system, once for a node, and published by a bind mount of
// that; a raw volume is published by a bind mount of its device node. Called on gRPC's threads.

#include <grpcpp/server_context.h>

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "csi/host.h"
#include "csi/names.h"
#include "csi/volume_work.h"
#include "proto/csi/v1/csi.grpc.pb.h"
#include "proto/keelson/v1/blockstore.grpc.pb.h"

namespace keelson::csi {

struct NodeOptions {
  std::string name;  // what ControllerPublishVolume calls the node
  std::map<std::string, std::string> topology;
  std::uint32_t volumes_max = 0;  // 0: the caller decides
  std::string mount_root;         // staging and target paths are below it
  bool enable_alpha = false;
};

class Node final : public pb::Node::Service {
 public:
  // The others outlive this and all work.
  Node(store::BlockStore::StubInterface* block_store, Host* host, VolumeWork* work,
       NodeOptions options);

  // node.cc
  grpc::Status NodeGetCapabilities(grpc::ServerContext* context,
                                   const pb::NodeGetCapabilitiesRequest* request,
                                   pb::NodeGetCapabilitiesResponse* response) override;
  grpc::Status NodeGetInfo(grpc::ServerContext* context, const pb::NodeGetInfoRequest* request,
                           pb::NodeGetInfoResponse* response) override;

  // node_stage.cc
  grpc::Status NodeStageVolume(grpc::ServerContext* context,
                               const pb::NodeStageVolumeRequest* request,
                               pb::NodeStageVolumeResponse* response) override;
  grpc::Status NodeUnstageVolume(grpc::ServerContext* context,
                                 const pb::NodeUnstageVolumeRequest* request,
                                 pb::NodeUnstageVolumeResponse* response) override;

  // node_publish.cc
  grpc::Status NodePublishVolume(grpc::ServerContext* context,
                                 const pb::NodePublishVolumeRequest* request,
                                 pb::NodePublishVolumeResponse* response) override;
  grpc::Status NodeUnpublishVolume(grpc::ServerContext* context,
                                   const pb::NodeUnpublishVolumeRequest* request,
                                   pb::NodeUnpublishVolumeResponse* response) override;

  // node_size.cc
  grpc::Status NodeGetVolumeStats(grpc::ServerContext* context,
                                  const pb::NodeGetVolumeStatsRequest* request,
                                  pb::NodeGetVolumeStatsResponse* response) override;
  grpc::Status NodeExpandVolume(grpc::ServerContext* context,
                                const pb::NodeExpandVolumeRequest* request,
                                pb::NodeExpandVolumeResponse* response) override;

  // node_health.cc
  grpc::Status NodeGetVolumeHealth(grpc::ServerContext* context,
                                   const pb::NodeGetVolumeHealthRequest* request,
                                   pb::NodeGetVolumeHealthResponse* response) override;
  grpc::Status NodeGetStorageHealth(grpc::ServerContext* context,
                                    const pb::NodeGetStorageHealthRequest* request,
                                    pb::NodeGetStorageHealthResponse* response) override;

 private:
  // A volume that the block store serves on this node.
  struct Served {
    store::GetVolumeStatusResponse status;
    Device device;
  };

  // NOT_FOUND: not attached here. UNAVAILABLE: it is to be and is not served yet.
  absl::StatusOr<store::GetVolumeStatusResponse> Status(const std::string& volume_id);
  absl::StatusOr<Served> FindServed(const std::string& volume_id);
  // Served, and the file system or device node that is mounted at `path`; else NOT_FOUND.
  absl::StatusOr<Served> FindAt(const std::string& volume_id, const std::string& path,
                                Mounted* mounted);

  absl::Status Stage(const pb::NodeStageVolumeRequest& request);
  absl::Status StageFilesystem(const pb::NodeStageVolumeRequest& request, const Served& served,
                               const MountOptions& options);
  // What is on the device, made if there is nothing, checked. Its size, 0 if not known.
  absl::StatusOr<Signature> Prepare(const Served& served, const std::string& volume_id,
                                    const std::string& fs_type, bool read_only);
  absl::Status Unstage(const pb::NodeUnstageVolumeRequest& request);
  absl::Status Publish(const pb::NodePublishVolumeRequest& request);
  absl::Status PublishFilesystem(const pb::NodePublishVolumeRequest& request, const Served& served);
  absl::Status PublishBlock(const pb::NodePublishVolumeRequest& request, const Served& served);
  absl::Status Stats(const pb::NodeGetVolumeStatsRequest& request,
                     pb::NodeGetVolumeStatsResponse* response);
  absl::Status Expand(const pb::NodeExpandVolumeRequest& request,
                      pb::NodeExpandVolumeResponse* response);
  absl::Status CheckAlpha() const;

  // Runs `body`(request, response) as VolumeWork does, on copies that outlive the call.
  template <class Request, class Response, class Body>
  absl::Status Work(const grpc::ServerContext& context, const std::string& key,
                    const Request& request, Response* response, Body body) {
    auto asked = std::make_shared<Request>(request);
    auto answer = std::make_shared<Response>();
    const absl::Status status =
        work_.Run(context, key, [asked, answer, body] { return body(*asked, answer.get()); });
    if (status.ok()) *response = std::move(*answer);
    return status;
  }

  store::BlockStore::StubInterface& block_store_;
  Host& host_;
  VolumeWork& work_;
  const NodeOptions options_;
};

}  // namespace keelson::csi
