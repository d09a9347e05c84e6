#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/frontend/nbd_conversation.h"

namespace keelson::frontend::testing {
namespace {

using nbd::Command;

constexpr std::uint32_t kPerm = 1, kIo = 5, kInval = 22, kNoSpc = 28, kOverflow = 75, kNotSup = 95;
constexpr std::uint32_t kMiB = 1 << 20;

std::string Pattern(std::size_t size, char first) {
  std::string bytes(size, first);
  for (std::size_t at = 0; at < size; at += 512) bytes[at] = static_cast<char>(at / 512 % 251);
  return bytes;
}

class NbdCommandsTest : public ::testing::Test {
 protected:
  std::uint64_t end() { return talk_.device().size_bytes(); }
  NbdConversation talk_;
};

TEST_F(NbdCommandsTest, ReadsWhatWasWritten) {
  talk_.Open();
  const std::string data = Pattern(8192, 'a');
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 4096, 8192, 0, data), 0u);
  ReplyReader reader(talk_.Request(Command::kRead, 0, 16384));
  const ReplyMessage reply = reader.Reply(16384);
  EXPECT_FALSE(reply.structured);
  EXPECT_EQ(reply.data, std::string(4096, '\0') + data + std::string(4096, '\0'));
  EXPECT_TRUE(reader.Done());
  EXPECT_EQ(talk_.counters().read_bytes, 16384u);
  EXPECT_EQ(talk_.counters().written_bytes, 8192u);
  EXPECT_EQ(talk_.counters().requests[0], 1u);
  EXPECT_EQ(talk_.counters().requests[1], 1u);
}

TEST_F(NbdCommandsTest, AStructuredReadIsOneChunkUpToOneMebibyte) {
  talk_.Open(true);
  talk_.ErrorOf(Command::kWrite, 0, kMiB, 0, Pattern(kMiB, 'b'));
  ReplyReader reader(talk_.Request(Command::kRead, 0, kMiB, nbd::kCommandDf));
  const ReplyMessage reply = reader.Reply();
  EXPECT_EQ(reply.chunk, nbd::Chunk::kOffsetData);
  EXPECT_TRUE(reply.done);
  EXPECT_EQ(reply.offset, 0u);
  EXPECT_EQ(reply.data, Pattern(kMiB, 'b'));
  EXPECT_TRUE(reader.Done());
}

TEST_F(NbdCommandsTest, ALargeStructuredReadComesInChunks) {
  talk_.Open(true);
  const std::string data = Pattern(2 * kMiB + 4096, 'c');
  talk_.ErrorOf(Command::kWrite, kMiB, 2 * kMiB + 4096, 0, data);
  ReplyReader reader(talk_.Request(Command::kRead, kMiB, 2 * kMiB + 4096));
  std::string received;
  for (int chunk = 0; chunk < 3; ++chunk) {
    const ReplyMessage reply = reader.Reply();
    EXPECT_EQ(reply.offset, kMiB + received.size());
    EXPECT_EQ(reply.done, chunk == 2);
    received += reply.data;
  }
  EXPECT_EQ(received, data);
  EXPECT_TRUE(reader.Done());
  EXPECT_EQ(talk_.device().call_bytes_max(), kMiB);
}

TEST_F(NbdCommandsTest, AReadWithDfThatCannotBeOneChunkOverflows) {
  talk_.Open(true);
  ReplyReader reader(talk_.Request(Command::kRead, 0, kMiB + 4096, nbd::kCommandDf));
  const ReplyMessage reply = reader.Reply();
  EXPECT_EQ(reply.chunk, nbd::Chunk::kError);
  EXPECT_EQ(reply.error, kOverflow);
  EXPECT_TRUE(reply.done);
}

