#pragma once
// CsiTest: all services of the driver on an in-process server, with a FakeCluster behind them on
// another and a FakeHost below. One volume can be made, published, staged in one line each.

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "csi/controller.h"
#include "csi/group_controller.h"
#include "csi/identity.h"
#include "csi/node.h"
#include "csi/snapshot_metadata.h"
#include "tests/unit/csi/fake_cluster.h"
#include "tests/unit/csi/fake_host.h"

namespace keelson::csi {

using Mode = pb::VolumeCapability::AccessMode;

class CsiTest : public ::testing::Test {
 protected:
  explicit CsiTest(bool enable_alpha = false);
  ~CsiTest() override;

  static pb::VolumeCapability Mount(Mode::Mode mode, const std::string& fs_type = "");
  static pb::VolumeCapability Block(Mode::Mode mode);

  // One call; its answer is in `response`.
  template <class Stub, class Request, class Response>
  grpc::Status Ask(Stub& stub,
                   grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                   const Request& request, Response* response) {
    grpc::ClientContext context;
    return (stub.*method)(&context, request, response);
  }

  pb::CreateVolumeRequest CreateRequest(const std::string& name, std::int64_t required = 0,
                                        std::int64_t limit = 0);
  grpc::Status Create(const pb::CreateVolumeRequest& request);
  // Makes a volume of 1 GiB and publishes it on this node; its id.
  std::string Attach(const std::string& name, const pb::VolumeCapability& capability,
                     bool readonly = false);

  pb::NodeStageVolumeRequest StageRequest(const std::string& id,
                                          const pb::VolumeCapability& capability);
  grpc::Status Stage(const pb::NodeStageVolumeRequest& request);
  // Attaches and stages; its id.
  std::string AttachAndStage(const std::string& name, const pb::VolumeCapability& capability);
  grpc::Status Unstage(const std::string& id);
  pb::NodePublishVolumeRequest PublishRequest(const std::string& id,
                                              const pb::VolumeCapability& capability,
                                              const std::string& target);
  grpc::Status Publish(const pb::NodePublishVolumeRequest& request);
  grpc::Status Unpublish(const std::string& id, const std::string& target);

  FakeHost::Disk& DiskOf(const std::string& id) { return host_.DiskAt("/dev/" + id); }

  Disks disks_;
  FakeCluster cluster_{&disks_};
  FakeHost host_;
  VolumeWork work_;
  std::unique_ptr<grpc::Server> backend_;
  std::unique_ptr<control::Provisioner::Stub> provisioner_;
  std::unique_ptr<store::BlockStore::Stub> block_store_;
  std::unique_ptr<Identity> identity_;
  std::unique_ptr<Controller> controller_;
  std::unique_ptr<GroupController> group_controller_;
  std::unique_ptr<SnapshotMetadata> snapshot_metadata_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<grpc::Server> driver_;

  // The driver as its callers see it.
  std::unique_ptr<pb::Identity::Stub> identity_stub_;
  std::unique_ptr<pb::Controller::Stub> controller_stub_;
  std::unique_ptr<pb::GroupController::Stub> group_stub_;
  std::unique_ptr<pb::SnapshotMetadata::Stub> metadata_stub_;
  std::unique_ptr<pb::Node::Stub> node_stub_;

  pb::CreateVolumeResponse created_;
  std::map<std::string, pb::ControllerPublishVolumeResponse> published_;
};

constexpr char kRoot[] = "/pods";
constexpr char kStaging[] = "/pods/staging/globalmount";
constexpr char kTarget[] = "/pods/a/mount";
constexpr char kOtherTarget[] = "/pods/b/mount";
constexpr std::int64_t kGib = std::int64_t{1} << 30;

}  // namespace keelson::csi
