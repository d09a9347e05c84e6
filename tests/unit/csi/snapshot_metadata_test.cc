// Which blocks a snapshot has, and which changed, as a backup program asks for them.

#include "absl/strings/str_cat.h"
#include "tests/unit/csi/csi_fixture.h"

namespace keelson::csi {
namespace {

using grpc::StatusCode;

constexpr std::int64_t kBlock = 4096;

// One stream, read to its end.
struct Answer {
  grpc::Status status;
  std::vector<std::string> messages;  // "BLOCK+COUNT ..." of each
  bool all_say_the_same = true;       // the kind of ranges, and the capacity
};

class SnapshotMetadataTest : public CsiTest {
 protected:
  explicit SnapshotMetadataTest(bool enable_alpha = true) : CsiTest(enable_alpha) {}

  void SetUp() override {
    ASSERT_TRUE(Create(CreateRequest("v", kGib)).ok());
    volume_ = created_.volume().volume_id();
    base_ = Cut("base", volume_);
    target_ = Cut("target", volume_);
  }
  std::string Cut(const std::string& name, const std::string& volume) {
    pb::CreateSnapshotRequest request;
    request.set_name(name);
    request.set_source_volume_id(volume);
    pb::CreateSnapshotResponse response;
    EXPECT_TRUE(
        Ask(*controller_stub_, &pb::Controller::Stub::CreateSnapshot, request, &response).ok());
    return response.snapshot().snapshot_id();
  }
  static control::BlockRange Range(std::uint64_t block, std::uint64_t count) {
    control::BlockRange range;
    range.set_offset(block * kBlock);
    range.set_size_bytes(count * kBlock);
    return range;
  }
  template <typename Response>
  static Answer Read(std::unique_ptr<grpc::ClientReader<Response>> reader) {
    Answer answer;
    Response message;
    while (reader->Read(&message)) {
      std::string text;
      for (const pb::BlockMetadata& range : message.block_metadata()) {
        absl::StrAppend(&text, range.byte_offset() / kBlock, "+", range.size_bytes() / kBlock, " ");
      }
      answer.messages.push_back(text);
      answer.all_say_the_same = answer.all_say_the_same &&
                                message.block_metadata_type() == pb::VARIABLE_LENGTH &&
                                message.volume_capacity_bytes() == kGib;
    }
    answer.status = reader->Finish();
    EXPECT_EQ(answer.status.error_details(), "");
    EXPECT_EQ(answer.status.ok(), answer.status.error_message().empty());
    return answer;
  }
  Answer Allocated(const std::string& snapshot, std::int64_t starting_offset = 0,
                   std::int32_t max_results = 0) {
    pb::GetMetadataAllocatedRequest request;
    request.set_snapshot_id(snapshot);
    request.set_starting_offset(starting_offset);
    request.set_max_results(max_results);
    grpc::ClientContext context;
    return Read(metadata_stub_->GetMetadataAllocated(&context, request));
  }
  Answer Delta(const std::string& base, const std::string& target, std::int64_t starting_offset = 0,
               std::int32_t max_results = 0) {
    pb::GetMetadataDeltaRequest request;
    request.set_base_snapshot_id(base);
    request.set_target_snapshot_id(target);
    request.set_starting_offset(starting_offset);
    request.set_max_results(max_results);
    grpc::ClientContext context;
    return Read(metadata_stub_->GetMetadataDelta(&context, request));
  }
  bool IsAdvertised() {
    pb::GetPluginCapabilitiesResponse response;
    EXPECT_TRUE(Ask(*identity_stub_, &pb::Identity::Stub::GetPluginCapabilities,
                    pb::GetPluginCapabilitiesRequest(), &response)
                    .ok());
    for (const pb::PluginCapability& one : response.capabilities()) {
      if (one.service().type() == pb::PluginCapability::Service::SNAPSHOT_METADATA_SERVICE) {
        return true;
      }
    }
    return false;
  }

