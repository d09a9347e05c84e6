#include "provisioner/ctl/format.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/rpc/size_text.h"

namespace keelson::ctl {
namespace {

using Row = std::vector<std::string>;
using nlohmann::json;

const Row kPoolHeader = {"ID", "DIRECTORY", "CAPACITY", "USED", "FREE", "VOLUMES", "STATE"};
const Row kVolumeHeader = {"NAME", "SIZE", "ALLOCATED", "SNAPSHOTS", "STATE", "CREATED", "POOL"};
const Row kSnapshotHeader = {"NAME", "SIZE", "CREATED"};

Row PoolRow(const v1::Pool& pool) {
  const std::string state = pool.error().empty() ? "ok" : absl::StrCat("error: ", pool.error());
  if (pool.id().empty()) return {"-", pool.directory(), "-", "-", "-", "-", state};
  return {pool.id(),
          pool.directory(),
          rpc::HumanSize(pool.capacity_bytes()),
          rpc::HumanSize(pool.used_bytes()),
          rpc::HumanSize(pool.free_bytes()),
          absl::StrCat(pool.volume_count()),
          state};
}

std::string VolumeState(const v1::Volume& volume) {
  if (!volume.error().empty()) return absl::StrCat("error: ", volume.error());
  if (!volume.attached()) return "detached";
  return absl::StrCat("attached", volume.read_only() ? " read-only" : "",
                      volume.device().empty() ? "" : " as ", volume.device(),
                      volume.device_warning().empty() ? "" : "; ", volume.device_warning());
}

Row VolumeRow(const v1::Volume& volume) {
  return {volume.name(),
          rpc::HumanSize(volume.size_bytes()),
          rpc::HumanSize(volume.allocated_bytes()),
          absl::StrCat(volume.snapshot_count()),
          VolumeState(volume),
          FormatTime(volume.created_unix_ns()),
          volume.pool_id()};
}

Row SnapshotRow(const v1::Snapshot& snapshot) {
  return {snapshot.name(), rpc::HumanSize(snapshot.size_bytes()),
          FormatTime(snapshot.created_unix_ns())};
}

json ToJson(const v1::Pool& pool) {
  return {{"id", pool.id()},
          {"directory", pool.directory()},
          {"error", pool.error()},
          {"capacity_bytes", pool.capacity_bytes()},
          {"used_bytes", pool.used_bytes()},
          {"free_bytes", pool.free_bytes()},
          {"reclaiming_bytes", pool.reclaiming_bytes()},
          {"volume_count", pool.volume_count()}};
}

json ToJson(const v1::Volume& volume) {
  return {{"name", volume.name()},
          {"pool_id", volume.pool_id()},
          {"size_bytes", volume.size_bytes()},
          {"allocated_bytes", volume.allocated_bytes()},
          {"created_unix_ns", volume.created_unix_ns()},
          {"snapshot_count", volume.snapshot_count()},
          {"attached", volume.attached()},
          {"read_only", volume.read_only()},
          {"uri", volume.uri()},
          {"device", volume.device()},
          {"device_warning", volume.device_warning()},
          {"error", volume.error()}};
}

json ToJson(const v1::Snapshot& snapshot) {
  return {{"name", snapshot.name()},
          {"size_bytes", snapshot.size_bytes()},
          {"created_unix_ns", snapshot.created_unix_ns()}};
}

json ToJson(const v1::CheckPoolResponse& report) {
  return {
      {"replicas", report.replicas()},
      {"layers", report.layers()},
      {"extents", report.extents()},
      {"blocks_present", report.blocks_present()},
      {"checksums", report.checksums()},
      {"blocks_verified", report.blocks_verified()},
      {"problems", std::vector<std::string>(report.problems().begin(), report.problems().end())},
      {"repaired", std::vector<std::string>(report.repaired().begin(), report.repaired().end())}};
}

// Messages of the daemon may hold anything; what is not UTF-8 is replaced.
void PrintJson(const json& value, std::ostream* out) {
  *out << value.dump(2, ' ', false, json::error_handler_t::replace) << "\n";
}

template <typename Items, typename MakeRow>
void PrintItems(Output output, const Items& items, const Row& header, MakeRow make_row,
                std::ostream* out) {
  if (output == Output::kJson) {
    json list = json::array();
    for (const auto& item : items) list.push_back(ToJson(item));
    PrintJson(list, out);
    return;
  }
  std::vector<Row> rows = {header};
  for (const auto& item : items) rows.push_back(make_row(item));
  *out << FormatTable(rows);
}

template <typename Item, typename MakeRow>
void PrintItem(Output output, const Item& item, const Row& header, MakeRow make_row,
               std::ostream* out) {
  if (output == Output::kJson) {
    PrintJson(ToJson(item), out);
  } else {
    *out << FormatTable({header, make_row(item)});
  }
}

}  // namespace

std::string FormatTable(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      line.append(widths[i] - row[i].size() + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string FormatTime(std::int64_t unix_ns) {
  const auto seconds = static_cast<std::time_t>(unix_ns / 1'000'000'000);
  std::tm fields = {};
  gmtime_r(&seconds, &fields);
  char text[32];
  const std::size_t size = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &fields);
  return {text, size};
}

void Print(Output output, const v1::ListPoolsResponse& pools, std::ostream* out) {
  PrintItems(output, pools.pools(), kPoolHeader, PoolRow, out);
}

void Print(Output output, const v1::Pool& pool, std::ostream* out) {
  PrintItem(output, pool, kPoolHeader, PoolRow, out);
}

void Print(Output output, const v1::CheckPoolResponse& report, std::ostream* out) {
  if (output == Output::kJson) {
    PrintJson(ToJson(report), out);
    return;
  }
  for (const std::string& problem : report.problems()) *out << "problem: " << problem << "\n";
  for (const std::string& repaired : report.repaired()) *out << "repaired: " << repaired << "\n";
  *out << report.replicas() << " replicas, " << report.layers() << " layers, " << report.extents()
       << " extents, " << report.blocks_present() << " blocks present, " << report.checksums()
       << " checksums, " << report.blocks_verified() << " blocks verified: ";
  if (report.problems().empty()) {
    *out << "the pool is sound\n";
  } else {
    *out << report.problems_size() << " problems, " << report.repaired_size() << " repaired\n";
  }
}

void Print(Output output, const v1::ListVolumesResponse& volumes, std::ostream* out) {
  PrintItems(output, volumes.volumes(), kVolumeHeader, VolumeRow, out);
}

void Print(Output output, const v1::Volume& volume, std::ostream* out) {
  PrintItem(output, volume, kVolumeHeader, VolumeRow, out);
}

void Print(Output output, const v1::ListSnapshotsResponse& snapshots, std::ostream* out) {
  PrintItems(output, snapshots.snapshots(), kSnapshotHeader, SnapshotRow, out);
}

void Print(Output output, const v1::Snapshot& snapshot, std::ostream* out) {
  PrintItem(output, snapshot, kSnapshotHeader, SnapshotRow, out);
}

void Print(Output output, const v1::AttachVolumeResponse& attached, std::ostream* out) {
  if (output == Output::kJson) {
    PrintJson(
        {{"uri", attached.uri()}, {"device", attached.device()}, {"warning", attached.warning()}},
        out);
  } else {
    *out << (attached.device().empty() ? attached.uri() : attached.device()) << "\n";
    // Not with the answer, which a script takes as it is.
    if (!attached.warning().empty()) absl::FPrintF(stderr, "warning: %s\n", attached.warning());
  }
}

}  // namespace keelson::ctl
