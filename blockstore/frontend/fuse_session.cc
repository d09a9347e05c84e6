#include "blockstore/frontend/fuse_session.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "blockstore/io/check.h"
#include "blockstore/io/log.h"

namespace keelson::frontend {
namespace {

// Others have their turn after so many requests.
constexpr unsigned kRequestsPerTurn = 32;

std::size_t HeldBytesMax(io::Reactor* reactor, const FuseOptions& options) {
  return std::min(options.held_bytes_max, reactor->buffers().arena().size() / 4);
}

}  // namespace

FuseSession::FuseSession(io::Reactor* reactor, std::string name,
                         std::unique_ptr<FuseChannel> channel, const FuseOptions& options,
                         engine::BlockDevice* device, FuseCounters* counters)
    : reactor_(reactor),
      name_(std::move(name)),
      channel_(std::move(channel)),
      options_(options),
      held_bytes_max_(HeldBytesMax(reactor, options)),
      counters_(counters),
      device_(device),
      changed_(reactor) {}

void FuseSession::Adopt(bool kernel_resends) {
  initialised_ = true;
  kernel_resends_ = kernel_resends;
  resend_pending_ = kernel_resends;
}

io::Task<void> FuseSession::Run() {
  if (std::exchange(resend_pending_, false)) Send(EncodeFuseResend(), {});
  while (!stopping_ && !lost_) {
    if (!HasRoom()) {
      co_await changed_.Park();
      continue;
    }
    const bool readable = co_await channel_->WaitReadable();
    if (!readable) continue;  // to look at what has changed
    const bool there = co_await Drain();
    payload_.Reset();
    if (!there) lost_ = !stopping_;
  }
  co_await gate_.Close();
  if (lost_) {
    KEEL_LOG_WARN(
        "event=fuse_connection_lost volume={} remedy=\"the file system was unmounted by force: "
        "detach the volume and attach it again\"",
        name_);
  }
}

io::Task<void> FuseSession::Replace(engine::BlockDevice* device) {
  device_ = device;
  auto on_another = [this, device] {
    return std::any_of(nodes_.begin(), nodes_.end(), [device](const auto& node) {
      return node->device != nullptr && node->device != device;
    });
  };
  while (on_another()) co_await replaced_.Wait();
}

void FuseSession::Leave() {
  leaving_ = true;
  End();
}

void FuseSession::End() {
  stopping_ = true;
  channel_->Cancel();
  changed_.Unpark();
}

bool FuseSession::HasRoom() const {
  return in_flight_ < options_.requests_in_flight_max &&
         held_bytes_ + fuse::kPayloadBytesMax <= held_bytes_max_;
}

io::Task<bool> FuseSession::Drain() {
  unsigned taken = 0;
  while (!stopping_ && HasRoom()) {
    if (!payload_) payload_ = reactor_->buffers().TryTake(fuse::kPayloadBytesMax);
    if (!payload_) {
      io::Buffer waited_for = co_await reactor_->buffers().Take(fuse::kPayloadBytesMax);
      payload_ = std::move(waited_for);
      if (stopping_) break;
    }
    const std::array<iovec, 2> parts = {iovec{head_.data(), head_.size()},
                                        iovec{payload_.data(), payload_.size()}};
    const int result = channel_->Receive(parts);
    if (result == -EAGAIN) break;
    if (result < 0) {
      if (!NoteReceiveError(result)) co_return false;
      continue;
    }
    Dispatch(static_cast<std::size_t>(result));
    if (++taken % kRequestsPerTurn == 0) {
      payload_.Reset();
      co_await reactor_->Yield();
    }
  }
  co_return true;
}

bool FuseSession::NoteReceiveError(int result) {
  if (result == -EINTR || result == -ENOENT) return true;
  if (result != -ENODEV) {
    KEEL_LOG_ERROR("event=fuse_receive_failed volume={} error=\"{}\" remedy=\"report it\"", name_,
                   std::strerror(-result));
  }
  return false;
}

void FuseSession::Dispatch(std::size_t size_bytes) {
  const std::span<const std::byte> head(head_.data(), std::min(size_bytes, head_.size()));
  const std::optional<FuseRequestHeader> parsed = ParseFuseRequest(head, size_bytes);
  if (!parsed || parsed->command == FuseCommand::kMalformed) {
    ++counters_->malformed;
    KEEL_LOG_WARN("event=fuse_request_malformed volume={} opcode={} size_bytes={}", name_,
                  parsed ? parsed->opcode : 0, size_bytes);
    if (!parsed) return;
  }
  const FuseRequestHeader& header = *parsed;
  ++counters_->requests[static_cast<std::size_t>(header.command)];
  if (const int error = CheckFuseRequest(header, Rules()); error != 0) {
    if (error != ENOSYS) ++counters_->errors;
    Send(EncodeFuseResult(header.unique, error), {});
    return;
  }
  if (AnswerAtOnce(header)) return;
  switch (header.command) {
    case FuseCommand::kRead:
      StartRead(header);
      return;
    case FuseCommand::kWrite:
      StartWrite(header);
      return;
    case FuseCommand::kFsync:
      gate_.Spawn(RunFsync(Take(header, 0)));
      return;
    case FuseCommand::kFallocate:
      gate_.Spawn(RunFallocate(Take(header, 0)));
      return;
    default:
      break;
  }
  KEEL_CHECK(false, "every request that passes the check is handled");
}

FuseSession::Request* FuseSession::Take(const FuseRequestHeader& header,
                                        std::size_t charged_bytes) {
  Request* request = free_;
  if (request != nullptr) {
    free_ = request->next;
  } else {
    nodes_.push_back(std::make_unique<Request>());
    request = nodes_.back().get();
  }
  ++in_flight_;
  held_bytes_ += charged_bytes;
  request->header = header;
  request->device = device_;
  request->charged_bytes = charged_bytes;
  return request;
}

void FuseSession::Release(Request* request) {
  request->buffer.Reset();
  request->device = nullptr;
  held_bytes_ -= std::exchange(request->charged_bytes, 0);
  request->next = free_;
  free_ = request;
  --in_flight_;
  changed_.Unpark();
  replaced_.WakeAll();
}

void FuseSession::Send(const FuseReply& reply, std::span<const std::byte> data) {
  // const_cast: an iovec serves both directions; this one is only read from.
  const std::array<iovec, 2> parts = {
      iovec{const_cast<std::byte*>(reply.bytes.data()), reply.size_bytes},
      iovec{const_cast<std::byte*>(data.data()), data.size()}};
  const int result = channel_->Send(std::span(parts).first(data.empty() ? 1 : 2));
  // Nobody waits for it any more, or the file system is gone, which the reader will find.
  if (result == 0 || result == -ENOENT || result == -ENODEV) return;
  KEEL_LOG_ERROR("event=fuse_answer_refused volume={} error=\"{}\" remedy=\"report it\"", name_,
                 std::strerror(-result));
}

}  // namespace keelson::frontend
