// Segment: members that are much slower than the others (R7). Who is slow is SlowMembers' to say.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "blockstore/engine/segment.h"
#include "blockstore/io/log.h"

namespace keelson::engine {

std::size_t Segment::CopiesToKeep() const {
  return std::max<std::size_t>({1, in_force_.min_in_sync, options_.slow.rest});
}

bool Segment::CanDoWithout(const MemberSlot& slot) const {
  // Marking it Out takes a majority, and it has no vote until that is done.
  const auto votes = [this, &slot](const replica::Member& member) {
    const MemberSlot* voter = FindSlot(member.replica);
    return voter != nullptr && voter != &slot && voter->connected;
  };
  return !under_way_.has_value() && !Degrading() && replica::HasMajority(in_force_, votes) &&
         CopiesBeside(slot) >= CopiesToKeep();
}

std::size_t Segment::CopiesBeside(const MemberSlot& slot) const {
  return static_cast<std::size_t>(
      std::count_if(slots_.begin(), slots_.end(), [this, &slot](const auto& other) {
        const replica::Member* record = Record(*other);
        return other.get() != &slot && other->connected && record != nullptr &&
               record->state == replica::MemberState::kInSync;
      }));
}

void Segment::WatchSpeed(Legs* legs) {
  if (legs->count() < 2 || options_.slow.slow_for_ns == 0) return;
  const std::int64_t now_ns = reactor_->NowNanos();
  for (const Leg& leg : *legs) {
    const MemberSlot& slot = *leg.slot;
    if (!leg.status.ok() || !Alive(slot, leg.session)) continue;
    if (!slot.in_sync && !speeds_.OnTrial(slot.index)) continue;
    speeds_.Observe(slot.index, slot.in_sync, leg.took_ns, now_ns);
  }
  const std::optional<SlowMembers::Slow> slow = speeds_.Judge(now_ns);
  if (!slow || phase_ != Phase::kServing || closing_ || !health().ok()) return;
  MemberSlot* slot = slots_[slow->member].get();
  if (!slot->connected) return;
  if (!CanDoWithout(*slot)) return;
  speeds_.BeginProbation(slot->index, now_ns);
  ++counters_.slow_demotions;
  KEEL_LOG_WARN("event=member_slow volume={} segment={} replica={} in_sync={} answers=\"{}\"",
                in_force_.volume_name, in_force_.segment, slot->member.replica.ToString(),
                slot->in_sync, ToString(*slow));
  // Like an error of its own: it is not taken back before it was Out.
  MemberFailed(slot, slot->session,
               absl::FailedPreconditionError(absl::StrCat("it was too slow: ", ToString(*slow))));
}

io::Task<absl::Status> Segment::ServeProbation(MemberSlot* slot, std::uint64_t session) {
  while (speeds_.OnProbation(slot->index)) {
    if (!health_.ok()) co_return health_;
    if (!Alive(*slot, session)) {
      co_return absl::UnavailableError("the session ended during the probation");
    }
    if (CopiesBeside(*slot) < CopiesToKeep()) {
      KEEL_LOG_INFO("event=slow_member_needed volume={} segment={} replica={}",
                    in_force_.volume_name, in_force_.segment, slot->member.replica.ToString());
      speeds_.EndProbation(slot->index, reactor_->NowNanos());
      break;
    }
    const std::int64_t probe_ns = speeds_.NextProbeAt(slot->index);
    if (reactor_->NowNanos() < probe_ns) {
      co_await WaitUntil(probe_ns);
      continue;
    }
    // Its network and its disk have a part in it, and it changes nothing.
    const std::int64_t sent_ns = reactor_->NowNanos();
    absl::Status flushed = co_await slot->port->Flush(Deadline());
    const std::int64_t now_ns = reactor_->NowNanos();
    speeds_.OnProbe(slot->index, flushed.ok(), now_ns - sent_ns, now_ns);
    if (!flushed.ok()) co_return flushed;
  }
  co_return absl::OkStatus();
}

std::string Segment::SpeedProblem(const MemberSlot& slot) const {
  if (speeds_.OnProbation(slot.index)) {
    const std::int64_t left_ns =
        std::max<std::int64_t>(speeds_.NextProbeAt(slot.index) - reactor_->NowNanos(), 0);
    return absl::StrCat(
        "it was too slow, and is left out until it has answered in time for a while; it is tried "
        "again in ",
        (left_ns + 999'999'999) / 1'000'000'000, " s");
  }
  const std::optional<SlowMembers::Slow> slow = speeds_.Find(slot.index);
  if (!slow) return "";
  return absl::StrCat("it is slow (", ToString(*slow),
                      "), and kept because too few copies would be left");
}

}  // namespace keelson::engine
