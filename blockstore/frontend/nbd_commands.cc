// The requests of an NBD session: from an admitted request to its reply.

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "blockstore/frontend/nbd_session.h"

namespace keelson::frontend {

using nbd::Command;
using nbd::Error;

namespace {
constexpr std::size_t kDescriptorBytes = 8;  // of a run in the answer to BLOCK_STATUS
}  // namespace

std::size_t NbdSession::BufferBytesOf(const NbdRequestHeader& header, Error error) const {
  if (error != Error::kNone) return 0;
  switch (header.command) {
    case Command::kRead:
    case Command::kWrite:
      return std::min(header.length, nbd::kPieceBytesMax);
    case Command::kWriteZeroes:
      return (header.flags & nbd::kCommandNoHole) != 0
                 ? std::min(header.length, nbd::kPieceBytesMax)
                 : 0;
    case Command::kBlockStatus:
      return engine::kBlockSize;
    default:
      return 0;
  }
}

void NbdSession::Start(NbdRequest* request) {
  const auto command = static_cast<std::size_t>(request->header.command);
  ++(command < nbd::kCommandCount ? counters_->requests[command] : counters_->requests_unknown);
  if (request->error != Error::kNone) {
    ReplyError(request, request->error, std::nullopt);
    return;
  }
  switch (request->header.command) {
    case Command::kRead:
      gate_.Spawn(RunRead(request));
      return;
    case Command::kFlush:
      gate_.Spawn(RunFlush(request));
      return;
    case Command::kTrim:
      gate_.Spawn(RunTrim(request));
      return;
    case Command::kWriteZeroes:
      // Trimmed blocks read as zeroes without the data area being touched.
      gate_.Spawn((request->header.flags & nbd::kCommandNoHole) != 0 ? RunWriteRealZeroes(request)
                                                                     : RunTrim(request));
      return;
    case Command::kBlockStatus:
      gate_.Spawn(RunBlockStatus(request));
      return;
    case Command::kCache:  // a hint; the device has no cache to fill
      Reply(request, absl::OkStatus());
      return;
    case Command::kWrite:
    case Command::kDisconnect:
      break;
  }
  KEEL_CHECK(false, "writes and disconnects are the reader's");
}

bool NbdSession::TryStartWrite(NbdRequest* request) {
  const std::uint32_t length = request->header.length;
  if (request->error != Error::kNone || length > input_.size() || length > nbd::kPieceBytesMax) {
    return false;
  }
  io::Buffer buffer = buffers_->TryTake(length);
  if (!buffer) return false;
  std::memcpy(buffer.data(), input_.data(), length);
  input_ = input_.subspan(length);
  ++counters_->requests[static_cast<std::size_t>(Command::kWrite)];
  request->pieces_pending = 1;
  gate_.Spawn(RunWritePiece(request, std::move(buffer), 0));
  return true;
}

io::Task<bool> NbdSession::ReceiveWrite(NbdRequest* request) {
  ++counters_->requests[static_cast<std::size_t>(Command::kWrite)];
  const std::uint32_t length = request->header.length;
  request->pieces_pending = 1;  // the receipt itself
  bool alive = true;
  if (request->error != Error::kNone) {
    alive = co_await SkipPayload(length);
  } else {
    std::uint32_t at = 0;
    while (at < length) {
      const std::uint32_t piece_bytes = std::min(length - at, nbd::kPieceBytesMax);
      while (at > 0 && !Ending() && !requests_.HasBytes(piece_bytes)) {
        co_await requests_.Changed();
      }
      alive = !Ending();
      if (!alive) break;
      // The first piece was charged when the request was admitted.
      if (at > 0) requests_.Charge(request, piece_bytes);
      io::Buffer buffer = co_await buffers_->Take(piece_bytes);
      const std::span<std::byte> into = buffer.span();
      alive = co_await ReceivePayload(into);
      if (!alive) break;
      ++request->pieces_pending;
      gate_.Spawn(RunWritePiece(request, std::move(buffer), at));
      at += piece_bytes;
    }
  }
  // Half a payload leaves nothing to answer; the pieces under way are finished.
  if (!alive) writer_.Fail();
  FinishWritePiece(request);
  co_return alive;
}

io::Task<void> NbdSession::RunWritePiece(NbdRequest* request, io::Buffer buffer, std::uint32_t at) {
  const bool fua = (request->header.flags & nbd::kCommandFua) != 0;
  const std::span<const std::byte> from = buffer.span();
  const absl::Status status = co_await device_->Write(request->header.offset + at, from, fua);
  const std::size_t size_bytes = buffer.size();
  buffer.Reset();
  requests_.Uncharge(request, size_bytes);
  if (request->error == Error::kNone) request->error = NbdErrorOf(status);
  FinishWritePiece(request);
}

void NbdSession::FinishWritePiece(NbdRequest* request) {
  if (--request->pieces_pending > 0) return;
  if (request->error != Error::kNone) {
    ReplyError(request, request->error, std::nullopt);
    return;
  }
  counters_->written_bytes += request->header.length;
  Reply(request, absl::OkStatus());
}

io::Task<void> NbdSession::RunRead(NbdRequest* request) {
  const NbdRequestHeader& header = request->header;
  const std::uint32_t buffer_bytes = std::min(header.length, nbd::kPieceBytesMax);
  io::BufferPool& buffers = *buffers_;
  request->buffer = buffers.TryTake(buffer_bytes);
  if (!request->buffer) {
    io::Buffer waited_for = co_await buffers.Take(buffer_bytes);
    request->buffer = std::move(waited_for);
  }
  // One buffer for all pieces: a read that waited for a second one could wait for itself.
  std::uint32_t at = 0;
  while (true) {
    const std::uint32_t piece_bytes = std::min(header.length - at, nbd::kPieceBytesMax);
    const std::span<std::byte> into = request->buffer.span().first(piece_bytes);
    const absl::Status status = co_await device_->Read(header.offset + at, into);
    if (!status.ok()) {
      FailRead(request, at, status);
      co_return;
    }
    PrepareReadReply(request, at, piece_bytes);
    at += piece_bytes;
    if (at == header.length) break;
    const bool sent = co_await writer_.Send(request);
    if (!sent) {
      requests_.Release(request);
      co_return;
    }
  }
  counters_->read_bytes += header.length;
  writer_.Push(request);
}

void NbdSession::PrepareReadReply(NbdRequest* request, std::uint32_t at, std::uint32_t size_bytes) {
  const NbdRequestHeader& header = request->header;
  const bool last = at + size_bytes == header.length;
  request->reply_payload = request->buffer.span().first(size_bytes);
  if (negotiation_.structured_replies()) {
    request->reply_header_bytes = EncodeDataChunk(header.cookie, header.offset + at, size_bytes,
                                                  last, &request->reply_header);
    return;
  }
  // A simple reply has one header, and all of its data follow at once.
  request->reply_header_bytes =
      at == 0 ? EncodeSimpleReply(Error::kNone, header.cookie, &request->reply_header) : 0;
  request->reply_is_continued = at > 0;
  request->reply_is_unfinished = !last;
}

void NbdSession::FailRead(NbdRequest* request, std::uint32_t at, const absl::Status& status) {
  if (at == 0 || negotiation_.structured_replies()) {
    ReplyError(request, NbdErrorOf(status), request->header.offset + at);
    return;
  }
  // A simple reply that began as a success cannot become an error any more.
  ++counters_->errors;
  writer_.Fail();
  requests_.Release(request);
}

io::Task<void> NbdSession::RunFlush(NbdRequest* request) {
  const absl::Status status = co_await device_->Flush();
  Reply(request, status);
}

io::Task<void> NbdSession::RunTrim(NbdRequest* request) {
  const NbdRequestHeader& header = request->header;
  const bool fua = (header.flags & nbd::kCommandFua) != 0;
  const absl::Status status = co_await device_->Trim(header.offset, header.length, fua);
  Reply(request, status);
}

io::Task<void> NbdSession::RunWriteRealZeroes(NbdRequest* request) {
  const NbdRequestHeader& header = request->header;
  const bool fua = (header.flags & nbd::kCommandFua) != 0;
  const std::uint32_t buffer_bytes = std::min(header.length, nbd::kPieceBytesMax);
  io::Buffer buffer = co_await buffers_->Take(buffer_bytes);
  std::memset(buffer.data(), 0, buffer.size());
  absl::Status status;
  std::uint32_t at = 0;
  while (at < header.length && status.ok() && !Ending()) {
    const std::uint32_t piece_bytes = std::min(header.length - at, buffer_bytes);
    const std::span<const std::byte> from = buffer.span().first(piece_bytes);
    status = co_await device_->Write(header.offset + at, from, fua);
    at += piece_bytes;
    co_await reactor_->Yield();  // up to 4 GiB in one request: others have their turn
  }
  buffer.Reset();
  if (status.ok() && at < header.length) status = absl::AbortedError("the connection is ending");
  Reply(request, status);
}

io::Task<void> NbdSession::RunBlockStatus(NbdRequest* request) {
  io::Buffer buffer = co_await buffers_->Take(engine::kBlockSize);
  request->buffer = std::move(buffer);
  const bool one = (request->header.flags & nbd::kCommandReqOne) != 0;
  const std::size_t runs_max = one ? 1 : request->buffer.span().size() / kDescriptorBytes;
  const absl::StatusOr<std::vector<engine::BlockRun>> runs =
      co_await device_->Status(request->header.offset, request->header.length, runs_max);
  if (!runs.ok() || runs->empty()) {
    const Error error = runs.ok() ? Error::kIo : NbdErrorOf(runs.status());
    ReplyError(request, error, std::nullopt);
    co_return;
  }
  const std::size_t descriptor_bytes = EncodeBlockRuns(*runs, request->buffer.span());
  request->reply_payload = request->buffer.span().first(descriptor_bytes);
  request->reply_header_bytes = EncodeBlockStatusChunk(
      request->header.cookie, static_cast<std::uint32_t>(descriptor_bytes), &request->reply_header);
  writer_.Push(request);
}

std::size_t NbdSession::EncodeBlockRuns(const std::vector<engine::BlockRun>& runs,
                                        std::span<std::byte> out) {
  std::size_t used = 0;
  for (const engine::BlockRun& run : runs) {
    if (used + kDescriptorBytes > out.size()) break;
    EncodeBlockDescriptor(static_cast<std::uint32_t>(run.size_bytes),
                          run.hole ? nbd::kStateHole | nbd::kStateZero : 0, out.data() + used);
    used += kDescriptorBytes;
  }
  return used;
}

void NbdSession::Reply(NbdRequest* request, const absl::Status& status) {
  if (!status.ok()) {
    ReplyError(request, NbdErrorOf(status), std::nullopt);
    return;
  }
  request->reply_header_bytes =
      EncodeSimpleReply(Error::kNone, request->header.cookie, &request->reply_header);
  writer_.Push(request);
}

void NbdSession::ReplyError(NbdRequest* request, Error error, std::optional<std::uint64_t> offset) {
  ++counters_->errors;
  request->buffer.Reset();
  request->reply_payload = {};
  const NbdRequestHeader& header = request->header;
  // Once negotiated, these two commands must be answered in structure; the others need not be.
  const bool structured =
      negotiation_.structured_replies() &&
      (header.command == Command::kRead || header.command == Command::kBlockStatus);
  request->reply_header_bytes =
      structured ? EncodeErrorChunk(header.cookie, error, offset, &request->reply_header)
                 : EncodeSimpleReply(error, header.cookie, &request->reply_header);
  writer_.Push(request);
}

}  // namespace keelson::frontend
