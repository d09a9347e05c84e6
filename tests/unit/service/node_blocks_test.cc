// Lists of a snapshot's blocks, of a volume of two segments whose copies a Node holds.

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "blockstore/pool/ids.h"
#include "tests/unit/service/nbd_client.h"
#include "tests/unit/service/node_fixture.h"

namespace keelson::service {
namespace {

constexpr std::uint64_t kBlock = 4096;

class NodeBlocksTest : public NodeFixture {
 protected:
  static constexpr std::uint64_t kSegment = 8 * kMebi;
  static constexpr std::uint64_t kLast = 4 * kMebi;

  void SetUp() override {
    NodeFixture::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(CreatePool("pool").ok());
    v1::AttachVolumeRequest attach;
    attach.set_name("vol");
    attach.mutable_target()->set_volume_id(volume_id_);
    attach.mutable_target()->set_attachment(1);
    attach.mutable_target()->set_segment_bytes(kSegment);
    for (std::uint32_t segment = 0; segment < 2; ++segment) {
      v1::SegmentHint* const hint = attach.mutable_target()->add_segments();
      hint->set_segment(segment);
      *hint->add_members() = MakeReplica(segment);
    }
    v1::AttachVolumeResponse response;
    const absl::Status attached = node_->AttachVolume(attach, &response);
    ASSERT_TRUE(attached.ok()) << attached;
    client_ = NbdClient::Connect(response.uri());
    ASSERT_NE(client_, nullptr);
  }
  void TearDown() override {
    client_.reset();
    NodeFixture::TearDown();
  }

  v1::Member MakeReplica(std::uint32_t segment) {
    const v1::Pool pool = Pools().at(0);
    v1::Member member;
    member.set_pool_id(pool.id());
    member.set_replica_id(pool::Uuid::Random().ToString());
    member.set_incarnation(pool.incarnation());
    member.set_state(v1::MEMBER_STATE_IN_SYNC);
    v1::CreateReplicaRequest request;
    request.set_volume_id(volume_id_);
    request.set_volume("vol");
    request.set_replica_id(member.replica_id());
    request.set_pool(member.pool_id());
    request.set_size_bytes(segment == 0 ? kSegment : kLast);
    request.set_segment(segment);
    request.set_segment_count(2);
    request.set_segment_bytes(kSegment);
    *request.add_members() = member;
    v1::CreateReplicaResponse response;
    const absl::Status made = node_->CreateReplica(request, &response);
    EXPECT_TRUE(made.ok()) << made;
    replicas_.push_back(member.replica_id());
    return member;
  }
  void Write(std::uint64_t block) {
    EXPECT_EQ(client_->Write(block * kBlock, std::string(kBlock, 'x')), 0);
  }
  // Its id.
  std::string Cut(const std::string& name) {
    v1::CreateSnapshotRequest request;
    request.set_volume("vol");
    request.set_name(name);
    v1::CreateSnapshotResponse response;
    const absl::Status cut = node_->CreateSnapshot(request, &response);
    EXPECT_TRUE(cut.ok()) << cut;
    EXPECT_EQ(response.snapshot().size_bytes(), kSegment + kLast) << "of the volume";
    return response.snapshot().id();
  }
  // "BLOCK+COUNT ..." and what is said of the size in MiB; or the error's code.
  static std::string Text(const absl::Status& status, const std::vector<v1::BlockRange>& ranges,
                          std::uint64_t size_bytes) {
    if (!status.ok()) return absl::StatusCodeToString(status.code());
    std::string text;
    for (const v1::BlockRange& range : ranges) {
      absl::StrAppend(&text, range.offset() / kBlock, "+", range.size_bytes() / kBlock, " ");
    }
    return absl::StrCat(text, "of ", size_bytes / kMebi);
  }
  std::string Allocated(const v1::ListAllocatedRequest& request) {
    std::vector<v1::BlockRange> ranges;
    std::uint64_t size_bytes = 0;
    const absl::Status status =
        node_->ListAllocated(request, [&](const v1::ListBlocksResponse& part) {
          ranges.insert(ranges.end(), part.ranges().begin(), part.ranges().end());
          size_bytes = part.volume_size_bytes();
          return true;
        });
    return Text(status, ranges, size_bytes);
  }
  std::string Changed(const std::string& base, const std::string& target,
                      std::optional<std::uint32_t> segment) {
    v1::ListChangedRequest request;
    request.set_volume("vol");
    request.set_base_snapshot_id(base);
    request.set_target_snapshot_id(target);
    if (segment.has_value()) request.set_segment(*segment);
    std::vector<v1::BlockRange> ranges;
    std::uint64_t size_bytes = 0;
    const absl::Status status =
        node_->ListChanged(request, [&](const v1::ListBlocksResponse& part) {
          ranges.insert(ranges.end(), part.ranges().begin(), part.ranges().end());
          size_bytes = part.volume_size_bytes();
          return true;
        });
    return Text(status, ranges, size_bytes);
  }
  static v1::ListAllocatedRequest Of(const std::string& name, const std::string& id = "",
                                     std::optional<std::uint32_t> segment = std::nullopt) {
    v1::ListAllocatedRequest request;
    request.set_volume("vol");
    request.set_snapshot(name);
    request.set_snapshot_id(id);
    if (segment.has_value()) request.set_segment(*segment);
    return request;
  }

