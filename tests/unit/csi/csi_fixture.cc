#include "tests/unit/csi/csi_fixture.h"

#include <chrono>

namespace keelson::csi {

CsiTest::CsiTest(bool enable_alpha) {
  grpc::ServerBuilder backend;
  backend.RegisterService(&cluster_);
  backend.RegisterService(&cluster_.block_store);
  backend_ = backend.BuildAndStart();
  const auto channel = backend_->InProcessChannel(grpc::ChannelArguments());
  provisioner_ = control::Provisioner::NewStub(channel);
  block_store_ = store::BlockStore::NewStub(channel);

  identity_ = std::make_unique<Identity>("csi.keelson.io", "1", enable_alpha, [this] {
    store::GetNodeResponse response;
    grpc::ClientContext context;
    const grpc::Status status = block_store_->GetNode(&context, store::GetNodeRequest(), &response);
    return status.ok() ? absl::OkStatus() : absl::UnavailableError("away");
  });
  controller_ = std::make_unique<Controller>(provisioner_.get(), enable_alpha);
  group_controller_ = std::make_unique<GroupController>(provisioner_.get());
  snapshot_metadata_ = std::make_unique<SnapshotMetadata>(provisioner_.get(), enable_alpha);
  NodeOptions options;
  options.name = "node-a";
  options.topology = {{"topology.keelson.io/node", "node-a"}, {"topology.keelson.io/zone", "z"}};
  options.volumes_max = 8;
  options.mount_root = kRoot;
  options.enable_alpha = enable_alpha;
  node_ = std::make_unique<Node>(block_store_.get(), &host_, &work_, options);
  grpc::ServerBuilder driver;
  driver.RegisterService(identity_.get());
  driver.RegisterService(controller_.get());
  driver.RegisterService(group_controller_.get());
  driver.RegisterService(snapshot_metadata_.get());
  driver.RegisterService(node_.get());
  driver_ = driver.BuildAndStart();
  const auto client = driver_->InProcessChannel(grpc::ChannelArguments());
  identity_stub_ = pb::Identity::NewStub(client);
  controller_stub_ = pb::Controller::NewStub(client);
  group_stub_ = pb::GroupController::NewStub(client);
  metadata_stub_ = pb::SnapshotMetadata::NewStub(client);
  node_stub_ = pb::Node::NewStub(client);

  control::RegisterNodeRequest node;
  node.set_name("node-a");
  control::RegisterNodeResponse response;
  grpc::ClientContext context;
  EXPECT_TRUE(provisioner_->RegisterNode(&context, node, &response).ok());
}

CsiTest::~CsiTest() {
  driver_->Shutdown(std::chrono::system_clock::now());
  EXPECT_TRUE(work_.WaitIdle(std::chrono::seconds(30)));
  backend_->Shutdown(std::chrono::system_clock::now());
}

pb::VolumeCapability CsiTest::Mount(Mode::Mode mode, const std::string& fs_type) {
  pb::VolumeCapability capability;
  capability.mutable_mount()->set_fs_type(fs_type);
  capability.mutable_access_mode()->set_mode(mode);
  return capability;
}

pb::VolumeCapability CsiTest::Block(Mode::Mode mode) {
  pb::VolumeCapability capability;
  capability.mutable_block();
  capability.mutable_access_mode()->set_mode(mode);
  return capability;
}

pb::CreateVolumeRequest CsiTest::CreateRequest(const std::string& name, std::int64_t required,
                                               std::int64_t limit) {
  pb::CreateVolumeRequest request;
  request.set_name(name);
  *request.add_volume_capabilities() = Mount(Mode::SINGLE_NODE_MULTI_WRITER);
  if (required != 0) request.mutable_capacity_range()->set_required_bytes(required);
  if (limit != 0) request.mutable_capacity_range()->set_limit_bytes(limit);
  return request;
}

grpc::Status CsiTest::Create(const pb::CreateVolumeRequest& request) {
  created_.Clear();
  return Ask(*controller_stub_, &pb::Controller::Stub::CreateVolume, request, &created_);
}

std::string CsiTest::Attach(const std::string& name, const pb::VolumeCapability& capability,
                            bool readonly) {
  EXPECT_TRUE(Create(CreateRequest(name, kGib)).ok());
  const std::string id = created_.volume().volume_id();
  pb::ControllerPublishVolumeRequest request;
  request.set_volume_id(id);
  request.set_node_id("node-a");
  request.set_readonly(readonly);
  *request.mutable_volume_capability() = capability;
  const grpc::Status status = Ask(*controller_stub_, &pb::Controller::Stub::ControllerPublishVolume,
                                  request, &published_[id]);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return id;
}

pb::NodeStageVolumeRequest CsiTest::StageRequest(const std::string& id,
                                                 const pb::VolumeCapability& capability) {
  pb::NodeStageVolumeRequest request;
  request.set_volume_id(id);
  request.set_staging_target_path(kStaging);
  *request.mutable_volume_capability() = capability;
  *request.mutable_publish_context() = published_[id].publish_context();
  return request;
}

grpc::Status CsiTest::Stage(const pb::NodeStageVolumeRequest& request) {
  pb::NodeStageVolumeResponse response;
  return Ask(*node_stub_, &pb::Node::Stub::NodeStageVolume, request, &response);
}

std::string CsiTest::AttachAndStage(const std::string& name,
                                    const pb::VolumeCapability& capability) {
  const std::string id = Attach(name, capability);
  const grpc::Status status = Stage(StageRequest(id, capability));
  EXPECT_TRUE(status.ok()) << status.error_message();
  return id;
}

grpc::Status CsiTest::Unstage(const std::string& id) {
  pb::NodeUnstageVolumeRequest request;
  request.set_volume_id(id);
  request.set_staging_target_path(kStaging);
  pb::NodeUnstageVolumeResponse response;
  return Ask(*node_stub_, &pb::Node::Stub::NodeUnstageVolume, request, &response);
}

pb::NodePublishVolumeRequest CsiTest::PublishRequest(const std::string& id,
                                                     const pb::VolumeCapability& capability,
                                                     const std::string& target) {
  pb::NodePublishVolumeRequest request;
  request.set_volume_id(id);
  request.set_staging_target_path(kStaging);
  request.set_target_path(target);
  *request.mutable_volume_capability() = capability;
  *request.mutable_publish_context() = published_[id].publish_context();
  return request;
}

grpc::Status CsiTest::Publish(const pb::NodePublishVolumeRequest& request) {
  pb::NodePublishVolumeResponse response;
  return Ask(*node_stub_, &pb::Node::Stub::NodePublishVolume, request, &response);
}

grpc::Status CsiTest::Unpublish(const std::string& id, const std::string& target) {
  pb::NodeUnpublishVolumeRequest request;
  request.set_volume_id(id);
  request.set_target_path(target);
  pb::NodeUnpublishVolumeResponse response;
  return Ask(*node_stub_, &pb::Node::Stub::NodeUnpublishVolume, request, &response);
}

}  // namespace keelson::csi
