#pragma once
// ProvisionerFixture: a Controller and its Reconciler without threads of their own over a store in
// memory and FakeNodes. Time stands still but for what a call waits, and then passes at once.
// Restart is the death of the program and its next start: only the store and the nodes stay.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "provisioner/reconcile/reconciler.h"
#include "provisioner/service/controller.h"
#include "provisioner/store/memory_store.h"
#include "tests/unit/provisioner/service/fake_nodes.h"

namespace keelson::provisioner {

class FakeClock final : public Clock {
 public:
  std::int64_t UnixNanos() const override { return 1'700'000'000'000'000'000 + now_ns_; }
  std::int64_t SteadyNanos() const override { return now_ns_; }
  void Advance(std::int64_t time_ns) { now_ns_ += time_ns; }

 private:
  std::int64_t now_ns_ = 1'000'000'000;
};

class ProvisionerFixture : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
  static constexpr std::int64_t kSecond = 1'000'000'000;

  void SetUp() override {
    options_.limits.reserve_percent = 0;
    Open();
    for (const char* const name : {"a", "b", "c", "d"}) AddNode(name);
  }

  void Open() {
    auto opened = Reconciler::Open(&store_, &clock_, nodes_.MakeDialer(), options_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    reconciler_ = *std::move(opened);
    reconciler_->set_advance([this](std::int64_t time_ns) { clock_.Advance(time_ns); });
    controller_ = std::make_unique<Controller>(reconciler_.get(), ControllerOptions{});
    reconciler_->Settle(0);
  }
  void Close() {
    controller_.reset();
    reconciler_.reset();
  }
  void Restart() {
    Close();
    store_.Answer();
    Open();
  }

  void AddNode(const std::string& name, std::uint64_t capacity_bytes = 100 * kGiB) {
    nodes_.Add(name, capacity_bytes);
    ASSERT_TRUE(Register(name).ok());
    reconciler_->Settle(0);
  }
  absl::Status Register(const std::string& name) {
    api::RegisterNodeRequest request;
    request.set_name(name);
    request.set_address(FakeNodes::AddressOf(name));
    (*request.mutable_topology())[kTopologyNode] = name;
    (*request.mutable_topology())[kTopologyZone] = absl::StrCat("zone-", name);
    return controller_->RegisterNode(request);
  }
  // Everything that is due within this time is done.
  void Pass(std::int64_t seconds) { reconciler_->Settle(seconds * kSecond); }

  static api::Capability Mount(api::AccessMode mode = api::SINGLE_NODE_MULTI_WRITER) {
    api::Capability capability;
    capability.set_access_mode(mode);
    return capability;
  }
  static api::Capability Block(api::AccessMode mode) {
    api::Capability capability;
    capability.set_block(true);
    capability.set_access_mode(mode);
    return capability;
  }
  static api::CreateVolumeRequest Ask(const std::string& name, std::uint64_t bytes = kGiB,
                                      std::map<std::string, std::string> parameters = {}) {
    api::CreateVolumeRequest request;
    request.set_name(name);
    request.set_required_bytes(bytes);
    *request.add_capabilities() = Mount();
    for (const auto& [key, value] : parameters) (*request.mutable_parameters())[key] = value;
    return request;
  }
  api::Volume MustCreate(const api::CreateVolumeRequest& request) {
    absl::StatusOr<api::Volume> volume = controller_->CreateVolume(request);
    EXPECT_TRUE(volume.ok()) << volume.status();
    return volume.ok() ? *std::move(volume) : api::Volume();
  }
  absl::StatusOr<api::PublishVolumeResponse> Publish(const std::string& id, const std::string& node,
                                                     const api::Capability& capability = Mount(),
                                                     bool read_only = false) {
    api::PublishVolumeRequest request;
    request.set_volume_id(id);
    request.set_node(node);
    *request.mutable_capability() = capability;
    request.set_read_only(read_only);
    return controller_->PublishVolume(request);
  }
  absl::Status Unpublish(const std::string& id, const std::string& node) {
    api::UnpublishVolumeRequest request;
    request.set_volume_id(id);
    request.set_node(node);
    return controller_->UnpublishVolume(request);
  }
  absl::Status Delete(const std::string& id) {
    api::DeleteVolumeRequest request;
    request.set_volume_id(id);
    return controller_->DeleteVolume(request);
  }
  absl::StatusOr<api::Snapshot> Snapshot(const std::string& volume, const std::string& name) {
    api::CreateSnapshotRequest request;
    request.set_source_volume_id(volume);
    request.set_name(name);
    return controller_->CreateSnapshot(request);
  }
  absl::Status DeleteSnapshot(const std::string& id) {
    api::DeleteSnapshotRequest request;
    request.set_snapshot_id(id);
    return controller_->DeleteSnapshot(request);
  }
  std::vector<std::string> CopiesOf(const std::string& id) {
    api::GetVolumeRequest request;
    request.set_volume_id(id);
    const absl::StatusOr<api::Volume> volume = controller_->GetVolume(request);
    EXPECT_TRUE(volume.ok()) << volume.status();
    std::vector<std::string> nodes;
    if (!volume.ok()) return nodes;
    for (const api::ReplicaPlace& place : volume->replicas()) {
      if (!place.witness()) nodes.push_back(place.node());
    }
    std::sort(nodes.begin(), nodes.end());
    return nodes;
  }

  FakeClock clock_;
  MemoryStore store_;
  FakeNodes nodes_;
  ReconcileOptions options_;
  std::unique_ptr<Reconciler> reconciler_;
  std::unique_ptr<Controller> controller_;
};

}  // namespace keelson::provisioner
