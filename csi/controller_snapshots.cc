// Controller RPCs about snapshots of single volumes.

#include <algorithm>
#include <string>

#include "csi/ask.h"
#include "csi/call.h"
#include "csi/checks.h"
#include "csi/controller.h"
#include "csi/status.h"
#include "csi/translate.h"

namespace keelson::csi {
namespace {

using Stub = control::Provisioner::StubInterface;

constexpr std::int32_t kPageEntriesMax = 4000;

}  // namespace

grpc::Status Controller::CreateSnapshot(grpc::ServerContext* context,
                                        const pb::CreateSnapshotRequest* request,
                                        pb::CreateSnapshotResponse* response) {
  return Call(*context, "CreateSnapshot", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckName("name", request->name()));
    RETURN_IF_ERROR(CheckPresent("source_volume_id", request->source_volume_id()));
    if (!CanBeId(request->source_volume_id())) {
      return absl::NotFoundError("source_volume_id: there is no such volume");
    }
    control::CreateSnapshotRequest ask;
    ask.set_name(request->name());
    ask.set_source_volume_id(request->source_volume_id());
    CopyParameters(request->parameters(), ask.mutable_parameters());
    control::CreateSnapshotResponse answer;
    RETURN_IF_ERROR(Ask(*context, *provisioner_, &Stub::CreateSnapshot, ask, &answer));
    *response->mutable_snapshot() = FromControl(answer.snapshot());
    return absl::OkStatus();
  });
}

grpc::Status Controller::DeleteSnapshot(grpc::ServerContext* context,
                                        const pb::DeleteSnapshotRequest* request,
                                        pb::DeleteSnapshotResponse*) {
  return Call(*context, "DeleteSnapshot", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckPresent("snapshot_id", request->snapshot_id()));
    if (!CanBeId(request->snapshot_id())) return absl::OkStatus();
    control::DeleteSnapshotRequest ask;
    ask.set_snapshot_id(request->snapshot_id());
    control::DeleteSnapshotResponse answer;
    return Ask(*context, *provisioner_, &Stub::DeleteSnapshot, ask, &answer);
  });
}

grpc::Status Controller::ListSnapshots(grpc::ServerContext* context,
                                       const pb::ListSnapshotsRequest* request,
                                       pb::ListSnapshotsResponse* response) {
  return Call(*context, "ListSnapshots", *request,
              [&] { return List(*context, *request, response); });
}

absl::Status Controller::List(const grpc::ServerContext& context,
                              const pb::ListSnapshotsRequest& request,
                              pb::ListSnapshotsResponse* response) {
  RETURN_IF_ERROR(CheckMaxEntries(request.max_entries()));
  const bool possible =
      (request.source_volume_id().empty() || CanBeId(request.source_volume_id())) &&
      (request.snapshot_id().empty() || CanBeId(request.snapshot_id()));
  if (!possible) return absl::OkStatus();
  control::ListSnapshotsRequest ask;
  ask.set_max_entries(static_cast<std::uint32_t>(
      request.max_entries() == 0 ? kPageEntriesMax
                                 : std::min(request.max_entries(), kPageEntriesMax)));
  ask.set_starting_token(request.starting_token());
  ask.set_source_volume_id(request.source_volume_id());
  ask.set_snapshot_id(request.snapshot_id());
  control::ListSnapshotsResponse answer;
  const absl::Status status = Ask(context, *provisioner_, &Stub::ListSnapshots, ask, &answer);
  // A filter that matches nothing is not an error.
  if (absl::IsNotFound(status)) return absl::OkStatus();
  RETURN_IF_ERROR(status);
  for (const control::Snapshot& snapshot : answer.snapshots()) {
    *response->add_entries()->mutable_snapshot() = FromControl(snapshot);
  }
  response->set_next_token(answer.next_token());
  return absl::OkStatus();
}

grpc::Status Controller::GetSnapshot(grpc::ServerContext* context,
                                     const pb::GetSnapshotRequest* request,
                                     pb::GetSnapshotResponse* response) {
  return Call(*context, "GetSnapshot", *request, [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckAlpha());
    RETURN_IF_ERROR(CheckPresent("snapshot_id", request->snapshot_id()));
    pb::ListSnapshotsRequest one;
    one.set_snapshot_id(request->snapshot_id());
    pb::ListSnapshotsResponse found;
    RETURN_IF_ERROR(List(*context, one, &found));
    if (found.entries().empty()) {
      return absl::NotFoundError("there is no snapshot with this snapshot_id");
    }
    *response->mutable_snapshot() = found.entries(0).snapshot();
    return absl::OkStatus();
  });
}

}  // namespace keelson::csi
