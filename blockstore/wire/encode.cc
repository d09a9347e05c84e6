// The encoding half of messages.h; parse.cc is the other.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/wire/messages.h"
#include "blockstore/wire/raw.h"

namespace keelson::wire {
namespace {

template <typename Raw>
void EncodeRequest(FrameHead head, FrameType type, const Raw& raw, std::span<const std::byte> data,
                   EncodedFrame* out) {
  head.type = type;
  head.answer = false;
  EncodeFrame(head, std::as_bytes(std::span(&raw, 1)), data, out);
}

void EncodeEmptyRequest(FrameHead head, FrameType type, EncodedFrame* out) {
  head.type = type;
  head.answer = false;
  EncodeFrame(head, {}, {}, out);
}

std::string_view Truncated(std::string_view text) { return text.substr(0, kStatusTextBytesMax); }

std::string BeginResult() {
  std::string body;
  AppendRaw(RawStatus{}, &body);
  return body;
}

}  // namespace

void Encode(FrameHead head, const PrepareRequest& request, EncodedFrame* out) {
  RawPrepare raw{};
  StoreUuid(request.pool, &raw.pool);
  StoreUuid(request.replica, &raw.replica);
  EncodeRequest(head, FrameType::kPrepare, raw, {}, out);
}

absl::Status Encode(FrameHead head, const AcceptRequest& request, EncodedFrame* out) {
  std::string body = replica::Serialize(request.configuration);
  if (body.size() > kMessageBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the configuration of volume ", request.configuration.volume_name, " has ",
                     body.size(), " bytes and a message at most ", kMessageBytesMax,
                     "; delete snapshots or shorten their names"));
  }
  head.type = FrameType::kAccept;
  head.answer = false;
  EncodeFrameWithBody(head, std::move(body), {}, out);
  return absl::OkStatus();
}

void Encode(FrameHead head, const HeartbeatRequest& /*request*/, EncodedFrame* out) {
  EncodeEmptyRequest(head, FrameType::kHeartbeat, out);
}

void Encode(FrameHead head, const ReadRequest& request, EncodedFrame* out) {
  RawRead raw{};
  raw.offset = request.offset;
  raw.size_bytes = request.size_bytes;
  EncodeRequest(head, FrameType::kRead, raw, {}, out);
}

void Encode(FrameHead head, const WriteRequest& request, std::span<const std::byte> data,
            EncodedFrame* out) {
  RawWrite raw{};
  raw.offset = request.offset;
  raw.generation = ToRaw(request.generation);
  EncodeRequest(head, FrameType::kWrite, raw, data, out);
}

void Encode(FrameHead head, const TrimRequest& request, EncodedFrame* out) {
  RawTrim raw{};
  raw.offset = request.offset;
  raw.size_bytes = request.size_bytes;
  raw.generation = ToRaw(request.generation);
  EncodeRequest(head, FrameType::kTrim, raw, {}, out);
}

void Encode(FrameHead head, const MapRequest& request, EncodedFrame* out) {
  RawMap raw{};
  raw.offset = request.offset;
  raw.size_bytes = request.size_bytes;
  raw.runs_max = request.runs_max;
  EncodeRequest(head, FrameType::kMap, raw, {}, out);
}

void Encode(FrameHead head, const FlushRequest& /*request*/, EncodedFrame* out) {
  EncodeEmptyRequest(head, FrameType::kFlush, out);
}

void Encode(FrameHead head, const EndGenerationRequest& request, EncodedFrame* out) {
  RawEndGeneration raw{};
  raw.generation = ToRaw(request.generation);
  EncodeRequest(head, FrameType::kEndGeneration, raw, {}, out);
}

void Encode(FrameHead head, const NotesRequest& request, EncodedFrame* out) {
  RawNotes raw{};
  raw.above = ToRaw(request.above);
  raw.first_region = request.first_region;
  raw.count_max = request.count_max;
  EncodeRequest(head, FrameType::kNotes, raw, {}, out);
}

void Encode(FrameHead head, const ReadCopyRequest& request, EncodedFrame* out) {
  RawReadCopy raw{};
  StoreUuid(request.layer, &raw.layer);
  raw.extent = request.extent;
  EncodeRequest(head, FrameType::kReadCopy, raw, {}, out);
}

void Encode(FrameHead head, const BeginCopyRequest& request, EncodedFrame* out) {
  RawBeginCopy raw{};
  StoreUuid(request.layer, &raw.layer);
  raw.region = request.region;
  raw.generation = ToRaw(request.generation);
  EncodeRequest(head, FrameType::kBeginCopy, raw, {}, out);
}

void Encode(FrameHead head, const WriteCopyRequest& request, std::span<const std::byte> packed,
            EncodedFrame* out) {
  RawWriteCopy raw{};
  StoreUuid(request.layer, &raw.layer);
  raw.extent = request.extent;
  raw.content = ToRaw(request.content);
  EncodeRequest(head, FrameType::kWriteCopy, raw, packed, out);
}

void Encode(FrameHead head, const RecordProgressRequest& request, EncodedFrame* out) {
  EncodeRequest(head, FrameType::kRecordProgress, ToRaw(request.progress), {}, out);
}

