#include "blockstore/wire/frame.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/pool/superblock.h"
#include "blockstore/wire/raw.h"

namespace keelson::wire {
namespace {

// A large message leaves the decoder with no more memory than this.
constexpr std::size_t kPartialBytesKept = std::size_t{64} << 10;

bool MayCarryData(FrameType type, bool answer) {
  if (answer) return type == FrameType::kRead || type == FrameType::kReadCopy;
  return type == FrameType::kWrite || type == FrameType::kWriteCopy || type == FrameType::kVerify;
}

void StoreHeader(const FrameHead& head, std::span<const std::byte> message,
                 std::span<const std::byte> data, EncodedFrame* out) {
  KEEL_CHECK(message.size() <= kMessageBytesMax, "a message keeps its bound");
  KEEL_CHECK(data.size() <= kDataBytesMax, "larger data is split by the caller");
  RawFrameHeader raw{};
  raw.magic = kFrameMagic;
  raw.type = static_cast<std::uint16_t>(head.type);
  raw.flags = static_cast<std::uint16_t>((head.answer ? kFlagAnswer : 0) |
                                         (head.session_ended ? kFlagSessionEnded : 0) |
                                         (head.wants_new_generation ? kFlagWantsNewGeneration : 0));
  raw.request_id = head.request_id;
  raw.attachment = head.epoch.attachment;
  raw.restart = head.epoch.restart;
  raw.message_bytes = static_cast<std::uint32_t>(message.size());
  raw.data_bytes = static_cast<std::uint32_t>(data.size());
  raw.message_crc32c = pool::Crc32c(message);
  raw.data_crc32c = pool::Crc32c(data);
  StoreUuid(head.epoch.engine, &raw.engine);
  StoreUuid(head.incarnation, &raw.incarnation);
  raw.crc32c =
      pool::Crc32c(std::as_bytes(std::span(&raw, 1)).first(offsetof(RawFrameHeader, crc32c)));
  std::memcpy(out->head.data(), &raw, sizeof(raw));
}

}  // namespace

std::string_view FrameTypeName(FrameType type) {
  switch (type) {
    case FrameType::kPrepare:
      return "Prepare";
    case FrameType::kAccept:
      return "Accept";
    case FrameType::kHeartbeat:
      return "Heartbeat";
    case FrameType::kRead:
      return "Read";
    case FrameType::kWrite:
      return "Write";
    case FrameType::kTrim:
      return "Trim";
    case FrameType::kMap:
      return "Map";
    case FrameType::kFlush:
      return "Flush";
    case FrameType::kEndGeneration:
      return "EndGeneration";
    case FrameType::kNotes:
      return "Notes";
    case FrameType::kReadCopy:
      return "ReadCopy";
    case FrameType::kBeginCopy:
      return "BeginCopy";
    case FrameType::kWriteCopy:
      return "WriteCopy";
    case FrameType::kRecordProgress:
      return "RecordProgress";
    case FrameType::kCancel:
      return "Cancel";
    case FrameType::kBye:
      return "Bye";
    case FrameType::kVerify:
      return "Verify";
  }
  return "unknown";
}

void EncodeFrame(const FrameHead& head, std::span<const std::byte> message,
                 std::span<const std::byte> data, EncodedFrame* out) {
  KEEL_CHECK(message.size() <= EncodedFrame::kInlineMessageBytesMax, "an inline message fits");
  StoreHeader(head, message, data, out);
  std::copy(message.begin(), message.end(), out->head.begin() + sizeof(RawFrameHeader));
  out->head_bytes = sizeof(RawFrameHeader) + message.size();
  out->body.clear();
  out->data = data;
}

void EncodeFrameWithBody(const FrameHead& head, std::string body, std::span<const std::byte> data,
                         EncodedFrame* out) {
  StoreHeader(head, std::as_bytes(std::span(body.data(), body.size())), data, out);
  out->head_bytes = sizeof(RawFrameHeader);
  out->body = std::move(body);
  out->data = data;
}

absl::Status CheckData(const FrameHeader& header, std::span<const std::byte> data) {
  if (data.size() == header.data_bytes && pool::Crc32c(data) == header.data_crc32c) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("the data of a ",
                                                 std::string(FrameTypeName(header.type)),
                                                 " frame does not match its checksum"));
}

