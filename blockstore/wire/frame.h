#pragma once
// Frames: the header, its encoding, and the decoder that takes frames out of a stream of bytes in
// any split. No I/O, no waiting, no allocation for small messages. One user at a time.
//
// Data is not decoded: after a frame with data the driver takes `data_bytes` from the stream into
// where they belong and then checks them with CheckData.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "blockstore/pool/ids.h"
#include "blockstore/wire/protocol.h"

namespace keelson::wire {

std::string_view FrameTypeName(FrameType type);

// What a frame says of itself but for its sizes.
struct FrameHead {
  FrameType type = FrameType::kHeartbeat;
  bool answer = false;
  bool session_ended = false;         // of answers
  bool wants_new_generation = false;  // of answers
  std::uint64_t request_id = 0;
  pool::Epoch epoch;
  pool::Uuid incarnation;
  bool operator==(const FrameHead&) const = default;
};

struct FrameHeader : FrameHead {
  std::uint32_t message_bytes = 0;
  std::uint32_t data_bytes = 0;
  std::uint32_t message_crc32c = 0;
  std::uint32_t data_crc32c = 0;
};

// A frame ready to be sent, in up to three parts: head, body, data. It is sent from where it lies,
// and the data from where the caller has it.
struct EncodedFrame {
  static constexpr std::size_t kInlineMessageBytesMax = sizeof(RawWriteCopy);
  std::array<std::byte, sizeof(RawFrameHeader) + kInlineMessageBytesMax> head;
  std::size_t head_bytes = 0;  // the header, and a message that fits in behind it
  std::string body;            // a message that does not
  std::span<const std::byte> data;

  std::size_t size_bytes() const { return head_bytes + body.size() + data.size(); }
};

// `message` is at most EncodedFrame::kInlineMessageBytesMax; `data` is kept, not copied.
void EncodeFrame(const FrameHead& head, std::span<const std::byte> message,
                 std::span<const std::byte> data, EncodedFrame* out);
// A message of any size up to kMessageBytesMax.
void EncodeFrameWithBody(const FrameHead& head, std::string body, std::span<const std::byte> data,
                         EncodedFrame* out);

// INVALID_ARGUMENT unless `data` is what the header's checksum says.
absl::Status CheckData(const FrameHeader& header, std::span<const std::byte> data);

class FrameDecoder {
 public:
  enum class Event {
    kNeedMore,  // all input is consumed
    kFrame,     // header() and message() are valid until the next call
    kBad,       // error() says what is wrong; nothing more is decoded
  };

  // Consumes from the front of `input` up to the next event; never a byte of a frame's data. After
  // a frame with data, the driver has taken them off the stream before it calls again.
  Event Next(std::span<const std::byte>* input);

  const FrameHeader& header() const { return header_; }
  // Lies in `input` or in the decoder.
  std::span<const std::byte> message() const { return message_; }
  const absl::Status& error() const { return error_; }
  // Part of a header or of a message has been consumed.
  bool mid_frame() const { return in_message_ || partial_bytes_ > 0; }

 private:
  // The next `size` bytes when they are there: in place, or gathered. Empty while they are not.
  std::span<const std::byte> Gather(std::span<const std::byte>* input, std::size_t size);
  absl::Status ReadHeader(std::span<const std::byte> bytes);

  FrameHeader header_;
  std::span<const std::byte> message_;
  bool in_message_ = false;
  std::vector<std::byte> partial_;  // grows with what arrives, not with what is announced
  std::size_t partial_bytes_ = 0;
  absl::Status error_;
};

}  // namespace keelson::wire
