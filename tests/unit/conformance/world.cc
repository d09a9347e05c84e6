#include "tests/unit/conformance/world.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "provisioner/service/provisioner_service.h"

namespace keelson::csi {
namespace {

constexpr std::uint64_t kPoolBytes = std::uint64_t{400} << 30;
constexpr std::int64_t kSecond = 1'000'000'000;

std::unique_ptr<grpc::Server> Serve(std::initializer_list<grpc::Service*> services) {
  grpc::ServerBuilder builder;
  for (grpc::Service* const service : services) builder.RegisterService(service);
  return builder.BuildAndStart();
}

}  // namespace

// The store as programs have it: they end before any of their writes.
class World::FusedStore final : public provisioner::ClusterStore {
 public:
  FusedStore(provisioner::MemoryStore* store, Fuse* fuse) : store_(*store), fuse_(*fuse) {}

  absl::StatusOr<provisioner::Record> Get(provisioner::Kind kind, std::string_view key) override {
    if (absl::Status status = fuse_.Ask(); !status.ok()) return status;
    return store_.Get(kind, key);
  }
  absl::StatusOr<provisioner::Listing> List(provisioner::Kind kind) override {
    if (absl::Status status = fuse_.Ask(); !status.ok()) return status;
    return store_.List(kind);
  }
  absl::StatusOr<std::uint64_t> Put(provisioner::Kind kind, std::string_view key,
                                    std::string_view value, std::uint64_t expected) override {
    if (absl::Status status = fuse_.Event("Put"); !status.ok()) return status;
    return store_.Put(kind, key, value, expected);
  }
  absl::Status Delete(provisioner::Kind kind, std::string_view key,
                      std::uint64_t expected) override {
    if (absl::Status status = fuse_.Event("Delete"); !status.ok()) return status;
    return store_.Delete(kind, key, expected);
  }
  std::unique_ptr<Watcher> Watch(
      std::function<void(const provisioner::Change&)> callback) override {
    return store_.Watch(std::move(callback));
  }

 private:
  provisioner::MemoryStore& store_;
  Fuse& fuse_;
};

World::World() : fused_store_(std::make_unique<FusedStore>(&store_, &fuse_)) {
  nodes_.before = [this](const std::string& method, const std::string&) {
    return fuse_.Event(method);
  };
  for (const char* const name : {"a", "b", "c", "d"}) nodes_.Add(name, kPoolBytes);
  for (const std::string& name : kDriverNodes) {
    machines_[name] = std::make_unique<Machine>(&nodes_, &fuse_);
  }
  Start();
  for (const char* const name : {"a", "b", "c", "d"}) {
    provisioner::api::RegisterNodeRequest request;
    request.set_name(name);
    request.set_address(provisioner::FakeNodes::AddressOf(name));
    if (std::string(name) == "b") request.set_volumes_max(kVolumesMaxOfB);
    (*request.mutable_topology())[provisioner::kTopologyNode] = name;
    EXPECT_TRUE(provisioner_->RegisterNode(request).ok());
  }
  Settle();
}

World::~World() { Stop(); }

void World::Start() {
  provisioner::ReconcileOptions options;
  options.limits.reserve_percent = 0;
  // Nodes do not come and go here. But who waits for another caller's work must have a time to
  // wait for (SharedClock), within the patience of a call.
  options.ask_interval_ns = 10 * kSecond;
  auto opened =
      provisioner::Reconciler::Open(fused_store_.get(), &clock_, nodes_.MakeDialer(), options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  reconciler_ = *std::move(opened);
  reconciler_->set_advance([this](std::int64_t time_ns) { clock_.Advance(time_ns); });
  provisioner_ = std::make_unique<provisioner::Controller>(reconciler_.get(),
                                                           provisioner::ControllerOptions{});
  provisioner_service_ = provisioner::MakeProvisionerService(provisioner_.get());
  provisioner_server_ = Serve({provisioner_service_.get()});
  provisioner_stub_ = control::Provisioner::NewStub(provisioner_server_->InProcessChannel({}));
  controller_ = std::make_unique<Controller>(provisioner_stub_.get(), /*enable_alpha=*/false);
  group_controller_ = std::make_unique<GroupController>(provisioner_stub_.get());
  controller_server_ = Serve({controller_.get(), group_controller_.get()});
  const auto channel = controller_server_->InProcessChannel({});
  controller_stub_ = pb::Controller::NewStub(channel);
  group_stub_ = pb::GroupController::NewStub(channel);
  for (const std::string& name : kDriverNodes) {
    auto driver = std::make_unique<NodeDriver>();
    const auto to_store = nodes_.MakeDialer()(provisioner::FakeNodes::AddressOf(name));
    ASSERT_TRUE(to_store.ok());
    driver->block_store = store::BlockStore::NewStub(*to_store);
    NodeOptions node;
    node.name = name;
    node.mount_root = kMountRoot;
    driver->service = std::make_unique<Node>(driver->block_store.get(), machines_[name].get(),
                                             &driver->work, std::move(node));
    driver->server = Serve({driver->service.get()});
    driver->stub = pb::Node::NewStub(driver->server->InProcessChannel({}));
    drivers_[name] = std::move(driver);
  }
  Settle();
}

void World::Stop() {
  for (auto& [name, driver] : drivers_) {
    driver->server->Shutdown();
    EXPECT_TRUE(driver->work.WaitIdle(std::chrono::seconds(30)));
  }
  drivers_.clear();
  controller_server_->Shutdown();
  provisioner_server_->Shutdown();
  controller_server_.reset();
  provisioner_server_.reset();
  provisioner_service_.reset();
  provisioner_.reset();
  reconciler_.reset();
}

void World::Restart() {
  Stop();
  fuse_.Replace();
  Start();
}

void World::Settle(std::int64_t seconds) {
  const SharedClock::Caller caller(&clock_);
  reconciler_->Settle(seconds * kSecond);
}

std::string World::Leftovers() {
  std::string left;
  const auto note = [&](std::size_t count, std::string_view what) {
    if (count != 0) absl::StrAppend(&left, count, " ", std::string(what), "; ");
  };
  note(nodes_.ReplicaCount(), "replicas");
  note(nodes_.SnapshotCount(), "snapshots in replicas");
  note(nodes_.HoldCount(), "holds");
  note(nodes_.EngineCount(), "engines");
  note(store_.List(provisioner::Kind::kVolume)->records.size(), "records of volumes");
  note(store_.List(provisioner::Kind::kSnapshot)->records.size(), "records of snapshots");
  note(store_.List(provisioner::Kind::kGroup)->records.size(), "records of groups");
  for (const auto& [name, machine] : machines_) {
    note(machine->mounts().size(), absl::StrCat("mounts on ", name));
    note(machine->target_count(), absl::StrCat("targets on ", name));
  }
  return left;
}

void World::AddSecret(google::protobuf::Message* request) {
  const google::protobuf::FieldDescriptor* const field =
      request->GetDescriptor()->FindFieldByName("secrets");
  if (field == nullptr) return;
  google::protobuf::Message* const entry = request->GetReflection()->AddMessage(request, field);
  const auto& r = *entry->GetReflection();
  r.SetString(entry, field->message_type()->map_key(), "key");
  r.SetString(entry, field->message_type()->map_value(), kSecretCanary);
}

void World::CheckAnswer(const grpc::Status& status) {
  if (status.ok()) return;
  EXPECT_NE(status.error_message(), "");
  EXPECT_EQ(status.error_details(), "");
  EXPECT_EQ(status.error_message().find(kSecretCanary), std::string::npos)
      << status.error_message();
}

}  // namespace keelson::csi
