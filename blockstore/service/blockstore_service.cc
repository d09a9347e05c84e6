#include "blockstore/service/blockstore_service.h"

#include <utility>

#include "blockstore/io/status.h"
#include "proto/keelson/v1/blockstore.grpc.pb.h"
#include "proto/rpc/server.h"

namespace keelson::service {
namespace {

constexpr std::size_t kDumpBytesPerMessage = std::size_t{256} << 10;

// Sends `lines` in messages well below gRPC's limit. CANCELLED when the client has gone.
absl::Status SendLines(std::vector<std::string> lines,
                       grpc::ServerWriter<v1::DumpPoolResponse>* writer) {
  v1::DumpPoolResponse message;
  std::size_t size_bytes = 0;
  for (std::string& line : lines) {
    size_bytes += line.size();
    message.add_lines(std::move(line));
    if (size_bytes < kDumpBytesPerMessage) continue;
    if (!writer->Write(message)) return absl::CancelledError("the client has gone");
    message.clear_lines();
    size_bytes = 0;
  }
  if (message.lines_size() > 0 && !writer->Write(message)) {
    return absl::CancelledError("the client has gone");
  }
  return absl::OkStatus();
}

// Every unary call has the same form; the macro keeps the list of them readable.
#define KEEL_UNARY(Method)                                                                        \
  grpc::Status Method(grpc::ServerContext* context, const v1::Method##Request* request,           \
                      v1::Method##Response* response) override {                                  \
    return rpc::HandleCall(*context, #Method, [&] { return node_->Method(*request, response); }); \
  }

class BlockStoreService final : public v1::BlockStore::Service {
 public:
  explicit BlockStoreService(Node* node) : node_(node) {}

  KEEL_UNARY(CreatePool)
  KEEL_UNARY(ListPools)
  KEEL_UNARY(CheckPool)
  KEEL_UNARY(CreateVolume)
  KEEL_UNARY(ListVolumes)
  KEEL_UNARY(DeleteVolume)
  KEEL_UNARY(CreateSnapshot)
  KEEL_UNARY(HoldWrites)
  KEEL_UNARY(ReleaseWrites)
  KEEL_UNARY(DeleteSnapshot)
  KEEL_UNARY(ListSnapshots)
  KEEL_UNARY(CloneVolume)
  KEEL_UNARY(GrowVolume)
  KEEL_UNARY(AttachVolume)
  KEEL_UNARY(DetachVolume)
  KEEL_UNARY(SetQos)
  KEEL_UNARY(SetClients)
  KEEL_UNARY(GetVolumeStatus)
  KEEL_UNARY(ScrubVolume)
  KEEL_UNARY(GetNode)
  KEEL_UNARY(CreateReplica)
  KEEL_UNARY(DeleteReplica)
  KEEL_UNARY(ListReplicas)
  KEEL_UNARY(AddReplica)
  KEEL_UNARY(RemoveReplica)
  KEEL_UNARY(SetMinInSync)

  grpc::Status ListAllocated(grpc::ServerContext* context, const v1::ListAllocatedRequest* request,
                             grpc::ServerWriter<v1::ListBlocksResponse>* writer) override {
    return rpc::HandleCall(*context, "ListAllocated", [&] {
      return node_->ListAllocated(
          *request, [&](const v1::ListBlocksResponse& part) { return writer->Write(part); });
    });
  }
  grpc::Status ListChanged(grpc::ServerContext* context, const v1::ListChangedRequest* request,
                           grpc::ServerWriter<v1::ListBlocksResponse>* writer) override {
    return rpc::HandleCall(*context, "ListChanged", [&] {
      return node_->ListChanged(
          *request, [&](const v1::ListBlocksResponse& part) { return writer->Write(part); });
    });
  }

  grpc::Status DumpPool(grpc::ServerContext* context, const v1::DumpPoolRequest* request,
                        grpc::ServerWriter<v1::DumpPoolResponse>* writer) override {
    return rpc::HandleCall(*context, "DumpPool", [&]() -> absl::Status {
      ASSIGN_OR_RETURN(std::vector<std::string> lines, node_->DumpPool(*request));
      return SendLines(std::move(lines), writer);
    });
  }

 private:
  Node* node_;
};

#undef KEEL_UNARY

}  // namespace

std::unique_ptr<grpc::Service> MakeBlockStoreService(Node* node) {
  return std::make_unique<BlockStoreService>(node);
}

}  // namespace keelson::service
