#include "tests/sim/block_model.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/sim/random.h"

namespace keelson::sim {
namespace {

constexpr std::uint64_t kMagic = 0x4b454c0000000000u;
constexpr std::size_t kWords = kModelSectorBytes / 8;

bool AllZero(std::span<const std::byte> bytes) {
  static constexpr std::byte kNothing[kModelSectorBytes] = {};
  return std::memcmp(bytes.data(), kNothing, kModelSectorBytes) == 0;
}

}  // namespace

Version Versions::New(std::uint64_t tag) {
  tags_.push_back(tag);
  return static_cast<Version>(tags_.size() - 1);
}

Version Versions::NewMix(const std::array<Version, kSectorsPerBlock>& sectors) {
  mixes_.push_back(sectors);
  return kMix | static_cast<Version>(mixes_.size() - 1);
}

Version Versions::Sector(Version version, std::size_t sector) const {
  return (version & kMix) == 0 ? version : mixes_[version & ~kMix][sector];
}

void Versions::FillSector(Version version, std::uint64_t block, std::size_t sector,
                          std::span<std::uint64_t, 64> words) const {
  words[0] = kMagic | std::uint64_t{sector} << 32 | version;
  words[1] = block;
  words[2] = tags_[version];
  std::uint64_t value = Mix(words[0] ^ Mix(block));
  for (std::size_t i = 3; i < kWords; ++i) words[i] = value += 0x9e3779b97f4a7c15u;
}

void Versions::Fill(Version version, std::uint64_t block, std::span<std::byte> into) const {
  for (std::size_t sector = 0; sector < kSectorsPerBlock; ++sector) {
    std::byte* const to = into.data() + sector * kModelSectorBytes;
    std::array<std::uint64_t, kWords> words{};
    if (const Version shown = Sector(version, sector); shown != kZeroes) {
      FillSector(shown, block, sector, words);
    }
    std::memcpy(to, words.data(), kModelSectorBytes);
  }
}

bool Versions::Matches(Version version, std::uint64_t block, std::size_t sector,
                       std::span<const std::byte> bytes) const {
  const Version shown = Sector(version, sector);
  if (shown == kZeroes) return AllZero(bytes);
  std::uint64_t first = 0;
  std::memcpy(&first, bytes.data(), sizeof(first));
  if (static_cast<Version>(first) != shown) return false;
  std::array<std::uint64_t, kWords> words;
  FillSector(shown, block, sector, words);
  return std::memcmp(words.data(), bytes.data(), kModelSectorBytes) == 0;
}

std::optional<Version> Versions::Shown(std::uint64_t block, std::span<const std::byte> bytes) {
  if (bytes.empty()) return kZeroes;
  std::array<Version, kSectorsPerBlock> sectors{};
  for (std::size_t i = 0; i < kSectorsPerBlock; ++i) {
    const auto sector = bytes.subspan(i * kModelSectorBytes, kModelSectorBytes);
    std::uint64_t first = 0;
    std::memcpy(&first, sector.data(), sizeof(first));
    sectors[i] = static_cast<Version>(first);
    if (sectors[i] >= tags_.size() || !Matches(sectors[i], block, i, sector)) return std::nullopt;
  }
  const bool whole = std::all_of(sectors.begin(), sectors.end(),
                                 [&](Version version) { return version == sectors[0]; });
  return whole ? sectors[0] : NewMix(sectors);
}

std::string Versions::Describe(std::span<const std::byte> sector) const {
  if (AllZero(sector)) return "zeroes";
  std::uint64_t words[3];
  std::memcpy(words, sector.data(), sizeof(words));
  const auto version = static_cast<Version>(words[0]);
  if ((words[0] & 0xffffff0000000000u) != kMagic || version >= tags_.size()) return "garbage";
  return absl::StrCat("version ", version, " of sector ", (words[0] >> 32) & 0xff, " of block ",
                      words[1], " of volume ", words[2]);
}

void BlockHistory::Begin(Version version, std::uint64_t now, std::uint64_t op) {
  entries_.push_back({version, State::kInFlight, false, now, 0, op});
  settled_ = false;
}

void BlockHistory::End(std::uint64_t op, State state, bool durable, std::uint64_t now) {
  for (Entry& entry : entries_) {
    if (entry.op != op || entry.state != State::kInFlight) continue;
    entry.state = state;
    entry.durable = durable;
    entry.end = now;
  }
}

// Another write began after `entry` had ended, and was complete before `before`.
bool BlockHistory::Superseded(const Entry& entry, std::uint64_t before) const {
  if (entry.state == State::kInFlight) return false;
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& other) {
    return other.state == State::kDone && other.begin > entry.end && other.end < before;
  });
}

bool BlockHistory::SupersededDurably(const Entry& entry, std::uint64_t flushed) const {
  if (entry.state == State::kInFlight) return false;
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& other) {
    return other.state == State::kDone && other.begin > entry.end &&
           (other.durable || other.end < flushed);
  });
}

void BlockHistory::Prune(std::uint64_t flushed, std::uint64_t oldest_read) {
  if (entries_.size() == 1) return;
  std::vector<Entry> kept;
  for (const Entry& entry : entries_) {
    if (!SupersededDurably(entry, flushed) || !Superseded(entry, oldest_read)) {
      kept.push_back(entry);
    }
  }
  entries_ = std::move(kept);
}

void BlockHistory::ProcessDied(std::uint64_t now) {
  for (Entry& entry : entries_) {
    if (entry.state != State::kInFlight) continue;
    entry.state = State::kUnknown;
    entry.end = now;
  }
}

void BlockHistory::LoseUnflushed(std::uint64_t flushed, std::uint64_t now, bool final) {
  std::vector<Entry> kept;
  for (const Entry& entry : entries_) {
    if (!SupersededDurably(entry, flushed)) kept.push_back(entry);
  }
  entries_ = std::move(kept);
  if (entries_.size() == 1) return;
  for (Entry& entry : entries_) {
    entry.state = State::kUnknown;
    entry.durable = false;
    entry.end = now;
  }
  settled_ = final;
}

std::vector<BlockHistory::Entry> BlockHistory::Visible(std::uint64_t read_begin) const {
  std::vector<Entry> visible;
  for (const Entry& entry : entries_) {
    if (!Superseded(entry, read_begin)) visible.push_back(entry);
  }
  return visible;
}

bool BlockHistory::QuietSince(std::uint64_t begin) const {
  return std::all_of(entries_.begin(), entries_.end(), [begin](const Entry& entry) {
    return entry.state != State::kInFlight && entry.end < begin;
  });
}

void BlockHistory::Observe(Version version, std::uint64_t read_begin, std::uint64_t now) {
  if (Certain()) return;
  if (settled_) entries_.clear();
  settled_ = false;
  entries_.push_back({version, State::kDone, false, read_begin, now, 0});
}

BlockHistory BlockHistory::Frozen(std::uint64_t begin, std::uint64_t now) const {
  BlockHistory frozen;
  frozen.entries_ = Visible(begin);
  for (Entry& entry : frozen.entries_) {
    if (entry.state == State::kInFlight) entry.state = State::kDone;
    // Which of them it was is unknown for good: none is later than another.
    entry.begin = begin;
    entry.end = now;
    entry.op = 0;
  }
  return frozen;
}

bool BlockHistory::CertainlyZero() const {
  const std::vector<Entry> visible = Visible(UINT64_MAX);
  return visible.size() == 1 && visible[0].version == kZeroes && visible[0].state == State::kDone;
}

}  // namespace keelson::sim
