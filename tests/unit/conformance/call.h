#pragma once
// Call and Answer: one RPC of the specification as the random sequences have it, with what matters
// of its arguments and of its answer. Values; AskDriver from any thread.

#include <grpcpp/support/status_code_enum.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "csi/names.h"

namespace keelson::csi {

class World;

using Mode = pb::VolumeCapability::AccessMode;

enum class Op {
  kCreateVolume,
  kDeleteVolume,
  kPublish,
  kUnpublish,
  kStage,
  kUnstage,
  kNodePublish,
  kNodeUnpublish,
  kStats,
  kExpand,
  kNodeExpand,
  kModify,
  kValidate,
  kListVolumes,
  kCreateSnapshot,
  kDeleteSnapshot,
  kListSnapshots,
};

struct Call {
  Op op = Op::kListVolumes;
  std::string name;      // of what is to be made
  std::string volume;    // an id
  std::string snapshot;  // an id; of CreateVolume the source
  std::string source;    // of CreateVolume: an id of a volume
  std::int64_t required = 0;
  std::int64_t limit = 0;
  Mode::Mode mode = Mode::SINGLE_NODE_MULTI_WRITER;
  bool block = false;
  std::string fs;
  bool noexec = false;  // a mount flag
  bool readonly = false;
  std::map<std::string, std::string> parameters;  // of CreateVolume and ModifyVolume
  std::string node;
  std::string staging;
  std::string target;
  std::map<std::string, std::string> context;  // as ControllerPublishVolume gave it
  std::int32_t page = 0;                       // of a list

  pb::VolumeCapability Capability() const;
  std::string Text() const;
};

struct Answer {
  grpc::StatusCode code = grpc::StatusCode::OK;
  std::string message;
  std::string id;                  // of what was made
  std::int64_t capacity = 0;       // of what was made or grown
  std::string source;              // "snapshot ID", "volume ID"; of a snapshot its volume's id
  bool flag = false;               // confirmed; node expansion required; ready to use
  std::vector<std::string> lines;  // of a list, in order of the ids
  std::map<std::string, std::string> context;  // of ControllerPublishVolume

  std::string Text() const;
};

// A volume and a snapshot as a list has them.
std::string VolumeLine(const std::string& id, std::int64_t capacity,
                       const std::vector<std::string>& nodes);
std::string SnapshotLine(const std::string& id, const std::string& volume, std::int64_t size);

Answer AskDriver(World& world, const Call& call);

// Whether the caller is to call again: somebody else was at it.
bool IsTryAgain(grpc::StatusCode code);

}  // namespace keelson::csi
