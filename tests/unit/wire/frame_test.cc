#include "blockstore/wire/frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "blockstore/pool/superblock.h"
#include "tests/unit/wire/wire_samples.h"

namespace keelson::wire {
namespace {

using Event = FrameDecoder::Event;
using testing::Bytes;
using testing::Flat;
using testing::SomeHead;

// What the decoder made of `stream`, as text, when it came `step` bytes at a time.
std::string Decode(std::string_view stream, std::size_t step) {
  FrameDecoder decoder;
  std::string log;
  std::size_t data_left = 0;
  while (!stream.empty()) {
    std::span<const std::byte> input = Bytes(stream.substr(0, step));
    stream.remove_prefix(input.size());
    while (true) {
      const std::size_t skipped = std::min(data_left, input.size());
      input = input.subspan(skipped);
      data_left -= skipped;
      if (data_left > 0) break;
      const Event event = decoder.Next(&input);
      if (event == Event::kNeedMore) {
        EXPECT_TRUE(input.empty());
        break;
      }
      if (event == Event::kBad) return log + std::string(decoder.error().message());
      const FrameHeader& header = decoder.header();
      data_left = header.data_bytes;
      absl::StrAppend(&log, std::string(FrameTypeName(header.type)), header.answer ? " answer" : "",
                      header.session_ended ? " ended" : "",
                      header.wants_new_generation ? " full" : "", " ", header.request_id, " ",
                      header.epoch.attachment, ".", header.epoch.restart, ".",
                      header.epoch.engine.ToString(), " ", header.incarnation.ToString(), " ",
                      pool::Crc32c(decoder.message()), "/", decoder.message().size(), " ",
                      header.data_bytes, "; ");
    }
  }
  return log + (decoder.mid_frame() ? "mid-frame" : "");
}

std::string Frame(FrameType type, std::string message, std::string_view data = {}) {
  EncodedFrame frame;
  EncodeFrameWithBody(SomeHead(type), std::move(message), Bytes(data), &frame);
  return Flat(frame);
}

// A frame whose header was changed after its checksum was, so that only the change is wrong.
template <typename Change>
std::string FrameWithHeader(Change change) {
  std::string bytes = Frame(FrameType::kFlush, "");
  RawFrameHeader raw;
  std::memcpy(&raw, bytes.data(), sizeof(raw));
  change(&raw);
  raw.crc32c =
      pool::Crc32c(std::as_bytes(std::span(&raw, 1)).first(offsetof(RawFrameHeader, crc32c)));
  std::memcpy(bytes.data(), &raw, sizeof(raw));
  return bytes;
}

TEST(FrameTest, DecodesAnySplit) {
  const std::string data(8192, 'd');
  std::string stream = Frame(FrameType::kHeartbeat, "");
  stream += Frame(FrameType::kWrite, std::string(48, 'm'), data);
  stream += Frame(FrameType::kAccept, std::string(200'000, 'c'));
  FrameHead answer = SomeHead(FrameType::kRead, UINT64_MAX);
  answer.answer = answer.session_ended = answer.wants_new_generation = true;
  EncodedFrame frame;
  EncodeFrame(answer, Bytes("12345678"), Bytes(data), &frame);
  stream += Flat(frame);
  stream += Frame(FrameType::kBye, "enough");
  const std::string whole = Decode(stream, stream.size());
  EXPECT_NE(whole.find("Write 77 7.3.09090909090909090909090909090909 "
                       "1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e"),
            std::string::npos)
      << whole;
  EXPECT_NE(whole.find("Read answer ended full 18446744073709551615"), std::string::npos) << whole;
  EXPECT_NE(whole.find("/6 0; "), std::string::npos) << whole;
  for (const std::size_t step : {1, 3, 87, 88, 89, 1000, 65536}) {
    EXPECT_EQ(Decode(stream, step), whole) << step;
  }
}

TEST(FrameTest, AMessageInOnePieceIsNotCopied) {
  const std::string stream = Frame(FrameType::kBye, "lies in the input");
  FrameDecoder decoder;
  std::span<const std::byte> input = Bytes(stream);
  ASSERT_EQ(decoder.Next(&input), Event::kFrame);
  EXPECT_EQ(static_cast<const void*>(decoder.message().data()),
            static_cast<const void*>(stream.data() + sizeof(RawFrameHeader)));
}

TEST(FrameTest, DataIsSentFromWhereItLies) {
  const std::string data(4096, 'd');
  EncodedFrame frame;
  EncodeFrame(SomeHead(FrameType::kWrite), Bytes("message"), Bytes(data), &frame);
  EXPECT_EQ(frame.data.data(), Bytes(data).data());
  EXPECT_EQ(frame.size_bytes(), sizeof(RawFrameHeader) + 7 + 4096);
}

TEST(FrameTest, SaysThatItIsInTheMiddleOfAFrame) {
  const std::string stream = Frame(FrameType::kBye, "message");
  for (std::size_t size = 1; size < stream.size(); ++size) {
    EXPECT_EQ(Decode(stream.substr(0, size), 10), "mid-frame") << size;
  }
}

TEST(FrameTest, RefusesAWrongMagic) {
  EXPECT_EQ(Decode(FrameWithHeader([](RawFrameHeader* raw) { raw->magic ^= 1; }), 10),
            "a frame does not begin with the frame magic");
}

TEST(FrameTest, RefusesAHeaderThatDoesNotMatchItsChecksum) {
  const std::string good = Frame(FrameType::kFlush, "");
  for (std::size_t at = 4; at < sizeof(RawFrameHeader); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    EXPECT_EQ(Decode(bad, bad.size()), "the header of a frame does not match its checksum") << at;
  }
}

TEST(FrameTest, RefusesAMessageThatDoesNotMatchItsChecksum) {
  std::string stream = Frame(FrameType::kAccept, "configuration");
  stream.back() = 'm';
  EXPECT_EQ(Decode(stream, 5), "the message of a Accept frame does not match its checksum");
}

TEST(FrameTest, RefusesDataThatDoNotMatchTheirChecksum) {
  std::string stream = Frame(FrameType::kWrite, "message", std::string(4096, 'd'));
  FrameDecoder decoder;
  std::span<const std::byte> input = Bytes(stream);
  ASSERT_EQ(decoder.Next(&input), Event::kFrame);
  EXPECT_TRUE(CheckData(decoder.header(), input).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckData(decoder.header(), input.first(4095))));
  stream.back() = 'e';
  EXPECT_TRUE(absl::IsInvalidArgument(CheckData(decoder.header(), input)));
}

TEST(FrameTest, RefusesUnknownTypesFlagsAndReservedBits) {
  EXPECT_EQ(Decode(FrameWithHeader([](RawFrameHeader* raw) { raw->type = 0; }), 88),
            "there is no frame of type 0");
  EXPECT_EQ(Decode(FrameWithHeader([](RawFrameHeader* raw) { raw->type = 18; }), 88),
            "there is no frame of type 18");
  const std::string reserved = "a frame uses reserved bits of its header";
  EXPECT_EQ(Decode(FrameWithHeader([](RawFrameHeader* raw) { raw->flags = 8; }), 88), reserved);
  EXPECT_EQ(Decode(FrameWithHeader([](RawFrameHeader* raw) { raw->reserved = 1; }), 88), reserved);
  EXPECT_EQ(Decode(FrameWithHeader([](RawFrameHeader* raw) { raw->reserved_2 = 1; }), 88),
            reserved);
}

TEST(FrameTest, RefusesALengthBeyondItsBoundBeforeItComes) {
  EXPECT_EQ(Decode(FrameWithHeader(
                       [](RawFrameHeader* raw) { raw->message_bytes = kMessageBytesMax + 1; }),
                   88),
            "a Flush frame announces a message of 4194305 bytes; the most is 4194304");
  EXPECT_EQ(Decode(FrameWithHeader([](RawFrameHeader* raw) {
                     raw->type = static_cast<std::uint16_t>(FrameType::kWrite);
                     raw->data_bytes = kDataBytesMax + 1;
                   }),
                   88),
            "a Write frame announces 1048577 bytes of data, which is more than it may carry");
}

TEST(FrameTest, RefusesDataWhereNoneBelong) {
  for (std::uint16_t type = 1; type <= kFrameTypeMax; ++type) {
    for (const bool answer : {false, true}) {
      const std::string frame = FrameWithHeader([&](RawFrameHeader* raw) {
        raw->type = type;
        raw->flags = answer ? kFlagAnswer : 0;
        raw->data_bytes = 4096;
      });
      const auto named = static_cast<FrameType>(type);
      const bool carries = answer ? named == FrameType::kRead || named == FrameType::kReadCopy
                                  : named == FrameType::kWrite || named == FrameType::kWriteCopy ||
                                        named == FrameType::kVerify;
      EXPECT_EQ(Decode(frame, 88).find("more than it may carry") == std::string::npos, carries)
          << FrameTypeName(named) << answer;
    }
  }
}

TEST(FrameTest, DecodesNothingAfterAnError) {
  FrameDecoder decoder;
  const std::string stream = "no frame" + Frame(FrameType::kFlush, "") + std::string(88, 'x');
  std::span<const std::byte> input = Bytes(stream);
  ASSERT_EQ(decoder.Next(&input), Event::kBad);
  EXPECT_EQ(decoder.Next(&input), Event::kBad);
}

}  // namespace
}  // namespace keelson::wire
