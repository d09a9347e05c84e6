#include "csi/volume_work.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "tests/unit/csi/csi_fixture.h"

namespace keelson::csi {
namespace {

using VolumeWorkTest = CsiTest;

// Holds every operation of the host from the first Format on until it is opened.
struct Barrier {
  std::promise<void> reached;
  std::promise<void> opened;
  std::shared_future<void> open{opened.get_future()};

  absl::Status Pass(const std::string& operation) {
    if (operation != "Format") return absl::OkStatus();
    reached.set_value();
    open.wait();
    return absl::OkStatus();
  }
};

TEST_F(VolumeWorkTest, ACallForABusyVolumeIsAbortedAndOthersAreNot) {
  const auto capability = Mount(Mode::SINGLE_NODE_MULTI_WRITER);
  const std::string busy = Attach("busy", capability);
  const std::string other = Attach("other", Block(Mode::SINGLE_NODE_MULTI_WRITER));
  Barrier barrier;
  host_.before = [&](const std::string& operation) { return barrier.Pass(operation); };
  auto first = std::async([&] { return Stage(StageRequest(busy, capability)); });
  barrier.reached.get_future().wait();
  EXPECT_EQ(Stage(StageRequest(busy, capability)).error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(Unstage(busy).error_code(), grpc::StatusCode::ABORTED);
  EXPECT_TRUE(Stage(StageRequest(other, Block(Mode::SINGLE_NODE_MULTI_WRITER))).ok());
  barrier.opened.set_value();
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(Stage(StageRequest(busy, capability)).ok());
}

TEST_F(VolumeWorkTest, WorkGoesOnAfterItsCallerHasGoneAndIsFoundDone) {
  const auto capability = Mount(Mode::SINGLE_NODE_MULTI_WRITER);
  const std::string id = Attach("slow", capability);
  Barrier barrier;
  host_.before = [&](const std::string& operation) { return barrier.Pass(operation); };
  grpc::ClientContext context;
  pb::NodeStageVolumeResponse response;
  auto call = std::async([&] {
    return node_stub_->NodeStageVolume(&context, StageRequest(id, capability), &response);
  });
  barrier.reached.get_future().wait();
  context.TryCancel();
  EXPECT_EQ(call.get().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(Stage(StageRequest(id, capability)).error_code(), grpc::StatusCode::ABORTED);
  EXPECT_FALSE(work_.WaitIdle(std::chrono::milliseconds(0)));
  barrier.opened.set_value();
  EXPECT_TRUE(work_.WaitIdle(std::chrono::seconds(30)));
  EXPECT_TRUE(Stage(StageRequest(id, capability)).ok());
  EXPECT_EQ(host_.Count("Format"), 1);
  EXPECT_EQ(host_.Count("Mount"), 1);
}

}  // namespace
}  // namespace keelson::csi
