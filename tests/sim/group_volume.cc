#include "tests/sim/group_volume.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/probe.h"

namespace keelson::sim {

void GroupVolume::BeginWrite(std::uint64_t op, std::uint64_t first, std::uint64_t count,
                             Version version, std::uint64_t now) {
  for (std::uint64_t i = 0; i < count; ++i) Block(first + i).Begin(op, version, now);
}

std::string GroupVolume::Acknowledge(std::uint64_t op, std::uint64_t first, std::uint64_t count,
                                     std::uint64_t now) {
  if (contents_unknown_) return "";
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string wrong = Block(first + i).Acknowledge(op, now);
    if (!wrong.empty()) {
      return absl::StrCat("reads-are-stable: block ", first + i,
                          ": acknowledged too late: ", wrong);
    }
  }
  return "";
}

std::string GroupVolume::CheckRead(std::uint64_t first, std::span<const std::byte> bytes,
                                   std::uint64_t began, std::uint64_t ended) {
  if (contents_unknown_) return "";
  for (std::uint64_t i = 0; i < bytes.size() / kModelBlockBytes; ++i) {
    const auto content = bytes.subspan(i * kModelBlockBytes, kModelBlockBytes);
    const std::string wrong =
        Block(first + i).ReadBytes(&versions_, first + i, content, began, ended);
    if (!wrong.empty()) {
      return absl::StrCat("reads-are-stable: block ", first + i, " shows ",
                          versions_.Describe(content.first(kModelSectorBytes)), ": ", wrong);
    }
  }
  return "";
}

void GroupVolume::Attached(std::uint64_t horizon, bool flush_lied, std::uint64_t now) {
  const bool loss = horizon > lost_before_;
  if (loss) SIM_PROBE("group: un-flushed writes may have been lost everywhere");
  contents_unknown_ = contents_unknown_ || (loss && flush_lied);
  lost_before_ = std::max(lost_before_, horizon);
  for (auto& [block, history] : blocks_) {
    if (loss) {
      history.Lose(flushed_, horizon, now);
    } else {
      history.Fence(now);
    }
  }
}

void GroupVolume::Seal(const pool::SnapshotId& id, std::uint64_t now) {
  GroupSnapshot& snapshot = snapshots_[id];
  snapshot.ended = now;
  snapshot.size_blocks = size_blocks_;
  snapshot.blocks = blocks_;
}

std::string GroupVolume::CheckSnapshot(GroupSnapshot* snapshot, std::uint64_t block,
                                       std::span<const std::byte> bytes) {
  if (contents_unknown_) return "";
  const std::string wrong =
      snapshot->blocks[block].ReadBytes(&versions_, block, bytes, snapshot->began, snapshot->ended);
  if (wrong.empty()) return "";
  return absl::StrCat("snapshot-is-a-cut: snapshot ", snapshot->name, " block ", block, " shows ",
                      versions_.Describe(bytes.first(kModelSectorBytes)), ": ", wrong);
}

}  // namespace keelson::sim