std::span<const std::byte> FrameDecoder::Gather(std::span<const std::byte>* input,
                                                std::size_t size) {
  if (partial_bytes_ == 0 && input->size() >= size) [[likely]] {
    const std::span<const std::byte> whole = input->first(size);
    *input = input->subspan(size);
    return whole;
  }
  if (partial_bytes_ == 0) {
    partial_.clear();
    if (partial_.capacity() > kPartialBytesKept) partial_.shrink_to_fit();
  }
  const std::size_t taken = std::min(size - partial_bytes_, input->size());
  partial_.insert(partial_.end(), input->begin(),
                  input->begin() + static_cast<std::ptrdiff_t>(taken));
  *input = input->subspan(taken);
  partial_bytes_ += taken;
  if (partial_bytes_ < size) return {};
  partial_bytes_ = 0;
  return partial_;
}

FrameDecoder::Event FrameDecoder::Next(std::span<const std::byte>* input) {
  if (!error_.ok()) return Event::kBad;
  if (!in_message_) {
    const std::span<const std::byte> bytes = Gather(input, sizeof(RawFrameHeader));
    if (bytes.empty()) return Event::kNeedMore;
    error_ = ReadHeader(bytes);
    if (!error_.ok()) return Event::kBad;
    in_message_ = true;
  }
  message_ = {};
  if (header_.message_bytes > 0) {
    message_ = Gather(input, header_.message_bytes);
    if (message_.empty()) return Event::kNeedMore;
  }
  in_message_ = false;
  if (pool::Crc32c(message_) != header_.message_crc32c) {
    error_ = absl::InvalidArgumentError(absl::StrCat("the message of a ",
                                                     std::string(FrameTypeName(header_.type)),
                                                     " frame does not match its checksum"));
    return Event::kBad;
  }
  return Event::kFrame;
}

absl::Status FrameDecoder::ReadHeader(std::span<const std::byte> bytes) {
  const auto raw = LoadRaw<RawFrameHeader>(bytes.data());
  if (raw.magic != kFrameMagic) {
    return absl::InvalidArgumentError("a frame does not begin with the frame magic");
  }
  if (raw.crc32c != pool::Crc32c(bytes.first(offsetof(RawFrameHeader, crc32c)))) {
    return absl::InvalidArgumentError("the header of a frame does not match its checksum");
  }
  if (raw.type == 0 || raw.type > kFrameTypeMax) {
    return absl::InvalidArgumentError(absl::StrCat("there is no frame of type ", raw.type));
  }
  if ((raw.flags & ~kFlagsKnown) != 0 || raw.reserved != 0 || raw.reserved_2 != 0) {
    return absl::InvalidArgumentError("a frame uses reserved bits of its header");
  }
  header_.type = static_cast<FrameType>(raw.type);
  header_.answer = (raw.flags & kFlagAnswer) != 0;
  header_.session_ended = (raw.flags & kFlagSessionEnded) != 0;
  header_.wants_new_generation = (raw.flags & kFlagWantsNewGeneration) != 0;
  if (raw.message_bytes > kMessageBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a ", std::string(FrameTypeName(header_.type)), " frame announces a message of ",
        raw.message_bytes, " bytes; the most is ", kMessageBytesMax));
  }
  if (raw.data_bytes > (MayCarryData(header_.type, header_.answer) ? kDataBytesMax : 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a ", std::string(FrameTypeName(header_.type)), " frame announces ",
                     raw.data_bytes, " bytes of data, which is more than it may carry"));
  }
  header_.request_id = raw.request_id;
  header_.epoch.attachment = raw.attachment;
  header_.epoch.restart = raw.restart;
  header_.epoch.engine = pool::EngineId(LoadUuid(raw.engine));
  header_.incarnation = LoadUuid(raw.incarnation);
  header_.message_bytes = raw.message_bytes;
  header_.data_bytes = raw.data_bytes;
  header_.message_crc32c = raw.message_crc32c;
  header_.data_crc32c = raw.data_crc32c;
  return absl::OkStatus();
}

}  // namespace keelson::wire
