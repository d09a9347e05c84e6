#include "blockstore/engine/replica_connection.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/wire/hello.h"

namespace keelson::engine {
namespace {

// What an engine that has misbehaved is given to read why.
constexpr std::int64_t kByeTimeoutNanos = 1'000'000'000;

// A buffer occupies a whole one of its size class.
std::size_t ChargeOf(std::size_t size_bytes) {
  if (size_bytes == 0) return 0;
  std::size_t charge_bytes = 4096;
  while (charge_bytes < size_bytes) charge_bytes *= 4;
  return charge_bytes;
}

}  // namespace

ReplicaConnection::ReplicaConnection(io::Reactor* reactor, PortSource* source,
                                     const ReplicaServerOptions* options,
                                     ReplicaServerCounters* counters,
                                     std::unique_ptr<io::Stream> stream)
    : reactor_(reactor),
      source_(source),
      options_(options),
      counters_(counters),
      stream_(std::move(stream)),
      peer_(stream_->peer()),
      reader_(stream_.get()),
      writer_(reactor, stream_.get(), options->send_timeout_ns, &ReplicaConnection::OnReturned,
              this),
      held_bytes_max_(
          std::min(options->payload_in_flight_bytes_max, reactor->buffers().arena().size() / 4)),
      changed_(reactor) {}

io::Task<void> ReplicaConnection::Run() {
  const absl::Status agreed = co_await Handshake();
  if (agreed.ok()) {
    gate_.Spawn(RunWriter());
    const absl::Status ended = co_await ReadRequests();
    NoteEnd(ended);
  } else if (!stopping_) {
    ++counters_->handshakes_failed;
    KEEL_LOG_WARN("event=replica_handshake_failed peer=\"{}\" status=\"{}\"", peer_,
                  agreed.ToString());
  }
  // A fence for requests in flight: they end soon, and none begins.
  if (port_ != nullptr) co_await port_->Close();
  while (in_flight_ > 0) co_await changed_.Park();
  writer_.Finish(kByeTimeoutNanos);
  co_await gate_.Close();
  port_.reset();
  stream_->Shutdown();
}

void ReplicaConnection::Shutdown() {
  if (std::exchange(stopping_, true)) return;
  stream_->Shutdown();
  writer_.Abort();
  changed_.Unpark();
}

void ReplicaConnection::NoteEnd(const absl::Status& status) {
  KEEL_LOG_INFO("event=replica_connection_closed peer=\"{}\" status=\"{}\"", peer_,
                status.ToString());
  if (absl::IsDeadlineExceeded(status)) ++counters_->stalled_peers;
  if (!absl::IsInvalidArgument(status)) return;
  ++counters_->protocol_errors;
  KEEL_LOG_WARN("event=replica_protocol_error peer=\"{}\" what=\"{}\"", peer_,
                std::string(status.message()));
  wire::FrameHead head;
  head.epoch = epoch_;
  head.incarnation = incarnation_;
  wire::EncodeBye(head, std::string(status.message()), &bye_.encoded);
  writer_.Push(&bye_);
}

io::Task<absl::Status> ReplicaConnection::Handshake() {
  const std::int64_t deadline_ns = reactor_->NowNanos() + options_->handshake_timeout_ns;
  const absl::StatusOr<wire::Hello> hello = co_await reader_.ReceiveHello(deadline_ns);
  CO_RETURN_IF_ERROR(hello.status());
  wire::Hello answer = wire::AnswerHello(*hello, options_->hello);
  const bool refused = answer.version_chosen == 0;
  const std::string reason = answer.text;
  const absl::Status sent = co_await SendHello(std::move(answer), deadline_ns);
  CO_RETURN_IF_ERROR(sent);
  if (refused) co_return absl::FailedPreconditionError(reason);
  co_return absl::OkStatus();
}

io::Task<absl::Status> ReplicaConnection::SendHello(wire::Hello hello, std::int64_t deadline_ns) {
  std::string bytes = wire::EncodeHello(hello);
  iovec part{bytes.data(), bytes.size()};
  const std::span<iovec> parts(&part, 1);
  co_return co_await stream_->WriteAll(parts, deadline_ns);
}

io::Task<void> ReplicaConnection::RunWriter() {
  const absl::Status status = co_await writer_.Run();
  if (absl::IsDeadlineExceeded(status) && !stopping_) {
    ++counters_->stalled_peers;
    KEEL_LOG_WARN("event=replica_peer_stalled peer=\"{}\" what=answers", peer_);
  }
  if (!status.ok()) Shutdown();
}

io::Task<absl::Status> ReplicaConnection::ReadRequests() {
  while (!stopping_) {
    switch (reader_.Next()) {
      case wire::FrameDecoder::Event::kNeedMore: {
        const absl::Status filled = co_await FillNext();
        CO_RETURN_IF_ERROR(filled);
        break;
      }
      case wire::FrameDecoder::Event::kBad:
        co_return reader_.error();
      case wire::FrameDecoder::Event::kFrame: {
        frame_deadline_ns_ = 0;
        if (reader_.header().type == wire::FrameType::kBye) co_return absl::OkStatus();
        const absl::Status taken = co_await TakeFrame();
        CO_RETURN_IF_ERROR(taken);
        break;
      }
    }
  }
  co_return absl::CancelledError("the connection was shut down");
}

io::Task<absl::Status> ReplicaConnection::FillNext() {
  // Between frames the engine may be idle for a while; in the middle of one it may not dawdle.
  const std::int64_t now_ns = reactor_->NowNanos();
  if (!reader_.mid_frame()) co_return co_await reader_.Fill(now_ns + options_->idle_timeout_ns);
  if (frame_deadline_ns_ == 0) frame_deadline_ns_ = now_ns + options_->frame_timeout_ns;
  co_return co_await reader_.Fill(frame_deadline_ns_);
}

io::Task<absl::Status> ReplicaConnection::TakeFrame() {
  const wire::FrameHeader& header = reader_.header();
  if (header.answer) co_return absl::InvalidArgumentError("an engine does not send answers");
  ++counters_->requests_total;
  if (header.type == wire::FrameType::kPrepare) co_return co_await Prepare();
  if (header.type == wire::FrameType::kCancel) {
    wire::CancelRequest request;
    CO_RETURN_IF_ERROR(wire::Parse(reader_.message(), &request));
    Cancel(request.request_id);
    co_return absl::OkStatus();
  }
  absl::Status ours = CheckSession(header);
  if (!ours.ok()) co_return co_await RefuseRequest(std::move(ours));
  CO_RETURN_IF_ERROR(ParseMessage());
  co_return co_await TakeRequest(ChargeOf(BufferBytes()));
}

absl::Status ReplicaConnection::CheckSession(const wire::FrameHeader& header) const {
  if (port_ == nullptr) {
    return absl::UnavailableError("this connection has no session; send Prepare first");
  }
  if (header.epoch < epoch_) {
    return absl::AbortedError("the request is of a lower epoch than the session of its connection");
  }
  if (header.epoch != epoch_) {
    return absl::UnavailableError("the request is of an epoch that was not prepared here");
  }
  if (header.incarnation != incarnation_) {
    return absl::UnavailableError(
        absl::StrCat("the request is for incarnation ", header.incarnation.ToString(),
                     " of the pool, which is ", incarnation_.ToString(), " now"));
  }
  return absl::OkStatus();
}

io::Task<absl::Status> ReplicaConnection::Prepare() {
  if (port_ != nullptr) {
    co_return absl::InvalidArgumentError("a connection carries one session, and it has one");
  }
  wire::PrepareRequest prepare;
  CO_RETURN_IF_ERROR(wire::Parse(reader_.message(), &prepare));
  const wire::FrameHead head = reader_.header();
  const bool room = co_await WaitForRoom(0);
  if (!room) co_return absl::OkStatus();
  Request* const request = Take(head, 0);
  absl::StatusOr<std::unique_ptr<replica::ReplicaPort>> port =
      source_->OpenPort(prepare.pool, prepare.replica);
  if (!port.ok()) {
    Answer(request, port.status());
    co_return absl::OkStatus();
  }
  // It ends when the I/O of earlier sessions has; the engine that waits for it has its deadline.
  absl::StatusOr<replica::PrepareAnswer> answer =
      co_await (*port)->Prepare(head.epoch, io::kNoDeadline);
  if (!answer.ok()) {
    co_await (*port)->Close();
    Answer(request, answer.status());
    co_return absl::OkStatus();
  }
  port_ = *std::move(port);
  epoch_ = head.epoch;
  incarnation_ = answer->incarnation;
  KEEL_LOG_INFO("event=replica_session_opened peer=\"{}\" replica={} attachment={} restart={}",
                peer_, prepare.replica.ToString(), epoch_.attachment, epoch_.restart);
  wire::FrameHead answer_head = AnswerHead(*request);
  answer_head.incarnation = incarnation_;
  wire::EncodeAnswer(answer_head, *answer, &request->encoded);
  writer_.Push(request);
  co_return absl::OkStatus();
}

io::Task<absl::Status> ReplicaConnection::TakeRequest(std::size_t charge_bytes) {
  const bool room = co_await WaitForRoom(charge_bytes);
  if (!room) co_return absl::OkStatus();
  const wire::FrameHeader header = reader_.header();
  Request* const request = Take(header, charge_bytes);
  request->message = std::move(parsed_);
  if (header.data_bytes > 0) {
    request->buffer = co_await reactor_->buffers().Take(header.data_bytes);
    const std::int64_t deadline_ns = reactor_->NowNanos() + options_->frame_timeout_ns;
    absl::Status status = co_await reader_.ReceiveData(request->buffer.span(), deadline_ns);
    if (status.ok()) status = wire::CheckData(header, request->buffer.span());
    if (!status.ok()) {
      Release(request);
      co_return status;
    }
  }
  Start(request);
  co_return absl::OkStatus();
}

io::Task<absl::Status> ReplicaConnection::RefuseRequest(absl::Status why) {
  ++counters_->requests_refused;
  const bool room = co_await WaitForRoom(0);
  if (!room) co_return absl::OkStatus();
  Request* const request = Take(reader_.header(), 0);
  const std::int64_t deadline_ns = reactor_->NowNanos() + options_->frame_timeout_ns;
  const absl::Status skipped = co_await reader_.SkipData(reader_.header().data_bytes, deadline_ns);
  wire::FrameHead head = request->head;
  head.session_ended = true;
  wire::EncodeAnswer(head, why, &request->encoded);
  writer_.Push(request);
  co_return skipped;
}

void ReplicaConnection::Cancel(std::uint64_t request_id) {
  for (const std::unique_ptr<Request>& request : requests_) {
    if (request->active && request->head.request_id == request_id) request->cancelled = true;
  }
}

// --- The requests in flight ---

bool ReplicaConnection::HasRoom(std::size_t charge_bytes) const {
  return in_flight_ < options_->requests_in_flight_max &&
         (held_bytes_ == 0 || held_bytes_ + charge_bytes <= held_bytes_max_);
}

io::Task<bool> ReplicaConnection::WaitForRoom(std::size_t charge_bytes) {
  while (!stopping_ && !HasRoom(charge_bytes)) co_await changed_.Park();
  co_return !stopping_;
}

ReplicaConnection::Request* ReplicaConnection::Take(const wire::FrameHead& head,
                                                    std::size_t charge_bytes) {
  if (free_ == nullptr) {
    requests_.push_back(std::make_unique<Request>());
    free_ = requests_.back().get();
  }
  Request* const request = std::exchange(free_, free_->next_free);
  request->head = head;
  request->active = true;
  request->cancelled = false;
  request->charged_bytes = charge_bytes;
  held_bytes_ += charge_bytes;
  ++in_flight_;
  return request;
}

void ReplicaConnection::Release(Request* request) {
  request->buffer.Reset();
  request->encoded.body = {};
  request->active = false;
  held_bytes_ -= request->charged_bytes;
  --in_flight_;
  request->next_free = std::exchange(free_, request);
  changed_.Unpark();
}

void ReplicaConnection::OnReturned(void* owner, OutFrame* frame) {
  auto* const self = static_cast<ReplicaConnection*>(owner);
  if (frame != &self->bye_) self->Release(static_cast<Request*>(frame));
}

}  // namespace keelson::engine
