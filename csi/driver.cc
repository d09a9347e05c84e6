#include "csi/driver.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "csi/backend.h"
#include "csi/controller.h"
#include "csi/group_controller.h"
#include "csi/identity.h"
#include "csi/kernel_host.h"
#include "csi/node.h"
#include "csi/registration.h"
#include "csi/snapshot_metadata.h"
#include "csi/status.h"
#include "proto/rpc/server.h"

namespace keelson::csi {
namespace {

constexpr std::chrono::seconds kProbePatience(2);

absl::Status ProbeProvisioner(control::Provisioner::StubInterface& provisioner) {
  control::ListNodesResponse response;
  const auto context = ContextFor(kProbePatience);
  return BackendStatus(provisioner.ListNodes(context.get(), control::ListNodesRequest(), &response),
                       "provisioner");
}

absl::Status ProbeBlockStore(store::BlockStore::StubInterface& block_store) {
  store::GetNodeResponse response;
  const auto context = ContextFor(kProbePatience);
  return BackendStatus(block_store.GetNode(context.get(), store::GetNodeRequest(), &response),
                       "block store");
}

control::RegisterNodeRequest RegistrationOf(const Options& options) {
  control::RegisterNodeRequest request;
  request.set_name(options.node);
  request.set_address(options.advertise);
  request.set_volumes_max(options.volumes_max);
  for (const auto& [key, value] : options.topology) (*request.mutable_topology())[key] = value;
  return request;
}

}  // namespace

// In the order in which they are made; each uses those above it.
struct Driver::Parts {
  std::unique_ptr<control::Provisioner::StubInterface> provisioner;
  std::unique_ptr<store::BlockStore::StubInterface> block_store;
  std::unique_ptr<KernelHost> host;
  VolumeWork work;
  std::unique_ptr<Identity> identity;
  std::unique_ptr<Controller> controller;
  std::unique_ptr<GroupController> group_controller;
  std::unique_ptr<SnapshotMetadata> snapshot_metadata;
  std::unique_ptr<Node> node;
  std::unique_ptr<rpc::Server> server;
  std::unique_ptr<Registration> registration;
};

Driver::Driver(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Driver::~Driver() = default;

absl::StatusOr<std::unique_ptr<Driver>> Driver::Start(const Options& options) {
  auto parts = std::make_unique<Parts>();
  std::vector<grpc::Service*> services;
  ASSIGN_OR_RETURN(const auto provisioner, OpenBackend(options.provisioner));
  parts->provisioner = control::Provisioner::NewStub(provisioner);
  if (options.HasController()) {
    parts->controller =
        std::make_unique<Controller>(parts->provisioner.get(), options.enable_alpha);
    parts->group_controller = std::make_unique<GroupController>(parts->provisioner.get());
    parts->snapshot_metadata =
        std::make_unique<SnapshotMetadata>(parts->provisioner.get(), options.enable_alpha);
    services = {parts->controller.get(), parts->group_controller.get(),
                parts->snapshot_metadata.get()};
  }
  if (options.HasNode()) {
    ASSIGN_OR_RETURN(const auto block_store, OpenBackend(options.block_store));
    parts->block_store = store::BlockStore::NewStub(block_store);
    ASSIGN_OR_RETURN(parts->host, KernelHost::Open(options.mount_root));
    NodeOptions node;
    node.name = options.node;
    node.topology = options.topology;
    node.volumes_max = options.volumes_max;
    node.mount_root = options.mount_root;
    node.enable_alpha = options.enable_alpha;
    parts->node = std::make_unique<Node>(parts->block_store.get(), parts->host.get(), &parts->work,
                                         std::move(node));
    services.push_back(parts->node.get());
  }
  Parts* const raw = parts.get();
  parts->identity = std::make_unique<Identity>(
      options.driver_name, KEELSON_VERSION, options.enable_alpha, [raw]() -> absl::Status {
        if (raw->controller != nullptr) RETURN_IF_ERROR(ProbeProvisioner(*raw->provisioner));
        if (raw->node != nullptr) RETURN_IF_ERROR(ProbeBlockStore(*raw->block_store));
        return absl::OkStatus();
      });
  services.push_back(parts->identity.get());
  ASSIGN_OR_RETURN(parts->server, rpc::Server::Start(options.endpoint, services));
  parts->server->SetServing(true);
  if (options.HasNode()) {
    parts->registration =
        std::make_unique<Registration>(parts->provisioner.get(), RegistrationOf(options));
  }
  spdlog::info("event=listening endpoint={} driver={} version={}", options.endpoint,
               options.driver_name, KEELSON_VERSION);
  return std::unique_ptr<Driver>(new Driver(std::move(parts)));
}

bool Driver::Stop(std::chrono::milliseconds patience) {
  parts_->registration.reset();
  parts_->server->Shutdown(patience);
  return parts_->work.WaitIdle(patience);
}

}  // namespace keelson::csi