void Encode(FrameHead head, const VerifyRequest& request, std::span<const std::byte> packed,
            EncodedFrame* out) {
  RawVerify raw{};
  StoreUuid(request.layer, &raw.layer);
  StoreBits(request.offered, &raw.offered);
  raw.extent = request.extent;
  EncodeRequest(head, FrameType::kVerify, raw, packed, out);
}

void Encode(FrameHead head, const CancelRequest& request, EncodedFrame* out) {
  RawCancel raw{};
  raw.request_id = request.request_id;
  EncodeRequest(head, FrameType::kCancel, raw, {}, out);
}

void EncodeBye(FrameHead head, std::string_view reason, EncodedFrame* out) {
  head.type = FrameType::kBye;
  head.answer = false;
  head.request_id = 0;
  EncodeFrameWithBody(head, std::string(Truncated(reason)), {}, out);
}

void EncodeAnswer(FrameHead head, const absl::Status& status, EncodedFrame* out) {
  head.answer = true;
  const std::string text(status.message());
  RawStatus raw{};
  raw.code = static_cast<std::uint32_t>(status.code());
  raw.text_bytes = static_cast<std::uint32_t>(Truncated(text).size());
  if (status.ok()) {
    EncodeFrame(head, std::as_bytes(std::span(&raw, 1)), {}, out);
    return;
  }
  std::string body;
  AppendRaw(raw, &body);
  body.append(Truncated(text));
  EncodeFrameWithBody(head, std::move(body), {}, out);
}

void EncodeAnswer(FrameHead head, const replica::PrepareAnswer& answer, EncodedFrame* out) {
  head.answer = true;
  RawPrepareResult raw{};
  StoreUuid(answer.pool, &raw.pool);
  StoreUuid(answer.replica, &raw.replica);
  StoreUuid(answer.incarnation, &raw.incarnation);
  raw.progress = ToRaw(answer.progress);
  raw.has_configuration = answer.configuration.has_value() ? 1 : 0;
  raw.ended_session = answer.ended_session ? 1 : 0;
  std::string body = BeginResult();
  AppendRaw(raw, &body);
  if (answer.configuration.has_value()) body += replica::Serialize(*answer.configuration);
  if (body.size() > kMessageBytesMax) {
    const absl::Status too_large = absl::InternalError(
        absl::StrCat("the member's configuration has ", body.size(),
                     " bytes, which is more than a message may have; delete snapshots"));
    EncodeAnswer(head, too_large, out);
    return;
  }
  EncodeFrameWithBody(head, std::move(body), {}, out);
}

void EncodeAnswer(FrameHead head, const std::vector<replica::DataRun>& runs, EncodedFrame* out) {
  head.answer = true;
  KEEL_CHECK(runs.size() <= kRunsPerAnswerMax, "a port keeps to runs_max");
  std::string body = BeginResult();
  body.reserve(body.size() + runs.size() * sizeof(RawDataRun));
  for (const replica::DataRun& run : runs) {
    RawDataRun raw{};
    raw.size_bytes = run.size_bytes;
    raw.hole = run.hole ? 1 : 0;
    AppendRaw(raw, &body);
  }
  EncodeFrameWithBody(head, std::move(body), {}, out);
}

void EncodeAnswer(FrameHead head, const std::vector<replica::RegionNote>& notes,
                  EncodedFrame* out) {
  head.answer = true;
  std::string body = BeginResult();
  body.reserve(body.size() + notes.size() * sizeof(RawRegionNote));
  for (const replica::RegionNote& note : notes) {
    RawRegionNote raw{};
    StoreUuid(note.layer, &raw.layer);
    raw.generation = ToRaw(note.generation);
    raw.region = note.region;
    AppendRaw(raw, &body);
  }
  EncodeFrameWithBody(head, std::move(body), {}, out);
}

void EncodeAnswer(FrameHead head, const replica::ExtentContent& content,
                  std::span<const std::byte> packed, EncodedFrame* out) {
  struct RawReadCopyResult {
    RawStatus status;
    RawExtentContent content;
  };
  static_assert(sizeof(RawReadCopyResult) == sizeof(RawStatus) + sizeof(RawExtentContent));
  head.answer = true;
  RawReadCopyResult raw{};
  raw.content = ToRaw(content);
  EncodeFrame(head, std::as_bytes(std::span(&raw, 1)), packed, out);
}

void EncodeAnswer(FrameHead head, const replica::VerifyAnswer& answer, EncodedFrame* out) {
  head.answer = true;
  RawVerifyResult raw{};
  raw.content = ToRaw(answer.content);
  StoreBits(answer.bad, &raw.bad);
  StoreBits(answer.mended, &raw.mended);
  std::copy(answer.crc32c.begin(), answer.crc32c.end(), std::begin(raw.crc32c));
  std::string body = BeginResult();
  AppendRaw(raw, &body);
  EncodeFrameWithBody(head, std::move(body), {}, out);
}

void EncodeReadAnswer(FrameHead head, std::span<const std::byte> data, EncodedFrame* out) {
  head.answer = true;
  const RawStatus raw{};
  EncodeFrame(head, std::as_bytes(std::span(&raw, 1)), data, out);
}

}  // namespace keelson::wire
