#pragma once
// What a simulated client may see in a block. Every write has a version, and every 512-byte sector
// it writes says which version, volume and block it belongs to; so a sector on the disk can be
// traced to its write whatever went wrong. A BlockHistory keeps, for one block, every write that a
// read or a crash may still bring up, and judges what is read. Times are the harness's own counter,
// strictly rising: two events never have the same.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace keelson::sim {

inline constexpr std::size_t kSectorsPerBlock = 8;
inline constexpr std::size_t kModelBlockBytes = 4096;
inline constexpr std::size_t kModelSectorBytes = kModelBlockBytes / kSectorsPerBlock;

using Version = std::uint32_t;
inline constexpr Version kZeroes = 0;  // never written, or trimmed

// All versions of one run, and the bytes they stand for.
class Versions {
 public:
  Versions() : tags_(1) {}
  // Of a write to the volume that `tag` stands for.
  Version New(std::uint64_t tag);
  // A block a crash has torn: each sector of another version.
  Version NewMix(const std::array<Version, kSectorsPerBlock>& sectors);

  // True when one write to the volume of `tag` made it.
  bool IsOf(Version version, std::uint64_t tag) const {
    return version != kZeroes && (version & kMix) == 0 && tags_[version] == tag;
  }

  // The version that sector `sector` of a block of `version` shows.
  Version Sector(Version version, std::size_t sector) const;
  void Fill(Version version, std::uint64_t block, std::span<std::byte> into) const;
  // True when `bytes` is sector `sector` of `block` as `version` wrote it.
  bool Matches(Version version, std::uint64_t block, std::size_t sector,
               std::span<const std::byte> bytes) const;
  // The version that a block shows, a mix when it is torn; kZeroes for no bytes. Nothing: no write
  // of this run made a sector of it.
  std::optional<Version> Shown(std::uint64_t block, std::span<const std::byte> bytes);
  // What a sector that should not be there is, for a message.
  std::string Describe(std::span<const std::byte> sector) const;

 private:
  static constexpr Version kMix = Version{1} << 31;
  void FillSector(Version version, std::uint64_t block, std::size_t sector,
                  std::span<std::uint64_t, 64> words) const;
  std::vector<std::uint64_t> tags_;  // by version
  std::vector<std::array<Version, kSectorsPerBlock>> mixes_;
};

class BlockHistory {
 public:
  enum class State : std::uint8_t {
    kInFlight,
    kDone,
    kUnknown,  // it failed, or a crash came first: visible or not, whole or torn, until overwritten
  };
  struct Entry {
    Version version = kZeroes;
    State state = State::kDone;
    bool durable = false;  // FUA
    std::uint64_t begin = 0;
    std::uint64_t end = 0;  // of kDone and kUnknown
    std::uint64_t op = 0;
  };

  BlockHistory() : entries_(1) {}

  void Begin(Version version, std::uint64_t now, std::uint64_t op);
  void End(std::uint64_t op, State state, bool durable, std::uint64_t now);
  // Forgets writes that no later read (none begun before `oldest_read`) and no power cut can show.
  void Prune(std::uint64_t flushed, std::uint64_t oldest_read);
  // The process died: what was in flight is kUnknown.
  void ProcessDied(std::uint64_t now);
  // Everything since the last flush that began at `flushed` is uncertain. `final`: what is read
  // next stays (after a power cut), otherwise it may still change (un-flushed writes lost by a
  // failed flush).
  void LoseUnflushed(std::uint64_t flushed, std::uint64_t now, bool final);

  // What a read that began at `read_begin` and ends now may show.
  std::vector<Entry> Visible(std::uint64_t read_begin) const;
  // A read [begin, end] showed `version`. Later reads can show nothing older.
  void Observe(Version version, std::uint64_t read_begin, std::uint64_t now);
  // Nothing changed the block while a read that began then ran.
  bool QuietSince(std::uint64_t begin) const;
  // The block's content in a snapshot taken from `begin` to now.
  BlockHistory Frozen(std::uint64_t begin, std::uint64_t now) const;

  // Reads as zeroes for certain, so that no space need be used for it.
  bool CertainlyZero() const;
  bool Certain() const { return entries_.size() == 1 && entries_[0].state == State::kDone; }
  Version latest() const { return entries_.back().version; }
  std::uint64_t last_begin() const { return entries_.back().begin; }

 private:
  bool Superseded(const Entry& entry, std::uint64_t before) const;
  bool SupersededDurably(const Entry& entry, std::uint64_t flushed) const;
  std::vector<Entry> entries_;
  bool settled_ = false;  // a power cut made all of entries_ uncertain, and nothing came since
};

// The blocks of a volume or snapshot; an absent one has never been written.
using BlockMap = std::map<std::uint64_t, BlockHistory>;

}  // namespace keelson::sim
