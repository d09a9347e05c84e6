#pragma once
// The bytes of the NBD protocol, without I/O: a decoder that is fed whatever arrived, in any split,
// and gives one event at a time; readers of the options' inner structure; and encoders of replies.
// Used by one session on its reactor's thread. Every length that a client names is checked against
// what is there and against nbd_protocol.h's limits before it is used. Nothing allocates once
// EnterTransmission was called.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "blockstore/frontend/nbd_protocol.h"

namespace keelson::frontend {

// A request of the transmission phase. `command` may be a number that no command has.
struct NbdRequestHeader {
  std::uint16_t flags = 0;
  nbd::Command command = nbd::Command::kRead;
  std::uint64_t cookie = 0;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
};

class NbdDecoder {
 public:
  enum class Event {
    kNeedMore,         // all of the input is consumed
    kClientFlags,      // client_flags()
    kOption,           // option(), option_payload()
    kOversizedOption,  // option(); its payload was skipped
    kRequest,   // request(); the payload of a write follows in the input, for the caller to take
    kBadMagic,  // the stream is out of step: only closing helps
  };

  // Consumes the bytes of one event from the front of `input`.
  Event Next(std::span<const std::byte>* input);
  // From here on the input is requests. Frees the memory of the handshake.
  void EnterTransmission();

  std::uint32_t client_flags() const { return client_flags_; }
  nbd::Option option() const { return option_; }
  // Valid until the next call of Next.
  std::span<const std::byte> option_payload() const { return payload_; }
  const NbdRequestHeader& request() const { return request_; }

 private:
  enum class State { kClientFlags, kOptionHeader, kOptionPayload, kOptionSkip, kRequest };

  // The next `size` bytes in one piece, or nullptr when the input ended before (the part that came
  // is kept).
  const std::byte* Gather(std::span<const std::byte>* input, std::size_t size);
  Event NextClientFlags(std::span<const std::byte>* input);
  Event NextOptionHeader(std::span<const std::byte>* input);
  Event NextOptionPayload(std::span<const std::byte>* input);
  Event NextOptionSkip(std::span<const std::byte>* input);
  Event NextRequest(std::span<const std::byte>* input);

  State state_ = State::kClientFlags;
  std::array<std::byte, nbd::kRequestBytes> partial_;
  std::size_t partial_bytes_ = 0;
  std::uint32_t client_flags_ = 0;
  nbd::Option option_ = nbd::Option::kAbort;
  std::size_t payload_bytes_left_ = 0;
  std::vector<std::byte> payload_;
  NbdRequestHeader request_;
};

// The payload of NBD_OPT_INFO and NBD_OPT_GO. The views point into the payload.
struct NbdInfoQuery {
  std::string_view export_name;
  std::vector<std::uint16_t> infos;
};
// nullopt: the inner lengths do not add up to the payload, or the name is too long.
std::optional<NbdInfoQuery> DecodeInfoQuery(std::span<const std::byte> payload);

// The payload of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT.
struct NbdMetaQuery {
  std::string_view export_name;
  std::vector<std::string_view> queries;
};
std::optional<NbdMetaQuery> DecodeMetaQuery(std::span<const std::byte> payload);

// Appends big-endian integers and text to the replies of the handshake.
class NbdWriter {
 public:
  explicit NbdWriter(std::string* out) : out_(out) {}
  NbdWriter& U16(std::uint16_t value);
  NbdWriter& U32(std::uint32_t value);
  NbdWriter& U64(std::uint64_t value);
  NbdWriter& Text(std::string_view text);
  NbdWriter& Zeroes(std::size_t count);

 private:
  std::string* out_;
};

void AppendGreeting(std::string* out);
void AppendOptionReply(nbd::Option option, nbd::OptionReply reply, std::string_view data,
                       std::string* out);

// Headers of transmission replies. Each returns the number of bytes it put at the front of `out`.
using NbdReplyHeader = std::array<std::byte, 36>;
std::size_t EncodeSimpleReply(nbd::Error error, std::uint64_t cookie, NbdReplyHeader* out);
// A chunk's header for `data_bytes` of read data that follow it; `done` on the reply's last chunk.
std::size_t EncodeDataChunk(std::uint64_t cookie, std::uint64_t offset, std::uint32_t data_bytes,
                            bool done, NbdReplyHeader* out);
// The header of a block status reply whose `descriptor_bytes` follow it.
std::size_t EncodeBlockStatusChunk(std::uint64_t cookie, std::uint32_t descriptor_bytes,
                                   NbdReplyHeader* out);
// A final chunk that reports `error`, at `offset` of the device if one is given.
std::size_t EncodeErrorChunk(std::uint64_t cookie, nbd::Error error,
                             std::optional<std::uint64_t> offset, NbdReplyHeader* out);
// One descriptor (8 bytes) of a block status reply.
void EncodeBlockDescriptor(std::uint32_t size_bytes, std::uint32_t state, std::byte* out);

}  // namespace keelson::frontend
