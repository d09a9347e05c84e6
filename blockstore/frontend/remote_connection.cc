// RemoteVolume: its connection to the engine's daemon, one after the other.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/frontend/remote_volume.h"
#include "blockstore/io/check.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"

namespace keelson::frontend {
namespace {

constexpr std::uint64_t kPingCookie = UINT64_MAX;

std::string AddressText(const io::Address& address) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return absl::StrCat(v6 ? "[" : "", address.host, v6 ? "]:" : ":", address.port);
}

}  // namespace

io::Task<void> RemoteVolume::Run() {
  while (ended_.ok()) {
    const std::uint64_t changes = target_changes_;
    const absl::Status reached = co_await Connect();
    if (reached.ok() && ended_.ok() && changes == target_changes_) {
      co_await Serve();
      // One that only takes connections and answers nothing is an outage, too.
      if (heard_ || in_flight_ == 0) {
        outage_since_ns_ = silent_ ? heard_ns_ : reactor_->NowNanos();
      }
    } else if (changes == target_changes_ && ended_.ok()) {
      const std::string problem(reached.message());
      if (problem != problem_) {
        KEEL_LOG_WARN("event=remote_not_reached volume={} engine={} error=\"{}\"", name_,
                      AddressText(target_.address), problem);
      }
      problem_ = problem;
    }
    stream_.reset();
    reader_.reset();
    if (!ended_.ok()) break;
    OnOutage();
    if (changes != target_changes_) continue;
    co_await Pause(reactor_->NowNanos() + options_.retry_interval_ns);
  }
  CompleteAll(ended_);
  running_ = false;
}

// Calls have waited for as long as they may.
void RemoteVolume::OnOutage() {
  if (options_.outage_limit_ns == 0 || !failing_.ok()) return;
  if (reactor_->NowNanos() - outage_since_ns_ < options_.outage_limit_ns) return;
  failing_ = absl::UnavailableError(absl::StrCat("volume ", name_, ": its engine at ",
                                                 AddressText(target_.address),
                                                 " was not reached in time: ", problem_));
  KEEL_LOG_ERROR("event=remote_outage volume={} engine={} error=\"{}\" remedy=\"{}\"", name_,
                 AddressText(target_.address), problem_,
                 "start its daemon, or attach the volume elsewhere and point its clients there");
  CompleteAll(failing_);
}

io::Task<void> RemoteVolume::Pause(std::int64_t until_ns) {
  pause_timer_.when_ns = until_ns;
  reactor_->StartTimer(&pause_timer_);
  co_await wake_.Park();
  reactor_->CancelTimer(&pause_timer_);
}

io::Task<absl::Status> RemoteVolume::Connect() {
  const io::Address address = target_.address;
  const std::int64_t connect_ns = reactor_->NowNanos() + options_.connect_timeout_ns;
  absl::StatusOr<std::unique_ptr<io::Stream>> stream =
      co_await reactor_->Connect(address, connect_ns);
  if (!stream.ok()) co_return Lost(stream.status());
  if (!ended_.ok()) co_return ended_;
  stream_ = *std::move(stream);
  reader_ = std::make_unique<NbdReader>(stream_.get());
  std::string asked = FormatClientName({name_, target_.attachment, target_.ticket});
  const std::int64_t handshake_ns = reactor_->NowNanos() + options_.handshake_timeout_ns;
  const absl::StatusOr<NbdExportInfo> info = co_await NbdHandshake(
      stream_.get(), reader_.get(), std::move(asked), /*only_ask=*/false, handshake_ns);
  if (!info.ok()) co_return Lost(info.status());
  const absl::StatusOr<EngineState> state = ParseEngineState(info->description);
  if (!state.ok()) co_return Lost(state.status());
  co_return Judge(*info, *state);
}

