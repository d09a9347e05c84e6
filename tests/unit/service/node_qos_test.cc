// What holds the requests of a volume back by intent, through a Node: limits, and writes held for
// snapshots of several volumes.

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "blockstore/pool/ids.h"
#include "tests/unit/service/nbd_client.h"
#include "tests/unit/service/node_fixture.h"

namespace keelson::service {
namespace {

class NodeQosTest : public NodeFixture {
 protected:
  void SetUp() override {
    NodeFixture::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(CreatePool("pool").ok());
    ASSERT_TRUE(CreateVolume("vol", 16 * kMebi).ok());
  }
  absl::StatusOr<std::string> AttachLimited(std::uint64_t iops, std::uint64_t bandwidth) {
    v1::AttachVolumeRequest request;
    request.set_name("vol");
    request.mutable_qos()->set_iops(iops);
    request.mutable_qos()->set_bandwidth_bytes_per_second(bandwidth);
    v1::AttachVolumeResponse response;
    const absl::Status status = node_->AttachVolume(request, &response);
    if (!status.ok()) return status;
    return response.uri();
  }
  absl::Status SetQos(std::uint64_t iops, std::uint64_t bandwidth) {
    v1::SetQosRequest request;
    request.set_volume("vol");
    request.mutable_qos()->set_iops(iops);
    request.mutable_qos()->set_bandwidth_bytes_per_second(bandwidth);
    v1::SetQosResponse response;
    return node_->SetQos(request, &response);
  }
  v1::GetVolumeStatusResponse Status() {
    v1::GetVolumeStatusRequest request;
    request.set_name("vol");
    v1::GetVolumeStatusResponse response;
    const absl::Status status = node_->GetVolumeStatus(request, &response);
    EXPECT_TRUE(status.ok()) << status;
    return response;
  }
  absl::Status Hold(const std::string& id, std::uint32_t limit_ms = 10'000) {
    v1::HoldWritesRequest request;
    request.set_volume("vol");
    request.set_hold_id(id);
    request.set_limit_ms(limit_ms);
    v1::HoldWritesResponse response;
    return node_->HoldWrites(request, &response);
  }
  absl::Status Release(const std::string& id) {
    v1::ReleaseWritesRequest request;
    request.set_volume("vol");
    request.set_hold_id(id);
    v1::ReleaseWritesResponse response;
    return node_->ReleaseWrites(request, &response);
  }
  absl::Status Cut(const std::string& name, const std::string& hold) {
    v1::CreateSnapshotRequest request;
    request.set_volume("vol");
    request.set_name(name);
    request.set_hold_id(hold);
    v1::CreateSnapshotResponse response;
    return node_->CreateSnapshot(request, &response);
  }
  const std::string first_ = pool::Uuid::Random().ToString();
  const std::string second_ = pool::Uuid::Random().ToString();
};
INSTANTIATE_TEST_SUITE_P(DefaultBackend, NodeQosTest, testing::Values(io::Backend::kAuto));

TEST_P(NodeQosTest, LimitsAreThoseOfTheAttachmentAcrossARestart) {
  ASSERT_TRUE(AttachLimited(500, kMebi).ok());
  EXPECT_EQ(Status().qos().iops(), 500u);
  EXPECT_EQ(Status().qos().bandwidth_bytes_per_second(), kMebi);
  Restart();
  EXPECT_EQ(Status().qos().iops(), 500u);
  ASSERT_TRUE(Attach("vol").ok()) << "without a word of limits they stay";
  EXPECT_EQ(Status().qos().iops(), 500u);
  ASSERT_TRUE(SetQos(0, 2 * kMebi).ok());
  ASSERT_TRUE(SetQos(0, 2 * kMebi).ok());
  EXPECT_EQ(Status().qos().iops(), 0u);
  Restart();
  EXPECT_EQ(Status().qos().bandwidth_bytes_per_second(), 2 * kMebi);
  ASSERT_TRUE(AttachLimited(7, 0).ok()) << "attached already";
  EXPECT_EQ(Status().qos().iops(), 7u);
  ASSERT_TRUE(Detach("vol").ok());
  ASSERT_TRUE(Attach("vol").ok());
  EXPECT_FALSE(Status().has_qos()) << "they ended with the attachment";
}

TEST_P(NodeQosTest, RefusesLimitsThatNobodyCouldWorkWith) {
  EXPECT_TRUE(absl::IsInvalidArgument(AttachLimited(0, 4096).status()));
  EXPECT_TRUE(absl::IsNotFound(SetQos(1, 0))) << "not attached";
  ASSERT_TRUE(Attach("vol").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(SetQos(0, 65'535)));
  EXPECT_FALSE(Status().has_qos());
}

TEST_P(NodeQosTest, AnAttachmentThatFailsLeavesNoLimits) {
  ASSERT_TRUE(Attach("vol", /*read_only=*/true).ok());
  EXPECT_FALSE(AttachLimited(5, 0).ok()) << "the other mode";
  Restart();
  EXPECT_FALSE(Status().has_qos());
}

TEST_P(NodeQosTest, CutsASnapshotUnderAHold) {
  EXPECT_TRUE(absl::IsNotFound(Hold(first_))) << "not attached";
  EXPECT_TRUE(absl::IsAborted(Cut("s", first_)));
  EXPECT_TRUE(Release(first_).ok());
  const absl::StatusOr<std::string> uri = Attach("vol");
  ASSERT_TRUE(uri.ok());
  ASSERT_TRUE(Hold(first_).ok());
  ASSERT_TRUE(Hold(first_).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Hold(second_)));
  const std::unique_ptr<NbdClient> client = NbdClient::Connect(*uri);
  ASSERT_NE(client, nullptr);
  std::string read;
  EXPECT_EQ(client->Read(0, 4096, &read), 0) << "reads go on";
  ASSERT_TRUE(Cut("s", first_).ok());
  ASSERT_TRUE(Cut("s", first_).ok()) << "again";
  EXPECT_EQ(Snapshots("vol"), std::vector<std::string>{"s"});
  ASSERT_TRUE(Release(first_).ok());
  ASSERT_TRUE(Release(first_).ok());
  EXPECT_TRUE(absl::IsAborted(Cut("t", first_)));
  EXPECT_EQ(client->Write(0, std::string(4096, 'x')), 0);
}

TEST_P(NodeQosTest, AHoldEndsByItselfAndWithTheAttachment) {
  const absl::StatusOr<std::string> uri = Attach("vol");
  ASSERT_TRUE(uri.ok());
  std::unique_ptr<NbdClient> client = NbdClient::Connect(*uri);
  ASSERT_NE(client, nullptr);
  ASSERT_TRUE(Hold(first_, 50).ok());
  EXPECT_EQ(client->Write(0, std::string(4096, 'x')), 0);
  EXPECT_TRUE(absl::IsAborted(Cut("s", first_))) << "the write was answered";
  ASSERT_TRUE(Hold(second_).ok());
  int written = -2;
  std::thread writer([&] { written = client->Write(0, std::string(4096, 'y')); });
  EXPECT_TRUE(Detach("vol").ok());
  writer.join();
  client.reset();
  ASSERT_TRUE(Attach("vol").ok());
  EXPECT_TRUE(absl::IsAborted(Cut("s", second_)));
}

TEST_P(NodeQosTest, RefusesAHoldThatSaysNothing) {
  ASSERT_TRUE(Attach("vol").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Hold("")));
  EXPECT_TRUE(absl::IsInvalidArgument(Hold(std::string(32, '0'))));
  EXPECT_TRUE(absl::IsInvalidArgument(Hold(first_, 0)));
  EXPECT_TRUE(absl::IsInvalidArgument(Hold(first_, 10'001)));
  EXPECT_TRUE(absl::IsInvalidArgument(Release("x")));
  EXPECT_TRUE(absl::IsInvalidArgument(Cut("s", "x")));
}

}  // namespace
}  // namespace keelson::service
