#pragma once
// FakeCluster: a provisioner and the block store of one node, in memory, as gRPC services for tests
// of the CSI driver. It follows provisioner.proto closely enough for csi-sanity; what volumes hold
// is up to `Disks`. Any thread.

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "csi/names.h"
#include "proto/keelson/v1/blockstore.grpc.pb.h"
#include "proto/keelson/v1/provisioner.grpc.pb.h"

namespace keelson::csi {

// Where the bytes of volumes and snapshots are; here nowhere. Keyed by their ids.
class Disks {
 public:
  virtual ~Disks() = default;
  virtual absl::Status Make(const std::string& id, std::uint64_t size_bytes,
                            const std::string& source_id);
  virtual absl::Status Grow(const std::string& id, std::uint64_t size_bytes);
  virtual void Delete(const std::string& id);
  // The device's path.
  virtual absl::StatusOr<std::string> Attach(const std::string& id, bool read_only);
  virtual absl::Status Detach(const std::string& id);
};

class FakeCluster final : public control::Provisioner::Service {
 public:
  explicit FakeCluster(Disks* disks) : block_store(this), disks_(*disks) {}

  // As of the node "node-a", whatever it is called.
  class BlockStore final : public store::BlockStore::Service {
   public:
    explicit BlockStore(FakeCluster* cluster) : cluster_(*cluster) {}
    grpc::Status GetVolumeStatus(grpc::ServerContext*, const store::GetVolumeStatusRequest* request,
                                 store::GetVolumeStatusResponse* response) override;
    grpc::Status GetNode(grpc::ServerContext*, const store::GetNodeRequest*,
                         store::GetNodeResponse*) override;

   private:
    FakeCluster& cluster_;
  };
  BlockStore block_store;

  // What the next call of the method answers, once.
  void Refuse(const std::string& method, absl::Status status);
  // What it answers once, after so many calls.
  void RefuseAfter(const std::string& method, std::size_t calls, absl::Status status);
  // Edits a volume behind the driver's back.
  void Change(const std::string& volume_id, const std::function<void(control::Volume*)>& edit);
  void ChangeStatus(const std::string& volume_id,
                    std::function<void(store::GetVolumeStatusResponse*)> edit);
  // What a snapshot lists, or lists as changed since `base` when that is not empty; nothing
  // otherwise. Pages have three ranges.
  void SetBlocks(const std::string& base_id, const std::string& snapshot_id,
                 std::vector<control::BlockRange> ranges);
  // How often a method was called.
  std::size_t CountOf(const std::string& method);
  // The last request of that method, as text.
  std::string Last(const std::string& method);
  // How many volumes, and snapshots, there are.
  std::size_t volume_count();

  using Context = grpc::ServerContext;
#define FAKE_RPC(name)                                                       \
  grpc::Status name(Context* context, const control::name##Request* request, \
                    control::name##Response* response) override;
  FAKE_RPC(CreateVolume)
  FAKE_RPC(DeleteVolume)
  FAKE_RPC(GetVolume)
  FAKE_RPC(ListVolumes)
  FAKE_RPC(ValidateVolume)
  FAKE_RPC(PublishVolume)
  FAKE_RPC(UnpublishVolume)
  FAKE_RPC(ExpandVolume)
  FAKE_RPC(ModifyVolume)
  FAKE_RPC(GetCapacity)
  FAKE_RPC(CreateSnapshot)
  FAKE_RPC(DeleteSnapshot)
  FAKE_RPC(ListSnapshots)
  FAKE_RPC(ListSnapshotBlocks)
  FAKE_RPC(CreateGroupSnapshot)
  FAKE_RPC(GetGroupSnapshot)
  FAKE_RPC(DeleteGroupSnapshot)
  FAKE_RPC(RegisterNode)
  FAKE_RPC(ListNodes)
#undef FAKE_RPC

 private:
  struct Volume {
    control::Volume volume;
    std::string fingerprint;  // of what was asked for, without the size
    std::uint64_t attachment = 0;
    std::string device;  // empty: not attached on the node
    std::function<void(store::GetVolumeStatusResponse*)> status_edit;
  };

  // The status that was injected for `method`, or OK; remembers the request.
  absl::Status Begin(const std::string& method, const google::protobuf::Message& request);
  absl::Status Create(const control::CreateVolumeRequest& request, control::Volume* volume);
  absl::Status Publish(const control::PublishVolumeRequest& request,
                       control::PublishVolumeResponse* response);
  absl::Status Cut(const std::string& name, const std::string& source, const std::string& group,
                   control::Snapshot* snapshot);
  absl::Status ListBlocks(const control::ListSnapshotBlocksRequest& request,
                          control::ListSnapshotBlocksResponse* response);
  absl::StatusOr<std::uint64_t> SizeFor(const control::CreateVolumeRequest& request);
  absl::StatusOr<Volume*> Find(const std::string& volume_id);
  absl::Status Detach(Volume* volume, const std::string& node);

  Disks& disks_;
  std::mutex mutex_;
  std::uint64_t next_ = 1;
  std::map<std::string, Volume> volumes_;
  std::map<std::string, control::Snapshot> snapshots_;
  std::map<std::string, control::GroupSnapshot> groups_;
  std::map<std::string, control::Node> nodes_;
  std::map<std::string, absl::Status> refusals_;
  std::map<std::string, std::size_t> spare_;  // calls before the refusal
  std::map<std::string, std::string> last_;
  std::map<std::string, std::size_t> counts_;  // of calls
  std::map<std::pair<std::string, std::string>, std::vector<control::BlockRange>> blocks_;
};

}  // namespace keelson::csi
