#include "tests/crash/history.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <istream>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "tests/sim/random.h"

namespace keelson::crash {
namespace {

constexpr std::uint64_t kMagic = 0x6b65656c'00000000;  // "keel", then the volume
constexpr std::size_t kWords = kSectorBytes / sizeof(std::uint64_t);
using SectorWords = std::array<std::uint64_t, kWords>;

SectorWords MakeSector(const Stamp& stamp, std::size_t index) {
  SectorWords words{};
  if (stamp.seq == 0) return words;
  words[0] = kMagic | stamp.volume;
  words[1] = std::uint64_t{stamp.block} << 8 | index;
  words[2] = stamp.seq;
  const std::uint64_t base = sim::Mix(words[0] ^ sim::Mix(words[1] ^ sim::Mix(words[2])));
  for (std::size_t i = 3; i < kWords; ++i) words[i] = base + i;
  return words;
}

void SaveAct(std::ostream* out, const Act& act) {
  SaveU64(out, act.issued);
  SaveU64(out, act.acked);
}
Act LoadAct(std::istream* in) {
  Act act;
  act.issued = LoadU64(in);
  act.acked = LoadU64(in);
  return act;
}
void SaveStamps(std::ostream* out, const std::vector<Stamp>& stamps) {
  SaveU64(out, stamps.size());
  for (const Stamp& stamp : stamps) {
    SaveU64(out, stamp.volume);
    SaveU64(out, stamp.block);
    SaveU64(out, stamp.seq);
  }
}
std::vector<Stamp> LoadStamps(std::istream* in) {
  std::vector<Stamp> stamps(LoadU64(in));
  for (Stamp& stamp : stamps) {
    stamp.volume = static_cast<std::uint32_t>(LoadU64(in));
    stamp.block = static_cast<std::uint32_t>(LoadU64(in));
    stamp.seq = LoadU64(in);
  }
  return stamps;
}

}  // namespace

void FillBlock(const Stamp& stamp, std::byte* block) {
  for (std::size_t i = 0; i < kBlockBytes / kSectorBytes; ++i) {
    const SectorWords words = MakeSector(stamp, i);
    std::memcpy(block + i * kSectorBytes, words.data(), kSectorBytes);
  }
}

bool IsSectorOf(const Stamp& stamp, std::size_t index, const std::byte* sector) {
  const SectorWords words = MakeSector(stamp, index);
  return std::memcmp(sector, words.data(), kSectorBytes) == 0;
}

std::string DescribeSector(const std::byte* sector) {
  SectorWords words;
  std::memcpy(words.data(), sector, kSectorBytes);
  if (words == SectorWords{}) return "zeroes";
  const auto volume = static_cast<std::uint32_t>(words[0]);
  if ((words[0] >> 32) != kMagic >> 32) return "bytes that were never written";
  return absl::StrCat("volume ", volume, " block ", words[1] >> 8, " write ", words[2], " sector ",
                      words[1] & 0xff);
}

std::uint64_t VolumeHistory::FlushedUntil(std::uint64_t cut) const {
  std::uint64_t until = 0;
  for (const Act& flush : flushes) {
    if (flush.MustHaveHappened(cut)) until = std::max(until, flush.issued);
  }
  return until;
}

std::vector<Stamp> VolumeHistory::Allowed(std::size_t block, std::uint64_t cut,
                                          CutKind kind) const {
  const std::vector<Version>& versions = blocks[block];
  const std::uint64_t flushed_until = FlushedUntil(cut);
  std::size_t floor = versions.size() - 1;
  while (floor > 0) {
    const Version& version = versions[floor];
    const bool promised =
        kind == CutKind::kKilled || version.fua || version.written.acked <= flushed_until;
    if (version.written.MustHaveHappened(cut) && promised) break;
    --floor;
  }
  std::vector<Stamp> allowed;
  for (std::size_t i = floor; i < versions.size(); ++i) {
    if (i > floor && !versions[i].written.MayHaveHappened(cut)) break;
    allowed.insert(allowed.end(), versions[i].stamps.begin(), versions[i].stamps.end());
  }
  return allowed;
}

void SaveHistory(std::ostream* out, const History& history) {
  SaveU64(out, history.volumes.size());
  for (const VolumeHistory& volume : history.volumes) {
    SaveU64(out, volume.number);
    SaveString(out, volume.name);
    SaveAct(out, volume.made);
    SaveAct(out, volume.removed);
    SaveU64(out, volume.sizes.size());
    for (const VolumeHistory::Size& size : volume.sizes) {
      SaveU64(out, size.block_count);
      SaveAct(out, size.set);
    }
    SaveU64(out, volume.blocks.size());
    for (const std::vector<Version>& versions : volume.blocks) {
      SaveU64(out, versions.size());
      for (const Version& version : versions) {
        SaveStamps(out, version.stamps);
        SaveAct(out, version.written);
        SaveU64(out, version.fua ? 1 : 0);
      }
    }
    SaveU64(out, volume.flushes.size());
    for (const Act& flush : volume.flushes) SaveAct(out, flush);
    SaveU64(out, volume.snapshots.size());
    for (const SnapshotHistory& snapshot : volume.snapshots) {
      SaveString(out, snapshot.name);
      SaveAct(out, snapshot.made);
      SaveAct(out, snapshot.removed);
      SaveU64(out, snapshot.blocks.size());
      for (const std::vector<Stamp>& stamps : snapshot.blocks) SaveStamps(out, stamps);
    }
  }
}

void LoadHistory(std::istream* in, History* history) {
  history->volumes.resize(LoadU64(in));
  for (VolumeHistory& volume : history->volumes) {
    volume.number = static_cast<std::uint32_t>(LoadU64(in));
    volume.name = LoadString(in);
    volume.made = LoadAct(in);
    volume.removed = LoadAct(in);
    volume.sizes.resize(LoadU64(in));
    for (VolumeHistory::Size& size : volume.sizes) {
      size.block_count = LoadU64(in);
      size.set = LoadAct(in);
    }
    volume.blocks.resize(LoadU64(in));
    for (std::vector<Version>& versions : volume.blocks) {
      versions.resize(LoadU64(in));
      for (Version& version : versions) {
        version.stamps = LoadStamps(in);
        version.written = LoadAct(in);
        version.fua = LoadU64(in) != 0;
      }
    }
    volume.flushes.resize(LoadU64(in));
    for (Act& flush : volume.flushes) flush = LoadAct(in);
    volume.snapshots.resize(LoadU64(in));
    for (SnapshotHistory& snapshot : volume.snapshots) {
      snapshot.name = LoadString(in);
      snapshot.made = LoadAct(in);
      snapshot.removed = LoadAct(in);
      snapshot.blocks.resize(LoadU64(in));
      for (std::vector<Stamp>& stamps : snapshot.blocks) stamps = LoadStamps(in);
    }
  }
}

}  // namespace keelson::crash
