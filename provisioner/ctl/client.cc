#include "provisioner/ctl/client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/keelson/v1/blockstore.grpc.pb.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/status_map.h"

namespace keelson::ctl {
namespace {

using Stub = v1::BlockStore::Stub;

}  // namespace

struct Client::Connection {
  std::string socket;
  std::chrono::seconds timeout;
  std::unique_ptr<Stub> stub;

  // One unary call. `timeout` zero: no deadline.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request, std::chrono::seconds call_timeout) {
    grpc::ClientContext context;
    if (call_timeout.count() > 0) {
      context.set_deadline(std::chrono::system_clock::now() + call_timeout);
    }
    Response response;
    const absl::Status status =
        rpc::FromGrpcStatus((stub.get()->*method)(&context, request, &response));
    if (status.ok()) return response;
    return Explain(status);
  }
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request) {
    return Call(method, request, timeout);
  }

  absl::Status Explain(const absl::Status& status) const {
    if (!absl::IsDeadlineExceeded(status)) return status;
    return absl::DeadlineExceededError(absl::StrCat(
        "no answer from ", socket, " within ", timeout.count(),
        " s; it may still do what was asked. See its log, or wait longer with --timeout"));
  }
};

Client::Client(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}

Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& socket,
                                                        std::chrono::seconds timeout) {
  absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = rpc::ConnectUnix(socket);
  if (!channel.ok()) {
    return absl::Status(
        channel.status().code(),
        absl::StrCat("cannot reach keelson-blockstore: ", std::string(channel.status().message())));
  }
  auto connection = std::make_unique<Connection>();
  connection->socket = socket;
  connection->timeout = timeout;
  connection->stub = v1::BlockStore::NewStub(*channel);
  return std::unique_ptr<Client>(new Client(std::move(connection)));
}

absl::Status Client::DumpPool(const v1::DumpPoolRequest& request,
                              absl::FunctionRef<void(const std::string&)> print) {
  grpc::ClientContext context;
  const auto reader = connection_->stub->DumpPool(&context, request);
  v1::DumpPoolResponse part;
  while (reader->Read(&part)) {
    for (const std::string& line : part.lines()) print(line);
  }
  return rpc::FromGrpcStatus(reader->Finish());
}