  using Messages = std::vector<std::string>;
  std::string volume_, base_, target_;
};

class SnapshotMetadataOffTest : public SnapshotMetadataTest {
 protected:
  SnapshotMetadataOffTest() : SnapshotMetadataTest(false) {}
};

TEST_F(SnapshotMetadataOffTest, IsNeitherAdvertisedNorAnswered) {
  EXPECT_FALSE(IsAdvertised());
  EXPECT_EQ(Allocated(target_).status.error_code(), StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(Delta(base_, target_).status.error_code(), StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(cluster_.CountOf("ListSnapshotBlocks"), 0u);
}

TEST_F(SnapshotMetadataTest, ListsAllPagesInOrder) {
  EXPECT_TRUE(IsAdvertised());
  cluster_.SetBlocks("", base_, {Range(0, 2), Range(7, 1), Range(9, 1), Range(100, 50)});
  cluster_.SetBlocks(base_, target_, {Range(8, 1)});
  Answer answer = Allocated(base_);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.messages, Messages({"0+2 7+1 9+1 ", "100+50 "}));
  EXPECT_TRUE(answer.all_say_the_same);
  answer = Delta(base_, target_);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.messages, Messages({"8+1 "}));
  EXPECT_TRUE(answer.all_say_the_same);
}

TEST_F(SnapshotMetadataTest, ASnapshotWithoutBlocksHasOneMessageThatTellsItsSize) {
  const Answer answer = Delta(base_, target_);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.messages, Messages({""}));
  EXPECT_TRUE(answer.all_say_the_same);
}

TEST_F(SnapshotMetadataTest, NoMessageHasMoreThanTheCallerTakes) {
  cluster_.SetBlocks("", base_, {Range(0, 2), Range(7, 1), Range(9, 1), Range(100, 50)});
  EXPECT_EQ(Allocated(base_, 0, 2).messages, Messages({"0+2 7+1 ", "9+1 ", "100+50 "}));
  EXPECT_EQ(Allocated(base_, 0, 1).messages, Messages({"0+2 ", "7+1 ", "9+1 ", "100+50 "}));
  EXPECT_EQ(Allocated(base_, 0, INT32_MAX).messages, Messages({"0+2 7+1 9+1 ", "100+50 "}));
  EXPECT_EQ(Allocated(base_, 0, -1).status.error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(SnapshotMetadataTest, GoesOnWhereAnInterruptedCallEnded) {
  cluster_.SetBlocks(base_, target_, {Range(0, 2), Range(7, 1)});
  EXPECT_EQ(Delta(base_, target_, kBlock).messages, Messages({"1+1 7+1 "}));
  EXPECT_EQ(Delta(base_, target_, 2 * kBlock).messages, Messages({"7+1 "}));
  EXPECT_EQ(Delta(base_, target_, 8 * kBlock - 1).messages, Messages({"7+1 "}));
  const Answer end = Delta(base_, target_, kGib);
  EXPECT_TRUE(end.status.ok()) << end.status.error_message();
  EXPECT_EQ(end.messages, Messages({""}));
  EXPECT_EQ(Delta(base_, target_, kGib + 1).status.error_code(), StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Delta(base_, target_, -1).status.error_code(), StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Allocated(target_, -1).status.error_code(), StatusCode::OUT_OF_RANGE);
}

TEST_F(SnapshotMetadataTest, RefusesWhatIsMissingOrDoesNotGoTogether) {
  EXPECT_EQ(Allocated("").status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Delta("", target_).status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Delta("No Such", "").status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Allocated("../None").status.error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(Delta(base_, "../None").status.error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(cluster_.CountOf("ListSnapshotBlocks"), 0u) << "nobody needs to be asked";
  EXPECT_EQ(Allocated("kss-none").status.error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(Delta("kss-none", target_).status.error_code(), StatusCode::NOT_FOUND);
  ASSERT_TRUE(Create(CreateRequest("other", kGib)).ok());
  const std::string other = Cut("other", created_.volume().volume_id());
  EXPECT_EQ(Delta(other, target_).status.error_code(), StatusCode::INVALID_ARGUMENT);
  cluster_.Refuse("ListSnapshotBlocks", absl::UnavailableError("not ready yet"));
  EXPECT_EQ(Allocated(target_).status.error_code(), StatusCode::UNAVAILABLE);
}

TEST_F(SnapshotMetadataTest, AStreamThatIsBrokenOffIsNoEnd) {
  cluster_.SetBlocks("", base_, {Range(0, 1), Range(2, 1), Range(4, 1), Range(6, 1)});
  pb::GetMetadataAllocatedRequest request;
  request.set_snapshot_id(base_);
  cluster_.RefuseAfter("ListSnapshotBlocks", 1, absl::UnavailableError("it died"));
  grpc::ClientContext context;
  auto reader = metadata_stub_->GetMetadataAllocated(&context, request);
  const Answer answer = Read(std::move(reader));
  EXPECT_EQ(answer.messages, Messages({"0+1 2+1 4+1 "}));
  EXPECT_EQ(answer.status.error_code(), StatusCode::UNAVAILABLE);
}

TEST_F(SnapshotMetadataTest, ACancelledStreamEndsTheWork) {
  std::vector<control::BlockRange> ranges;
  for (std::uint64_t block = 0; block < 30'000; block += 2) ranges.push_back(Range(block, 1));
  const std::size_t pages = ranges.size() / 3;
  cluster_.SetBlocks("", base_, std::move(ranges));
  pb::GetMetadataAllocatedRequest request;
  request.set_snapshot_id(base_);
  grpc::ClientContext context;
  auto reader = metadata_stub_->GetMetadataAllocated(&context, request);
  pb::GetMetadataAllocatedResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
  // It has ended when other calls come and go and none of it is between them.
  std::size_t before = 0;
  do {
    before = cluster_.CountOf("ListSnapshotBlocks");
    for (int i = 0; i < 20; ++i) IsAdvertised();
  } while (cluster_.CountOf("ListSnapshotBlocks") != before);
  EXPECT_LT(before, pages);
}

}  // namespace
}  // namespace keelson::csi
