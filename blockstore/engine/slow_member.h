#pragma once
// SlowMembers: which member of a segment answers so much more slowly than the others that writes
// are better off without it (R7; docs/operations.md, "Slow copies"), and when it may come back.
// Observations in, verdicts out: no I/O, no clock, nothing fails. Whether a slow member *may* be
// left out is not decided here: that depends on how many copies remain.
//
// Slow: window after window, for `slow_for_ns`, the mean answer of its writes and flushes is above
// `floor_ns` and above `multiple` times that of the others. All are sent the same requests, so load
// makes all of them slow, and nobody is. A single window in which it kept up starts the count anew.
//
// Back: after a probation, which doubles each time up to a bound, and after several probes in a row
// that were answered within `floor_ns`, or in half of what it took when it was left out. Until it
// is InSync again it stays on trial: it is judged like an InSync member, but nobody is compared
// with it.
//
// Owned by Segment, which numbers the members by their slots; one thread. Times are nanoseconds of
// Reactor::NowNanos.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace keelson::engine {

struct SlowMemberOptions {
  std::int64_t window_ns = 1'000'000'000;
  std::int64_t slow_for_ns = 10'000'000'000;  // 0: nobody is ever slow
  std::int64_t floor_ns = 100'000'000;
  std::int64_t multiple = 5;
  std::int64_t probation_ns = 30'000'000'000;  // the first one
  std::int64_t probation_ns_max = 960'000'000'000;
  // A member that was not slow for so long since its last probation begins with the first again.
  std::int64_t forgive_ns = 3'600'000'000'000;
  // So many InSync members are left at least, beside what the volume's min_in_sync asks for.
  std::size_t rest = 2;
};

class SlowMembers {
 public:
  struct Slow {
    std::size_t member = 0;
    std::int64_t mean_ns = 0;    // of its answers in the last window
    std::int64_t others_ns = 0;  // the median of the others' means; of an even number the upper one
  };

  explicit SlowMembers(const SlowMemberOptions& options) : options_(options) {}

  // A write, trim or flush that went to several members was answered. Others are compared with this
  // one when it is `in_sync`.
  void Observe(std::size_t member, bool in_sync, std::int64_t took_ns, std::int64_t now_ns);
  // After the observations of a request. Of the members that have been slow for long enough the
  // slowest; said again at the end of each window until it is not slow any more, or forgotten.
  std::optional<Slow> Judge(std::int64_t now_ns);
  // Its session ended: what it did in it does not count any more.
  void Forget(std::size_t member);
  // What the last window that was judged said of it; nullopt when it is not slow.
  std::optional<Slow> Find(std::size_t member) const;

  // It was left out for being slow.
  void BeginProbation(std::size_t member, std::int64_t now_ns);
  bool OnProbation(std::size_t member) const;
  // REQUIRES: it is on probation. When the next probe is to be sent.
  std::int64_t NextProbeAt(std::size_t member) const;
  // A probe was answered, or failed after so long.
  void OnProbe(std::size_t member, bool answered, std::int64_t took_ns, std::int64_t now_ns);
  // Another copy is needed now: it is let back without more ado.
  void EndProbation(std::size_t member, std::int64_t now_ns);
  bool OnTrial(std::size_t member) const { return Known(member) && members_[member].trial; }
  // It is InSync again.
  void EndTrial(std::size_t member);

 private:
  struct Member {
    // In the present window.
    std::int64_t total_ns = 0;
    std::int64_t count = 0;
    bool in_sync = false;
    // While it is slow.
    std::int64_t slow_windows = 0;
    std::int64_t slow_since_ns = 0;
    bool slow = false;  // for long enough
    Slow last;
    // Since it was left out the first time.
    std::int64_t probation_ns = 0;  // the length of the last one; 0: there was none
    bool probation = false;
    bool trial = false;
    std::int64_t probe_ns = 0;  // when the next is due
    int good_probes = 0;
    std::int64_t released_ns = 0;
  };

  bool Known(std::size_t member) const { return member < members_.size(); }
  Member& At(std::size_t member);
  void CloseWindow(std::int64_t now_ns);
  std::optional<std::int64_t> MedianOfOthers(std::size_t member) const;

  SlowMemberOptions options_;
  std::vector<Member> members_;
  std::int64_t window_began_ns_ = 0;
  bool window_open_ = false;
};

// "240 ms for a write or flush, the others 2 ms".
std::string ToString(const SlowMembers::Slow& slow);

}  // namespace keelson::engine
