#pragma once
// The templates of Segment that several of its files use: one call to several members at once. One
// reactor; see segment.h.

#include "absl/status/status.h"
#include "blockstore/engine/segment.h"
#include "blockstore/io/sync.h"

namespace keelson::engine {

// An answer of the member about this request, not the loss of the member: its session goes on.
inline bool IsMembersOwn(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return true;
    default:
      return false;
  }
}

template <typename Call>
io::Task<void> Segment::RunLeg(Leg* leg, Call call, io::Latch* latch) {
  const std::int64_t sent_ns = reactor_->NowNanos();
  leg->status = co_await call(leg->slot->port.get());
  if (leg->status.ok()) lease_.OnAnswered(leg->slot->member.replica, sent_ns);
  leg->took_ns = reactor_->NowNanos() - sent_ns;
  latch->Done();
}

template <typename Call>
io::Task<void> Segment::FanOut(Legs* legs, Call call) {
  if (legs->count() == 1) {
    Leg* leg = legs->begin();
    const std::int64_t sent_ns = reactor_->NowNanos();
    leg->status = co_await call(leg->slot->port.get());
    if (leg->status.ok()) lease_.OnAnswered(leg->slot->member.replica, sent_ns);
    co_return;
  }
  io::Latch latch(legs->count());
  for (Leg& leg : *legs) {
    if (gate_.Spawn(RunLeg(&leg, call, &latch))) continue;
    leg.status = absl::UnavailableError("the volume is detached");
    latch.Done();
  }
  co_await latch;
}

}  // namespace keelson::engine
