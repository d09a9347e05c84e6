#include "provisioner/ctl/commands.h"

#include <filesystem>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "provisioner/ctl/client.h"
#include "provisioner/ctl/offline.h"
#include "provisioner/ctl/scrub_report.h"

namespace keelson::ctl {
namespace {

absl::StatusOr<std::unique_ptr<Client>> Connect(const Settings& settings) {
  absl::StatusOr<std::unique_ptr<Client>> client =
      Client::Connect(settings.socket, std::chrono::seconds(settings.timeout_seconds));
  if (client.ok()) return client;
  return absl::Status(client.status().code(), absl::StrCat(std::string(client.status().message()),
                                                           " (--socket, KEELSON_SOCKET)"));
}

// One call: connects, calls, and hands the answer to `use`.
template <typename Request, typename Response, typename Use>
absl::Status Call(const Settings& settings,
                  absl::StatusOr<Response> (Client::*method)(const Request&),
                  const Request& request, Use use) {
  const absl::StatusOr<std::unique_ptr<Client>> client = Connect(settings);
  if (!client.ok()) return client.status();
  const absl::StatusOr<Response> response = (client->get()->*method)(request);
  if (!response.ok()) return response.status();
  use(*response);
  return absl::OkStatus();
}

constexpr std::chrono::milliseconds kScrubPollPause{200};

constexpr auto kIgnore = [](const auto&) {};

// A pool is named by id or directory; a directory is relative to where keelctl runs, not the
// daemon.
std::string PoolName(const std::string& pool) {
  const bool is_id = pool.size() == 32 && pool.find('/') == std::string::npos;
  if (pool.empty() || is_id) return pool;
  return std::filesystem::absolute(pool).lexically_normal();
}

}  // namespace

absl::Status CreatePool(const Settings& settings, const PoolArguments& pool, std::ostream* out) {
  v1::CreatePoolRequest request;
  request.set_directory(std::filesystem::absolute(pool.pool).lexically_normal());
  request.set_size_bytes(pool.size_bytes);
  if (!pool.device.empty()) request.set_device(std::filesystem::absolute(pool.device));
  request.set_force(pool.force);
  return Call(settings, &Client::CreatePool, request,
              [&](const auto& response) { Print(settings.output, response.pool(), out); });
}

absl::Status ListPools(const Settings& settings, std::ostream* out) {
  const absl::StatusOr<std::unique_ptr<Client>> client = Connect(settings);
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::ListPoolsResponse> pools = (*client)->ListPools();
  if (!pools.ok()) return pools.status();
  Print(settings.output, *pools, out);
  return absl::OkStatus();
}

absl::Status CheckPool(const Settings& settings, const PoolArguments& pool, std::ostream* out) {
  if (pool.offline) {
    std::vector<std::string> words = {"check", pool.pool};
    if (pool.verify_data) words.push_back("--verify-data");
    if (pool.repair) words.push_back("--repair");
    if (settings.output == Output::kJson) words.push_back("--json");
    return BecomeTool(words);
  }
  v1::CheckPoolRequest request;
  request.set_pool(PoolName(pool.pool));
  request.set_verify_data(pool.verify_data);
  request.set_repair(pool.repair);
  int problems = 0;
  const absl::Status status =
      Call(settings, &Client::CheckPool, request, [&](const v1::CheckPoolResponse& report) {
        Print(settings.output, report, out);
        problems = report.problems_size();
      });
  if (!status.ok() || problems == 0) return status;
  return absl::FailedPreconditionError(
      absl::StrCat("pool ", pool.pool, " has ", problems, " problems"));
}

absl::Status DumpPool(const Settings& settings, const PoolArguments& pool, std::ostream* out) {
  if (pool.offline) return BecomeTool({"dump", pool.pool});
  const absl::StatusOr<std::unique_ptr<Client>> client = Connect(settings);
  if (!client.ok()) return client.status();
  v1::DumpPoolRequest request;
  request.set_pool(PoolName(pool.pool));
  return (*client)->DumpPool(request, [out](const std::string& line) { *out << line << "\n"; });
}

absl::Status CreateVolume(const Settings& settings, const VolumeArguments& volume,
                          std::ostream* out) {
  v1::CreateVolumeRequest request;
  request.set_name(volume.name);
  request.set_size_bytes(volume.size_bytes);
  request.set_pool(PoolName(volume.pool));
  return Call(settings, &Client::CreateVolume, request,
              [&](const auto& response) { Print(settings.output, response.volume(), out); });
}

absl::Status ListVolumes(const Settings& settings, std::ostream* out) {
  const absl::StatusOr<std::unique_ptr<Client>> client = Connect(settings);
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::ListVolumesResponse> volumes = (*client)->ListVolumes();
  if (!volumes.ok()) return volumes.status();
  Print(settings.output, *volumes, out);
  return absl::OkStatus();
}

absl::Status DeleteVolume(const Settings& settings, const VolumeArguments& volume) {
  v1::DeleteVolumeRequest request;
  request.set_name(volume.name);
  return Call(settings, &Client::DeleteVolume, request, kIgnore);
}

absl::Status CreateSnapshot(const Settings& settings, const VolumeArguments& volume,
                            std::ostream* out) {
  v1::CreateSnapshotRequest request;
  request.set_volume(volume.name);
  request.set_name(volume.snapshot);
  request.set_hold_id(volume.hold);
  return Call(settings, &Client::CreateSnapshot, request,
              [&](const auto& response) { Print(settings.output, response.snapshot(), out); });
}

absl::Status HoldWrites(const Settings& settings, const VolumeArguments& volume) {
  v1::HoldWritesRequest request;
  request.set_volume(volume.name);
  request.set_hold_id(volume.hold);
  request.set_limit_ms(volume.hold_limit_ms);
  return Call(settings, &Client::HoldWrites, request, kIgnore);
}

absl::Status ReleaseWrites(const Settings& settings, const VolumeArguments& volume) {
  v1::ReleaseWritesRequest request;
  request.set_volume(volume.name);
  request.set_hold_id(volume.hold);
  return Call(settings, &Client::ReleaseWrites, request, kIgnore);
}

absl::Status ListBlocks(const Settings& settings, const VolumeArguments& volume,
                        std::ostream* out) {
  const absl::StatusOr<std::unique_ptr<Client>> client = Connect(settings);
  if (!client.ok()) return client.status();
  const auto print = [out](const v1::ListBlocksResponse& part) {
    for (const v1::BlockRange& range : part.ranges()) {
      *out << range.offset() << " " << range.size_bytes() << "\n";
    }
  };
  if (volume.since.empty()) {
    v1::ListAllocatedRequest request;
    request.set_volume(volume.name);
    request.set_snapshot(volume.snapshot);
    return (*client)->ListAllocated(request, print);
  }
  v1::ListChangedRequest request;
  request.set_volume(volume.name);
  request.set_base_snapshot(volume.since);
  request.set_target_snapshot(volume.snapshot);
  return (*client)->ListChanged(request, print);
}

absl::Status ListSnapshots(const Settings& settings, const VolumeArguments& volume,
                           std::ostream* out) {
  v1::ListSnapshotsRequest request;
  request.set_volume(volume.name);
  return Call(settings, &Client::ListSnapshots, request,
              [&](const auto& response) { Print(settings.output, response, out); });
}

absl::Status DeleteSnapshot(const Settings& settings, const VolumeArguments& volume) {
  v1::DeleteSnapshotRequest request;
  request.set_volume(volume.name);
  request.set_name(volume.snapshot);
  return Call(settings, &Client::DeleteSnapshot, request, kIgnore);
}

absl::Status CloneVolume(const Settings& settings, const VolumeArguments& volume,
                         std::ostream* out) {
  const std::size_t at = volume.source.find('@');  // not a character of names
  if (at == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", volume.source, "' must be VOLUME@SNAPSHOT"));
  }
  v1::CloneVolumeRequest request;
  request.set_source(volume.source.substr(0, at));
  request.set_snapshot(volume.source.substr(at + 1));
  request.set_name(volume.name);
  request.set_size_bytes(volume.size_bytes);
  return Call(settings, &Client::CloneVolume, request,
              [&](const auto& response) { Print(settings.output, response.volume(), out); });
}

absl::Status GrowVolume(const Settings& settings, const VolumeArguments& volume,
                        std::ostream* out) {
  v1::GrowVolumeRequest request;
  request.set_name(volume.name);
  request.set_size_bytes(volume.size_bytes);
  return Call(settings, &Client::GrowVolume, request,
              [&](const auto& response) { Print(settings.output, response.volume(), out); });
}

absl::Status SetVolume(const Settings& settings, const VolumeArguments& volume) {
  if (volume.min_in_sync != 0) {
    v1::SetMinInSyncRequest request;
    request.set_volume(volume.name);
    request.set_min_in_sync(volume.min_in_sync);
    const absl::Status set = Call(settings, &Client::SetMinInSync, request, kIgnore);
    if (!set.ok()) return set;
  }
  if (!volume.iops && !volume.bandwidth_bytes_per_second) return absl::OkStatus();
  v1::SetQosRequest request;
  v1::GetVolumeStatusRequest question;
  question.set_name(volume.name);
  const absl::Status asked =
      Call(settings, &Client::GetVolumeStatus, question,
           [&](const auto& status) { *request.mutable_qos() = status.qos(); });
  if (!asked.ok()) return asked;
  request.set_volume(volume.name);
  if (volume.iops) request.mutable_qos()->set_iops(*volume.iops);
  if (volume.bandwidth_bytes_per_second) {
    request.mutable_qos()->set_bandwidth_bytes_per_second(*volume.bandwidth_bytes_per_second);
  }
  return Call(settings, &Client::SetQos, request, kIgnore);
}

absl::Status AttachVolume(const Settings& settings, const VolumeArguments& volume,
                          std::ostream* out) {
  v1::AttachVolumeRequest request;
  request.set_name(volume.name);
  request.set_read_only(volume.read_only);
  request.set_frontend(volume.frontend);
  return Call(settings, &Client::AttachVolume, request,
              [&](const auto& response) { Print(settings.output, response, out); });
}

absl::Status DetachVolume(const Settings& settings, const VolumeArguments& volume) {
  v1::DetachVolumeRequest request;
  request.set_name(volume.name);
  return Call(settings, &Client::DetachVolume, request, kIgnore);
}

absl::Status ScrubVolume(const Settings& settings, const VolumeArguments& volume,
                         std::ostream* out) {
  const absl::StatusOr<std::unique_ptr<Client>> client = Connect(settings);
  if (!client.ok()) return client.status();
  v1::ScrubVolumeRequest request;
  request.set_name(volume.name);
  request.set_bytes_per_second(volume.bytes_per_second);
  const absl::StatusOr<v1::ScrubVolumeResponse> started = (*client)->ScrubVolume(request);
  if (!started.ok() || volume.no_wait) return started.status();
  v1::GetVolumeStatusRequest ask;
  ask.set_name(volume.name);
  for (;;) {
    const absl::StatusOr<v1::GetVolumeStatusResponse> status = (*client)->GetVolumeStatus(ask);
    if (!status.ok()) return status.status();
    const ScrubReport report = SummarizeScrub(*status);
    if (!report.running) {
      Print(settings.output, report, out);
      return Judge(report, volume.name);
    }
    std::this_thread::sleep_for(kScrubPollPause);
  }
}

}  // namespace keelson::ctl
