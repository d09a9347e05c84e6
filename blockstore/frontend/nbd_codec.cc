#include "blockstore/frontend/nbd_codec.h"

#include <algorithm>
#include <concepts>
#include <cstring>

#include "blockstore/frontend/nbd_bytes.h"

namespace keelson::frontend {
namespace {

template <std::unsigned_integral T>
void Append(T value, std::string* out) {
  const T swapped = Swap(value);
  char bytes[sizeof(swapped)];
  std::memcpy(bytes, &swapped, sizeof(swapped));
  out->append(bytes, sizeof(bytes));
}

// Takes integers and strings off the front of an option's payload.
class PayloadReader {
 public:
  explicit PayloadReader(std::span<const std::byte> payload) : rest_(payload) {}

  template <std::unsigned_integral T>
  bool Take(T* value) {
    if (rest_.size() < sizeof(T)) return false;
    *value = Load<T>(rest_.data());
    rest_ = rest_.subspan(sizeof(T));
    return true;
  }
  // A string behind its own 32-bit length.
  bool TakeString(std::string_view* text) {
    std::uint32_t length = 0;
    if (!Take(&length) || length > nbd::kNameBytesMax || length > rest_.size()) return false;
    *text = {reinterpret_cast<const char*>(rest_.data()), length};
    rest_ = rest_.subspan(length);
    return true;
  }
  std::size_t left() const { return rest_.size(); }