// Whether this device may go on with that engine.
absl::Status RemoteVolume::Judge(const NbdExportInfo& info, const EngineState& state) {
  if (state.engine.attachment != target_.attachment) {
    return Lost(absl::UnavailableError("it is of another attachment"));
  }
  if (last_engine_.has_value() && state.lost > *last_engine_ &&
      answered_writes_ > flushed_writes_) {
    // R3: it must not look as if a flush still covered them.
    End(absl::UnavailableError(absl::StrCat(
        "volume ", name_, ": writes that were answered and not flushed may be lost, because every ",
        "copy restarted or an operator went on from one; detach it from this node")));
    KEEL_LOG_ERROR(
        "event=remote_lost_writes volume={} remedy=\"detach it, and check what uses it\"", name_);
    return ended_;
  }
  if (info.size_bytes < size_bytes_) {
    End(absl::UnavailableError(absl::StrCat("volume ", name_, " has ", info.size_bytes,
                                            " bytes instead of ", size_bytes_,
                                            ": it is another one; detach it from this node")));
    return ended_;
  }
  last_engine_ = state.engine;
  size_bytes_ = info.size_bytes;
  read_only_ = (info.flags & nbd::kFlagReadOnly) != 0;
  return absl::OkStatus();
}

io::Task<void> RemoteVolume::Serve() {
  connected_ = true;
  ++connections_;
  failing_ = absl::OkStatus();
  heard_ns_ = reactor_->NowNanos();
  seen_bytes_ = reader_->received_bytes();
  pinged_ = heard_ = silent_ = false;
  KEEL_LOG_INFO("event=remote_connected volume={} engine={} attachment={} connections={}", name_,
                AddressText(target_.address), target_.attachment, connections_);
  SendAgain();
  OnPingTimer();
  writing_ = true;
  gate_.Spawn(WriteRequests());
  const absl::Status status = co_await ReadReplies();
  EndConnection();
  while (writing_) co_await writer_ended_.Wait();
  reactor_->CancelTimer(&ping_timer_);
  // What came while its request was still being sent is an answer all the same.
  for (RemoteRequest* request : slots_) {
    if (request != nullptr && request->answered) Complete(request);
  }
  if (problem_.empty()) problem_ = std::string(status.message());
  KEEL_LOG_INFO("event=remote_disconnected volume={} engine={} requests={} status=\"{}\"", name_,
                AddressText(target_.address), in_flight_, status.ToString());
}

void RemoteVolume::EndConnection() {
  connected_ = false;
  if (stream_ != nullptr) stream_->Shutdown();
  work_.Unpark();
}

// What has a slot was not answered: in the order of the calls.
void RemoteVolume::SendAgain() {
  problem_.clear();
  std::vector<RemoteRequest*> again;
  for (RemoteRequest* request : slots_) {
    if (request != nullptr) again.push_back(request);
  }
  std::sort(again.begin(), again.end(), [](const RemoteRequest* a, const RemoteRequest* b) {
    return a->sequence < b->sequence;
  });
  for (RemoteRequest* request : again) Push(request);
}

void RemoteVolume::Push(RemoteRequest* request) {
  request->queued = true;
  ready_.Append(request);
  work_.Unpark();
}

std::size_t RemoteVolume::Gather(std::array<iovec, 2 * kRequestsPerWrite>* parts) {
  std::size_t count = 0;
  std::size_t size_bytes = 0;
  while (count + 2 <= parts->size() && size_bytes < kBytesPerWrite) {
    RemoteRequest* const request = ready_.Pop();
    if (request == nullptr) break;
    batch_.Append(request);
    (*parts)[count++] = {request->encoded.data(), request->encoded.size()};
    // const_cast: iovec serves both directions; a write only reads from it.
    if (!request->from.empty()) {
      (*parts)[count++] = {const_cast<std::byte*>(request->from.data()), request->from.size()};
    }
    size_bytes += request->from.size();
  }
  return count;
}

io::Task<void> RemoteVolume::WriteRequests() {
  std::array<iovec, 2 * kRequestsPerWrite> parts;
  while (connected_) {
    const std::size_t count = Gather(&parts);
    if (count == 0) {
      co_await work_.Park();
      continue;
    }
    const std::span<iovec> to_send(parts.data(), count);
    // The silence limit ends a write that does not end.
    const absl::Status sent = co_await stream_->WriteAll(to_send, io::kNoDeadline);
    while (RemoteRequest* const request = batch_.Pop()) {
      request->queued = false;
      if (request->answered) Complete(request);
    }
    if (!sent.ok()) break;
  }
  while (RemoteRequest* const request = ready_.Pop()) request->queued = false;
  EndConnection();  // and the reader's
  writing_ = false;
  writer_ended_.WakeAll();
}