  const std::string volume_id_ = pool::Uuid::Random().ToString();
  std::vector<std::string> replicas_;  // by segment
  std::unique_ptr<NbdClient> client_;
};
INSTANTIATE_TEST_SUITE_P(DefaultBackend, NodeBlocksTest, testing::Values(io::Backend::kAuto));

TEST_P(NodeBlocksTest, ListsAVolumeOrOneSegmentAtItsPlaceInTheVolume) {
  Write(1);
  Write(2048);  // the first of segment 1
  const std::string first = Cut("first");
  Write(2047);
  Write(2050);
  const std::string second = Cut("second");
  EXPECT_EQ(Allocated(Of("first")), "1+1 2048+1 of 12");
  EXPECT_EQ(Allocated(Of("second", "", 0)), "1+1 2047+1 of 8");
  EXPECT_EQ(Allocated(Of("second", "", 1)), "2048+1 2050+1 of 12");
  EXPECT_EQ(Changed(first, second, std::nullopt), "2047+1 2050+1 of 12");
  EXPECT_EQ(Changed(first, second, 1), "2050+1 of 12");
  EXPECT_EQ(Changed(second, first, 1), "INVALID_ARGUMENT");
  v1::ListAllocatedRequest rest = Of("second", "", 1);
  rest.set_from_offset(2049 * kBlock);
  EXPECT_EQ(Allocated(rest), "2050+1 of 12");
  EXPECT_EQ(Allocated(Of("second", "", 2)), "FAILED_PRECONDITION");
  EXPECT_EQ(Allocated(Of("second", "", UINT32_MAX)), "FAILED_PRECONDITION");
}

TEST_P(NodeBlocksTest, ASnapshotIsFoundByItsIdAndNotByANameThatAnotherOneHadBefore) {
  Write(1);
  const std::string earlier = Cut("snap");
  ASSERT_TRUE(DeleteSnapshot("vol", "snap").ok());
  Write(3);
  const std::string later = Cut("snap");
  EXPECT_EQ(Allocated(Of("", later)), "1+1 3+1 of 12");
  EXPECT_EQ(Allocated(Of("snap", earlier)), "NOT_FOUND");
  EXPECT_EQ(Changed(earlier, later, std::nullopt), "NOT_FOUND");
  EXPECT_EQ(Changed("", later, std::nullopt), "INVALID_ARGUMENT");
}

TEST_P(NodeBlocksTest, ASegmentIsListedWhereTheOthersHaveNoCopy) {
  Write(2048);
  const std::string snapshot = Cut("snap");
  client_.reset();
  ASSERT_TRUE(Detach("vol").ok());
  v1::DeleteReplicaRequest request;
  request.set_pool(Pools().at(0).id());
  request.set_replica_id(replicas_[0]);
  v1::DeleteReplicaResponse response;
  const absl::Status deleted = node_->DeleteReplica(request, &response);
  ASSERT_TRUE(deleted.ok()) << deleted;
  EXPECT_EQ(Allocated(Of("", snapshot)), "FAILED_PRECONDITION");
  EXPECT_EQ(Allocated(Of("", snapshot, 1)), "2048+1 of 12");
}

}  // namespace
}  // namespace keelson::service