TEST_F(NbdCommandsTest, ALargeSimpleReadIsOneReplyThatNothingInterrupts) {
  talk_.Open();
  talk_.ErrorOf(Command::kWrite, 0, 3 * kMiB, 0, Pattern(3 * kMiB, 'd'));
  talk_.Say(RequestBytes(Command::kRead, 1, 0, 3 * kMiB) +
            RequestBytes(Command::kRead, 2, 4096, 4096) +
            RequestBytes(Command::kRead, 3, 0, 2 * kMiB) + RequestBytes(Command::kFlush, 4, 0, 0));
  ReplyReader reader(talk_.Hear());
  std::string order;
  for (int i = 0; i < 4; ++i) {
    const std::size_t sizes[] = {0, 3 * kMiB, 4096, 2 * kMiB, 0};
    // The cookie stands behind magic and error: look at it before the data is taken.
    ReplyReader ahead = reader;
    const std::uint64_t cookie = ahead.Reply().cookie;
    ASSERT_LE(cookie, 4u);
    const ReplyMessage reply = reader.Reply(sizes[cookie]);
    EXPECT_EQ(reply.data, Pattern(3 * kMiB, 'd').substr(cookie == 2 ? 4096 : 0, sizes[cookie]));
    order += std::to_string(cookie);
  }
  EXPECT_TRUE(reader.Done());
  std::sort(order.begin(), order.end());
  EXPECT_EQ(order, "1234");
}

TEST_F(NbdCommandsTest, ALargeWriteIsReceivedPieceByPiece) {
  talk_.Open();
  const std::string data = Pattern(32 * kMiB, 'e');
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 4096, 32 * kMiB, nbd::kCommandFua, data), 0u);
  EXPECT_EQ(std::memcmp(talk_.device().bytes().data() + 4096, data.data(), data.size()), 0);
  EXPECT_EQ(talk_.device().fua_calls(), 32u);
  EXPECT_EQ(talk_.device().call_bytes_max(), kMiB);
}

TEST_F(NbdCommandsTest, FuaReachesTheDevice) {
  talk_.Open();
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 0, 4096, 0, Pattern(4096, 'f')), 0u);
  EXPECT_EQ(talk_.device().fua_calls(), 0u);
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 0, 4096, nbd::kCommandFua, Pattern(4096, 'f')), 0u);
  EXPECT_EQ(talk_.ErrorOf(Command::kTrim, 0, 4096, nbd::kCommandFua), 0u);
  EXPECT_EQ(talk_.ErrorOf(Command::kWriteZeroes, 0, 4096, nbd::kCommandFua), 0u);
  EXPECT_EQ(talk_.device().fua_calls(), 3u);
  EXPECT_EQ(talk_.ErrorOf(Command::kFlush, 0, 0, nbd::kCommandFua), 0u);
  EXPECT_EQ(talk_.device().flushes(), 1u);
}

TEST_F(NbdCommandsTest, ZeroesAreTrimmedUnlessHolesAreForbidden) {
  talk_.Open();
  talk_.ErrorOf(Command::kWrite, 0, kMiB, 0, Pattern(kMiB, 'g'));
  const std::uint64_t writes = talk_.device().writes();
  EXPECT_EQ(talk_.ErrorOf(Command::kWriteZeroes, 0, 8192, nbd::kCommandFastZero), 0u);
  EXPECT_EQ(talk_.device().trims(), 1u);
  EXPECT_EQ(talk_.device().writes(), writes);
  EXPECT_EQ(talk_.ErrorOf(Command::kWriteZeroes, 8192, 3 * kMiB, nbd::kCommandNoHole), 0u);
  EXPECT_EQ(talk_.device().trims(), 1u);
  EXPECT_EQ(talk_.device().writes(), writes + 3);
  const auto& bytes = talk_.device().bytes();
  EXPECT_TRUE(std::all_of(bytes.begin(), bytes.begin() + 4 * kMiB,
                          [](std::byte value) { return value == std::byte{0}; }));
  EXPECT_EQ(
      talk_.ErrorOf(Command::kWriteZeroes, 0, 4096, nbd::kCommandFastZero | nbd::kCommandNoHole),
      kNotSup);
}

TEST_F(NbdCommandsTest, TrimAndCacheTakeMoreThanAPayload) {
  talk_.Open();
  talk_.ErrorOf(Command::kWrite, 0, 4096, 0, Pattern(4096, 'h'));
  EXPECT_EQ(talk_.ErrorOf(Command::kTrim, 0, 48 * kMiB), 0u);
  EXPECT_EQ(talk_.device().bytes()[0], std::byte{0});
  EXPECT_EQ(talk_.ErrorOf(Command::kCache, 0, 64 * kMiB), 0u);
}

