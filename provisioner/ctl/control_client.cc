#include "provisioner/ctl/control_client.h"

#include <grpcpp/channel.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/status_macros.h"
#include "proto/rpc/status_map.h"

namespace keelson::ctl {

absl::StatusOr<std::unique_ptr<ControlClient>> ControlClient::Connect(
    const std::string& address, std::chrono::seconds timeout) {
  ASSIGN_OR_RETURN(const std::string path, rpc::UnixPathOf(address));
  const absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = rpc::ConnectUnix(path);
  if (!channel.ok()) {
    return absl::Status(channel.status().code(),
                        absl::StrCat("cannot reach keelson-provisioner: ",
                                     std::string(channel.status().message())));
  }
  return std::unique_ptr<ControlClient>(
      new ControlClient(address, timeout, control::Provisioner::NewStub(*channel)));
}

absl::Status ControlClient::Explain(const grpc::Status& status) const {
  const absl::Status error = rpc::FromGrpcStatus(status);
  if (status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED) return error;
  return absl::DeadlineExceededError(absl::StrCat(std::string(error.message()), " (", address_,
                                                  ", waited up to ", timeout_.count(),
                                                  " s; what was begun goes on)"));
}

absl::StatusOr<std::string> ControlClient::FindVolume(const std::string& what) {
  ASSIGN_OR_RETURN(const control::ListVolumesResponse all,
                   Call(&Stub::ListVolumes, control::ListVolumesRequest()));
  std::string found;
  for (const control::Volume& volume : all.volumes()) {
    if (volume.id() == what) return what;
    if (volume.name() != what) continue;
    if (!found.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("several volumes have the name '", what, "'; give the id"));
    }
    found = volume.id();
  }
  if (!found.empty()) return found;
  return absl::NotFoundError(absl::StrCat("there is no volume '", what, "'"));
}

absl::StatusOr<std::string> ControlClient::FindSnapshot(const std::string& what) {
  ASSIGN_OR_RETURN(const control::ListSnapshotsResponse all,
                   Call(&Stub::ListSnapshots, control::ListSnapshotsRequest()));
  for (const control::Snapshot& snapshot : all.snapshots()) {
    if (snapshot.id() == what || snapshot.name() == what) return snapshot.id();
  }
  return absl::NotFoundError(absl::StrCat("there is no snapshot '", what, "'"));
}

}  // namespace keelson::ctl
