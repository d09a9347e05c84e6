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
  // What lay below the adopted blocks, if those were not flushed, nobody knows.
  const bool adopted_lost = adopted_ > flushed_ && horizon > adopted_;
  contents_unknown_ = contents_unknown_ || (loss && (flush_lied || adopted_lost));
  lost_before_ = std::max(lost_before_, horizon);
  for (auto& [block, history] : blocks_) {
    if (loss) {
      history.Lose(flushed_, horizon, now);
    } else {
      history.Fence(now);
    }
  }
}

std::string GroupVolume::Take(const CopyView& copy, const pool::SnapshotId& layer,
                              std::uint64_t size_blocks,
                              std::map<std::uint64_t, RegisterHistory>* into) {
  into->clear();
  for (std::uint64_t block = 0; block < size_blocks; ++block) {
    const std::optional<Version> shown = versions_.Shown(block, copy.Block(layer, block));
    if (!shown.has_value()) return absl::StrCat("one-history: block ", block, " shows garbage");
    if (*shown != kZeroes) into->emplace(block, RegisterHistory(*shown));
  }
  return "";
}

std::string GroupVolume::Adopt(const CopyView& copy, std::uint64_t size_blocks, std::uint64_t now) {
  adopted_ = now;
  return Take(copy, pool::SnapshotId(), size_blocks, &blocks_);
}

std::string GroupVolume::AdoptSnapshot(const CopyView& copy,
                                       const replica::ConfiguredSnapshot& snapshot,
                                       std::uint64_t now) {
  GroupSnapshot& taken = snapshots_[snapshot.id];
  taken.state = GroupSnapshot::State::kComplete;
  taken.name = snapshot.name;
  taken.began = taken.ended = now;
  taken.size_blocks = snapshot.size_bytes / kModelBlockBytes;
  return Take(copy, snapshot.id, taken.size_blocks, &taken.blocks);
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
