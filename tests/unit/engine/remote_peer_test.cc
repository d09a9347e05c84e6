// RemoteReplica against members that break the protocol: each way of it ends the session, completes
// the calls outstanding, and is named in their status.
#include <deque>
#include <functional>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/unit/engine/remote_world.h"

namespace keelson::engine::testing {
namespace {

using wire::FrameHead;
using wire::FrameHeader;

class RemotePeerTest : public RemoteTest {
 protected:
  // What a call in flight gets from a member that answers each request with `script`.
  absl::Status FlushWith(OnRequest script) {
    StartScriptedMember(std::move(script));
    const absl::Status prepared = PrepareRemote();
    EXPECT_TRUE(prepared.ok()) << prepared;
    return Run(remote_->Flush(In(kSecond)));
  }
  void ExpectBroken(const absl::Status& status, std::string_view how) {
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_NE(std::string(status.message())
                  .find(absl::StrCat("broke the data protocol: ", std::string(how))),
              std::string::npos)
        << status;
    EXPECT_FALSE(remote_->open());
    EXPECT_TRUE(absl::IsUnavailable(Run(remote_->Heartbeat(In(kSecond)))));
  }
};

std::string Ok(const FrameHead& head) {
  wire::EncodedFrame frame;
  wire::EncodeAnswer(head, absl::OkStatus(), &frame);
  return Flat(frame);
}

TEST_F(RemotePeerTest, AGoodAnswerIsTaken) {
  EXPECT_TRUE(FlushWith([](const FrameHeader& request) { return Ok(request); }).ok());
  EXPECT_TRUE(remote_->open());
}

// A later Prepare of the same engine, over another connection, overtook the answer to this one. The
// member leaves the connection open, so nothing but this end can finish it.
TEST_F(RemotePeerTest, APrepareThatWasOvertakenEndsItsConnection) {
  StartScriptedMember([](const FrameHeader& request) { return Ok(request); },
                      [this](const FrameHeader& request) {
                        FrameHead head = request;
                        head.session_ended = true;
                        replica::PrepareAnswer prepared;
                        prepared.pool = replica_.pool;
                        prepared.replica = replica_.replica;
                        prepared.incarnation = replica_.incarnation;
                        wire::EncodedFrame encoded;
                        wire::EncodeAnswer(head, prepared, &encoded);
                        return Flat(encoded);
                      });
  const absl::Status prepared = PrepareRemote();
  EXPECT_TRUE(absl::IsUnavailable(prepared)) << prepared;
  EXPECT_FALSE(remote_->open());
}

TEST_F(RemotePeerTest, NoFrameAtAll) {
  ExpectBroken(FlushWith([](const FrameHeader&) { return std::string(100, 'x'); }),
               "a frame does not begin with the frame magic");
}

TEST_F(RemotePeerTest, ADamagedHeader) {
  ExpectBroken(FlushWith([](const FrameHeader& request) {
                 std::string bytes = Ok(request);
                 bytes[20] ^= 1;
                 return bytes;
               }),
               "the header of a frame does not match its checksum");
}

TEST_F(RemotePeerTest, ADamagedMessage) {
  ExpectBroken(FlushWith([](const FrameHeader& request) {
                 std::string bytes = Ok(request);
                 bytes.back() ^= 1;
                 return bytes;
               }),
               "the message of a Flush frame does not match its checksum");
}

TEST_F(RemotePeerTest, AnAnswerToARequestNeverSent) {
  ExpectBroken(FlushWith([](const FrameHeader& request) {
                 FrameHead head = request;
                 head.request_id += 1000;
                 return Ok(head);
               }),
               "it answered Flush request 1002, which was never sent");
}

TEST_F(RemotePeerTest, AnAnswerToARequestThatStillWaitsForItsTurn) {
  StartScriptedMember([](const FrameHeader& request) {
    FrameHead head = request;
    head.request_id += 250;
    return Ok(head);
  });
  ASSERT_TRUE(PrepareRemote().ok());
  std::deque<std::optional<absl::Status>> results(260);
  for (auto& result : results) Start(remote_->Flush(In(kSecond)), &result);
  for (const auto& result : results) ASSERT_TRUE(Until([&] { return result.has_value(); }));
  ExpectBroken(*results[250], "it answered Flush request 252, which is not outstanding");
}

TEST_F(RemotePeerTest, AnAnswerThatComesTwice) {
  StartScriptedMember([](const FrameHeader& request) { return Ok(request) + Ok(request); });
  ASSERT_TRUE(PrepareRemote().ok());
  EXPECT_TRUE(Run(remote_->Flush(In(kSecond))).ok());
  ASSERT_TRUE(Until([&] { return !remote_->open(); }));
  ExpectBroken(Run(remote_->Flush(In(kSecond))),
               "it answered Flush request 2, which is not outstanding");
}

TEST_F(RemotePeerTest, AnAnswerOfAnotherType) {
  ExpectBroken(FlushWith([](const FrameHeader& request) {
                 FrameHead head = request;
                 head.type = wire::FrameType::kHeartbeat;
                 return Ok(head);
               }),
               "it answered Flush with a frame of another type");
}

TEST_F(RemotePeerTest, AnAnswerOfAnotherEpoch) {
  ExpectBroken(FlushWith([](const FrameHeader& request) {
                 FrameHead head = request;
                 ++head.epoch.restart;
                 return Ok(head);
               }),
               "its answer to Flush is of another epoch");
}

TEST_F(RemotePeerTest, AnAnswerOfAnotherIncarnation) {
  ExpectBroken(FlushWith([](const FrameHeader& request) {
                 FrameHead head = request;
                 head.incarnation = Id(88);
                 return Ok(head);
               }),
               "its answer to Flush is of another incarnation of its pool");
}

TEST_F(RemotePeerTest, ARequestFromTheMember) {
  ExpectBroken(FlushWith([](const FrameHeader& request) {
                 wire::EncodedFrame frame;
                 wire::Encode(request, wire::FlushRequest{}, &frame);
                 return Flat(frame);
               }),
               "it sent a request, Flush");
}

TEST_F(RemotePeerTest, AnAnswerWithoutStatus) {
  ExpectBroken(FlushWith([](const FrameHeader& request) {
                 FrameHead head = request;
                 head.answer = true;
                 wire::EncodedFrame frame;
                 wire::EncodeFrame(head, {}, {}, &frame);
                 return Flat(frame);
               }),
               "an answer has no status");
}

TEST_F(RemotePeerTest, AnAnswerThatIsCutOff) {
  StartScriptedMember([](const FrameHeader& request) { return Ok(request).substr(0, 90); });
  ASSERT_TRUE(PrepareRemote().ok());
  const absl::Status status = Run(remote_->Flush(In(kSecond)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_FALSE(remote_->open());
}

TEST_F(RemotePeerTest, AGoodbyeEndsTheSessionWithItsReason) {
  const absl::Status status = FlushWith([](const FrameHeader& request) {
    wire::EncodedFrame frame;
    wire::EncodeBye(request, "the daemon stops", &frame);
    return Flat(frame);
  });
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_NE(std::string(status.message()).find("it said goodbye: the daemon stops"),
            std::string::npos)
      << status;
}

std::string ReadAnswer(const FrameHead& request, std::size_t size_bytes) {
  const std::string data(size_bytes, 'd');
  wire::EncodedFrame frame;
  wire::EncodeReadAnswer(request, std::as_bytes(std::span(data.data(), data.size())), &frame);
  return Flat(frame);
}

TEST_F(RemotePeerTest, ARepliedReadOfAnotherSize) {
  for (const std::size_t size_bytes : {0, 4096, 12'288, 1 << 20}) {
    StartScriptedMember(
        [size_bytes](const FrameHeader& request) { return ReadAnswer(request, size_bytes); });
    ASSERT_TRUE(PrepareRemote().ok());
    std::vector<std::byte> into(8192);
    ExpectBroken(Run(remote_->Read(0, into, In(kSecond))),
                 absl::StrCat("it answered Read of 8192 bytes with ", size_bytes));
    EXPECT_EQ(into, std::vector<std::byte>(8192));
    EXPECT_TRUE(world_.RunTask(remote_->Close()));
    StopScriptedMember();
  }
}

TEST_F(RemotePeerTest, DataThatDoNotMatchTheirChecksum) {
  StartScriptedMember([](const FrameHeader& request) {
    std::string bytes = ReadAnswer(request, 8192);
    bytes.back() ^= 1;
    return bytes;
  });
  ASSERT_TRUE(PrepareRemote().ok());
  std::vector<std::byte> into(8192);
  ExpectBroken(Run(remote_->Read(0, into, In(kSecond))),
               "the data of a Read frame does not match its checksum");
}

TEST_F(RemotePeerTest, AnExtentWhoseDataDoNotFitItsBlocks) {
  StartScriptedMember([](const FrameHeader& request) {
    const std::string data(8192, 'd');
    replica::ExtentContent content;
    content.data = pool::BlockBits::Range(0, 3);
    wire::EncodedFrame frame;
    wire::EncodeAnswer(request, content, std::as_bytes(std::span(data.data(), data.size())),
                       &frame);
    return Flat(frame);
  });
  ASSERT_TRUE(PrepareRemote().ok());
  std::vector<std::byte> into(pool::kExtentBytes);
  ExpectBroken(Run(remote_->ReadCopy({}, 0, into, In(kSecond))).status(),
               "an extent of 3 data blocks came with 8192 bytes of data");
}

TEST_F(RemotePeerTest, MoreRunsThanWereAskedFor) {
  StartScriptedMember([](const FrameHeader& request) {
    wire::EncodedFrame frame;
    wire::EncodeAnswer(request, std::vector<replica::DataRun>(3, {4096, true}), &frame);
    return Flat(frame);
  });
  ASSERT_TRUE(PrepareRemote().ok());
  ExpectBroken(Run(remote_->Map(0, 1 << 20, 2, In(kSecond))).status(),
               "it answered Map with more runs than it was asked for");
}

TEST_F(RemotePeerTest, NotesFromBeforeTheFirstRegion) {
  StartScriptedMember([](const FrameHeader& request) {
    wire::EncodedFrame frame;
    wire::EncodeAnswer(request, std::vector<replica::RegionNote>{{4, {}, {}}}, &frame);
    return Flat(frame);
  });
  ASSERT_TRUE(PrepareRemote().ok());
  ExpectBroken(Run(remote_->Notes({}, 5, 100, In(kSecond))).status(),
               "it answered Notes with a region before the first");
}

TEST_F(RemotePeerTest, APreparedReplicaThatIsAnother) {
  StartScriptedMember({}, [](const FrameHeader& request) {
    replica::PrepareAnswer answer;
    answer.pool = pool::PoolId(Id(1));
    answer.replica = pool::ReplicaId(Id(66));
    wire::EncodedFrame frame;
    wire::EncodeAnswer(request, answer, &frame);
    return Flat(frame);
  });
  ExpectBroken(PrepareRemote(), "it answered Prepare for another replica");
}

TEST_F(RemotePeerTest, AGarbageConfiguration) {
  StartScriptedMember({}, [](const FrameHeader& request) {
    FrameHead head = request;
    head.answer = true;
    std::string body(sizeof(wire::RawStatus) + sizeof(wire::RawPrepareResult), '\0');
    body[sizeof(wire::RawStatus) + offsetof(wire::RawPrepareResult, has_configuration)] = 1;
    wire::EncodedFrame frame;
    wire::EncodeFrameWithBody(head, body + "this is no configuration", {}, &frame);
    return Flat(frame);
  });
  ExpectBroken(PrepareRemote(), "");
}

}  // namespace
}  // namespace keelson::engine::testing
