// The requests of a ReplicaConnection: from a frame to a call of the port to the answer. The port
// is in this process: its calls last as long as its disk takes, and the engine that waits for the
// answer has the deadline.

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "blockstore/engine/replica_connection.h"
#include "blockstore/io/check.h"
#include "blockstore/io/status.h"
#include "blockstore/wire/messages.h"

namespace keelson::engine {
namespace {

template <typename Request, typename... Sizes>
absl::Status ParseAs(std::span<const std::byte> message, auto* out, Sizes... sizes) {
  return wire::Parse(message, sizes..., &out->template emplace<Request>());
}

}  // namespace

absl::Status ReplicaConnection::ParseMessage() {
  const std::span<const std::byte> message = reader_.message();
  const std::size_t data_bytes = reader_.header().data_bytes;
  switch (reader_.header().type) {
    case wire::FrameType::kAccept:
      return ParseAs<wire::AcceptRequest>(message, &parsed_);
    case wire::FrameType::kHeartbeat:
      return ParseAs<wire::HeartbeatRequest>(message, &parsed_);
    case wire::FrameType::kRead:
      return ParseAs<wire::ReadRequest>(message, &parsed_);
    case wire::FrameType::kWrite:
      return ParseAs<wire::WriteRequest>(message, &parsed_, data_bytes);
    case wire::FrameType::kTrim:
      return ParseAs<wire::TrimRequest>(message, &parsed_);
    case wire::FrameType::kMap:
      return ParseAs<wire::MapRequest>(message, &parsed_);
    case wire::FrameType::kFlush:
      return ParseAs<wire::FlushRequest>(message, &parsed_);
    case wire::FrameType::kEndGeneration:
      return ParseAs<wire::EndGenerationRequest>(message, &parsed_);
    case wire::FrameType::kNotes:
      return ParseAs<wire::NotesRequest>(message, &parsed_);
    case wire::FrameType::kReadCopy:
      return ParseAs<wire::ReadCopyRequest>(message, &parsed_);
    case wire::FrameType::kBeginCopy:
      return ParseAs<wire::BeginCopyRequest>(message, &parsed_);
    case wire::FrameType::kWriteCopy:
      return ParseAs<wire::WriteCopyRequest>(message, &parsed_, data_bytes);
    case wire::FrameType::kRecordProgress:
      return ParseAs<wire::RecordProgressRequest>(message, &parsed_);
    case wire::FrameType::kVerify:
      return ParseAs<wire::VerifyRequest>(message, &parsed_, data_bytes);
    case wire::FrameType::kPrepare:
    case wire::FrameType::kCancel:
    case wire::FrameType::kBye:
      break;
  }
  return absl::InvalidArgumentError("a frame of the connection is no request to a replica");
}

std::size_t ReplicaConnection::BufferBytes() const {
  if (const auto* read = std::get_if<wire::ReadRequest>(&parsed_)) return read->size_bytes;
  if (std::holds_alternative<wire::ReadCopyRequest>(parsed_)) return pool::kExtentBytes;
  return reader_.header().data_bytes;
}

void ReplicaConnection::Start(Request* request) {
  switch (request->head.type) {
    case wire::FrameType::kRead:
      gate_.Spawn(ServeRead(request));
      return;
    case wire::FrameType::kReadCopy:
      gate_.Spawn(ServeReadCopy(request));
      return;
    case wire::FrameType::kMap:
      gate_.Spawn(ServeMap(request));
      return;
    case wire::FrameType::kNotes:
      gate_.Spawn(ServeNotes(request));
      return;
    case wire::FrameType::kVerify:
      gate_.Spawn(ServeVerify(request));
      return;
    default:
      gate_.Spawn(ServeCall(request));
      return;
  }
}

io::Task<void> ReplicaConnection::ServeCall(Request* request) {
  io::Task<absl::Status> call = Call(request);
  const absl::Status status = co_await std::move(call);
  request->buffer.Reset();
  Answer(request, status);
}

io::Task<absl::Status> ReplicaConnection::Call(Request* request) {
  Message& message = request->message;
  if (auto* accept = std::get_if<wire::AcceptRequest>(&message)) {
    return port_->Accept(std::move(accept->configuration), io::kNoDeadline);
  }
  if (const auto* write = std::get_if<wire::WriteRequest>(&message)) {
    return port_->Write(write->offset, request->buffer.span(), write->generation, io::kNoDeadline);
  }
  if (const auto* trim = std::get_if<wire::TrimRequest>(&message)) {
    return port_->Trim(trim->offset, trim->size_bytes, trim->generation, io::kNoDeadline);
  }
  if (std::holds_alternative<wire::FlushRequest>(message)) return port_->Flush(io::kNoDeadline);
  if (const auto* end = std::get_if<wire::EndGenerationRequest>(&message)) {
    return port_->EndGeneration(end->generation, io::kNoDeadline);
  }
  if (const auto* begin = std::get_if<wire::BeginCopyRequest>(&message)) {
    return port_->BeginCopy(begin->layer, begin->region, begin->generation, io::kNoDeadline);
  }
  if (const auto* copy = std::get_if<wire::WriteCopyRequest>(&message)) {
    return port_->WriteCopy(copy->layer, copy->extent, copy->content, request->buffer.span(),
                            io::kNoDeadline);
  }
  if (const auto* record = std::get_if<wire::RecordProgressRequest>(&message)) {
    return port_->RecordProgress(record->progress, io::kNoDeadline);
  }
  KEEL_CHECK(std::holds_alternative<wire::HeartbeatRequest>(message), "a request has its call");
  return port_->Heartbeat(io::kNoDeadline);
}

io::Task<void> ReplicaConnection::ServeRead(Request* request) {
  const wire::ReadRequest read = std::get<wire::ReadRequest>(request->message);
  request->buffer = co_await reactor_->buffers().Take(read.size_bytes);
  if (request->cancelled) {
    Answer(request, absl::CancelledError("the engine cancelled it before it began"));
    co_return;
  }
  const std::span<std::byte> into = request->buffer.span();
  const absl::Status status = co_await port_->Read(read.offset, into, io::kNoDeadline);
  if (!status.ok()) {
    Answer(request, status);
    co_return;
  }
  wire::EncodeReadAnswer(AnswerHead(*request), into, &request->encoded);
  writer_.Push(request);
}

io::Task<void> ReplicaConnection::ServeReadCopy(Request* request) {
  const wire::ReadCopyRequest read = std::get<wire::ReadCopyRequest>(request->message);
  request->buffer = co_await reactor_->buffers().Take(pool::kExtentBytes);
  if (request->cancelled) {
    Answer(request, absl::CancelledError("the engine cancelled it before it began"));
    co_return;
  }
  const std::span<std::byte> into = request->buffer.span();
  const absl::StatusOr<replica::ExtentContent> content =
      co_await port_->ReadCopy(read.layer, read.extent, into, io::kNoDeadline);
  if (!content.ok()) {
    Answer(request, content.status());
    co_return;
  }
  const std::span<const std::byte> packed = into.first(content->data.Count() * pool::kBlockBytes);
  wire::EncodeAnswer(AnswerHead(*request), *content, packed, &request->encoded);
  writer_.Push(request);
}

io::Task<void> ReplicaConnection::ServeMap(Request* request) {
  const wire::MapRequest map = std::get<wire::MapRequest>(request->message);
  const absl::StatusOr<std::vector<replica::DataRun>> runs =
      co_await port_->Map(map.offset, map.size_bytes, map.runs_max, io::kNoDeadline);
  if (!runs.ok()) {
    Answer(request, runs.status());
    co_return;
  }
  wire::EncodeAnswer(AnswerHead(*request), *runs, &request->encoded);
  writer_.Push(request);
}

io::Task<void> ReplicaConnection::ServeNotes(Request* request) {
  const wire::NotesRequest asked = std::get<wire::NotesRequest>(request->message);
  const absl::StatusOr<std::vector<replica::RegionNote>> notes =
      co_await port_->Notes(asked.above, asked.first_region, asked.count_max, io::kNoDeadline);
  if (!notes.ok()) {
    Answer(request, notes.status());
    co_return;
  }
  wire::EncodeAnswer(AnswerHead(*request), *notes, &request->encoded);
  writer_.Push(request);
}

io::Task<void> ReplicaConnection::ServeVerify(Request* request) {
  const wire::VerifyRequest asked = std::get<wire::VerifyRequest>(request->message);
  const absl::StatusOr<replica::VerifyAnswer> answer = co_await port_->Verify(
      asked.layer, asked.extent, asked.offered, request->buffer.span(), io::kNoDeadline);
  request->buffer.Reset();
  if (!answer.ok()) {
    Answer(request, answer.status());
    co_return;
  }
  wire::EncodeAnswer(AnswerHead(*request), *answer, &request->encoded);
  writer_.Push(request);
}

wire::FrameHead ReplicaConnection::AnswerHead(const Request& request) const {
  wire::FrameHead head = request.head;
  head.session_ended = port_ != nullptr && !port_->open();
  head.wants_new_generation = port_ != nullptr && port_->wants_new_generation();
  return head;
}

void ReplicaConnection::Answer(Request* request, const absl::Status& status) {
  wire::EncodeAnswer(AnswerHead(*request), status, &request->encoded);
  writer_.Push(request);
}

}  // namespace keelson::engine
