#pragma once
// RegisterHistory: what one block of a replicated volume may show, judged as a linearizable
// register in time linear in its number of writes. Every write but a zeroing one has a version of
// its own, so a read names the write it saw; the operations of one version form a cluster, and a
// history of such clusters is linearizable exactly when no two clusters must each precede the other
// (Gibbons and Korach, "Testing Shared Memories", 1997). Zeroes have no name: for them every
// contradiction reported is one, but not every one is found.
//
// A write whose outcome nobody was told is optional until it is read, and bounded in time by the
// next attachment: what that one does not find never comes. Loss of power everywhere makes writes
// optional that no flush covered (Lose).
//
// Times are the harness's counter, strictly rising. A value; one thread.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/sim/block_model.h"

namespace keelson::sim {

class RegisterHistory {
 public:
  using Tick = std::uint64_t;
  static constexpr Tick kNever = UINT64_MAX;

  // Never written: zeroes since the beginning of time.
  RegisterHistory() : RegisterHistory(kZeroes) {}
  // It shows `version`, of a write or of a torn mix, and nothing else is known.
  explicit RegisterHistory(Version version);

  // Write `op` begins; kZeroes for a trim.
  void Begin(std::uint64_t op, Version version, Tick now);
  // It was acknowledged. What contradicts that, or an empty string.
  std::string Acknowledge(std::uint64_t op, Tick now);
  // Whatever was not acknowledged by now has happened already, or never will.
  void Fence(Tick now);
  // A read that ran from `begin` to `end` showed `version`. What is wrong with that, or "".
  std::string Read(Version version, Tick begin, Tick end);
  // The same for the bytes of a block: a write that nobody acknowledged may have been torn.
  std::string ReadBytes(Versions* versions, std::uint64_t block, std::span<const std::byte> bytes,
                        Tick begin, Tick end);
  // Every copy may have lost what was not flushed: writes that began before `horizon` and were not
  // complete when a flush began that ended well (the last one at `flushed`; 0: nothing is sure to
  // be there). What an earlier loss left and a read showed is not lost again: it had been made
  // equal and flushed before (R11). Implies Fence.
  void Lose(Tick flushed, Tick horizon, Tick now);

  // The versions that a read from `begin` to `end` may show.
  std::vector<Version> Possible(Tick begin, Tick end) const;
  // Some write may be there or not.
  bool Uncertain() const;

 private:
  struct Entry {
    Version version = kZeroes;
    std::uint64_t op = 0;  // 0: not a write of its own: a read of zeroes, or a torn mix
    Tick begin = 0;
    Tick latest = kNever;  // it took effect before this, if at all
    Tick seen = 0;         // the last beginning of an operation of this version
    bool certain = false;  // it happened: acknowledged, or read
    bool zero_read = false;
    bool lost = false;     // an acknowledgement means nothing any more
    bool settled = false;  // lost, and read since
  };

  static bool Precedes(const Entry& a, const Entry& b) { return a.latest < b.seen; }
  std::string Contradiction(const Entry& entry) const;
  // A certain write lies between it and a read that began at `begin`.
  bool Hidden(const Entry& entry, Tick begin) const;
  bool MayShow(const Entry& entry, Tick begin, Tick end) const;
  Entry* Find(Version version);
  std::string ReadZeroes(Tick begin, Tick end);
  std::string ReadMix(Versions* versions, const std::array<Version, kSectorsPerBlock>& sectors,
                      Tick begin, Tick end);

  std::vector<Entry> entries_;
};

// For small histories, by trying every order: the reference for the above.
struct RegisterOp {
  bool is_read = false;
  Version version = kZeroes;
  RegisterHistory::Tick begin = 0;
  RegisterHistory::Tick end = 0;
  bool optional = false;  // a write that happened between begin and end, or never
};
// REQUIRES: at most 20 operations.
bool IsLinearizable(const std::vector<RegisterOp>& history);

}  // namespace keelson::sim
