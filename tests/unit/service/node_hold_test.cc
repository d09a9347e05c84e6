// Writes held for snapshots of several volumes, through a Node.

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "blockstore/pool/ids.h"
#include "tests/unit/service/nbd_client.h"
#include "tests/unit/service/node_fixture.h"

namespace keelson::service {
namespace {

class NodeHoldTest : public NodeFixture {
 protected:
  void SetUp() override {
    NodeFixture::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(CreatePool("pool").ok());
    ASSERT_TRUE(CreateVolume("vol", 16 * kMebi).ok());
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
INSTANTIATE_TEST_SUITE_P(DefaultBackend, NodeHoldTest, testing::Values(io::Backend::kAuto));

TEST_P(NodeHoldTest, CutsASnapshotUnderAHold) {
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

TEST_P(NodeHoldTest, AHoldEndsByItselfAndWithTheAttachment) {
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

TEST_P(NodeHoldTest, RefusesAHoldThatSaysNothing) {
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
