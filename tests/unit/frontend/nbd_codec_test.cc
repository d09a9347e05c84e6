#include "blockstore/frontend/nbd_codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/unit/frontend/nbd_conversation.h"

namespace keelson::frontend::testing {
namespace {

using Event = NbdDecoder::Event;

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// What the decoder made of `stream`, as text, when it came `step` bytes at a time.
std::string Decode(std::string_view stream, std::size_t step, bool transmission) {
  NbdDecoder decoder;
  if (transmission) decoder.EnterTransmission();
  std::string log;
  while (!stream.empty()) {
    std::span<const std::byte> input = Bytes(stream.substr(0, step));
    stream.remove_prefix(input.size());
    while (true) {
      const Event event = decoder.Next(&input);
      if (event == Event::kNeedMore) {
        EXPECT_TRUE(input.empty());
        break;
      }
      if (event == Event::kBadMagic) return log + "bad magic";
      if (event == Event::kClientFlags) log += "flags " + std::to_string(decoder.client_flags());
      if (event == Event::kOversizedOption) log += "oversized";
      if (event == Event::kOption) {
        log += "option " + std::to_string(static_cast<std::uint32_t>(decoder.option())) + " " +
               std::to_string(decoder.option_payload().size());
      }
      if (event == Event::kRequest) {
        const NbdRequestHeader& request = decoder.request();
        log += "request " + std::to_string(static_cast<std::uint16_t>(request.command)) + " " +
               std::to_string(request.flags) + " " + std::to_string(request.cookie) + " " +
               std::to_string(request.offset) + " " + std::to_string(request.length);
      }
      log += "; ";
    }
  }
  return log;
}

TEST(NbdCodecTest, DecodesTheHandshakeInAnySplit) {
  std::string stream = ClientFlags(3);
  stream += OptionBytes(nbd::Option::kList, {});
  stream += OptionBytes(nbd::Option::kGo, std::string(300, 'x'));
  stream += OptionBytes(nbd::Option::kInfo, std::string(nbd::kOptionPayloadBytesMax, 'x'));
  stream += OptionBytes(nbd::Option::kInfo, std::string(nbd::kOptionPayloadBytesMax + 1, 'x'));
  stream += OptionBytes(nbd::Option::kAbort, {});
  for (const std::size_t step : {std::size_t{1}, std::size_t{7}, std::size_t{17}, stream.size()}) {
    EXPECT_EQ(Decode(stream, step, false),
              "flags 3; option 3 0; option 7 300; option 6 65536; oversized; option 2 0; ");
  }
}

TEST(NbdCodecTest, DecodesRequestsInAnySplit) {
  const std::string stream = RequestBytes(nbd::Command::kRead, 1, 4096, 8192) +
                             RequestBytes(nbd::Command::kTrim, 0x1122334455667788, 1ull << 40,
                                          0xfffff000, nbd::kCommandFua) +
                             RequestBytes(static_cast<nbd::Command>(99), 3, 0, 0);
  for (std::size_t step = 1; step <= stream.size(); ++step) {
    EXPECT_EQ(Decode(stream, step, true),
              "request 0 0 1 4096 8192; "
              "request 4 1 1234605616436508552 1099511627776 4294963200; "
              "request 99 0 3 0 0; ");
  }
}

TEST(NbdCodecTest, NoticesWrongMagics) {
  std::string option = OptionBytes(nbd::Option::kList, {});
  option[0] = 'X';
  EXPECT_EQ(Decode(ClientFlags(1) + option, 5, false), "flags 1; bad magic");
  std::string request = RequestBytes(nbd::Command::kRead, 1, 0, 4096);
  request[3] = 'X';
  EXPECT_EQ(Decode(request, 5, true), "bad magic");
}

TEST(NbdCodecTest, InfoQueryLengthsMustAddUp) {
  const std::string good = InfoPayload("vol", {0, 3});
  const auto query = DecodeInfoQuery(Bytes(good));
  ASSERT_TRUE(query.has_value());
  EXPECT_EQ(query->export_name, "vol");
  EXPECT_EQ(query->infos, (std::vector<std::uint16_t>{0, 3}));
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(DecodeInfoQuery(Bytes(good.substr(0, size))).has_value()) << size;
  }
  EXPECT_FALSE(DecodeInfoQuery(Bytes(good + "x")).has_value());
  EXPECT_TRUE(DecodeInfoQuery(Bytes(InfoPayload(std::string(4096, 'n'), {}))).has_value());
  EXPECT_FALSE(DecodeInfoQuery(Bytes(InfoPayload(std::string(4097, 'n'), {}))).has_value());
}

TEST(NbdCodecTest, MetaQueryLengthsMustAddUp) {
  const std::string good = MetaPayload("vol", {"base:allocation", "", "qemu:"});
  const auto query = DecodeMetaQuery(Bytes(good));
  ASSERT_TRUE(query.has_value());
  EXPECT_EQ(query->queries, (std::vector<std::string_view>{"base:allocation", "", "qemu:"}));
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(DecodeMetaQuery(Bytes(good.substr(0, size))).has_value()) << size;
  }
  EXPECT_FALSE(DecodeMetaQuery(Bytes(good + "x")).has_value());
}

TEST(NbdCodecTest, MetaQueryCountAloneReservesNothing) {
  std::string payload;
  NbdWriter(&payload).U32(3).Text("vol").U32(0xffffffff).U32(0);
  EXPECT_FALSE(DecodeMetaQuery(Bytes(payload)).has_value());
}

}  // namespace
}  // namespace keelson::frontend::testing
