#pragma once
// NodeFixture: a Node over real reactors in a temporary directory, with short forms of its calls.
// The parameter is the I/O backend. Everything on the test's thread.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "blockstore/service/node.h"
#include "tests/unit/service/temporary_directory.h"

namespace keelson::service {

class NodeFixture : public testing::TestWithParam<io::Backend> {
 protected:
  static constexpr std::uint64_t kMebi = std::uint64_t{1} << 20;

  void SetUp() override {
    options_.state_directory = directory_.Child("state");
    options_.run_directory = directory_.Child("run");
    options_.backend = GetParam();
    options_.buffer_bytes = 16 * kMebi;
    io::ReactorOptions probe;
    probe.backend = GetParam();
    probe.buffer_arena_bytes = 4 * kMebi;
    if (absl::IsUnavailable(io::MakeReactor(probe).status())) {
      GTEST_SKIP() << "this kernel refuses io_uring";
    }
    StartNode();
  }
  void TearDown() override { StopNode(); }

  void StartNode() {
    absl::StatusOr<std::unique_ptr<Node>> node = Node::Start(options_);
    ASSERT_TRUE(node.ok()) << node.status();
    node_ = *std::move(node);
    node_->OpenPools();
  }
  void StopNode() {
    if (node_ != nullptr) node_->Stop();
    node_.reset();
  }
  void Restart() {
    StopNode();
    StartNode();
  }

  absl::Status CreatePool(const std::string& name, std::uint64_t size_bytes = 64 * kMebi) {
    v1::CreatePoolRequest request;
    request.set_directory(directory_.Child(name));
    request.set_size_bytes(size_bytes);
    v1::CreatePoolResponse response;
    return node_->CreatePool(request, &response);
  }
  std::vector<v1::Pool> Pools() {
    v1::ListPoolsResponse response;
    EXPECT_TRUE(node_->ListPools({}, &response).ok());
    return {response.pools().begin(), response.pools().end()};
  }
  absl::Status CreateVolume(const std::string& name, std::uint64_t size_bytes,
                            const std::string& pool = "") {
    v1::CreateVolumeRequest request;
    request.set_name(name);
    request.set_size_bytes(size_bytes);
    request.set_pool(pool);
    v1::CreateVolumeResponse response;
    return node_->CreateVolume(request, &response);
  }
  std::vector<v1::Volume> Volumes() {
    v1::ListVolumesResponse response;
    EXPECT_TRUE(node_->ListVolumes({}, &response).ok());
    return {response.volumes().begin(), response.volumes().end()};
  }
  absl::Status DeleteVolume(const std::string& name) {
    v1::DeleteVolumeRequest request;
    request.set_name(name);
    v1::DeleteVolumeResponse response;
    return node_->DeleteVolume(request, &response);
  }
  absl::Status Snapshot(const std::string& volume, const std::string& name) {
    v1::CreateSnapshotRequest request;
    request.set_volume(volume);
    request.set_name(name);
    v1::CreateSnapshotResponse response;
    return node_->CreateSnapshot(request, &response);
  }
  absl::Status DeleteSnapshot(const std::string& volume, const std::string& name) {
    v1::DeleteSnapshotRequest request;
    request.set_volume(volume);
    request.set_name(name);
    v1::DeleteSnapshotResponse response;
    return node_->DeleteSnapshot(request, &response);
  }
  std::vector<std::string> Snapshots(const std::string& volume) {
    v1::ListSnapshotsRequest request;
    request.set_volume(volume);
    v1::ListSnapshotsResponse response;
    EXPECT_TRUE(node_->ListSnapshots(request, &response).ok());
    std::vector<std::string> names;
    for (const v1::Snapshot& snapshot : response.snapshots()) names.push_back(snapshot.name());
    return names;
  }
  absl::Status Clone(const std::string& source, const std::string& snapshot,
                     const std::string& name, std::uint64_t size_bytes = 0) {
    v1::CloneVolumeRequest request;
    request.set_source(source);
    request.set_snapshot(snapshot);
    request.set_name(name);
    request.set_size_bytes(size_bytes);
    v1::CloneVolumeResponse response;
    return node_->CloneVolume(request, &response);
  }
  absl::Status Grow(const std::string& name, std::uint64_t size_bytes) {
    v1::GrowVolumeRequest request;
    request.set_name(name);
    request.set_size_bytes(size_bytes);
    v1::GrowVolumeResponse response;
    return node_->GrowVolume(request, &response);
  }
  absl::StatusOr<std::string> Attach(const std::string& name, bool read_only = false) {
    v1::AttachVolumeRequest request;
    request.set_name(name);
    request.set_read_only(read_only);
    v1::AttachVolumeResponse response;
    const absl::Status status = node_->AttachVolume(request, &response);
    if (!status.ok()) return status;
    return response.uri();
  }
  absl::Status Detach(const std::string& name) {
    v1::DetachVolumeRequest request;
    request.set_name(name);
    v1::DetachVolumeResponse response;
    return node_->DetachVolume(request, &response);
  }

  TemporaryDirectory directory_;
  NodeOptions options_;
  std::unique_ptr<Node> node_;
};

}  // namespace keelson::service
