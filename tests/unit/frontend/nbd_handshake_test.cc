#include <gtest/gtest.h>

#include "tests/unit/frontend/nbd_conversation.h"

namespace keelson::frontend::testing {
namespace {

using nbd::Option;
using nbd::OptionReply;

constexpr std::uint32_t kBothFlags = nbd::kClientFixedNewstyle | nbd::kClientNoZeroes;

// Past the greeting and the client's flags.
class NbdHandshakeTest : public ::testing::Test {
 protected:
  NbdHandshakeTest() {
    talk_.Say(ClientFlags(kBothFlags));
    talk_.Hear();
  }
  // The only reply to an option.
  OptionReply AskForOne(Option option, std::string_view payload = {}) {
    const std::vector<OptionReplyMessage> replies = talk_.Ask(option, payload);
    EXPECT_EQ(replies.size(), 1u);
    return replies.empty() ? OptionReply::kAck : replies.front().type;
  }
  NbdConversation talk_;
};

TEST(NbdGreetingTest, OffersFixedNewstyleWithoutZeroes) {
  NbdConversation talk;
  ReplyReader reader(talk.Hear());
  EXPECT_EQ(reader.Text(16), "NBDMAGICIHAVEOPT");
  EXPECT_EQ(reader.U16(), 3);
  EXPECT_TRUE(reader.Done());
}

TEST(NbdGreetingTest, ClosesOnUnknownClientFlags) {
  NbdConversation talk;
  talk.Say(ClientFlags(kBothFlags | 4));
  EXPECT_TRUE(talk.closed());
  EXPECT_EQ(talk.counters().protocol_errors, 1u);
}

TEST(NbdGreetingTest, AnOldClientMayOnlyNameItsExport) {
  NbdConversation talk;
  talk.Say(ClientFlags(0) + OptionBytes(Option::kList, {}));
  EXPECT_TRUE(talk.closed());

  NbdConversation other;
  other.Hear();
  other.Say(ClientFlags(0) + OptionBytes(Option::kExportName, "vol"));
  ReplyReader reader(other.Hear());
  EXPECT_EQ(reader.U64(), other.device().size_bytes());
  EXPECT_NE(reader.U16() & nbd::kFlagHasFlags, 0);
  EXPECT_EQ(reader.Text(124), std::string(124, '\0'));
  EXPECT_TRUE(reader.Done());
  EXPECT_FALSE(other.closed());
}

TEST_F(NbdHandshakeTest, ExportNameLeadsToTransmissionWithoutZeroes) {
  talk_.Say(OptionBytes(Option::kExportName, "vol"));
  ReplyReader reader(talk_.Hear());
  EXPECT_EQ(reader.U64(), talk_.device().size_bytes());
  EXPECT_EQ(reader.U16(), nbd::kFlagHasFlags | nbd::kFlagSendFlush | nbd::kFlagSendFua |
                              nbd::kFlagSendTrim | nbd::kFlagSendWriteZeroes |
                              nbd::kFlagCanMultiConn | nbd::kFlagSendCache |
                              nbd::kFlagSendFastZero);
  EXPECT_TRUE(reader.Done());
  EXPECT_EQ(talk_.ErrorOf(nbd::Command::kFlush, 0, 0), 0u);
}

TEST_F(NbdHandshakeTest, ExportNameOfAnUnknownExportCloses) {
  talk_.Say(OptionBytes(Option::kExportName, "other"));
  EXPECT_EQ(talk_.Hear(), "");
  EXPECT_TRUE(talk_.closed());
  EXPECT_EQ(talk_.counters().handshakes_failed, 1u);
}

TEST_F(NbdHandshakeTest, AbortIsAcknowledgedAndCloses) {
  EXPECT_EQ(AskForOne(Option::kAbort), OptionReply::kAck);
  EXPECT_TRUE(talk_.closed());
  EXPECT_EQ(talk_.counters().handshakes_failed, 0u);
}

TEST_F(NbdHandshakeTest, ListNamesEveryExport) {
  talk_.directory().Add("second", &talk_.device());
  const auto replies = talk_.Ask(Option::kList);
  ASSERT_EQ(replies.size(), 3u);
  EXPECT_EQ(replies[0].type, OptionReply::kServer);
  EXPECT_EQ(replies[0].data, std::string("\0\0\0\3vol", 7));
  EXPECT_EQ(replies[1].data, std::string("\0\0\0\6second", 10));
  EXPECT_EQ(replies[2].type, OptionReply::kAck);
  EXPECT_EQ(AskForOne(Option::kList, "x"), OptionReply::kErrInvalid);
}

TEST_F(NbdHandshakeTest, InfoTellsWhatWasAskedAndStaysInTheHandshake) {
  const auto replies = talk_.Ask(
      Option::kInfo, InfoPayload("", {nbd::kInfoName, nbd::kInfoDescription, nbd::kInfoBlockSize}));
  ASSERT_EQ(replies.size(), 5u);
  ReplyReader size(replies[0].data);
  EXPECT_EQ(size.U16(), nbd::kInfoExport);
  EXPECT_EQ(size.U64(), talk_.device().size_bytes());
  ReplyReader blocks(replies[1].data);
  EXPECT_EQ(blocks.U16(), nbd::kInfoBlockSize);
  EXPECT_EQ(blocks.U32(), 4096u);
  EXPECT_EQ(blocks.U32(), 4096u);
  EXPECT_EQ(blocks.U32(), 32u << 20);
  EXPECT_EQ(replies[2].data, std::string("\0\1vol", 5));
  EXPECT_EQ(replies[3].data, std::string("\0\2Keelson volume vol", 20));
  EXPECT_EQ(replies[4].type, OptionReply::kAck);
  EXPECT_EQ(AskForOne(Option::kAbort), OptionReply::kAck);
}

TEST_F(NbdHandshakeTest, GoAdvertisesReadOnly) {
  talk_.device().set_read_only(true);
  const auto replies = talk_.Ask(Option::kGo, InfoPayload("vol", {}));
  ASSERT_EQ(replies.size(), 3u);
  ReplyReader reader(replies[0].data);
  reader.Text(10);
  EXPECT_NE(reader.U16() & nbd::kFlagReadOnly, 0);
  EXPECT_EQ(talk_.ErrorOf(nbd::Command::kTrim, 0, 4096), 1u);
}

TEST_F(NbdHandshakeTest, GoForAnUnknownNameMayBeTriedAgain) {
  EXPECT_EQ(AskForOne(Option::kGo, InfoPayload("other", {})), OptionReply::kErrUnknown);
  const auto replies = talk_.Ask(Option::kGo, InfoPayload("vol", {}));
  ASSERT_FALSE(replies.empty());
  EXPECT_EQ(replies.back().type, OptionReply::kAck);
}

TEST_F(NbdHandshakeTest, TheDefaultExportIsTheOnlyOne) {
  talk_.directory().Add("second", &talk_.device());
  EXPECT_EQ(AskForOne(Option::kGo, InfoPayload("", {})), OptionReply::kErrUnknown);
  talk_.directory().Remove("vol");
  const auto replies = talk_.Ask(Option::kGo, InfoPayload("", {nbd::kInfoName}));
  ASSERT_EQ(replies.size(), 4u);
  EXPECT_EQ(replies[2].data, std::string("\0\1second", 8));
}

TEST_F(NbdHandshakeTest, OptionDataShorterThanItsInnerLengthIsInvalid) {
  std::string payload;
  NbdWriter(&payload).U32(100).Text("vol").U16(0);
  EXPECT_EQ(AskForOne(Option::kGo, payload), OptionReply::kErrInvalid);
  EXPECT_EQ(AskForOne(Option::kInfo, "vol"), OptionReply::kErrInvalid);
  EXPECT_EQ(AskForOne(Option::kGo, {}), OptionReply::kErrInvalid);
  EXPECT_EQ(AskForOne(Option::kStructuredReply), OptionReply::kAck);
  EXPECT_EQ(AskForOne(Option::kSetMetaContext, payload), OptionReply::kErrInvalid);
  EXPECT_FALSE(talk_.closed());
}

TEST_F(NbdHandshakeTest, AnOversizedOptionIsSkippedAndRefused) {
  const std::string payload(nbd::kOptionPayloadBytesMax + 1, 'x');
  EXPECT_EQ(AskForOne(Option::kInfo, payload), OptionReply::kErrTooBig);
  EXPECT_EQ(AskForOne(Option::kList, "x"), OptionReply::kErrInvalid);
  talk_.Say(OptionBytes(Option::kExportName, payload));
  EXPECT_TRUE(talk_.closed());
}

TEST_F(NbdHandshakeTest, UnknownOptionsAreSkippedAndUnsupported) {
  EXPECT_EQ(AskForOne(static_cast<Option>(11)), OptionReply::kErrUnsupported);
  EXPECT_EQ(AskForOne(static_cast<Option>(0xffffffff), "some data"), OptionReply::kErrUnsupported);
  EXPECT_EQ(AskForOne(Option::kStartTls), OptionReply::kErrPolicy);
  EXPECT_EQ(AskForOne(Option::kAbort), OptionReply::kAck);
}

TEST_F(NbdHandshakeTest, AWrongOptionMagicCloses) {
  talk_.Say(std::string(16, 'x'));
  EXPECT_EQ(talk_.Hear(), "");
  EXPECT_TRUE(talk_.closed());
  EXPECT_EQ(talk_.counters().protocol_errors, 1u);
}

TEST_F(NbdHandshakeTest, StructuredRepliesTakeNoData) {
  EXPECT_EQ(AskForOne(Option::kStructuredReply, "x"), OptionReply::kErrInvalid);
  EXPECT_EQ(AskForOne(Option::kStructuredReply), OptionReply::kAck);
  const auto replies = talk_.Ask(Option::kGo, InfoPayload("vol", {}));
  ReplyReader reader(replies.at(0).data);
  reader.Text(10);
  EXPECT_NE(reader.U16() & nbd::kFlagSendDf, 0);
}

TEST_F(NbdHandshakeTest, MetaContextsNeedStructuredReplies) {
  EXPECT_EQ(AskForOne(Option::kListMetaContext, MetaPayload("vol", {})), OptionReply::kErrInvalid);
  EXPECT_EQ(AskForOne(Option::kSetMetaContext, MetaPayload("vol", {"base:allocation"})),
            OptionReply::kErrInvalid);
}

TEST_F(NbdHandshakeTest, ListsTheAllocationContext) {
  AskForOne(Option::kStructuredReply);
  for (const std::vector<std::string>& queries :
       {std::vector<std::string>{}, {"base:"}, {"qemu:x", "base:allocation"}}) {
    const auto replies = talk_.Ask(Option::kListMetaContext, MetaPayload("vol", queries));
    ASSERT_EQ(replies.size(), 2u);
    EXPECT_EQ(replies[0].type, OptionReply::kMetaContext);
    EXPECT_EQ(replies[0].data.substr(4), "base:allocation");
    EXPECT_EQ(replies[1].type, OptionReply::kAck);
  }
  EXPECT_EQ(AskForOne(Option::kListMetaContext, MetaPayload("vol", {"qemu:"})), OptionReply::kAck);
  EXPECT_EQ(AskForOne(Option::kListMetaContext, MetaPayload("x", {})), OptionReply::kErrUnknown);
}

TEST_F(NbdHandshakeTest, SelectsTheAllocationContextByItsFullNameOnly) {
  AskForOne(Option::kStructuredReply);
  EXPECT_EQ(AskForOne(Option::kSetMetaContext, MetaPayload("vol", {"base:"})), OptionReply::kAck);
  EXPECT_EQ(AskForOne(Option::kSetMetaContext, MetaPayload("vol", {})), OptionReply::kAck);
  EXPECT_EQ(talk_.Ask(Option::kSetMetaContext, MetaPayload("vol", {"base:allocation"})).size(), 2u);
}

TEST_F(NbdHandshakeTest, ASelectionIsForItsExportOnly) {
  talk_.directory().Add("second", &talk_.device());
  AskForOne(Option::kStructuredReply);
  talk_.Ask(Option::kSetMetaContext, MetaPayload("second", {"base:allocation"}));
  talk_.Ask(Option::kGo, InfoPayload("vol", {}));
  EXPECT_EQ(talk_.ErrorOf(nbd::Command::kBlockStatus, 0, 4096), 22u);
}

TEST_F(NbdHandshakeTest, AFailedSelectionForgetsTheOneBefore) {
  AskForOne(Option::kStructuredReply);
  talk_.Ask(Option::kSetMetaContext, MetaPayload("vol", {"base:allocation"}));
  AskForOne(Option::kSetMetaContext, MetaPayload("other", {"base:allocation"}));
  talk_.Ask(Option::kGo, InfoPayload("vol", {}));
  EXPECT_EQ(talk_.ErrorOf(nbd::Command::kBlockStatus, 0, 4096), 22u);
}

TEST_F(NbdHandshakeTest, MustBeOverBeforeItsDeadline) {
  talk_.reactor().Advance(9 * kSecond);
  EXPECT_EQ(AskForOne(Option::kList, "x"), OptionReply::kErrInvalid);
  EXPECT_FALSE(talk_.closed());
  talk_.reactor().Advance(kSecond);
  EXPECT_TRUE(talk_.closed());
  EXPECT_EQ(talk_.counters().stalled_clients, 1u);
  EXPECT_EQ(talk_.counters().handshakes_failed, 1u);
}

TEST_F(NbdHandshakeTest, ADeadlineCoversAClientThatDoesNotReadItsReplies) {
  talk_.client().set_window_bytes(4);
  talk_.Say(OptionBytes(Option::kList, {}));
  talk_.reactor().Advance(10 * kSecond);
  EXPECT_TRUE(talk_.closed());
}

TEST_F(NbdHandshakeTest, WorksOneByteAtATime) {
  talk_.client().set_read_bytes_max(1);
  EXPECT_EQ(talk_.Ask(Option::kInfo, InfoPayload("vol", {})).size(), 3u);
  EXPECT_EQ(AskForOne(static_cast<Option>(11), std::string(70000, 'x')), OptionReply::kErrTooBig);
}

TEST_F(NbdHandshakeTest, RequestsMayFollowTheLastOptionAtOnce) {
  talk_.Say(OptionBytes(Option::kGo, InfoPayload("vol", {})) +
            RequestBytes(nbd::Command::kFlush, 5, 0, 0));
  ReplyReader reader(talk_.Hear());
  for (int i = 0; i < 3; ++i) reader.OptionReply();
  EXPECT_EQ(reader.Reply().cookie, 5u);
  EXPECT_TRUE(reader.Done());
}

}  // namespace
}  // namespace keelson::frontend::testing
