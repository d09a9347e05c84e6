#pragma once
// How keelctl shows what the daemon answered: tables for people (sizes like "1.5 GiB", times in
// UTC) or JSON for programs (sizes in bytes, times in nanoseconds, field names of
// blockstore.proto). Pure functions of their arguments.

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "proto/keelson/v1/blockstore.pb.h"

namespace keelson::ctl {

enum class Output { kTable, kJson };

void Print(Output output, const v1::ListPoolsResponse& pools, std::ostream* out);
void Print(Output output, const v1::Pool& pool, std::ostream* out);
void Print(Output output, const v1::CheckPoolResponse& report, std::ostream* out);
void Print(Output output, const v1::ListVolumesResponse& volumes, std::ostream* out);
void Print(Output output, const v1::Volume& volume, std::ostream* out);
void Print(Output output, const v1::ListSnapshotsResponse& snapshots, std::ostream* out);
void Print(Output output, const v1::Snapshot& snapshot, std::ostream* out);
void Print(Output output, const v1::AttachVolumeResponse& attached, std::ostream* out);

// Rows under a header, in columns as wide as their widest cell; no blanks at the ends of lines.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);

// "2026-05-09T07:29:33Z".
std::string FormatTime(std::int64_t unix_ns);

}  // namespace keelson::ctl
