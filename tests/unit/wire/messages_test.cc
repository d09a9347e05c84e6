#include "blockstore/wire/messages.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <type_traits>

#include "tests/unit/wire/wire_samples.h"

namespace keelson::wire {
namespace {

using testing::Bytes;
using testing::Flat;
using testing::Id;
using testing::SomeConfiguration;
using testing::SomeGeneration;
using testing::SomeHead;

// What came out of the wire.
struct Received {
  FrameHeader header;
  std::string message;
  std::string data;

  std::span<const std::byte> bytes() const { return Bytes(message); }
};

Received Transfer(const EncodedFrame& frame) {
  const std::string stream = Flat(frame);
  FrameDecoder decoder;
  std::span<const std::byte> input = Bytes(stream);
  EXPECT_EQ(decoder.Next(&input), FrameDecoder::Event::kFrame) << decoder.error();
  EXPECT_TRUE(CheckData(decoder.header(), input).ok());
  Received received;
  received.header = decoder.header();
  received.message.assign(reinterpret_cast<const char*>(decoder.message().data()),
                          decoder.message().size());
  received.data.assign(reinterpret_cast<const char*>(input.data()), input.size());
  return received;
}

// Sends `request` and reads it again, as the frame type that it must become.
template <typename Request>
Request RoundTrip(FrameType type, const Request& request) {
  EncodedFrame frame;
  // The type that the head came with does not matter.
  if constexpr (std::is_same_v<Request, AcceptRequest>) {
    EXPECT_TRUE(Encode(SomeHead(FrameType::kBye), request, &frame).ok());
  } else {
    Encode(SomeHead(FrameType::kBye), request, &frame);
  }
  const Received received = Transfer(frame);
  EXPECT_EQ(static_cast<const FrameHead&>(received.header), SomeHead(type));
  Request read;
  const absl::Status status = Parse(received.bytes(), &read);
  EXPECT_TRUE(status.ok()) << status;
  return read;
}

// The message of the frame with `change` made to its layout.
template <typename Raw, typename Change>
std::string Changed(const EncodedFrame& frame, Change change) {
  std::string message = Transfer(frame).message;
  EXPECT_EQ(message.size(), sizeof(Raw));
  Raw raw;
  std::memcpy(&raw, message.data(), sizeof(raw));
  change(&raw);
  std::memcpy(message.data(), &raw, sizeof(raw));
  return message;
}

template <typename Request, typename... Sizes>
std::string Problem(std::string_view message, Sizes... sizes) {
  Request request;
  return std::string(Parse(Bytes(message), sizes..., &request).message());
}

TEST(MessagesTest, RequestsSurviveTheWire) {
  const PrepareRequest prepare{pool::PoolId(Id(3)), pool::ReplicaId(Id(4))};
  EXPECT_EQ(RoundTrip(FrameType::kPrepare, prepare), prepare);
  const AcceptRequest accept{SomeConfiguration()};
  EXPECT_EQ(RoundTrip(FrameType::kAccept, accept), accept);
  RoundTrip(FrameType::kHeartbeat, HeartbeatRequest{});
  RoundTrip(FrameType::kFlush, FlushRequest{});
  const ReadRequest read{std::uint64_t{1} << 40, 1 << 20};
  EXPECT_EQ(RoundTrip(FrameType::kRead, read), read);
  const TrimRequest trim{4096, std::uint64_t{1} << 38, SomeGeneration()};
  EXPECT_EQ(RoundTrip(FrameType::kTrim, trim), trim);
  const MapRequest map{8192, std::uint64_t{1} << 38, 1000};
  EXPECT_EQ(RoundTrip(FrameType::kMap, map), map);
  const EndGenerationRequest end{SomeGeneration()};
  EXPECT_EQ(RoundTrip(FrameType::kEndGeneration, end), end);
  const NotesRequest notes{SomeGeneration(), 12, 60'000};
  EXPECT_EQ(RoundTrip(FrameType::kNotes, notes), notes);
  const ReadCopyRequest read_copy{pool::SnapshotId(Id(5)), 99};
  EXPECT_EQ(RoundTrip(FrameType::kReadCopy, read_copy), read_copy);
  const BeginCopyRequest begin{pool::SnapshotId(Id(5)), 98, SomeGeneration()};
  EXPECT_EQ(RoundTrip(FrameType::kBeginCopy, begin), begin);
  const RecordProgressRequest record{{97, SomeGeneration()}};
  EXPECT_EQ(RoundTrip(FrameType::kRecordProgress, record), record);
  const CancelRequest cancel{1234};
  EXPECT_EQ(RoundTrip(FrameType::kCancel, cancel), cancel);
}

TEST(MessagesTest, AWriteSurvivesTheWireWithItsData) {
  const WriteRequest write{12'288, SomeGeneration()};
  const std::string data(8192, 'w');
  EncodedFrame frame;
  Encode(SomeHead(FrameType::kWrite), write, Bytes(data), &frame);
  const Received received = Transfer(frame);
  EXPECT_EQ(received.header.type, FrameType::kWrite);
  EXPECT_EQ(received.data, data);
  WriteRequest read;
  ASSERT_TRUE(Parse(received.bytes(), received.data.size(), &read).ok());
  EXPECT_EQ(read, write);
}

TEST(MessagesTest, AWriteCopySurvivesTheWireWithItsData) {
  WriteCopyRequest copy;
  copy.layer = pool::SnapshotId(Id(6));
  copy.extent = 31;
  copy.content.data = pool::BlockBits::Range(100, 2);
  copy.content.zeroed = pool::BlockBits::Range(200, 56);
  const std::string data(8192, 'c');
  EncodedFrame frame;
  Encode(SomeHead(FrameType::kWriteCopy), copy, Bytes(data), &frame);
  const Received received = Transfer(frame);
  EXPECT_EQ(received.data, data);
  WriteCopyRequest read;
  ASSERT_TRUE(Parse(received.bytes(), received.data.size(), &read).ok());
  EXPECT_EQ(read.layer, copy.layer);
  EXPECT_EQ(read.extent, 31u);
  EXPECT_EQ(read.content.data, copy.content.data);
  EXPECT_EQ(read.content.zeroed, copy.content.zeroed);
}

TEST(MessagesTest, AVerifySurvivesTheWireAndComesWithWhatItOffers) {
  const VerifyRequest verify{pool::SnapshotId(Id(6)), 31, pool::BlockBits::Range(100, 2)};
  const std::string data(8192, 'v');
  EncodedFrame frame;
  Encode(SomeHead(FrameType::kVerify), verify, Bytes(data), &frame);
  const Received received = Transfer(frame);
  EXPECT_EQ(received.data, data);
  VerifyRequest read;
  ASSERT_TRUE(Parse(received.bytes(), received.data.size(), &read).ok());
  EXPECT_EQ(read.layer, verify.layer);
  EXPECT_EQ(read.extent, 31u);
  EXPECT_EQ(read.offered, verify.offered);
  EXPECT_FALSE(Parse(received.bytes(), 4096, &read).ok());
}

TEST(MessagesTest, AnAnswerToVerifyMustNotContradictItself) {
  const auto parse = [](const replica::VerifyAnswer& answer, replica::VerifyAnswer* out) {
    EncodedFrame frame;
    EncodeAnswer(SomeHead(FrameType::kVerify), answer, &frame);
    const Received received = Transfer(frame);
    return ParseResult(ParseAnswer(received.bytes())->result, out);
  };
  replica::VerifyAnswer answer, read;
  answer.content.data = pool::BlockBits::Range(3, 4);
  answer.bad = pool::BlockBits::Range(4, 2);
  answer.mended = pool::BlockBits::Range(5, 1);
  answer.crc32c[3] = 7;
  ASSERT_TRUE(parse(answer, &read).ok());
  EXPECT_EQ(read.still_bad(), pool::BlockBits::Range(4, 1));
  EXPECT_EQ(read.crc32c, answer.crc32c);
  answer.mended = pool::BlockBits::Range(6, 1);  // was not bad
  EXPECT_FALSE(parse(answer, &read).ok());
}

TEST(MessagesTest, AByeSaysWhyAndIsPrintable) {
  EncodedFrame frame;
  EncodeBye(SomeHead(FrameType::kFlush), "stopping\n", &frame);
  const Received received = Transfer(frame);
  EXPECT_EQ(received.header.type, FrameType::kBye);
  EXPECT_EQ(received.header.request_id, 0u);
  EXPECT_EQ(ByeReason(received.bytes()), "stopping\\n");
}

AnswerParts Answered(const Received& received, FrameType type) {
  EXPECT_EQ(received.header.type, type);
  EXPECT_TRUE(received.header.answer);
  EXPECT_EQ(received.header.request_id, 77u);
  absl::StatusOr<AnswerParts> parts = ParseAnswer(received.bytes());
  EXPECT_TRUE(parts.ok()) << parts.status();
  return parts.ok() ? *parts : AnswerParts{};
}

TEST(MessagesTest, StatusesSurviveTheWire) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "what happened");
    EncodedFrame frame;
    EncodeAnswer(SomeHead(FrameType::kFlush), status, &frame);
    const Received received = Transfer(frame);
    EXPECT_EQ(Answered(received, FrameType::kFlush).status, status);
  }
}

TEST(MessagesTest, ALongStatusTextIsCut) {
  EncodedFrame frame;
  EncodeAnswer(SomeHead(FrameType::kFlush), absl::InternalError(std::string(10'000, 'x')), &frame);
  const Received received = Transfer(frame);
  EXPECT_EQ(Answered(received, FrameType::kFlush).status.message().size(), kStatusTextBytesMax);
}

TEST(MessagesTest, TheAnswerToPrepareSurvivesTheWire) {
  for (const bool has_configuration : {true, false}) {
    replica::PrepareAnswer answer;
    answer.pool = pool::PoolId(Id(1));
    answer.replica = pool::ReplicaId(Id(2));
    answer.incarnation = Id(3);
    if (has_configuration) answer.configuration = SomeConfiguration();
    answer.progress = {17, SomeGeneration(8)};
    answer.ended_session = has_configuration;
    EncodedFrame frame;
    EncodeAnswer(SomeHead(FrameType::kPrepare), answer, &frame);
    const Received received = Transfer(frame);
    replica::PrepareAnswer read;
    const absl::Status status = ParseResult(Answered(received, FrameType::kPrepare).result, &read);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(read.pool, answer.pool);
    EXPECT_EQ(read.replica, answer.replica);
    EXPECT_EQ(read.incarnation, answer.incarnation);
    EXPECT_EQ(read.configuration, answer.configuration);
    EXPECT_EQ(read.progress, answer.progress);
    EXPECT_EQ(read.ended_session, has_configuration);
  }
}

TEST(MessagesTest, TheAnswersWithListsSurviveTheWire) {
  EncodedFrame frame;
  EncodeAnswer(SomeHead(FrameType::kMap),
               std::vector<replica::DataRun>{{4096, false}, {1 << 30, true}}, &frame);
  const Received map = Transfer(frame);
  std::vector<replica::DataRun> runs;
  ASSERT_TRUE(ParseResult(Answered(map, FrameType::kMap).result, &runs).ok());
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].size_bytes, 4096u);
  EXPECT_FALSE(runs[0].hole);
  EXPECT_EQ(runs[1].size_bytes, std::uint64_t{1} << 30);
  EXPECT_TRUE(runs[1].hole);

  const std::vector<replica::RegionNote> notes = {{5, pool::SnapshotId(Id(4)), SomeGeneration(2)},
                                                  {5, {}, SomeGeneration(3)}};
  EncodeAnswer(SomeHead(FrameType::kNotes), notes, &frame);
  const Received noted = Transfer(frame);
  std::vector<replica::RegionNote> read;
  ASSERT_TRUE(ParseResult(Answered(noted, FrameType::kNotes).result, &read).ok());
  EXPECT_EQ(read, notes);
}

TEST(MessagesTest, TheAnswersWithDataSurviveTheWire) {
  const std::string data(8192, 'r');
  EncodedFrame frame;
  EncodeReadAnswer(SomeHead(FrameType::kRead), Bytes(data), &frame);
  const Received read = Transfer(frame);
  EXPECT_TRUE(Answered(read, FrameType::kRead).status.ok());
  EXPECT_EQ(read.data, data);

  replica::ExtentContent content;
  content.data = pool::BlockBits::Range(3, 2);
  content.zeroed = pool::BlockBits::Range(0, 1);
  EncodeAnswer(SomeHead(FrameType::kReadCopy), content, Bytes(data), &frame);
  const Received copied = Transfer(frame);
  EXPECT_EQ(copied.data, data);
  replica::ExtentContent got;
  const AnswerParts parts = Answered(copied, FrameType::kReadCopy);
  ASSERT_TRUE(ParseResult(parts.result, data.size(), &got).ok());
  EXPECT_EQ(got.data, content.data);
  EXPECT_EQ(got.zeroed, content.zeroed);
  EXPECT_FALSE(ParseResult(parts.result, data.size() - 4096, &got).ok());
}

// --- One test for each way in which a peer may misbehave ---

TEST(MessagesTest, RefusesAMessageOfAnotherSize) {
  EncodedFrame frame;
  Encode(SomeHead(FrameType::kRead), ReadRequest{0, 4096}, &frame);
  const std::string message = Transfer(frame).message;
  EXPECT_EQ(Problem<ReadRequest>(message), "");
  EXPECT_EQ(Problem<ReadRequest>(message.substr(1)),
            "the message of a Read frame has 15 bytes and not 16");
  EXPECT_EQ(Problem<ReadRequest>(message + "x"),
            "the message of a Read frame has 17 bytes and not 16");
  EXPECT_EQ(Problem<PrepareRequest>(""), "the message of a Prepare frame has 0 bytes and not 32");
  EXPECT_EQ(Problem<FlushRequest>("x"), "a Flush frame has a message of 1 bytes");
}

TEST(MessagesTest, RefusesRangesThatAreNotWholeBlocks) {
  const auto problem = [](std::uint64_t offset, std::uint32_t size_bytes) {
    EncodedFrame frame;
    Encode(SomeHead(FrameType::kRead), ReadRequest{offset, size_bytes}, &frame);
    return Problem<ReadRequest>(Transfer(frame).message);
  };
  EXPECT_EQ(problem(4096, 4096), "");
  EXPECT_EQ(problem(512, 4096), "a Read of 4096 bytes at 512 is not one of whole blocks");
  EXPECT_EQ(problem(0, 512), "a Read of 512 bytes at 0 is not one of whole blocks");
  EXPECT_EQ(problem(0, 0), "a Read of 0 bytes at 0 is not one of whole blocks");
  EXPECT_NE(problem(UINT64_MAX - 4095, 8192), "");
  EXPECT_EQ(problem(0, kDataBytesMax + 4096), "a Read of 1052672 bytes; the most is 1048576");
}

TEST(MessagesTest, RefusesAWriteOfPartOfABlock) {
  EncodedFrame frame;
  const std::string data(4096, 'w');
  Encode(SomeHead(FrameType::kWrite), WriteRequest{4096, SomeGeneration()}, Bytes(data), &frame);
  const std::string message = Transfer(frame).message;
  EXPECT_EQ(Problem<WriteRequest>(message, std::size_t{4096}), "");
  EXPECT_NE(Problem<WriteRequest>(message, std::size_t{4095}), "");
  EXPECT_NE(Problem<WriteRequest>(message, std::size_t{0}), "");
}

TEST(MessagesTest, RefusesReservedBits) {
  EncodedFrame frame;
  Encode(SomeHead(FrameType::kRead), ReadRequest{0, 4096}, &frame);
  const std::string read = Changed<RawRead>(frame, [](RawRead* raw) { raw->reserved = 1; });
  EXPECT_EQ(Problem<ReadRequest>(read), "a Read frame uses reserved bits of its message");
  Encode(SomeHead(FrameType::kTrim), TrimRequest{0, 4096, SomeGeneration()}, &frame);
  const std::string trim =
      Changed<RawTrim>(frame, [](RawTrim* raw) { raw->generation.reserved = 1; });
  EXPECT_EQ(Problem<TrimRequest>(trim), "a Trim frame uses reserved bits of its message");
}

TEST(MessagesTest, RefusesCountsBeyondWhatAnAnswerHolds) {
  EncodedFrame frame;
  for (const std::uint32_t count : {std::uint32_t{0}, UINT32_MAX}) {
    Encode(SomeHead(FrameType::kMap), MapRequest{0, 4096, count}, &frame);
    EXPECT_NE(Problem<MapRequest>(Transfer(frame).message), "");
    Encode(SomeHead(FrameType::kNotes), NotesRequest{{}, 0, count}, &frame);
    EXPECT_NE(Problem<NotesRequest>(Transfer(frame).message), "");
  }
}

TEST(MessagesTest, RefusesAGarbageConfiguration) {
  EXPECT_NE(Problem<AcceptRequest>("this is no configuration record"), "");
  EXPECT_NE(Problem<AcceptRequest>(""), "");
}

TEST(MessagesTest, RefusesAnExtentWhoseDataDoNotFitItsBlocks) {
  WriteCopyRequest copy;
  copy.content.data = pool::BlockBits::Range(0, 1);
  const std::string data(4096, 'c');
  EncodedFrame frame;
  Encode(SomeHead(FrameType::kWriteCopy), copy, Bytes(data), &frame);
  const std::string message = Transfer(frame).message;
  EXPECT_EQ(Problem<WriteCopyRequest>(message, std::size_t{4096}), "");
  EXPECT_EQ(Problem<WriteCopyRequest>(message, std::size_t{8192}),
            "an extent of 1 data blocks came with 8192 bytes of data");
  const std::string both =
      Changed<RawWriteCopy>(frame, [](RawWriteCopy* raw) { raw->content.zeroed[0] = 3; });
  EXPECT_EQ(Problem<WriteCopyRequest>(both, std::size_t{4096}),
            "an extent has blocks that are both data and zeroed");
}

std::string AnswerProblem(const RawStatus& raw, std::string_view rest) {
  std::string message(reinterpret_cast<const char*>(&raw), sizeof(raw));
  message += rest;
  return std::string(ParseAnswer(Bytes(message)).status().message());
}

TEST(MessagesTest, RefusesAnAnswerWhoseStatusIsNone) {
  EXPECT_EQ(std::string(ParseAnswer(Bytes("short")).status().message()), "an answer has no status");
  EXPECT_EQ(AnswerProblem({.code = 17, .text_bytes = 0}, ""), "there is no status code 17");
  EXPECT_EQ(AnswerProblem({.code = 13, .text_bytes = 5}, "four"),
            "an answer announces a status text of 5 bytes");
  EXPECT_EQ(AnswerProblem({.code = 13, .text_bytes = UINT32_MAX}, "four"),
            "an answer announces a status text of 4294967295 bytes");
  EXPECT_EQ(AnswerProblem({.code = 13, .text_bytes = 4}, "four and more"),
            "an answer with an error has a result");
}

TEST(MessagesTest, RefusesResultsThatAreCutOrOutOfOrder) {
  replica::PrepareAnswer prepared;
  EXPECT_FALSE(ParseResult(Bytes(std::string(103, '\0')), &prepared).ok());
  EXPECT_TRUE(ParseResult(Bytes(std::string(104, '\0')), &prepared).ok());
  EXPECT_FALSE(ParseResult(Bytes(std::string(105, '\0')), &prepared).ok());
  std::string garbage(104, '\0');
  garbage[96] = 1;  // has_configuration
  EXPECT_FALSE(ParseResult(Bytes(garbage + "garbage"), &prepared).ok());

  std::vector<replica::DataRun> runs;
  EXPECT_FALSE(ParseResult(Bytes(std::string(15, '\1')), &runs).ok());
  EXPECT_FALSE(ParseResult(Bytes(std::string(16, '\0')), &runs).ok());  // an empty run

  EncodedFrame frame;
  EncodeAnswer(SomeHead(FrameType::kNotes),
               std::vector<replica::RegionNote>{{6, {}, {}}, {5, {}, {}}}, &frame);
  const Received received = Transfer(frame);
  std::vector<replica::RegionNote> notes;
  const absl::Status status = ParseResult(Answered(received, FrameType::kNotes).result, &notes);
  EXPECT_EQ(std::string(status.message()),
            "the answer to Notes is not in the order of the regions");
  EXPECT_FALSE(ParseResult(Bytes(std::string(63, '\0')), &notes).ok());
  replica::ExtentContent content;
  EXPECT_FALSE(ParseResult(Bytes(std::string(63, '\0')), 0, &content).ok());
}

TEST(MessagesTest, AConfigurationTooLargeForAMessageIsRefusedBeforeItIsSent) {
  AcceptRequest accept{SomeConfiguration()};
  accept.configuration.volume_name.assign(kMessageBytesMax, 'n');
  EncodedFrame frame;
  EXPECT_TRUE(absl::IsInvalidArgument(Encode(SomeHead(FrameType::kAccept), accept, &frame)));
}

}  // namespace
}  // namespace keelson::wire
