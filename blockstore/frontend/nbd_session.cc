#include "blockstore/frontend/nbd_session.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "blockstore/io/log.h"

namespace keelson::frontend {
namespace {

// A new connection, and one that moves large payloads, receives little at a time: what lies behind
// a request's header then goes straight to its buffer instead of being copied.
constexpr std::size_t kReceiveBytesMin = std::size_t{16} << 10;
constexpr std::size_t kReceiveBytesMax = std::size_t{256} << 10;
constexpr std::size_t kDirectBytesLarge = std::size_t{64} << 10;

io::BufferPool* BuffersOf(io::Reactor* reactor, const NbdOptions& options) {
  return options.buffers != nullptr ? options.buffers : &reactor->buffers();
}

std::size_t HeldBytesMax(io::Reactor* reactor, const NbdOptions& options) {
  return std::min(options.held_bytes_max, BuffersOf(reactor, options)->arena().size() / 4);
}

}  // namespace

NbdSession::NbdSession(io::Reactor* reactor, const NbdExports* exports, const NbdOptions* options,
                       NbdCounters* counters, std::unique_ptr<io::Stream> stream)
    : reactor_(reactor),
      exports_(exports),
      options_(options),
      buffers_(BuffersOf(reactor, *options)),
      counters_(counters),
      stream_(std::move(stream)),
      negotiation_(exports),
      requests_(reactor, options->requests_in_flight_max, HeldBytesMax(reactor, *options)),
      writer_(reactor, stream_.get(), &requests_, options->send_timeout_ns),
      receive_buffer_(std::make_unique_for_overwrite<std::byte[]>(kReceiveBytesMin)),
      receive_capacity_(kReceiveBytesMin),
      receive_bytes_max_(kReceiveBytesMin) {}

io::Task<void> NbdSession::Run() {
  const bool agreed = co_await Handshake();
  if (agreed) {
    KEEL_LOG_INFO("event=nbd_open export={} peer=\"{}\"", export_name(), stream_->peer());
    co_await Transmit();
    KEEL_LOG_INFO("event=nbd_closed export={} peer=\"{}\"", export_name(), stream_->peer());
  }
  stream_->Shutdown();
}

void NbdSession::Shutdown() {
  stopping_ = true;
  requests_.Wake();
  stream_->Shutdown();
}

io::Task<bool> NbdSession::Handshake() {
  const std::int64_t deadline_ns = reactor_->NowNanos() + options_->handshake_timeout_ns;
  std::string greeting;
  AppendGreeting(&greeting);
  bool alive = co_await SendHandshake(std::move(greeting), deadline_ns);
  NbdNegotiation::Step step = NbdNegotiation::Step::kContinue;
  while (alive && !stopping_ && step == NbdNegotiation::Step::kContinue) {
    const NbdDecoder::Event event = decoder_.Next(&input_);
    if (event == NbdDecoder::Event::kNeedMore) {
      alive = co_await Fill(deadline_ns);
      continue;
    }
    std::string reply;
    step = OnHandshakeEvent(event, &reply);
    if (step == NbdNegotiation::Step::kTransmit) {
      alive = co_await OpenDevice();
      if (!alive) break;
    }
    // One option's reply at a time: what a client makes us keep stays small.
    if (!reply.empty()) alive = co_await SendHandshake(std::move(reply), deadline_ns);
  }
  if (alive && !stopping_ && step == NbdNegotiation::Step::kTransmit) {
    decoder_.EnterTransmission();
    co_return true;
  }
  if (step == NbdNegotiation::Step::kRefuse) RefuseProtocol("handshake");
  if (step != NbdNegotiation::Step::kClose && !stopping_) ++counters_->handshakes_failed;
  co_return false;
}

io::Task<bool> NbdSession::OpenDevice() {
  std::string asked = negotiation_.TakeAskedName();
  device_ = negotiation_.device();
  if (exports_->shares_devices()) co_return true;
  device_ = nullptr;
  absl::AnyInvocable<void()> end = [this] { Shutdown(); };
  own_device_ = co_await exports_->Open(std::move(asked), std::move(end));
  device_ = own_device_.get();
  co_return device_ != nullptr;
}

NbdNegotiation::Step NbdSession::OnHandshakeEvent(NbdDecoder::Event event, std::string* out) {
  switch (event) {
    case NbdDecoder::Event::kClientFlags:
      return negotiation_.OnClientFlags(decoder_.client_flags());
    case NbdDecoder::Event::kOption:
      return negotiation_.OnOption(decoder_.option(), decoder_.option_payload(), out);
    case NbdDecoder::Event::kOversizedOption:
      return negotiation_.OnOversizedOption(decoder_.option(), out);
    case NbdDecoder::Event::kNeedMore:
    case NbdDecoder::Event::kRequest:
    case NbdDecoder::Event::kBadMagic:
      break;
  }
  return NbdNegotiation::Step::kRefuse;
}

io::Task<bool> NbdSession::SendHandshake(std::string bytes, std::int64_t deadline_ns) {
  iovec part{bytes.data(), bytes.size()};
  const std::span<iovec> parts(&part, 1);
  const absl::Status status = co_await stream_->WriteAll(parts, deadline_ns);
  if (absl::IsDeadlineExceeded(status)) ++counters_->stalled_clients;
  co_return status.ok();
}

io::Task<void> NbdSession::Transmit() {
  gate_.Spawn(writer_.Run());
  co_await ReadRequests();
  // The client may have sent its last request and still read: what it asked for is answered.
  while (requests_.in_flight() > 0) co_await requests_.Changed();
  writer_.Finish();
  co_await gate_.Close();
  if (writer_.stalled()) {
    ++counters_->stalled_clients;
    KEEL_LOG_WARN("event=nbd_client_stalled export={} peer=\"{}\" what=replies", export_name(),
                  stream_->peer());
  }
}

io::Task<void> NbdSession::ReadRequests() {
  while (!Ending()) {
    const NbdDecoder::Event event = decoder_.Next(&input_);
    if (event == NbdDecoder::Event::kNeedMore) {
      AdaptReceiveBuffer();
      const bool alive = co_await Fill(io::kNoDeadline);  // an idle client may stay
      if (!alive) co_return;
      continue;
    }
    if (event != NbdDecoder::Event::kRequest) {
      RefuseProtocol("request without the request magic");
      co_return;
    }
    const NbdRequestHeader header = decoder_.request();
    if (header.command == nbd::Command::kDisconnect) co_return;
    const NbdRequestRules rules{.size_bytes = device_->size_bytes(),
                                .read_only = device_->read_only(),
                                .structured_replies = negotiation_.structured_replies(),
                                .block_status = negotiation_.block_status()};
    const nbd::Error error = CheckNbdRequest(header, rules);
    const std::size_t buffer_bytes = BufferBytesOf(header, error);
    while (!Ending() && !(requests_.HasNode() && requests_.HasBytes(buffer_bytes))) {
      co_await requests_.Changed();
    }
    if (Ending()) co_return;
    NbdRequest* request = requests_.Take(header);
    request->error = error;
    requests_.Charge(request, buffer_bytes);
    if (header.command != nbd::Command::kWrite) {
      Start(request);
    } else if (!TryStartWrite(request)) {
      const bool alive = co_await ReceiveWrite(request);
      if (!alive) co_return;
    }
  }
}

void NbdSession::AdaptReceiveBuffer() {
  if (direct_bytes_ >= kDirectBytesLarge) {
    receive_bytes_max_ = kReceiveBytesMin;
  } else if (receive_was_full_ && receive_bytes_max_ < kReceiveBytesMax) {
    receive_bytes_max_ *= 4;
    if (receive_bytes_max_ > receive_capacity_) {
      receive_buffer_ = std::make_unique_for_overwrite<std::byte[]>(receive_bytes_max_);
      receive_capacity_ = receive_bytes_max_;
    }
  }
  direct_bytes_ = 0;
}

io::Task<bool> NbdSession::Fill(std::int64_t deadline_ns) {
  const std::span<std::byte> into(receive_buffer_.get(), receive_bytes_max_);
  const absl::StatusOr<std::size_t> received = co_await stream_->ReadSome(into, deadline_ns);
  if (!received.ok()) {
    NoteReceiveError(received.status());
    co_return false;
  }
  receive_was_full_ = *received == into.size();
  input_ = into.first(*received);
  co_return *received > 0;
}

io::Task<bool> NbdSession::ReceivePayload(std::span<std::byte> into) {
  const std::size_t buffered = std::min(into.size(), input_.size());
  std::copy_n(input_.begin(), buffered, into.begin());
  input_ = input_.subspan(buffered);
  into = into.subspan(buffered);
  const std::int64_t deadline_ns = reactor_->NowNanos() + options_->payload_timeout_ns;
  while (!into.empty()) {
    const absl::StatusOr<std::size_t> received = co_await stream_->ReadSome(into, deadline_ns);
    if (!received.ok()) NoteReceiveError(received.status());
    if (!received.ok() || *received == 0) co_return false;
    direct_bytes_ += *received;
    into = into.subspan(*received);
  }
  co_return true;
}

io::Task<bool> NbdSession::SkipPayload(std::uint32_t length) {
  std::size_t left = length;
  std::size_t piece_left = 0;  // each piece has its own deadline, as if it were received
  std::int64_t deadline_ns = 0;
  while (left > 0) {
    if (input_.empty()) {
      if (piece_left == 0) {
        piece_left = std::min<std::size_t>(left, nbd::kPieceBytesMax);
        deadline_ns = reactor_->NowNanos() + options_->payload_timeout_ns;
      }
      const bool alive = co_await Fill(deadline_ns);
      if (!alive) co_return false;
    }
    const std::size_t skipped = std::min(left, input_.size());
    input_ = input_.subspan(skipped);
    left -= skipped;
    piece_left -= std::min(piece_left, skipped);
  }
  co_return true;
}

void NbdSession::NoteReceiveError(const absl::Status& status) {
  if (!absl::IsDeadlineExceeded(status)) return;  // the peer is gone, which is its right
  ++counters_->stalled_clients;
  KEEL_LOG_WARN("event=nbd_client_stalled export={} peer=\"{}\" what=receive", export_name(),
                stream_->peer());
}

void NbdSession::RefuseProtocol(const char* what) {
  ++counters_->protocol_errors;
  KEEL_LOG_WARN("event=nbd_protocol_error export={} peer=\"{}\" what=\"{}\"",
                absl::CHexEscape(export_name()), stream_->peer(), what);
}

}  // namespace keelson::frontend
