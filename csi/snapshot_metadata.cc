#include "csi/snapshot_metadata.h"

#include <grpcpp/support/sync_stream.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "csi/ask.h"
#include "csi/call.h"
#include "csi/checks.h"
#include "csi/status.h"

namespace keelson::csi {
namespace {

using Stub = control::Provisioner::StubInterface;

constexpr std::int32_t kRangesPerMessage = 4096;

absl::Status CheckSnapshot(std::string_view field, const std::string& id) {
  RETURN_IF_ERROR(CheckPresent(field, id));
  if (CanBeId(id)) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat(std::string(field), ": there is no such snapshot"));
}

}  // namespace

absl::Status SnapshotMetadata::CheckAlpha() const {
  if (enable_alpha_) return absl::OkStatus();
  return absl::UnimplementedError(
      "which blocks a snapshot has is alpha in this version of the specification; start "
      "keelson-csi with --enable-alpha for it, or read the whole snapshot");
}

template <typename Response>
absl::Status SnapshotMetadata::Stream(const grpc::ServerContext& context,
                                      control::ListSnapshotBlocksRequest ask,
                                      std::int64_t starting_offset, std::int32_t max_results,
                                      grpc::ServerWriter<Response>* writer) {
  if (starting_offset < 0) return absl::OutOfRangeError("starting_offset is negative");
  if (max_results < 0) return absl::InvalidArgumentError("max_results is negative");
  const std::int32_t per_message =
      max_results == 0 ? kRangesPerMessage : std::min(max_results, kRangesPerMessage);
  ask.set_from_offset(static_cast<std::uint64_t>(starting_offset));
  Response message;
  message.set_block_metadata_type(pb::VARIABLE_LENGTH);
  bool sent = false;
  const auto send = [&] {
    sent = true;
    const bool taken = writer->Write(message);
    message.clear_block_metadata();
    return taken ? absl::OkStatus() : absl::CancelledError("the caller reads no more");
  };
  control::ListSnapshotBlocksResponse page;
  do {
    page.Clear();
    RETURN_IF_ERROR(Ask(context, *provisioner_, &Stub::ListSnapshotBlocks, ask, &page));
    message.set_volume_capacity_bytes(static_cast<std::int64_t>(page.volume_size_bytes()));
    for (const control::BlockRange& range : page.ranges()) {
      pb::BlockMetadata* const added = message.add_block_metadata();
      added->set_byte_offset(static_cast<std::int64_t>(range.offset()));
      added->set_size_bytes(static_cast<std::int64_t>(range.size_bytes()));
      if (message.block_metadata_size() == per_message) RETURN_IF_ERROR(send());
    }
    if (message.block_metadata_size() != 0) RETURN_IF_ERROR(send());
    if (page.next_offset() >= page.volume_size_bytes()) break;
    if (page.next_offset() <= ask.from_offset()) {
      return absl::InternalError(absl::StrCat("the provisioner's list of snapshot ",
                                              ask.snapshot_id(), " does not get beyond byte ",
                                              ask.from_offset()));
    }
    ask.set_from_offset(page.next_offset());
  } while (!context.IsCancelled());
  if (context.IsCancelled()) return absl::CancelledError("the caller has gone");
  return sent ? absl::OkStatus() : send();
}

grpc::Status SnapshotMetadata::GetMetadataAllocated(
    grpc::ServerContext* context, const pb::GetMetadataAllocatedRequest* request,
    grpc::ServerWriter<pb::GetMetadataAllocatedResponse>* writer) {
  return Call(*context, "GetMetadataAllocated", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckAlpha());
    RETURN_IF_ERROR(CheckSnapshot("snapshot_id", request->snapshot_id()));
    control::ListSnapshotBlocksRequest ask;
    ask.set_snapshot_id(request->snapshot_id());
    return Stream(*context, std::move(ask), request->starting_offset(), request->max_results(),
                  writer);
  });
}

grpc::Status SnapshotMetadata::GetMetadataDelta(
    grpc::ServerContext* context, const pb::GetMetadataDeltaRequest* request,
    grpc::ServerWriter<pb::GetMetadataDeltaResponse>* writer) {
  return Call(*context, "GetMetadataDelta", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckAlpha());
    RETURN_IF_ERROR(CheckPresent("target_snapshot_id", request->target_snapshot_id()));
    RETURN_IF_ERROR(CheckSnapshot("base_snapshot_id", request->base_snapshot_id()));
    RETURN_IF_ERROR(CheckSnapshot("target_snapshot_id", request->target_snapshot_id()));
    control::ListSnapshotBlocksRequest ask;
    ask.set_snapshot_id(request->target_snapshot_id());
    ask.set_base_snapshot_id(request->base_snapshot_id());
    return Stream(*context, std::move(ask), request->starting_offset(), request->max_results(),
                  writer);
  });
}

}  // namespace keelson::csi
