#include "provisioner/reconcile/block_stores.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/keelson/v1/blockstore.grpc.pb.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/status_macros.h"
#include "proto/rpc/status_map.h"

namespace keelson::provisioner {
namespace {

using std::chrono::seconds;

constexpr seconds kQuestion{2};  // what is answered from memory
constexpr seconds kChange{20};   // what waits for disks
constexpr seconds kAttach{25};   // waits for members and the grace
constexpr seconds kListing{10};  // looks through maps; another copy can be asked instead

absl::Status OfNode(const std::string& node, const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const absl::Status error = rpc::FromGrpcStatus(status);
  return absl::Status(error.code(),
                      absl::StrCat("node ", node, ": ", std::string(error.message())));
}

// Calls `method` of the stub with a deadline.
template <typename Response, typename Request, typename Method>
absl::StatusOr<Response> Call(const std::string& node,
                              const std::shared_ptr<grpc::Channel>& channel, Method method,
                              const Request& request, seconds patience) {
  const std::unique_ptr<v1::BlockStore::Stub> stub = v1::BlockStore::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + patience);
  Response response;
  RETURN_IF_ERROR(OfNode(node, (stub.get()->*method)(&context, request, &response)));
  return response;
}

// Reads all parts of a list, or its error.
template <typename Request, typename Method>
absl::StatusOr<v1::ListBlocksResponse> List(const std::string& node,
                                            const std::shared_ptr<grpc::Channel>& channel,
                                            Method method, const Request& request) {
  const std::unique_ptr<v1::BlockStore::Stub> stub = v1::BlockStore::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kListing);
  const auto reader = (stub.get()->*method)(&context, request);
  v1::ListBlocksResponse all, part;
  bool too_many = false;
  while (reader->Read(&part)) {
    all.set_volume_size_bytes(part.volume_size_bytes());
    all.mutable_ranges()->MergeFrom(part.ranges());
    too_many = static_cast<std::uint64_t>(all.ranges_size()) > request.count_max();
    if (too_many) context.TryCancel();
  }
  const grpc::Status ended = reader->Finish();
  if (too_many) return absl::InternalError(absl::StrCat("node ", node, " lists more than asked"));
  RETURN_IF_ERROR(OfNode(node, ended));
  return all;
}

}  // namespace

absl::StatusOr<v1::GetNodeResponse> BlockStore::GetNode() const {
  return Call<v1::GetNodeResponse>(node_, channel_, &v1::BlockStore::Stub::GetNode,
                                   v1::GetNodeRequest(), kQuestion);
}

absl::StatusOr<v1::ListReplicasResponse> BlockStore::ListReplicas(
    const v1::ListReplicasRequest& request) const {
  return Call<v1::ListReplicasResponse>(node_, channel_, &v1::BlockStore::Stub::ListReplicas,
                                        request, kQuestion);
}

absl::StatusOr<v1::CreateReplicaResponse> BlockStore::CreateReplica(
    const v1::CreateReplicaRequest& request) const {
  return Call<v1::CreateReplicaResponse>(node_, channel_, &v1::BlockStore::Stub::CreateReplica,
                                         request, kChange);
}

absl::Status BlockStore::DeleteReplica(const v1::DeleteReplicaRequest& request) const {
  return Call<v1::DeleteReplicaResponse>(node_, channel_, &v1::BlockStore::Stub::DeleteReplica,
                                         request, kChange)
      .status();
}

absl::StatusOr<v1::AttachVolumeResponse> BlockStore::AttachVolume(
    const v1::AttachVolumeRequest& request) const {
  return Call<v1::AttachVolumeResponse>(node_, channel_, &v1::BlockStore::Stub::AttachVolume,
                                        request, kAttach);
}

absl::Status BlockStore::DetachVolume(const std::string& volume, Part part) const {
  v1::DetachVolumeRequest request;
  request.set_client_only(part == Part::kClient);
  request.set_engine_only(part == Part::kEngine);
  request.set_name(volume);
  return Call<v1::DetachVolumeResponse>(node_, channel_, &v1::BlockStore::Stub::DetachVolume,
                                        request, kChange)
      .status();
}

