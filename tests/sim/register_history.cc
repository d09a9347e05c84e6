#include "tests/sim/register_history.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "tests/sim/probe.h"

namespace keelson::sim {

RegisterHistory::RegisterHistory(Version version) {
  entries_.push_back({});
  entries_.front().version = version;
  entries_.front().latest = 0;
  entries_.front().certain = true;
}

void RegisterHistory::Begin(std::uint64_t op, Version version, Tick now) {
  Entry entry;
  entry.version = version;
  entry.op = op;
  entry.begin = entry.seen = now;
  entries_.push_back(entry);
}

std::string RegisterHistory::Acknowledge(std::uint64_t op, Tick now) {
  for (Entry& entry : entries_) {
    if (entry.op != op || entry.lost) continue;
    entry.certain = true;
    entry.latest = std::min(entry.latest, now);
    return Contradiction(entry);
  }
  return "";
}

void RegisterHistory::Fence(Tick now) {
  for (Entry& entry : entries_) entry.latest = std::min(entry.latest, now);
}

// Two clusters that must each precede the other cannot both be.
std::string RegisterHistory::Contradiction(const Entry& entry) const {
  for (const Entry& other : entries_) {
    if (&other == &entry || !other.certain) continue;
    if (Precedes(entry, other) && Precedes(other, entry)) {
      return absl::StrCat("version ", entry.version, " (done by ", entry.latest, ", seen at ",
                          entry.seen, ") and version ", other.version, " (done by ", other.latest,
                          ", seen at ", other.seen, ") are each older than the other");
    }
  }
  return "";
}

bool RegisterHistory::Hidden(const Entry& entry, Tick begin) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& other) {
    return &other != &entry && other.certain && !other.zero_read &&
           other.version != entry.version && Precedes(entry, other) && other.latest < begin;
  });
}

bool RegisterHistory::MayShow(const Entry& entry, Tick begin, Tick end) const {
  if (entry.zero_read || entry.begin > end || Hidden(entry, begin)) return false;
  if (entry.version == kZeroes) return true;
  Entry seen = entry;
  seen.certain = true;
  seen.seen = std::max(entry.seen, begin);
  seen.latest = std::min(entry.latest, end);
  return std::none_of(entries_.begin(), entries_.end(), [&](const Entry& other) {
    return &other != &entry && other.certain && Precedes(seen, other) && Precedes(other, seen);
  });
}

RegisterHistory::Entry* RegisterHistory::Find(Version version) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [version](const Entry& entry) {
    return entry.version == version;
  });
  return found == entries_.end() ? nullptr : &*found;
}

std::string RegisterHistory::Read(Version version, Tick begin, Tick end) {
  if (version == kZeroes) return ReadZeroes(begin, end);
  Entry* const entry = Find(version);
  if (entry == nullptr) {
    return absl::StrCat("version ", version, " was never written here, or lost for good");
  }
  if (entry->begin > end) return absl::StrCat("version ", version, " was not yet written");
  entry->certain = true;
  entry->settled = entry->lost;
  entry->seen = std::max(entry->seen, begin);
  entry->latest = std::min(entry->latest, end);
  return Contradiction(*entry);
}

std::string RegisterHistory::ReadZeroes(Tick begin, Tick end) {
  const bool possible = std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.version == kZeroes && MayShow(entry, begin, end);
  });
  if (!possible) return "zeroes, which are older than what was there";
  Entry read;
  read.zero_read = read.certain = true;
  read.begin = read.seen = begin;
  read.latest = end;
  entries_.push_back(read);
  return Contradiction(entries_.back());
}

std::string RegisterHistory::ReadBytes(Versions* versions, std::uint64_t block,
                                       std::span<const std::byte> bytes, Tick begin, Tick end) {
  // What was seen before is what is expected; else each sector names its version.
  std::array<Version, kSectorsPerBlock> sectors{};
  for (std::size_t i = 0; i < kSectorsPerBlock; ++i) {
    const auto sector = bytes.subspan(i * kModelSectorBytes, kModelSectorBytes);
    const auto found = std::find_if(entries_.rbegin(), entries_.rend(), [&](const Entry& entry) {
      return versions->Matches(entry.version, block, i, sector);
    });
    if (found == entries_.rend() && !versions->Matches(kZeroes, block, i, sector)) {
      return absl::StrCat("sector ", i, " is ", versions->Describe(sector),
                          ", which was never written here, or lost for good");
    }
    sectors[i] = found == entries_.rend() ? kZeroes : versions->Sector(found->version, i);
  }
  const bool whole = std::all_of(sectors.begin(), sectors.end(),
                                 [&](Version version) { return version == sectors[0]; });
  return whole ? Read(sectors[0], begin, end) : ReadMix(versions, sectors, begin, end);
}

