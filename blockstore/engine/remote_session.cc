#include "blockstore/engine/remote_session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/wire/hello.h"

namespace keelson::engine {
namespace {

// A Bye is a courtesy: Close does not wait for a peer that does not read.
constexpr std::int64_t kByeTimeoutNanos = 100'000'000;

}  // namespace

// --- The session ---

RemoteSession::RemoteSession(io::Reactor* reactor, std::unique_ptr<io::Stream> stream,
                             std::string name)
    : reactor_(reactor),
      stream_(std::move(stream)),
      name_(std::move(name)),
      reader_(stream_.get()),
      // The calls have deadlines, which end the session and with it a write that does not.
      writer_(reactor, stream_.get(), io::kNoDeadline, &RemoteSession::OnReturned, this) {
  timer_.owner = this;
  timer_.fire = [](io::TimerNode* node) { static_cast<RemoteSession*>(node->owner)->OnTimer(); };
}

RemoteSession::~RemoteSession() {
  KEEL_CHECK(users_ == 0 && loops_ == 0, "a session is drained before it is destroyed");
  reactor_->CancelTimer(&timer_);
}

io::Task<absl::StatusOr<replica::PrepareAnswer>> RemoteSession::Open(pool::PoolId pool,
                                                                     pool::ReplicaId replica,
                                                                     pool::Epoch epoch,
                                                                     std::int64_t deadline_ns) {
  epoch_ = epoch;
  const absl::Status greeted = co_await Handshake(deadline_ns);
  if (!greeted.ok()) End(greeted);
  CO_RETURN_IF_ERROR(refusal_);
  loops_ = 2;
  gate_.Spawn(RunWriter());
  gate_.Spawn(RunReader());

  RemoteCall call(this, wire::FrameType::kPrepare);
  const wire::PrepareRequest request{.pool = pool, .replica = replica};
  wire::Encode(call.head(), request, &call.encoded);
  call.Start(deadline_ns);
  co_await call.Done();
  if (!call.status().ok()) End(call.status());
  CO_RETURN_IF_ERROR(call.status());
  // Prepared, and ended by a later Prepare before this answer was sent.
  if (!refusal_.ok()) End(refusal_);
  CO_RETURN_IF_ERROR(refusal_);
  replica::PrepareAnswer answer;
  absl::Status read = wire::ParseResult(call.result(), &answer);
  if (read.ok() && (answer.pool != pool || answer.replica != replica)) {
    read = absl::InvalidArgumentError("it answered Prepare for another replica");
  }
  if (!read.ok()) co_return call.Refuse(read);
  incarnation_ = answer.incarnation;
  prepared_ = true;
  co_return answer;
}

io::Task<absl::Status> RemoteSession::Handshake(std::int64_t deadline_ns) {
  const wire::Hello ours;
  std::string bytes = wire::EncodeHello(ours);
  iovec part{bytes.data(), bytes.size()};
  const std::span<iovec> parts(&part, 1);
  const absl::Status sent = co_await stream_->WriteAll(parts, deadline_ns);
  if (!sent.ok()) co_return Lost(sent);
  const absl::StatusOr<wire::Hello> answer = co_await reader_.ReceiveHello(deadline_ns);
  if (absl::IsInvalidArgument(answer.status())) co_return Broke(answer.status());
  if (!answer.ok()) co_return Lost(answer.status());
  const absl::Status agreed = wire::CheckHelloAnswer(*answer, ours);
  if (!agreed.ok()) co_return Lost(agreed);
  co_return absl::OkStatus();
}

void RemoteSession::Leave(const absl::Status& why) {
  if (!refusal_.ok() || loops_ < 2 || !writer_.idle()) {
    End(why);
    return;
  }
  refusal_ = why;
  reactor_->CancelTimer(&timer_);
  wire::FrameHead head;
  head.epoch = epoch_;
  head.incarnation = incarnation_;
  wire::EncodeBye(head, std::string(why.message()), &bye_.encoded);
  writer_.Push(&bye_);
  writer_.Finish(kByeTimeoutNanos);  // RunWriter ends the session behind it
}

void RemoteSession::End(const absl::Status& why) {
  // A session that the member has ended keeps that status for the calls to come.
  if (refusal_.ok()) refusal_ = why;
  if (std::exchange(shut_down_, true)) return;
  ended_ = why;
  reactor_->CancelTimer(&timer_);
  stream_->Shutdown();
  writer_.Abort();
}

io::Task<void> RemoteSession::Drain() {
  co_await gate_.Close();
  while (users_ > 0) co_await unused_.Wait();
}

io::Task<void> RemoteSession::RunWriter() {
  const absl::Status status = co_await writer_.Run();
  End(status.ok() ? refusal_ : Lost(status));
  OnLoopEnded();
}

io::Task<void> RemoteSession::RunReader() {
  const absl::Status status = co_await ReadAnswers();
  if (!shut_down_ && refusal_.ok()) {
    KEEL_LOG_INFO("event=remote_session_ended member=\"{}\" status=\"{}\"", name_,
                  status.ToString());
  }
  End(status);
  OnLoopEnded();
}

void RemoteSession::OnLoopEnded() {
  // With both gone, the stream looks at no buffer any more.
  if (--loops_ == 0) CompleteAll();
}

absl::Status RemoteSession::Lost(const absl::Status& what) const {
  const std::string message =
      absl::StrCat("the connection to ", name_, " ended: ", std::string(what.message()));
  return absl::IsDeadlineExceeded(what) ? absl::DeadlineExceededError(message)
                                        : absl::UnavailableError(message);
}

absl::Status RemoteSession::Broke(const absl::Status& what) const {
  return absl::UnavailableError(
      absl::StrCat(name_, " broke the data protocol: ", std::string(what.message())));
}

// --- Answers ---

io::Task<absl::Status> RemoteSession::ReadAnswers() {
  while (true) {
    const wire::FrameDecoder::Event event = reader_.Next();
    if (event == wire::FrameDecoder::Event::kNeedMore) {
      // The calls' deadlines end a wait that lasts too long; without calls nothing is waited for.
      const absl::Status filled = co_await reader_.Fill(io::kNoDeadline);
      if (!filled.ok()) co_return Lost(filled);
      continue;
    }
    if (event == wire::FrameDecoder::Event::kBad) co_return Broke(reader_.error());
    const wire::FrameHeader& header = reader_.header();
    if (header.type == wire::FrameType::kBye) {
      co_return Lost(absl::UnavailableError(
          absl::StrCat("it said goodbye: ", wire::ByeReason(reader_.message()))));
    }
    const absl::StatusOr<RemoteCall*> call = Match(header);
    if (!call.ok()) co_return Broke(call.status());
    const absl::Status taken = TakeAnswer(header, *call);
    if (!taken.ok()) co_return Broke(taken);
    if (header.data_bytes > 0) {
      const std::span<std::byte> data = (*call)->into.first(header.data_bytes);
      const absl::Status received = co_await reader_.ReceiveData(data, io::kNoDeadline);
      if (!received.ok()) co_return Lost(received);
      const absl::Status checked = wire::CheckData(reader_.header(), data);
      if (!checked.ok()) co_return Broke(checked);
    }
    OnAnswered(*call);
  }
}

absl::StatusOr<RemoteCall*> RemoteSession::Match(const wire::FrameHeader& header) {
  const std::string type(wire::FrameTypeName(header.type));
  if (!header.answer) {
    return absl::InvalidArgumentError(absl::StrCat("it sent a request, ", type));
  }
  RemoteCall* const call = Find(header.request_id);
  if (call == nullptr || !call->started || call->answered_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "it answered ", type, " request ", header.request_id,
        header.request_id <= last_id_ ? ", which is not outstanding" : ", which was never sent"));
  }
  if (header.epoch != epoch_) {
    return absl::InvalidArgumentError(absl::StrCat("its answer to ", type, " is of another epoch"));
  }
  // The answer to Prepare is what tells the incarnation.
  if (prepared_ && header.incarnation != incarnation_) {
    return absl::InvalidArgumentError(
        absl::StrCat("its answer to ", type, " is of another incarnation of its pool"));
  }
  return call;
}