 private:
  std::span<const std::byte> rest_;
};

std::byte* StoreChunkHeader(nbd::Chunk type, bool done, std::uint64_t cookie, std::size_t length,
                            NbdReplyHeader* out) {
  std::byte* to = Store(nbd::kStructuredReplyMagic, out->data());
  to = Store(done ? nbd::kChunkDone : std::uint16_t{0}, to);
  to = Store(static_cast<std::uint16_t>(type), to);
  to = Store(cookie, to);
  return Store(static_cast<std::uint32_t>(length), to);
}

std::size_t BytesBetween(const NbdReplyHeader& out, const std::byte* end) {
  return static_cast<std::size_t>(end - out.data());
}

}  // namespace

NbdDecoder::Event NbdDecoder::Next(std::span<const std::byte>* input) {
  switch (state_) {
    case State::kClientFlags:
      return NextClientFlags(input);
    case State::kOptionHeader:
      return NextOptionHeader(input);
    case State::kOptionPayload:
      return NextOptionPayload(input);
    case State::kOptionSkip:
      return NextOptionSkip(input);
    case State::kRequest:
      return NextRequest(input);
  }
  return Event::kBadMagic;
}

void NbdDecoder::EnterTransmission() {
  state_ = State::kRequest;
  payload_ = {};
}

const std::byte* NbdDecoder::Gather(std::span<const std::byte>* input, std::size_t size) {
  if (partial_bytes_ == 0 && input->size() >= size) [[likely]] {
    const std::byte* whole = input->data();
    *input = input->subspan(size);
    return whole;
  }
  const std::size_t taken = std::min(size - partial_bytes_, input->size());
  std::copy_n(input->begin(), taken,
              partial_.begin() + static_cast<std::ptrdiff_t>(partial_bytes_));
  *input = input->subspan(taken);
  partial_bytes_ += taken;
  if (partial_bytes_ < size) return nullptr;
  partial_bytes_ = 0;
  return partial_.data();
}

NbdDecoder::Event NbdDecoder::NextClientFlags(std::span<const std::byte>* input) {
  const std::byte* bytes = Gather(input, sizeof(std::uint32_t));
  if (bytes == nullptr) return Event::kNeedMore;
  client_flags_ = Load<std::uint32_t>(bytes);
  state_ = State::kOptionHeader;
  return Event::kClientFlags;
}

NbdDecoder::Event NbdDecoder::NextOptionHeader(std::span<const std::byte>* input) {
  const std::byte* bytes = Gather(input, nbd::kOptionHeaderBytes);
  if (bytes == nullptr) return Event::kNeedMore;
  if (Load<std::uint64_t>(bytes) != nbd::kOptionMagic) return Event::kBadMagic;
  option_ = static_cast<nbd::Option>(Load<std::uint32_t>(bytes + 8));
  payload_bytes_left_ = Load<std::uint32_t>(bytes + 12);
  payload_.clear();
  if (payload_bytes_left_ > nbd::kOptionPayloadBytesMax) {
    state_ = State::kOptionSkip;
    return NextOptionSkip(input);
  }
  payload_.reserve(payload_bytes_left_);
  state_ = State::kOptionPayload;
  return NextOptionPayload(input);
}

NbdDecoder::Event NbdDecoder::NextOptionPayload(std::span<const std::byte>* input) {
  const std::size_t taken = std::min(payload_bytes_left_, input->size());
  payload_.insert(payload_.end(), input->begin(),
                  input->begin() + static_cast<std::ptrdiff_t>(taken));
  *input = input->subspan(taken);
  payload_bytes_left_ -= taken;
  if (payload_bytes_left_ > 0) return Event::kNeedMore;
  state_ = State::kOptionHeader;
  return Event::kOption;
}

NbdDecoder::Event NbdDecoder::NextOptionSkip(std::span<const std::byte>* input) {
  const std::size_t skipped = std::min(payload_bytes_left_, input->size());
  *input = input->subspan(skipped);
  payload_bytes_left_ -= skipped;
  if (payload_bytes_left_ > 0) return Event::kNeedMore;
  state_ = State::kOptionHeader;
  return Event::kOversizedOption;
}

NbdDecoder::Event NbdDecoder::NextRequest(std::span<const std::byte>* input) {
  const std::byte* bytes = Gather(input, nbd::kRequestBytes);
  if (bytes == nullptr) return Event::kNeedMore;
  if (Load<std::uint32_t>(bytes) != nbd::kRequestMagic) return Event::kBadMagic;
  request_.flags = Load<std::uint16_t>(bytes + 4);
  request_.command = static_cast<nbd::Command>(Load<std::uint16_t>(bytes + 6));
  request_.cookie = Load<std::uint64_t>(bytes + 8);
  request_.offset = Load<std::uint64_t>(bytes + 16);
  request_.length = Load<std::uint32_t>(bytes + 24);
  return Event::kRequest;
}

std::optional<NbdInfoQuery> DecodeInfoQuery(std::span<const std::byte> payload) {
  PayloadReader reader(payload);
  NbdInfoQuery query;
  std::uint16_t count = 0;
  if (!reader.TakeString(&query.export_name) || !reader.Take(&count)) return std::nullopt;
  if (reader.left() != std::size_t{count} * sizeof(std::uint16_t)) return std::nullopt;
  query.infos.resize(count);
  for (std::uint16_t& info : query.infos) reader.Take(&info);
  return query;
}

std::optional<NbdMetaQuery> DecodeMetaQuery(std::span<const std::byte> payload) {
  PayloadReader reader(payload);
  NbdMetaQuery query;
  std::uint32_t count = 0;
  if (!reader.TakeString(&query.export_name) || !reader.Take(&count)) return std::nullopt;
  // Every query has a length of four bytes at least: `count` alone must not size an allocation.
  if (count > reader.left() / sizeof(std::uint32_t)) return std::nullopt;
  query.queries.resize(count);
  for (std::string_view& text : query.queries) {
    if (!reader.TakeString(&text)) return std::nullopt;
  }
  if (reader.left() != 0) return std::nullopt;
  return query;
}

NbdWriter& NbdWriter::U16(std::uint16_t value) {
  Append(value, out_);
  return *this;
}
NbdWriter& NbdWriter::U32(std::uint32_t value) {
  Append(value, out_);
  return *this;
}
NbdWriter& NbdWriter::U64(std::uint64_t value) {
  Append(value, out_);
  return *this;
}
NbdWriter& NbdWriter::Text(std::string_view text) {
  out_->append(text);
  return *this;
}
NbdWriter& NbdWriter::Zeroes(std::size_t count) {
  out_->append(count, '\0');
  return *this;
}

void AppendGreeting(std::string* out) {
  NbdWriter(out)
      .U64(nbd::kGreetingMagic)
      .U64(nbd::kOptionMagic)
      .U16(nbd::kHandshakeFixedNewstyle | nbd::kHandshakeNoZeroes);
}

void AppendOptionReply(nbd::Option option, nbd::OptionReply reply, std::string_view data,
                       std::string* out) {
  NbdWriter(out)
      .U64(nbd::kOptionReplyMagic)
      .U32(static_cast<std::uint32_t>(option))
      .U32(static_cast<std::uint32_t>(reply))
      .U32(static_cast<std::uint32_t>(data.size()))
      .Text(data);
}

std::size_t EncodeSimpleReply(nbd::Error error, std::uint64_t cookie, NbdReplyHeader* out) {
  std::byte* to = Store(nbd::kSimpleReplyMagic, out->data());
  to = Store(static_cast<std::uint32_t>(error), to);
  return BytesBetween(*out, Store(cookie, to));
}

std::size_t EncodeDataChunk(std::uint64_t cookie, std::uint64_t offset, std::uint32_t data_bytes,
                            bool done, NbdReplyHeader* out) {
  std::byte* to = StoreChunkHeader(nbd::Chunk::kOffsetData, done, cookie,
                                   sizeof(offset) + std::size_t{data_bytes}, out);
  return BytesBetween(*out, Store(offset, to));
}

std::size_t EncodeBlockStatusChunk(std::uint64_t cookie, std::uint32_t descriptor_bytes,
                                   NbdReplyHeader* out) {
  std::byte* to =
      StoreChunkHeader(nbd::Chunk::kBlockStatus, true, cookie,
                       sizeof(nbd::kAllocationContextId) + std::size_t{descriptor_bytes}, out);
  return BytesBetween(*out, Store(nbd::kAllocationContextId, to));
}

std::size_t EncodeErrorChunk(std::uint64_t cookie, nbd::Error error,
                             std::optional<std::uint64_t> offset, NbdReplyHeader* out) {
  constexpr std::size_t kErrorBytes = sizeof(std::uint32_t) + sizeof(std::uint16_t);
  const std::size_t length = kErrorBytes + (offset.has_value() ? sizeof(*offset) : 0);
  std::byte* to =
      StoreChunkHeader(offset.has_value() ? nbd::Chunk::kErrorOffset : nbd::Chunk::kError, true,
                       cookie, length, out);
  to = Store(static_cast<std::uint32_t>(error), to);
  to = Store(std::uint16_t{0}, to);  // no message
  if (offset.has_value()) to = Store(*offset, to);
  return BytesBetween(*out, to);
}

void EncodeBlockDescriptor(std::uint32_t size_bytes, std::uint32_t state, std::byte* out) {
  Store(state, Store(size_bytes, out));
}

}  // namespace keelson::frontend