TEST_F(NbdCommandsTest, BlockStatusTellsHolesFromData) {
  talk_.Open(true);
  talk_.ErrorOf(Command::kWrite, 8192, 4096, 0, Pattern(4096, 'i'));
  ReplyReader reader(talk_.Request(Command::kBlockStatus, 4096, 16384));
  const ReplyMessage reply = reader.Reply();
  EXPECT_EQ(reply.chunk, nbd::Chunk::kBlockStatus);
  EXPECT_TRUE(reply.done);
  ReplyReader runs(reply.data);
  EXPECT_EQ(runs.U32(), nbd::kAllocationContextId);
  EXPECT_EQ(runs.U32(), 4096u);
  EXPECT_EQ(runs.U32(), 3u);
  EXPECT_EQ(runs.U32(), 4096u);
  EXPECT_EQ(runs.U32(), 0u);
  EXPECT_EQ(runs.U32(), 8192u);
  EXPECT_EQ(runs.U32(), 3u);
  EXPECT_TRUE(runs.Done());

  ReplyReader one(talk_.Request(Command::kBlockStatus, 4096, 16384, nbd::kCommandReqOne));
  EXPECT_EQ(one.Reply().data.size(), 12u);
}

TEST_F(NbdCommandsTest, BlockStatusNeedsTheContext) {
  talk_.Open(false);
  EXPECT_EQ(talk_.ErrorOf(Command::kBlockStatus, 0, 4096), kInval);
}

TEST_F(NbdCommandsTest, RefusesRangesThatAreNotWholeBlocksOfTheDevice) {
  talk_.Open();
  for (const Command command : {Command::kRead, Command::kTrim, Command::kCache}) {
    EXPECT_EQ(talk_.ErrorOf(command, 512, 4096), kInval);
    EXPECT_EQ(talk_.ErrorOf(command, 0, 512), kInval);
    EXPECT_EQ(talk_.ErrorOf(command, 0, 0), kInval);
    EXPECT_EQ(talk_.ErrorOf(command, end(), 4096), kInval);
    EXPECT_EQ(talk_.ErrorOf(command, end() - 4096, 8192), kInval);
    EXPECT_EQ(talk_.ErrorOf(command, ~0ull - 4095, 8192), kInval);
  }
  EXPECT_EQ(talk_.ErrorOf(Command::kWriteZeroes, end(), 4096), kNoSpc);
  EXPECT_EQ(talk_.ErrorOf(Command::kWriteZeroes, 1, 4096), kInval);
  EXPECT_EQ(talk_.ErrorOf(Command::kFlush, 0, 4096), kInval);
  EXPECT_EQ(talk_.ErrorOf(Command::kFlush, 0, 0), 0u) << "the stream stays in step";
}

TEST_F(NbdCommandsTest, ARefusedWriteIsReadOver) {
  talk_.Open();
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 512, 4096, 0, Pattern(4096, 'j')), kInval);
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 0, 1000, 0, Pattern(1000, 'j')), kInval);
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 0, 0), kInval);
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, end(), 8192, 0, Pattern(8192, 'j')), kNoSpc);
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 0, 32 * kMiB + 1, 0, Pattern(32 * kMiB + 1, 'j')),
            kInval);
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 0, 4096, nbd::kCommandDf, Pattern(4096, 'j')), kInval);
  talk_.device().set_read_only(true);
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 0, 4096, 0, Pattern(4096, 'j')), kPerm);
  EXPECT_EQ(talk_.device().writes(), 0u);
  EXPECT_EQ(talk_.counters().errors, 7u);
  EXPECT_EQ(talk_.ErrorOf(Command::kFlush, 0, 0), 0u) << "the stream stays in step";
}

TEST_F(NbdCommandsTest, RefusesAReadBeyondTheLargestPayload) {
  talk_.Open();
  EXPECT_EQ(talk_.ErrorOf(Command::kRead, 0, 32 * kMiB + 4096), kInval);
}

TEST_F(NbdCommandsTest, RefusesUnknownCommandsAndFlags) {
  talk_.Open();
  EXPECT_EQ(talk_.ErrorOf(static_cast<Command>(8), 0, 4096), kInval);
  EXPECT_EQ(talk_.ErrorOf(static_cast<Command>(0xffff), 0, 0), kInval);
  EXPECT_EQ(talk_.ErrorOf(Command::kRead, 0, 4096, 1 << 7), kInval);
  EXPECT_EQ(talk_.ErrorOf(Command::kRead, 0, 4096, nbd::kCommandDf), kInval)
      << "DF means nothing without structured replies";
  EXPECT_EQ(talk_.ErrorOf(Command::kTrim, 0, 4096, nbd::kCommandNoHole), kInval);
  EXPECT_EQ(talk_.counters().requests_unknown, 2u);
  EXPECT_FALSE(talk_.closed());
}

