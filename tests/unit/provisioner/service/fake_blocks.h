#pragma once
// FakeBlocks: what the copies of FakeNodes list of snapshots, the same in each copy of a segment.
// Guarded by the mutex of its FakeNodes, or used while no call runs.

#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "proto/keelson/v1/blockstore.pb.h"

namespace keelson::provisioner {

class FakeBlocks {
 public:
  using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;  // offset, size
  using Snapshots = std::map<std::string, v1::Snapshot>;                // of a copy, by name
  using Writer = grpc::ServerWriter<v1::ListBlocksResponse>;

  struct Query {
    std::uint32_t segment = 0;
    std::string base_id, id;  // the block store's; base_id: empty for all blocks
    std::uint64_t from_offset = 0;
    std::uint64_t count_max = 0;
  };

  // Of the snapshot of that name, or as changed since `base`; nothing otherwise.
  void Set(std::uint32_t segment, const std::string& base, const std::string& snapshot,
           Ranges ranges);
  // A snapshot was cut, after all others.
  void NoteCut(const std::string& name) { cut_.push_back(name); }
  // As a block store answers; each range is a part of its own.
  grpc::Status List(const Query& query, const Snapshots& copy, Writer* writer) const;

 private:
  std::map<std::tuple<std::uint32_t, std::string, std::string>, Ranges> ranges_;
  std::vector<std::string> cut_;  // names, the oldest first
};

}  // namespace keelson::provisioner
