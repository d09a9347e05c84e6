#include "blockstore/engine/slow_member.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace keelson::engine {
namespace {

constexpr std::int64_t kSlowWindowsMin = 3;
constexpr int kGoodProbes = 3;
constexpr std::int64_t kNanosPerMs = 1'000'000;

}  // namespace

SlowMembers::Member& SlowMembers::At(std::size_t member) {
  if (!Known(member)) members_.resize(member + 1);
  return members_[member];
}

void SlowMembers::Observe(std::size_t member, bool in_sync, std::int64_t took_ns,
                          std::int64_t now_ns) {
  if (!window_open_) {
    window_open_ = true;
    window_began_ns_ = now_ns;
  }
  Member& one = At(member);
  one.total_ns += took_ns;
  ++one.count;
  one.in_sync = in_sync;
}

std::optional<SlowMembers::Slow> SlowMembers::Judge(std::int64_t now_ns) {
  if (!window_open_ || now_ns - window_began_ns_ < options_.window_ns) return std::nullopt;
  CloseWindow(now_ns);
  std::optional<Slow> slowest;
  for (const Member& one : members_) {
    if (one.slow && (!slowest || one.last.mean_ns > slowest->mean_ns)) slowest = one.last;
  }
  return slowest;
}

void SlowMembers::CloseWindow(std::int64_t now_ns) {
  // What happens this rarely, a disk that has to wake up for example, is nobody's pace.
  const bool idle = now_ns - window_began_ns_ > options_.slow_for_ns;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    Member& one = members_[i];
    if (one.count == 0) continue;
    const std::int64_t mean_ns = one.total_ns / one.count;
    const std::optional<std::int64_t> others_ns = MedianOfOthers(i);
    const bool slow = !idle && others_ns.has_value() && mean_ns > options_.floor_ns &&
                      mean_ns / options_.multiple > *others_ns;
    if (!slow) {
      one.slow_windows = 0;
      one.slow = false;
      continue;
    }
    if (one.slow_windows++ == 0) one.slow_since_ns = window_began_ns_;
    one.last = {i, mean_ns, *others_ns};
    one.slow =
        one.slow_windows >= kSlowWindowsMin && now_ns - one.slow_since_ns >= options_.slow_for_ns;
  }
  for (Member& one : members_) one.total_ns = one.count = 0;
  window_open_ = false;
}

std::optional<std::int64_t> SlowMembers::MedianOfOthers(std::size_t member) const {
  std::vector<std::int64_t> means;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const Member& other = members_[i];
    if (i != member && other.in_sync && other.count > 0) {
      means.push_back(other.total_ns / other.count);
    }
  }
  if (means.empty()) return std::nullopt;
  const auto middle = means.begin() + static_cast<std::ptrdiff_t>(means.size() / 2);
  std::nth_element(means.begin(), middle, means.end());
  return *middle;
}

void SlowMembers::Forget(std::size_t member) {
  if (!Known(member)) return;
  Member& one = members_[member];
  one.total_ns = one.count = one.slow_windows = 0;
  one.in_sync = one.slow = false;
}

std::optional<SlowMembers::Slow> SlowMembers::Find(std::size_t member) const {
  if (!Known(member) || !members_[member].slow) return std::nullopt;
  return members_[member].last;
}

void SlowMembers::BeginProbation(std::size_t member, std::int64_t now_ns) {
  Member& one = At(member);
  const bool again = one.probation_ns > 0 && now_ns - one.released_ns < options_.forgive_ns;
  one.probation_ns =
      again ? std::min(2 * one.probation_ns, options_.probation_ns_max) : options_.probation_ns;
  one.probation = true;
  one.trial = false;
  one.probe_ns = now_ns + one.probation_ns;
  one.good_probes = 0;
  Forget(member);
}

bool SlowMembers::OnProbation(std::size_t member) const {
  return Known(member) && members_[member].probation;
}

std::int64_t SlowMembers::NextProbeAt(std::size_t member) const {
  return members_[member].probe_ns;
}

void SlowMembers::OnProbe(std::size_t member, bool answered, std::int64_t took_ns,
                          std::int64_t now_ns) {
  Member& one = At(member);
  // On a long way even a healthy member takes more than the floor.
  if (!answered || took_ns > std::max(options_.floor_ns, one.last.mean_ns / 2)) {
    one.good_probes = 0;
    one.probe_ns = now_ns + options_.probation_ns;
    return;
  }
  one.probe_ns = now_ns + options_.window_ns;
  if (++one.good_probes >= kGoodProbes) EndProbation(member, now_ns);
}

void SlowMembers::EndProbation(std::size_t member, std::int64_t now_ns) {
  Member& one = At(member);
  one.probation = false;
  one.trial = true;
  one.released_ns = now_ns;
}

void SlowMembers::EndTrial(std::size_t member) {
  if (Known(member)) members_[member].trial = false;
}

std::string ToString(const SlowMembers::Slow& slow) {
  const auto ms = [](std::int64_t nanos) {
    return nanos < kNanosPerMs ? std::string("less than 1 ms")
                               : absl::StrCat(nanos / kNanosPerMs, " ms");
  };
  return absl::StrCat(ms(slow.mean_ns), " for a write or flush, the others ", ms(slow.others_ns));
}

}  // namespace keelson::engine