absl::Status RemoteSession::TakeAnswer(const wire::FrameHeader& header, RemoteCall* call) {
  if (header.type != call->type_) {
    return absl::InvalidArgumentError(absl::StrCat("it answered ",
                                                   std::string(wire::FrameTypeName(call->type_)),
                                                   " with a frame of another type"));
  }
  ASSIGN_OR_RETURN(wire::AnswerParts parts, wire::ParseAnswer(reader_.message()));
  const bool exact = header.type == wire::FrameType::kRead && parts.status.ok();
  if (exact ? header.data_bytes != call->into.size() : header.data_bytes > call->into.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("it answered ", std::string(wire::FrameTypeName(header.type)), " of ",
                     call->into.size(), " bytes with ", header.data_bytes));
  }
  if (header.session_ended && (refusal_.ok() || absl::IsAborted(parts.status))) {
    refusal_ = parts.status.ok()
                   ? absl::UnavailableError(absl::StrCat(name_, " has ended the session"))
                   : parts.status;
  }
  wants_new_generation_ = header.wants_new_generation;
  call->status_ = std::move(parts.status);
  if (!parts.result.empty()) {
    call->result_.assign(reinterpret_cast<const char*>(parts.result.data()), parts.result.size());
  }
  call->data_bytes_ = header.data_bytes;
  return absl::OkStatus();
}

}  // namespace keelson::engine