absl::StatusOr<RemoteRequest*> RemoteVolume::Match(std::uint64_t cookie) {
  const auto slot = static_cast<std::size_t>(cookie & 0xff);
  RemoteRequest* const request = slot < kSlots ? slots_[slot] : nullptr;
  if (request == nullptr || request->header.cookie != cookie || request->answered) {
    return absl::UnavailableError("it answered a request that is not outstanding");
  }
  return request;
}

io::Task<absl::Status> RemoteVolume::ReadReplies() {
  NbdSimpleReplyBytes bytes;
  while (true) {
    const std::span<std::byte> head(bytes);
    // An idle connection may last; the ping timer sees to one that is dead.
    CO_RETURN_IF_ERROR(co_await reader_->Read(head, io::kNoDeadline));
    const absl::StatusOr<NbdSimpleReply> reply = DecodeSimpleReply(bytes);
    if (!reply.ok()) co_return reply.status();
    if (reply->error == nbd::Error::kShutdown) {
      co_return absl::UnavailableError("its engine is going");
    }
    heard_ = true;
    if (reply->cookie == kPingCookie && pinged_) {
      pinged_ = false;
      continue;
    }
    const absl::StatusOr<RemoteRequest*> match = Match(reply->cookie);
    if (!match.ok()) co_return match.status();
    RemoteRequest* const request = *match;
    const bool good = reply->error == nbd::Error::kNone;
    if (good && request->header.command == nbd::Command::kRead) {
      const std::span<std::byte> into = request->into;
      CO_RETURN_IF_ERROR(co_await reader_->Read(into, io::kNoDeadline));
    }
    if (!good) {
      request->status = StatusOfNbdError(reply->error, absl::StrCat("volume ", name_));
    }
    request->answered = true;
    if (!request->queued) Complete(request);
  }
}

void RemoteVolume::OnPingTimer() {
  if (!connected_) return;
  const std::int64_t now_ns = reactor_->NowNanos();
  if (reader_->received_bytes() != seen_bytes_) heard_ns_ = now_ns;
  seen_bytes_ = reader_->received_bytes();
  if (now_ns - heard_ns_ >= options_.silence_limit_ns) {
    silent_ = true;
    problem_ = "it has not answered for too long";
    EndConnection();
    return;
  }
  if (now_ns - heard_ns_ >= options_.ping_after_ns && !pinged_ && !ping_.queued) {
    // A hint that the engine's daemon answers by itself.
    ping_ = RemoteRequest();
    ping_.header = {.flags = 0,
                    .command = nbd::Command::kCache,
                    .cookie = kPingCookie,
                    .offset = 0,
                    .length = engine::kBlockSize};
    ping_.encoded = EncodeRequest(ping_.header);
    pinged_ = true;
    Push(&ping_);
  }
  ping_timer_.when_ns = now_ns + options_.ping_after_ns / 2;
  reactor_->StartTimer(&ping_timer_);
}

absl::Status RemoteVolume::Lost(const absl::Status& why) const {
  return absl::Status(why.code(), absl::StrCat("the engine at ", AddressText(target_.address), ": ",
                                               std::string(why.message())));
}

io::Task<absl::Status> RemoteVolume::RefreshSize() {
  const io::Address address = target_.address;
  const std::int64_t deadline_ns = reactor_->NowNanos() + options_.connect_timeout_ns;
  absl::StatusOr<std::unique_ptr<io::Stream>> stream =
      co_await reactor_->Connect(address, deadline_ns);
  if (!stream.ok()) co_return Lost(stream.status());
  NbdReader reader(stream->get());
  std::string asked = FormatClientName({name_, target_.attachment, target_.ticket});
  const absl::StatusOr<NbdExportInfo> info = co_await NbdHandshake(
      stream->get(), &reader, std::move(asked), /*only_ask=*/true, deadline_ns);
  (*stream)->Shutdown();
  if (!info.ok()) co_return Lost(info.status());
  size_bytes_ = std::max(size_bytes_, info->size_bytes);
  co_return absl::OkStatus();
}

}  // namespace keelson::frontend