absl::StatusOr<v1::CreatePoolResponse> Client::CreatePool(const v1::CreatePoolRequest& request) {
  return connection_->Call(&Stub::CreatePool, request);
}
absl::StatusOr<v1::ListPoolsResponse> Client::ListPools() {
  return connection_->Call(&Stub::ListPools, v1::ListPoolsRequest());
}
absl::StatusOr<v1::CheckPoolResponse> Client::CheckPool(const v1::CheckPoolRequest& request) {
  return connection_->Call(&Stub::CheckPool, request, std::chrono::seconds(0));
}
absl::StatusOr<v1::CreateVolumeResponse> Client::CreateVolume(
    const v1::CreateVolumeRequest& request) {
  return connection_->Call(&Stub::CreateVolume, request);
}
absl::StatusOr<v1::ListVolumesResponse> Client::ListVolumes() {
  return connection_->Call(&Stub::ListVolumes, v1::ListVolumesRequest());
}
absl::StatusOr<v1::DeleteVolumeResponse> Client::DeleteVolume(
    const v1::DeleteVolumeRequest& request) {
  return connection_->Call(&Stub::DeleteVolume, request);
}
absl::StatusOr<v1::CreateSnapshotResponse> Client::CreateSnapshot(
    const v1::CreateSnapshotRequest& request) {
  return connection_->Call(&Stub::CreateSnapshot, request);
}
absl::Status Client::ListAllocated(const v1::ListAllocatedRequest& request, UseBlocks use) {
  grpc::ClientContext context;
  const auto reader = connection_->stub->ListAllocated(&context, request);
  v1::ListBlocksResponse part;
  while (reader->Read(&part)) use(part);
  return rpc::FromGrpcStatus(reader->Finish());
}
absl::Status Client::ListChanged(const v1::ListChangedRequest& request, UseBlocks use) {
  grpc::ClientContext context;
  const auto reader = connection_->stub->ListChanged(&context, request);
  v1::ListBlocksResponse part;
  while (reader->Read(&part)) use(part);
  return rpc::FromGrpcStatus(reader->Finish());
}
absl::StatusOr<v1::HoldWritesResponse> Client::HoldWrites(const v1::HoldWritesRequest& request) {
  return connection_->Call(&Stub::HoldWrites, request);
}
absl::StatusOr<v1::ReleaseWritesResponse> Client::ReleaseWrites(
    const v1::ReleaseWritesRequest& request) {
  return connection_->Call(&Stub::ReleaseWrites, request);
}
absl::StatusOr<v1::SetQosResponse> Client::SetQos(const v1::SetQosRequest& request) {
  return connection_->Call(&Stub::SetQos, request);
}
absl::StatusOr<v1::DeleteSnapshotResponse> Client::DeleteSnapshot(
    const v1::DeleteSnapshotRequest& request) {
  return connection_->Call(&Stub::DeleteSnapshot, request);
}
absl::StatusOr<v1::ListSnapshotsResponse> Client::ListSnapshots(
    const v1::ListSnapshotsRequest& request) {
  return connection_->Call(&Stub::ListSnapshots, request);
}
absl::StatusOr<v1::CloneVolumeResponse> Client::CloneVolume(const v1::CloneVolumeRequest& request) {
  return connection_->Call(&Stub::CloneVolume, request);
}
absl::StatusOr<v1::GrowVolumeResponse> Client::GrowVolume(const v1::GrowVolumeRequest& request) {
  return connection_->Call(&Stub::GrowVolume, request);
}
absl::StatusOr<v1::AttachVolumeResponse> Client::AttachVolume(
    const v1::AttachVolumeRequest& request) {
  return connection_->Call(&Stub::AttachVolume, request);
}
absl::StatusOr<v1::DetachVolumeResponse> Client::DetachVolume(
    const v1::DetachVolumeRequest& request) {
  return connection_->Call(&Stub::DetachVolume, request);
}
absl::StatusOr<v1::SetClientsResponse> Client::SetClients(const v1::SetClientsRequest& request) {
  return connection_->Call(&Stub::SetClients, request);
}
absl::StatusOr<v1::GetVolumeStatusResponse> Client::GetVolumeStatus(
    const v1::GetVolumeStatusRequest& request) {
  return connection_->Call(&Stub::GetVolumeStatus, request);
}
absl::StatusOr<v1::ScrubVolumeResponse> Client::ScrubVolume(const v1::ScrubVolumeRequest& request) {
  return connection_->Call(&Stub::ScrubVolume, request);
}
absl::StatusOr<v1::GetNodeResponse> Client::GetNode() {
  return connection_->Call(&Stub::GetNode, v1::GetNodeRequest());
}
absl::StatusOr<v1::CreateReplicaResponse> Client::CreateReplica(
    const v1::CreateReplicaRequest& request) {
  return connection_->Call(&Stub::CreateReplica, request);
}
absl::StatusOr<v1::DeleteReplicaResponse> Client::DeleteReplica(
    const v1::DeleteReplicaRequest& request) {
  return connection_->Call(&Stub::DeleteReplica, request);
}
absl::StatusOr<v1::ListReplicasResponse> Client::ListReplicas(
    const v1::ListReplicasRequest& request) {
  return connection_->Call(&Stub::ListReplicas, request);
}
absl::StatusOr<v1::AddReplicaResponse> Client::AddReplica(const v1::AddReplicaRequest& request) {
  return connection_->Call(&Stub::AddReplica, request);
}
absl::StatusOr<v1::RemoveReplicaResponse> Client::RemoveReplica(
    const v1::RemoveReplicaRequest& request) {
  return connection_->Call(&Stub::RemoveReplica, request);
}
absl::StatusOr<v1::SetMinInSyncResponse> Client::SetMinInSync(
    const v1::SetMinInSyncRequest& request) {
  return connection_->Call(&Stub::SetMinInSync, request);
}

}  // namespace keelson::ctl
