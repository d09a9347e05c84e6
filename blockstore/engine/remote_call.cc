// RemoteCall, and what a RemoteSession keeps of its calls: their table, their turn, their
// deadlines.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/engine/remote_session.h"
#include "blockstore/io/check.h"
#include "blockstore/io/log.h"

namespace keelson::engine {

RemoteCall::RemoteCall(RemoteSession* session, wire::FrameType type)
    : session_(session), type_(type), id_(++session->last_id_) {
  ++session_->users_;
}

RemoteCall::~RemoteCall() {
  // Whoever waits there may destroy the session.
  if (--session_->users_ == 0) session_->unused_.WakeAll();
}

wire::FrameHead RemoteCall::head() const {
  wire::FrameHead head;
  head.type = type_;
  head.request_id = id_;
  head.epoch = session_->epoch_;
  head.incarnation = session_->incarnation_;
  return head;
}

void RemoteCall::Start(std::int64_t deadline_ns) {
  deadline_ns_ = deadline_ns;
  session_->Start(this);
}

absl::Status RemoteCall::Refuse(const absl::Status& what) {
  status_ = session_->Broke(what);
  session_->End(status_);
  return status_;
}

void RemoteSession::Start(RemoteCall* call) {
  if (!refusal_.ok()) {
    call->status_ = refusal_;
    call->done_ = true;
    return;
  }
  call->previous_ = last_;
  (last_ == nullptr ? first_ : last_->next_) = call;
  last_ = call;
  call->next_in_bucket_ = std::exchange(*Bucket(call->id_), call);
  ArmTimer(call->deadline_ns_);
  if (call->urgent) {
    writer_.PushFirst(call);
  } else if (first_waiting_ == nullptr && in_flight_ < kCallsMax) {
    Send(call);
  } else if (first_waiting_ == nullptr) {
    first_waiting_ = call;
  }
}

void RemoteSession::Send(RemoteCall* call) {
  call->admitted_ = true;
  ++in_flight_;
  writer_.Push(call);
}

void RemoteSession::SendWaiting() {
  while (first_waiting_ != nullptr && in_flight_ < kCallsMax) {
    RemoteCall* const call = first_waiting_;
    do {
      first_waiting_ = first_waiting_->next_;
    } while (first_waiting_ != nullptr && first_waiting_->urgent);
    Send(call);
  }
}

RemoteCall* RemoteSession::Find(std::uint64_t id) const {
  RemoteCall* call = buckets_[id % kBuckets];
  while (call != nullptr && call->id_ != id) call = call->next_in_bucket_;
  return call;
}

void RemoteSession::OnAnswered(RemoteCall* call) {
  call->answered_ = true;
  // The answer may overtake the end of the very write that carries its request.
  if (!call->queued) Complete(call);
}

void RemoteSession::OnReturned(void* owner, OutFrame* frame) {
  auto* const self = static_cast<RemoteSession*>(owner);
  if (frame == &self->bye_) return;
  auto* const call = static_cast<RemoteCall*>(frame);
  if (call->answered_) self->Complete(call);
}

void RemoteSession::Complete(RemoteCall* call) {
  KEEL_CHECK(!call->queued, "a call completes after the stream has let go of it");
  (call->previous_ == nullptr ? first_ : call->previous_->next_) = call->next_;
  (call->next_ == nullptr ? last_ : call->next_->previous_) = call->previous_;
  RemoteCall** link = Bucket(call->id_);
  while (*link != call) link = &(*link)->next_in_bucket_;
  *link = call->next_in_bucket_;
  call->done_ = true;
  if (call->waiter_) reactor_->Schedule(call->waiter_);
  if (call->admitted_) {
    --in_flight_;
    if (!shut_down_) SendWaiting();
  }
}

void RemoteSession::CompleteAll() {
  first_waiting_ = nullptr;
  while (first_ != nullptr) {
    RemoteCall* const call = first_;
    call->status_ = ended_;
    if (call->late_) {
      call->status_ = absl::DeadlineExceededError(
          absl::StrCat(name_, " did not answer in time, so its session was ended"));
    }
    Complete(call);
  }
}

void RemoteSession::ArmTimer(std::int64_t when_ns) {
  if (when_ns == io::kNoDeadline) return;
  if (timer_.armed) {
    if (timer_.when_ns <= when_ns) return;
    reactor_->CancelTimer(&timer_);
  }
  timer_.when_ns = when_ns;
  reactor_->StartTimer(&timer_);
}

void RemoteSession::OnTimer() {
  const std::int64_t now_ns = reactor_->NowNanos();
  std::int64_t earliest_ns = io::kNoDeadline;
  const RemoteCall* late = nullptr;
  for (RemoteCall* call = first_; call != nullptr; call = call->next_) {
    if (call->answered_) continue;
    call->late_ = call->deadline_ns_ <= now_ns;
    if (call->late_ && late == nullptr) late = call;
    earliest_ns = std::min(earliest_ns, call->deadline_ns_);
  }
  if (late == nullptr) {
    ArmTimer(earliest_ns);
    return;
  }
  const std::string type(wire::FrameTypeName(late->type_));
  KEEL_LOG_INFO("event=remote_session_late member=\"{}\" request={}", name_, type);
  End(absl::UnavailableError(
      absl::StrCat(name_, " did not answer a ", type, " in time, so its session was ended")));
}

}  // namespace keelson::engine
