// The NBD decoder over arbitrary bytes. The first byte says how the rest is split and which phase
// it begins in. Checked: no split changes what is decoded, every event consumes or ends, and what
// the option readers return lies inside the payload.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "blockstore/frontend/nbd_codec.h"
#include "blockstore/io/check.h"

namespace {

using keelson::frontend::NbdDecoder;
using Event = NbdDecoder::Event;

void CheckInside(std::string_view text, std::span<const std::byte> payload) {
  const auto* begin = reinterpret_cast<const char*>(payload.data());
  KEEL_CHECK(
      text.empty() || (text.data() >= begin && text.data() + text.size() <= begin + payload.size()),
      "a decoded string lies inside the payload");
}

void CheckOption(std::span<const std::byte> payload) {
  if (const auto query = keelson::frontend::DecodeInfoQuery(payload)) {
    CheckInside(query->export_name, payload);
  }
  if (const auto query = keelson::frontend::DecodeMetaQuery(payload)) {
    CheckInside(query->export_name, payload);
    for (const std::string_view text : query->queries) CheckInside(text, payload);
  }
}

// A digest of everything that was decoded from `stream` in pieces of `step` bytes.
std::string Decode(std::span<const std::byte> stream, std::size_t step, bool transmission) {
  NbdDecoder decoder;
  if (transmission) decoder.EnterTransmission();
  std::string digest;
  while (!stream.empty()) {
    std::span<const std::byte> input = stream.first(std::min(step, stream.size()));
    stream = stream.subspan(input.size());
    Event event = Event::kNeedMore;
    while ((event = decoder.Next(&input)) != Event::kNeedMore) {
      digest += static_cast<char>(event);
      if (event == Event::kBadMagic) return digest;
      if (event == Event::kOption) {
        CheckOption(decoder.option_payload());
        digest += std::to_string(decoder.option_payload().size());
      }
      if (event == Event::kRequest) {
        digest += std::to_string(decoder.request().offset + decoder.request().length);
      }
    }
    KEEL_CHECK(input.empty(), "asking for more consumes what there was");
  }
  return digest;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const bool transmission = (data[0] & 0x80) != 0;
  const std::size_t step = 1 + (data[0] & 0x7f);
  const std::span<const std::byte> stream = std::as_bytes(std::span(data + 1, size - 1));
  KEEL_CHECK(Decode(stream, step, transmission) == Decode(stream, stream.size(), transmission),
             "a split changes nothing");
  return 0;
}
