#include "tests/sim/store_model.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/probe.h"

namespace keelson::sim {
namespace {

constexpr std::uint64_t kBlocksPerRegion = pool::kRegionBytes / pool::kBlockBytes;

bool AllZero(std::span<const std::byte> bytes) {
  static constexpr std::byte kNothing[kModelBlockBytes] = {};
  return std::memcmp(bytes.data(), kNothing, bytes.size()) == 0;
}

}  // namespace

VolumeModel* StoreModel::Add(const std::string& name, pool::ReplicaId id,
                             std::uint64_t size_blocks) {
  auto volume = std::make_unique<VolumeModel>();
  volume->name = name;
  volume->id = id;
  volume->tag = next_tag_++;
  volume->size_blocks = size_blocks;
  return (volumes_[name] = std::move(volume)).get();
}

VolumeModel* StoreModel::Find(const std::string& name) {
  const auto found = volumes_.find(name);
  return found == volumes_.end() ? nullptr : found->second.get();
}

void StoreModel::BeginChange(VolumeModel* volume, std::uint64_t first, std::uint64_t count,
                             Version version, std::uint64_t op) {
  const std::uint64_t now = Tick();
  const std::uint64_t oldest_read = volume->reads.empty() ? now : *volume->reads.begin();
  for (std::uint64_t block = first; block < first + count; ++block) {
    BlockHistory& history = volume->blocks[block];
    history.Prune(volume->flushed, oldest_read);
    history.Begin(version, now, op);
    const std::uint64_t region = block / kBlocksPerRegion;
    volume->region_changed[region] = UINT64_MAX;
  }
  // A later note makes the checksums of the region count for nothing after a crash.
  for (auto& [place, flip] : flips_) {
    const std::uint64_t region = place.first / kBlocksPerRegion;
    if (region >= first / kBlocksPerRegion && region <= (first + count - 1) / kBlocksPerRegion) {
      flip.known = false;
    }
  }
}

void StoreModel::EndChange(VolumeModel* volume, std::uint64_t first, std::uint64_t count,
                           std::uint64_t op, bool ok, bool durable) {
  const std::uint64_t now = Tick();
  for (std::uint64_t block = first; block < first + count; ++block) {
    volume->blocks[block].End(op, ok ? BlockHistory::State::kDone : BlockHistory::State::kUnknown,
                              durable, now);
    volume->region_changed[block / kBlocksPerRegion] = now;
  }
}

void StoreModel::Flushed(VolumeModel* volume, std::uint64_t began) {
  volume->flushed = std::max(volume->flushed, began);
}

bool StoreModel::IsFlipped(const std::vector<BlockHistory::Entry>& visible, std::uint64_t block,
                           std::size_t sector, std::span<const std::byte> bytes,
                           bool* known) const {
  constexpr std::size_t kSectorBits = kModelSectorBytes * 8;
  for (const BlockHistory::Entry& entry : visible) {
    const Version shown = versions_.Sector(entry.version, sector);
    for (const Version version : {entry.version, shown}) {
      const auto flip = flips_.find({block, version});
      if (flip == flips_.end() || flip->second.bit / kSectorBits != sector) continue;
      std::vector<std::byte> mended(bytes.begin(), bytes.end());
      const std::uint32_t bit = flip->second.bit % kSectorBits;
      mended[bit / 8] ^= std::byte{1} << (bit % 8);
      if (!versions_.Matches(shown, block, sector, mended)) continue;
      *known = flip->second.known;
      return true;
    }
  }
  return false;
}

std::string StoreModel::CheckBlock(const std::string& what, BlockHistory* history,
                                   std::uint64_t block, std::span<const std::byte> bytes,
                                   std::uint64_t began, bool observe) {
  const std::vector<BlockHistory::Entry> visible = history->Visible(began);
  const bool may_be_torn = std::any_of(visible.begin(), visible.end(), [](const auto& entry) {
    return entry.state == BlockHistory::State::kUnknown;
  });
  std::array<Version, kSectorsPerBlock> shown{};
  for (std::size_t sector = 0; sector < kSectorsPerBlock; ++sector) {
    const auto part = bytes.subspan(sector * kModelSectorBytes, kModelSectorBytes);
    const auto match = std::find_if(visible.begin(), visible.end(), [&](const auto& entry) {
      return versions_.Matches(entry.version, block, sector, part);
    });
    if (match == visible.end()) {
      bool known = false;
      if (IsFlipped(visible, block, sector, part, &known)) {
        return known ? absl::StrCat(what, ": block ", block, " returned rotten data as good") : "";
      }
      std::string allowed;
      for (const auto& entry : visible) absl::StrAppend(&allowed, " ", entry.version);
      return absl::StrCat(what, ": sector ", sector, " of block ", block, " shows ",
                          versions_.Describe(part), ", allowed versions:", allowed);
    }
    shown[sector] = versions_.Sector(match->version, sector);
  }
  const bool whole = std::all_of(visible.begin(), visible.end(), [&](const auto& entry) {
                       for (std::size_t sector = 0; sector < kSectorsPerBlock; ++sector) {
                         if (versions_.Sector(entry.version, sector) != shown[sector]) return true;
                       }
                       return false;
                     }) == false;
  if (!whole && !may_be_torn) {
    return absl::StrCat(what, ": block ", block, " is a mix of writes that completed");
  }
  if (!whole) SIM_PROBE("model: a torn block was read after a crash");
  if (observe && history->QuietSince(began) && !history->Certain()) {
    Version version = shown[0];
    if (!std::all_of(shown.begin(), shown.end(), [&](Version v) { return v == shown[0]; })) {
      version = versions_.NewMix(shown);
    }
    history->Observe(version, began, Tick());
  }
  return "";
}

std::string StoreModel::CheckRead(const std::string& what, BlockMap* blocks, std::uint64_t first,
                                  std::span<const std::byte> bytes, std::uint64_t began,
                                  bool observe) {
  for (std::size_t i = 0; i < bytes.size() / kModelBlockBytes; ++i) {
    const auto block_bytes = bytes.subspan(i * kModelBlockBytes, kModelBlockBytes);
    const auto found = blocks->find(first + i);
    if (found == blocks->end()) {
      if (AllZero(block_bytes)) continue;
      return absl::StrCat(what, ": block ", first + i, ", never written, shows ",
                          versions_.Describe(block_bytes.first(kModelSectorBytes)));
    }
    std::string wrong = CheckBlock(what, &found->second, first + i, block_bytes, began, observe);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

bool StoreModel::MayBeLost(const BlockMap& blocks, std::uint64_t first, std::uint64_t count,
                           std::uint64_t began) const {
  for (auto it = blocks.lower_bound(first); it != blocks.end() && it->first < first + count; ++it) {
    for (const BlockHistory::Entry& entry : it->second.Visible(began)) {
      if (flips_.contains({it->first, entry.version})) return true;
    }
  }
  return false;
}

BlockMap StoreModel::Freeze(const VolumeModel& volume, std::uint64_t began, std::uint64_t now) {
  BlockMap frozen;
  for (const auto& [block, history] : volume.blocks) {
    BlockHistory copy = history.Frozen(began, now);
    if (!copy.CertainlyZero()) frozen.emplace(block, std::move(copy));
  }
  return frozen;
}

void StoreModel::ProcessDied() {
  const std::uint64_t now = Tick();
  for (auto& [name, volume] : volumes_) {
    for (auto& [block, history] : volume->blocks) history.ProcessDied(now);
    for (auto& [region, changed] : volume->region_changed) {
      volume->unclean.insert(region);
      changed = std::min(changed, now);
    }
    volume->attached = volume->busy = false;
    volume->in_flight = 0;
    volume->reads.clear();
  }
}

void StoreModel::LoseUnflushed(bool final) {
  const std::uint64_t now = Tick();
  for (auto& [name, volume] : volumes_) {
    for (auto& [block, history] : volume->blocks) {
      history.LoseUnflushed(volume->flushed, now, final);
    }
  }
}

std::uint64_t StoreModel::ExtentsMax() const {
  std::uint64_t extents = 0;
  const auto add = [&extents](const BlockMap& blocks) {
    std::uint64_t last = UINT64_MAX;
    for (const auto& [block, history] : blocks) {
      const std::uint64_t extent = block / pool::kBlocksPerExtent;
      if (extent == last || history.CertainlyZero()) continue;
      last = extent;
      ++extents;
    }
  };
  for (const auto& [name, volume] : volumes_) {
    add(volume->blocks);
    for (const auto& [snapshot_name, snapshot] : volume->snapshots) add(snapshot.blocks);
  }
  return extents;
}

std::uint64_t StoreModel::BlocksMin() const {
  std::set<std::pair<std::uint64_t, Version>> contents;
  const auto add = [&contents](const BlockMap& blocks) {
    for (const auto& [block, history] : blocks) {
      if (history.Certain() && history.latest() != kZeroes) {
        contents.emplace(block, history.latest());
      }
    }
  };
  for (const auto& [name, volume] : volumes_) {
    add(volume->blocks);
    for (const auto& [snapshot_name, snapshot] : volume->snapshots) add(snapshot.blocks);
  }
  return contents.size();
}

}  // namespace keelson::sim