TEST_F(NbdCommandsTest, ADeviceErrorBecomesTheProtocolsError) {
  talk_.Open();
  talk_.device().FailAfter(0, absl::ResourceExhaustedError("pool full"));
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 0, 4096, 0, Pattern(4096, 'k')), kNoSpc);
  talk_.device().FailAfter(0, absl::DataLossError("checksum"));
  EXPECT_EQ(talk_.ErrorOf(Command::kRead, 0, 4096), kIo);
  EXPECT_EQ(talk_.ErrorOf(Command::kFlush, 0, 0), kIo);
  EXPECT_EQ(talk_.ErrorOf(Command::kTrim, 0, 4096), kIo);
  EXPECT_EQ(talk_.ErrorOf(Command::kWriteZeroes, 0, 2 * kMiB, nbd::kCommandNoHole), kIo);
  EXPECT_EQ(talk_.counters().errors, 5u);
  EXPECT_FALSE(talk_.closed());
}

TEST_F(NbdCommandsTest, OneFailedPieceFailsTheWholeWrite) {
  talk_.Open();
  talk_.device().FailAfter(1, absl::InternalError("disk"));
  EXPECT_EQ(talk_.ErrorOf(Command::kWrite, 0, 3 * kMiB, 0, Pattern(3 * kMiB, 'l')), kIo);
  EXPECT_EQ(talk_.counters().written_bytes, 0u);
  EXPECT_FALSE(talk_.closed());
}

TEST_F(NbdCommandsTest, AStructuredReadMayFailAfterItsDataBegan) {
  talk_.Open(true);
  talk_.device().FailAfter(1, absl::InternalError("disk"));
  ReplyReader reader(talk_.Request(Command::kRead, 0, 3 * kMiB));
  EXPECT_FALSE(reader.Reply().done);
  const ReplyMessage error = reader.Reply();
  EXPECT_EQ(error.chunk, nbd::Chunk::kErrorOffset);
  EXPECT_EQ(error.error, kIo);
  EXPECT_EQ(error.offset, kMiB);
  EXPECT_TRUE(error.done);
  EXPECT_TRUE(reader.Done());
  EXPECT_FALSE(talk_.closed());
}

TEST_F(NbdCommandsTest, ASimpleReadThatFailsAfterItsDataBeganCloses) {
  talk_.Open();
  talk_.device().FailAfter(1, absl::InternalError("disk"));
  const std::string heard = talk_.Request(Command::kRead, 0, 3 * kMiB);
  EXPECT_EQ(heard.size(), nbd::kSimpleReplyBytes + kMiB);
  EXPECT_TRUE(talk_.closed());
  EXPECT_EQ(talk_.counters().errors, 1u);
}

TEST_F(NbdCommandsTest, ABadMagicCloses) {
  talk_.Open();
  talk_.Say(RequestBytes(Command::kFlush, 1, 0, 0) + std::string(28, 'x'));
  EXPECT_EQ(ReplyReader(talk_.Hear()).Reply().cookie, 1u);
  EXPECT_TRUE(talk_.closed());
  EXPECT_EQ(talk_.counters().protocol_errors, 1u);
}

TEST_F(NbdCommandsTest, DisconnectAnswersWhatWasAskedBeforeAndNothingAfter) {
  talk_.Open();
  talk_.device().Hold();
  talk_.Say(RequestBytes(Command::kRead, 1, 0, 4096) + RequestBytes(Command::kDisconnect, 2, 0, 0) +
            RequestBytes(Command::kFlush, 3, 0, 0));
  EXPECT_FALSE(talk_.closed());
  talk_.device().Release();
  talk_.reactor().Settle();
  ReplyReader reader(talk_.Hear());
  EXPECT_EQ(reader.Reply(4096).cookie, 1u);
  EXPECT_TRUE(reader.Done());
  EXPECT_TRUE(talk_.closed());
  EXPECT_EQ(talk_.device().flushes(), 0u);
}

}  // namespace
}  // namespace keelson::frontend::testing