absl::StatusOr<v1::GetVolumeStatusResponse> BlockStore::GetVolumeStatus(
    const std::string& volume) const {
  v1::GetVolumeStatusRequest request;
  request.set_name(volume);
  return Call<v1::GetVolumeStatusResponse>(node_, channel_, &v1::BlockStore::Stub::GetVolumeStatus,
                                           request, kQuestion);
}

absl::Status BlockStore::GrowVolume(const v1::GrowVolumeRequest& request) const {
  return Call<v1::GrowVolumeResponse>(node_, channel_, &v1::BlockStore::Stub::GrowVolume, request,
                                      kChange)
      .status();
}

absl::StatusOr<v1::Snapshot> BlockStore::CreateSnapshot(const std::string& volume,
                                                        const std::string& name,
                                                        const std::string& hold_id) const {
  v1::CreateSnapshotRequest request;
  request.set_volume(volume);
  request.set_name(name);
  request.set_hold_id(hold_id);
  ASSIGN_OR_RETURN(const v1::CreateSnapshotResponse response,
                   Call<v1::CreateSnapshotResponse>(
                       node_, channel_, &v1::BlockStore::Stub::CreateSnapshot, request, kChange));
  return response.snapshot();
}

absl::Status BlockStore::HoldWrites(const std::string& volume, const std::string& hold_id,
                                    std::uint32_t limit_ms) const {
  v1::HoldWritesRequest request;
  request.set_volume(volume);
  request.set_hold_id(hold_id);
  request.set_limit_ms(limit_ms);
  return Call<v1::HoldWritesResponse>(node_, channel_, &v1::BlockStore::Stub::HoldWrites, request,
                                      kChange)
      .status();
}

absl::Status BlockStore::ReleaseWrites(const std::string& volume,
                                       const std::string& hold_id) const {
  v1::ReleaseWritesRequest request;
  request.set_volume(volume);
  request.set_hold_id(hold_id);
  return Call<v1::ReleaseWritesResponse>(node_, channel_, &v1::BlockStore::Stub::ReleaseWrites,
                                         request, kChange)
      .status();
}

absl::Status BlockStore::SetQos(const std::string& volume, const v1::Qos& qos) const {
  v1::SetQosRequest request;
  request.set_volume(volume);
  *request.mutable_qos() = qos;
  return Call<v1::SetQosResponse>(node_, channel_, &v1::BlockStore::Stub::SetQos, request, kChange)
      .status();
}

absl::Status BlockStore::SetClients(const v1::SetClientsRequest& request) const {
  return Call<v1::SetClientsResponse>(node_, channel_, &v1::BlockStore::Stub::SetClients, request,
                                      kChange)
      .status();
}

absl::StatusOr<std::vector<v1::Snapshot>> BlockStore::ListSnapshots(
    const std::string& volume) const {
  v1::ListSnapshotsRequest request;
  request.set_volume(volume);
  ASSIGN_OR_RETURN(const v1::ListSnapshotsResponse response,
                   Call<v1::ListSnapshotsResponse>(
                       node_, channel_, &v1::BlockStore::Stub::ListSnapshots, request, kQuestion));
  return std::vector<v1::Snapshot>(response.snapshots().begin(), response.snapshots().end());
}

absl::Status BlockStore::DeleteSnapshot(const std::string& volume, const std::string& name) const {
  v1::DeleteSnapshotRequest request;
  request.set_volume(volume);
  request.set_name(name);
  return Call<v1::DeleteSnapshotResponse>(node_, channel_, &v1::BlockStore::Stub::DeleteSnapshot,
                                          request, kChange)
      .status();
}

absl::StatusOr<v1::ListBlocksResponse> BlockStore::ListAllocated(
    const v1::ListAllocatedRequest& request) const {
  return List(node_, channel_, &v1::BlockStore::Stub::ListAllocated, request);
}