std::string RegisterHistory::ReadMix(Versions* versions,
                                     const std::array<Version, kSectorsPerBlock>& sectors,
                                     Tick begin, Tick end) {
  for (const Entry& entry : entries_) {
    bool same = entry.op == 0 && !entry.zero_read && entry.version != kZeroes;
    for (std::size_t i = 0; i < kSectorsPerBlock; ++i) {
      same = same && versions->Sector(entry.version, i) == sectors[i];
    }
    if (same) return Read(entry.version, begin, end);
  }
  if (!Uncertain()) return absl::StrCat("a mix of versions ", sectors[0], " and others");
  Entry mix;
  mix.begin = kNever;
  mix.latest = 0;
  for (const Entry& entry : entries_) {
    if (entry.certain) continue;
    mix.begin = std::min(mix.begin, entry.begin);
    mix.latest = std::max(mix.latest, entry.latest);
  }
  const std::vector<Version> possible = Possible(begin, end);
  for (std::size_t i = 0; i < kSectorsPerBlock; ++i) {
    const bool shows = std::any_of(possible.begin(), possible.end(), [&](Version version) {
      return versions->Sector(version, i) == sectors[i];
    });
    if (shows) continue;
    return absl::StrCat("a torn block with version ", sectors[i], ", which is older than the rest");
  }
  SIM_PROBE("group: a torn block was read");
  mix.version = versions->NewMix(sectors);
  mix.latest = std::min(mix.latest, end);
  mix.seen = begin;
  mix.certain = true;
  entries_.push_back(mix);
  return Contradiction(entries_.back());
}

void RegisterHistory::Lose(Tick flushed, Tick horizon, Tick now) {
  Fence(now);
  const auto durable = [&](const Entry& entry) {
    if (entry.settled && flushed > 0) return true;
    return entry.certain && !entry.zero_read && (entry.latest < flushed || entry.begin > horizon);
  };
  std::vector<Entry> kept;
  for (const Entry& entry : entries_) {
    if (entry.zero_read) continue;
    const bool gone = std::any_of(entries_.begin(), entries_.end(), [&](const Entry& other) {
      return &other != &entry && durable(other) && Precedes(entry, other);
    });
    if (!gone) kept.push_back(entry);
  }
  entries_ = std::move(kept);
  if (entries_.size() == 1) return;
  for (Entry& entry : entries_) {
    entry.certain = false;
    entry.lost = true;
    entry.latest = now;
    entry.seen = entry.begin;
  }
}

std::vector<Version> RegisterHistory::Possible(Tick begin, Tick end) const {
  std::vector<Version> possible;
  for (const Entry& entry : entries_) {
    if (MayShow(entry, begin, end)) possible.push_back(entry.version);
  }
  return possible;
}

bool RegisterHistory::Uncertain() const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [](const Entry& entry) { return !entry.certain; });
}

namespace {

// Depth-first over what may come next, remembering the states that led nowhere.
class Search {
 public:
  explicit Search(const std::vector<RegisterOp>& history) : history_(history) {}

  bool From(std::uint32_t done, Version shown) {
    if (AllMandatoryDone(done)) return true;
    if (!tried_.insert({done, shown}).second) return false;
    for (std::size_t i = 0; i < history_.size(); ++i) {
      if (!MayBeNext(done, i)) continue;
      const RegisterOp& op = history_[i];
      if (op.is_read && op.version != shown) continue;
      if (From(done | (1u << i), op.version)) return true;
    }
    return false;
  }

 private:
  bool Done(std::uint32_t done, std::size_t i) const { return ((done >> i) & 1) != 0; }
  bool AllMandatoryDone(std::uint32_t done) const {
    for (std::size_t i = 0; i < history_.size(); ++i) {
      if (!history_[i].optional && !Done(done, i)) return false;
    }
    return true;
  }
  bool MayBeNext(std::uint32_t done, std::size_t next) const {
    if (Done(done, next)) return false;
    for (std::size_t i = 0; i < history_.size(); ++i) {
      if (Done(done, i)) {
        if (history_[i].begin > history_[next].end) return false;
      } else if (!history_[i].optional && history_[i].end < history_[next].begin) {
        return false;
      }
    }
    return true;
  }

  const std::vector<RegisterOp>& history_;
  std::set<std::pair<std::uint32_t, Version>> tried_;
};

}  // namespace

bool IsLinearizable(const std::vector<RegisterOp>& history) {
  KEEL_CHECK(history.size() <= 20, "an exhaustive search is for small histories");
  Search search(history);
  return search.From(0, kZeroes);
}

}  // namespace keelson::sim
