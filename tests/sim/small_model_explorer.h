#pragma once
// Explorer: every state that SmallModel can come to. One thread. Memory grows with the states: 16
// bytes in a table that is at least half empty after it grew, and some hundred for each state that
// still waits to be expanded. Header only, for small_model_test.cc.
//
// Depth first. The reduced search also takes states that have used less of the budgets of failures
// and writes first, and leaves out a state that was met with no more used: whatever it leads to was
// found from that one. So it goes through the budgets in order, failures before writes.

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "tests/sim/small_model.h"

namespace keelson::sim {

// 112 bits of a state: that any two of 2^30 states share them, so that one is not looked at, has a
// probability below 2^-52. The lowest 16 are not compared: with what used of the budgets, a bit for
// each number of failures and writes, the state was met.
struct ModelDigest {
  std::uint64_t high;
  mutable std::uint64_t low;

  static constexpr std::uint64_t kMetMask = 0xffff;
  bool operator==(const ModelDigest& other) const {
    return high == other.high && (low | kMetMask) == (other.low | kMetMask);
  }
  template <typename H>
  friend H AbslHashValue(H state, const ModelDigest& digest) {
    return H::combine(std::move(state), digest.high);
  }
};

class Explorer {
 public:
  explicit Explorer(const ModelBounds& bounds)
      : bounds_(bounds), model_(bounds), waiting_(Level(bounds.failures, bounds.writes) + 1) {}

  // Visits all states, or `states_max` of them, or those before the first violation.
  void Run(std::uint64_t states_max) {
    const ModelState initial = model_.Canonical(model_.Initial());
    (void)IsNew(initial);
    waiting_[0].push_back({initial, nullptr});
    std::size_t level = 0;
    while (states_ < states_max && violation_.empty()) {
      while (level < waiting_.size() && waiting_[level].empty()) ++level;
      if (level == waiting_.size()) break;
      const Entry entry = std::move(waiting_[level].back());
      waiting_[level].pop_back();
      if (WasMetWithLess(entry.state)) continue;
      ++states_;
      found_.clear();
      model_.Expand(entry.state, [this, &entry](const ModelState& next, const ModelStep& step) {
        Visit(next, step, entry);
      });
      // What Expand names first is searched first: it finds what is to be found sooner.
      for (auto next = found_.rbegin(); next != found_.rend(); ++next) {
        waiting_[LevelOf(next->state)].push_back(std::move(*next));
      }
    }
    complete_ = violation_.empty() && level == waiting_.size();
  }

  bool complete() const { return complete_; }
  std::uint64_t states() const { return states_; }
  // With the steps that lead to it. Their members' and blocks' names are those of the canonical
  // states, so they change on the way.
  const std::string& violation() const { return violation_; }
  const ModelCoverage& coverage() const { return model_.coverage(); }

 private:
  // The way to a state, shared by all that go on from it.
  struct Path {
    std::shared_ptr<const Path> before;
    ModelStep step;
  };
  struct Entry {
    ModelState state;
    std::shared_ptr<const Path> path;
  };

  std::size_t Level(int failures, int issued) const {
    if (!bounds_.reduced) return 0;
    return static_cast<std::size_t>(failures * (bounds_.writes + 1) + issued);
  }
  std::size_t LevelOf(const ModelState& state) const { return Level(state.failures, state.issued); }

  void Visit(const ModelState& next, const ModelStep& step, const Entry& from) {
    if (!violation_.empty()) return;
    if (!model_.violation().empty()) {
      violation_ = step.ToString() + "\n" + model_.violation();
      for (const Path* path = from.path.get(); path != nullptr; path = path->before.get()) {
        violation_ = path->step.ToString() + "\n" + violation_;
      }
      return;
    }
    const ModelState canonical = model_.Canonical(next);
    if (!IsNew(canonical)) return;
    found_.push_back({canonical, std::make_shared<const Path>(Path{from.path, step})});
  }

  static std::uint64_t Mix(std::uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
  }

  // The bit of what a state has used; 0 where that is part of what it is.
  static std::uint64_t MetBit(int failures, int issued) {
    return std::uint64_t{1} << (failures * 4 + issued);
  }
  // The bits of all that is no more than that, without itself.
  static std::uint64_t LessBits(const ModelState& state) {
    std::uint64_t bits = 0;
    for (int failures = 0; failures <= state.failures; ++failures) {
      for (int issued = 0; issued <= state.issued; ++issued) bits |= MetBit(failures, issued);
    }
    return bits & ~MetBit(state.failures, state.issued);
  }

  ModelDigest DigestOf(ModelState state) const {
    if (bounds_.reduced) state.issued = state.failures = 0;
    ModelDigest digest = {0xc2b2ae3d27d4eb4f, 0x9e3779b97f4a7c15};
    std::array<std::uint64_t, (sizeof(ModelState) + 7) / 8> words{};
    std::memcpy(words.data(), &state, sizeof state);
    for (const std::uint64_t word : words) {
      digest.low = Mix(digest.low ^ word);
      digest.high = Mix(digest.high + word * 0x9fb21c651e98df25);
    }
    digest.low &= ~ModelDigest::kMetMask;
    return digest;
  }

  // Whether it, or what is the same as it but has used no more, was not met before.
  bool IsNew(const ModelState& state) {
    const std::uint64_t met = MetBit(state.failures, state.issued);
    const auto [found, inserted] = seen_.insert(DigestOf(state));
    if (!inserted && (!bounds_.reduced || (found->low & (met | LessBits(state))) != 0)) {
      return false;
    }
    found->low |= met;
    return true;
  }
  // A state that waits may be met with less used meanwhile.
  bool WasMetWithLess(const ModelState& state) const {
    if (!bounds_.reduced) return false;
    return (seen_.find(DigestOf(state))->low & LessBits(state)) != 0;
  }

  const ModelBounds bounds_;
  SmallModel model_;
  absl::flat_hash_set<ModelDigest> seen_;
  std::vector<std::vector<Entry>> waiting_;  // by what they have used, each a stack
  std::vector<Entry> found_;
  std::uint64_t states_ = 0;
  bool complete_ = false;
  std::string violation_;
};

}  // namespace keelson::sim