absl::StatusOr<v1::ListBlocksResponse> BlockStore::ListChanged(
    const v1::ListChangedRequest& request) const {
  return List(node_, channel_, &v1::BlockStore::Stub::ListChanged, request);
}

absl::Status BlockStore::AddReplica(const v1::AddReplicaRequest& request) const {
  return Call<v1::AddReplicaResponse>(node_, channel_, &v1::BlockStore::Stub::AddReplica, request,
                                      kChange)
      .status();
}

absl::Status BlockStore::RemoveReplica(const v1::RemoveReplicaRequest& request) const {
  return Call<v1::RemoveReplicaResponse>(node_, channel_, &v1::BlockStore::Stub::RemoveReplica,
                                         request, kChange)
      .status();
}

absl::Status BlockStore::SetMinInSync(const std::string& volume, std::uint32_t copies) const {
  v1::SetMinInSyncRequest request;
  request.set_volume(volume);
  request.set_min_in_sync(copies);
  return Call<v1::SetMinInSyncResponse>(node_, channel_, &v1::BlockStore::Stub::SetMinInSync,
                                        request, kChange)
      .status();
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> DialUnix(const std::string& address) {
  ASSIGN_OR_RETURN(const std::string path, rpc::UnixPathOf(address));
  return rpc::ConnectUnix(path);
}

// --- BlockStores ---

absl::StatusOr<BlockStore> BlockStores::To(const std::string& node, const std::string& address) {
  {
    std::lock_guard lock(mutex_);
    const auto found = connections_.find(node);
    if (found != connections_.end() && found->second.address == address) {
      return BlockStore(node, found->second.channel);
    }
  }
  absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = dialer_(address);
  if (!channel.ok()) {
    return absl::Status(channel.status().code(),
                        absl::StrCat("node ", node, ": ", std::string(channel.status().message())));
  }
  std::lock_guard lock(mutex_);
  connections_[node] = {address, *channel};
  return BlockStore(node, *std::move(channel));
}

bool BlockStores::Ask(const std::string& node, const std::string& address) {
  const absl::StatusOr<BlockStore> store = To(node, address);
  absl::StatusOr<v1::GetNodeResponse> answer =
      store.ok() ? store->GetNode() : absl::StatusOr<v1::GetNodeResponse>(store.status());
  std::lock_guard lock(mutex_);
  NodeView& view = views_[node];
  const std::int64_t now_ns = clock_->SteadyNanos();
  if (!answer.ok()) {
    // A socket that was made anew is connected to anew.
    connections_.erase(node);
    const bool changed = view.answers || !view.heard;
    if (view.answers || view.silent_since_ns == 0) view.silent_since_ns = now_ns;
    view.heard = true;
    view.answers = false;
    view.error = std::string(answer.status().message());
    return changed;
  }
  const auto shape = [](const v1::GetNodeResponse& response) {
    std::string text = absl::StrCat(response.data_address(), " ", response.client_address());
    for (const v1::Pool& pool : response.pools()) {
      absl::StrAppend(&text, ";", pool.id(), pool.directory(), pool.error(), pool.incarnation());
    }
    return text;
  };
  const bool changed = !view.answers || shape(view.node) != shape(*answer);
  view.heard = true;
  view.answers = true;
  view.last_answer_ns = now_ns;
  view.last_answer_unix_ns = clock_->UnixNanos();
  view.silent_since_ns = 0;
  view.error.clear();
  view.node = *std::move(answer);
  return changed;
}

NodeView BlockStores::View(const std::string& node) const {
  std::lock_guard lock(mutex_);
  const auto found = views_.find(node);
  return found == views_.end() ? NodeView() : found->second;
}

std::map<std::string, NodeView> BlockStores::Views() const {
  std::lock_guard lock(mutex_);
  return views_;
}

void BlockStores::Forget(const std::string& node) {
  std::lock_guard lock(mutex_);
  connections_.erase(node);
  views_.erase(node);
}

}  // namespace keelson::provisioner
