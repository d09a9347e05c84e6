// The decoders of the data protocol over arbitrary bytes. The first byte says how the rest is split
// and what it is: a hello, frames, or one message (the second byte says of which type). Checked: no
// split changes what is decoded, every event consumes or ends, and what a parser accepts is encoded
// to the same message again. Checksums of frames are put right first, or no mutation would pass
// them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "blockstore/io/check.h"
#include "blockstore/pool/superblock.h"
#include "blockstore/wire/frame.h"
#include "blockstore/wire/hello.h"
#include "blockstore/wire/messages.h"

namespace {

namespace wire = keelson::wire;
using keelson::pool::Crc32c;
using wire::FrameType;

std::string DecodeHello(std::span<const std::byte> stream, std::size_t step) {
  wire::HelloDecoder decoder;
  while (!stream.empty()) {
    std::span<const std::byte> input = stream.first(std::min(step, stream.size()));
    stream = stream.subspan(input.size());
    const auto hello = decoder.Next(&input);
    if (!hello.ok()) return std::string(hello.status().message());
    if (hello->has_value()) {
      const wire::Hello answer = wire::AnswerHello(**hello, wire::Hello{});
      return (*hello)->text + answer.text + std::to_string(answer.version_chosen);
    }
    KEEL_CHECK(input.empty(), "asking for more consumes what there was");
  }
  return "more";
}

// A hello with its checksums put right.
std::vector<std::byte> Mended(std::span<const std::byte> bytes) {
  std::vector<std::byte> out(bytes.begin(), bytes.end());
  if (out.size() < sizeof(wire::RawHello)) return out;
  wire::RawHello raw;
  std::memcpy(&raw, out.data(), sizeof(raw));
  const std::span<const std::byte> text = std::span(out).subspan(sizeof(raw));
  raw.text_crc32c = Crc32c(text.first(std::min<std::size_t>(text.size(), raw.text_bytes)));
  raw.crc32c = Crc32c(std::as_bytes(std::span(&raw, 1)).first(offsetof(wire::RawHello, crc32c)));
  std::memcpy(out.data(), &raw, sizeof(raw));
  return out;
}

// The frames in `bytes`, one behind the other, with their checksums put right.
std::vector<std::byte> MendedFrames(std::span<const std::byte> bytes) {
  std::vector<std::byte> out(bytes.begin(), bytes.end());
  std::size_t at = 0;
  while (out.size() - at >= sizeof(wire::RawFrameHeader)) {
    wire::RawFrameHeader raw;
    std::memcpy(&raw, out.data() + at, sizeof(raw));
    const std::span<const std::byte> rest = std::span(out).subspan(at + sizeof(raw));
    if (raw.message_bytes <= rest.size())
      raw.message_crc32c = Crc32c(rest.first(raw.message_bytes));
    raw.crc32c =
        Crc32c(std::as_bytes(std::span(&raw, 1)).first(offsetof(wire::RawFrameHeader, crc32c)));
    std::memcpy(out.data() + at, &raw, sizeof(raw));
    const std::size_t size_bytes = sizeof(raw) + std::size_t{raw.message_bytes} + raw.data_bytes;
    if (size_bytes > out.size() - at) break;
    at += size_bytes;
  }
  return out;
}

// A digest of every frame in `stream` as it comes in pieces of `step` bytes.
std::string DecodeFrames(std::span<const std::byte> stream, std::size_t step) {
  wire::FrameDecoder decoder;
  std::string digest;
  std::size_t data_left = 0;
  while (!stream.empty()) {
    std::span<const std::byte> input = stream.first(std::min(step, stream.size()));
    stream = stream.subspan(input.size());
    while (true) {
      const std::size_t skipped = std::min(data_left, input.size());
      input = input.subspan(skipped);
      data_left -= skipped;
      if (data_left > 0) break;
      const wire::FrameDecoder::Event event = decoder.Next(&input);
      if (event == wire::FrameDecoder::Event::kBad) {
        return digest + std::string(decoder.error().message());
      }
      if (event == wire::FrameDecoder::Event::kNeedMore) break;
      const wire::FrameHeader& header = decoder.header();
      KEEL_CHECK(header.message_bytes == decoder.message().size(), "a message is whole");
      data_left = header.data_bytes;
      digest += std::to_string(header.request_id) + wire::ByeReason(decoder.message()) + ";";
    }
    KEEL_CHECK(input.empty(), "asking for more consumes what there was");
  }
  return digest;
}

template <typename Request, typename... Sizes>
std::optional<Request> Parsed(std::span<const std::byte> message, Sizes... sizes) {
  Request request;
  if (!wire::Parse(message, sizes..., &request).ok()) return std::nullopt;
  return request;
}

// What a fixed-size parser accepts becomes the same bytes again.
template <typename Request>
void CheckRequest(std::span<const std::byte> message) {
  const std::optional<Request> request = Parsed<Request>(message);
  if (!request.has_value()) return;
  wire::EncodedFrame frame;
  wire::Encode(wire::FrameHead{}, *request, &frame);
  const auto encoded = std::span<const std::byte>(frame.head).first(frame.head_bytes);
  KEEL_CHECK(std::ranges::equal(encoded.subspan(sizeof(wire::RawFrameHeader)), message),
             "what was parsed is encoded to the same message");
}

void CheckRequests(FrameType type, std::span<const std::byte> message, std::size_t data_bytes) {
  switch (type) {
    case FrameType::kPrepare:
      return CheckRequest<wire::PrepareRequest>(message);
    case FrameType::kAccept:
      Parsed<wire::AcceptRequest>(message);
      return;
    case FrameType::kHeartbeat:
      return CheckRequest<wire::HeartbeatRequest>(message);
    case FrameType::kRead:
      return CheckRequest<wire::ReadRequest>(message);
    case FrameType::kWrite:
      Parsed<wire::WriteRequest>(message, data_bytes);
      return;
    case FrameType::kTrim:
      return CheckRequest<wire::TrimRequest>(message);
    case FrameType::kMap:
      return CheckRequest<wire::MapRequest>(message);
    case FrameType::kFlush:
      return CheckRequest<wire::FlushRequest>(message);
    case FrameType::kEndGeneration:
      return CheckRequest<wire::EndGenerationRequest>(message);
    case FrameType::kNotes:
      return CheckRequest<wire::NotesRequest>(message);
    case FrameType::kReadCopy:
      return CheckRequest<wire::ReadCopyRequest>(message);
    case FrameType::kBeginCopy:
      return CheckRequest<wire::BeginCopyRequest>(message);
    case FrameType::kWriteCopy:
      Parsed<wire::WriteCopyRequest>(message, data_bytes);
      return;
    case FrameType::kRecordProgress:
      return CheckRequest<wire::RecordProgressRequest>(message);
    case FrameType::kCancel:
      return CheckRequest<wire::CancelRequest>(message);
    case FrameType::kVerify:
      Parsed<wire::VerifyRequest>(message, data_bytes);
      return;
    case FrameType::kBye:
      wire::ByeReason(message);
      return;
  }
}

void CheckAnswers(FrameType type, std::span<const std::byte> message, std::size_t data_bytes) {
  const absl::StatusOr<wire::AnswerParts> parts = wire::ParseAnswer(message);
  if (!parts.ok()) return;
  KEEL_CHECK(parts->status.ok() || parts->result.empty(), "an error has no result");
  keelson::replica::PrepareAnswer prepared;
  std::vector<keelson::replica::DataRun> runs;
  std::vector<keelson::replica::RegionNote> notes;
  keelson::replica::ExtentContent content;
  keelson::replica::VerifyAnswer verified;
  absl::Status read;
  if (type == FrameType::kVerify) read = wire::ParseResult(parts->result, &verified);
  if (type == FrameType::kPrepare) read = wire::ParseResult(parts->result, &prepared);
  if (type == FrameType::kMap) read = wire::ParseResult(parts->result, &runs);
  if (type == FrameType::kNotes) read = wire::ParseResult(parts->result, &notes);
  if (type == FrameType::kReadCopy) read = wire::ParseResult(parts->result, data_bytes, &content);
  KEEL_CHECK(!read.ok() || type != FrameType::kReadCopy ||
                 content.data.Count() * keelson::pool::kBlockBytes == data_bytes,
             "an extent's data are those of its blocks");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::size_t step = 1 + (data[0] & 0x3f) * 3;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data + 2, size - 2));
  switch (data[0] >> 6) {
    case 0: {
      const std::vector<std::byte> hello = Mended(bytes);
      KEEL_CHECK(DecodeHello(hello, step) == DecodeHello(hello, hello.size()),
                 "a split changes nothing");
      DecodeHello(bytes, step);
      break;
    }
    case 1: {
      const std::vector<std::byte> frames = MendedFrames(bytes);
      KEEL_CHECK(DecodeFrames(frames, step) == DecodeFrames(frames, frames.size()),
                 "a split changes nothing");
      DecodeFrames(bytes, step);
      break;
    }
    default: {
      const auto type = static_cast<FrameType>(1 + data[1] % wire::kFrameTypeMax);
      const std::size_t data_bytes = (data[0] & 0x3f) * std::size_t{4096};
      CheckRequests(type, bytes, data_bytes);
      CheckAnswers(type, bytes, data_bytes);
    }
  }
  return 0;
}
