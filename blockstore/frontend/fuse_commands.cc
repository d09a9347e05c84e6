// The requests of a FUSE session: from a checked request to its answer.

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "blockstore/frontend/fuse_session.h"
#include "blockstore/io/check.h"

namespace keelson::frontend {
namespace {

// Up to here a payload is copied to a buffer of its size, so that a small write does not hold a
// large one.
constexpr std::size_t kCopyBytesMax = std::size_t{64} << 10;

}  // namespace

FuseFileRules FuseSession::Rules() const {
  return {.size_bytes = device_->size_bytes(), .read_only = device_->read_only()};
}

bool FuseSession::AnswerAtOnce(const FuseRequestHeader& header) {
  switch (header.command) {
    case FuseCommand::kInit:
      Send(EncodeFuseInit(header), {});
      initialised_ = true;
      kernel_resends_ = header.kernel_resends;
      return true;
    case FuseCommand::kGetAttr:
      Send(EncodeFuseAttributes(header.unique, Rules()), {});
      return true;
    case FuseCommand::kOpen:
      Send(EncodeFuseOpen(header.unique), {});
      return true;
    case FuseCommand::kStatFs:
      Send(EncodeFuseStatFs(header.unique, device_->size_bytes()), {});
      return true;
    case FuseCommand::kRelease:
    case FuseCommand::kDestroy:
      Send(EncodeFuseResult(header.unique, 0), {});
      return true;
    case FuseCommand::kForget:
      return true;
    default:
      return false;
  }
}

void FuseSession::StartRead(const FuseRequestHeader& header) {
  const auto size_bytes = static_cast<std::uint32_t>(ReadableBytes(header, device_->size_bytes()));
  if (size_bytes == 0) {
    Send(EncodeFuseDataHeader(header.unique, 0), {});
    return;
  }
  gate_.Spawn(RunRead(Take(header, size_bytes), size_bytes));
}

io::Task<void> FuseSession::RunRead(Request* request, std::uint32_t size_bytes) {
  io::BufferPool& buffers = reactor_->buffers();
  request->buffer = buffers.TryTake(size_bytes);
  if (!request->buffer) {
    io::Buffer waited_for = co_await buffers.Take(size_bytes);
    request->buffer = std::move(waited_for);
  }
  const std::span<std::byte> into = request->buffer.span();
  const absl::Status status = co_await request->device->Read(request->header.offset, into);
  if (!status.ok()) {
    Finish(request, status);
    co_return;
  }
  counters_->read_bytes += size_bytes;
  Send(EncodeFuseDataHeader(request->header.unique, size_bytes), into);
  Release(request);
}

void FuseSession::StartWrite(const FuseRequestHeader& header) {
  io::Buffer buffer;
  if (header.length <= kCopyBytesMax) buffer = reactor_->buffers().TryTake(header.length);
  if (buffer) {
    std::memcpy(buffer.data(), payload_.data(), buffer.size());
  } else {
    buffer = std::move(payload_);
  }
  // A large buffer is held whole, however little of it is used.
  const bool copied = static_cast<bool>(payload_);
  Request* request = Take(header, copied ? buffer.size() : fuse::kPayloadBytesMax);
  request->buffer = std::move(buffer);
  gate_.Spawn(RunWrite(request));
}

io::Task<void> FuseSession::RunWrite(Request* request) {
  const FuseRequestHeader& header = request->header;
  const std::span<const std::byte> from = request->buffer.span().first(header.length);
  const bool fua = (header.flags & (O_DSYNC | O_SYNC)) != 0;
  const absl::Status status = co_await request->device->Write(header.offset, from, fua);
  if (!status.ok()) {
    Finish(request, status);
    co_return;
  }
  counters_->written_bytes += header.length;
  Send(EncodeFuseWritten(header.unique, static_cast<std::uint32_t>(header.length)), {});
  Release(request);
}

io::Task<void> FuseSession::RunFsync(Request* request) {
  const absl::Status status = co_await request->device->Flush();
  Finish(request, status);
}

io::Task<void> FuseSession::RunFallocate(Request* request) {
  const FuseRequestHeader& header = request->header;
  const absl::Status status =
      co_await request->device->Trim(header.offset, header.length, /*fua=*/false);
  Finish(request, status);
}

void FuseSession::Finish(Request* request, const absl::Status& status) {
  if (!status.ok() && leaving_ && kernel_resends_) {
    // It fails because the daemon goes: its successor gets it again.
    ++counters_->left;
  } else {
    if (!status.ok()) ++counters_->errors;
    Send(EncodeFuseResult(request->header.unique, FuseErrorOf(status)), {});
  }
  Release(request);
}

}  // namespace keelson::frontend
