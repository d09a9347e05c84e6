#include "tests/unit/provisioner/service/fake_blocks.h"

#include <algorithm>

#include "proto/rpc/status_map.h"

namespace keelson::provisioner {

void FakeBlocks::Set(std::uint32_t segment, const std::string& base, const std::string& snapshot,
                     Ranges ranges) {
  ranges_[{segment, base, snapshot}] = std::move(ranges);
}

grpc::Status FakeBlocks::List(const Query& query, const Snapshots& copy, Writer* writer) const {
  std::string base, snapshot;  // names
  for (const auto& [name, one] : copy) {
    if (one.id() == query.base_id) base = name;
    if (one.id() == query.id) snapshot = name;
  }
  if (snapshot.empty() || base.empty() != query.base_id.empty()) {
    return rpc::ToGrpcStatus(absl::NotFoundError("no such snapshot"));
  }
  const auto cut_at = [&](const std::string& name) {
    return std::find(cut_.begin(), cut_.end(), name);
  };
  if (!base.empty() && cut_at(base) >= cut_at(snapshot)) {
    return rpc::ToGrpcStatus(absl::InvalidArgumentError("it is not older"));
  }
  const auto found = ranges_.find({query.segment, base, snapshot});
  if (found == ranges_.end()) return grpc::Status::OK;
  std::uint64_t left = query.count_max;
  for (auto [offset, size_bytes] : found->second) {
    if (offset < query.from_offset) {
      if (offset + size_bytes <= query.from_offset) continue;
      size_bytes -= query.from_offset - offset;
      offset = query.from_offset;
    }
    if (left-- == 0) break;
    v1::ListBlocksResponse part;
    v1::BlockRange* const range = part.add_ranges();
    range->set_offset(offset);
    range->set_size_bytes(size_bytes);
    writer->Write(part);
  }
  return grpc::Status::OK;
}

}  // namespace keelson::provisioner
