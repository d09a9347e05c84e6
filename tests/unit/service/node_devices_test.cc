// Which frontend a volume gets, as far as that can be asked without a block device. With one:
// tests/e2e/loop_test.py.

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "tests/unit/service/node_fixture.h"

namespace keelson::service {
namespace {

class NodeDevicesTest : public NodeFixture {
 protected:
  absl::Status AttachWith(const std::string& name, v1::Frontend frontend,
                          v1::AttachVolumeResponse* response) {
    v1::AttachVolumeRequest request;
    request.set_name(name);
    request.set_frontend(frontend);
    return node_->AttachVolume(request, response);
  }
};

TEST_P(NodeDevicesTest, RefusesAFrontendThatIsNotKnown) {
  ASSERT_TRUE(CreatePool("pool").ok());
  ASSERT_TRUE(CreateVolume("vol", 16 * kMebi).ok());
  v1::AttachVolumeResponse response;
  const absl::Status status = AttachWith("vol", static_cast<v1::Frontend>(77), &response);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_FALSE(Volumes()[0].attached());
}

TEST_P(NodeDevicesTest, AVolumeHasOneFrontendAtATime) {
  ASSERT_TRUE(CreatePool("pool").ok());
  ASSERT_TRUE(CreateVolume("vol", 16 * kMebi).ok());
  v1::AttachVolumeResponse response;
  ASSERT_TRUE(AttachWith("vol", v1::FRONTEND_NBD, &response).ok());
  EXPECT_EQ(response.uri().rfind("nbd+unix:///vol?", 0), 0u) << response.uri();
  const absl::Status loop = AttachWith("vol", v1::FRONTEND_LOOP, &response);
  EXPECT_TRUE(absl::IsFailedPrecondition(loop)) << loop;
  EXPECT_TRUE(Volumes()[0].attached()) << "what it has is not touched";
  v1::AttachVolumeResponse any;
  ASSERT_TRUE(AttachWith("vol", v1::FRONTEND_AUTO, &any).ok());
  EXPECT_EQ(any.device(), "");
  EXPECT_EQ(any.uri().rfind("nbd+unix:///vol?", 0), 0u);
  EXPECT_TRUE(Detach("vol").ok());
}

TEST_P(NodeDevicesTest, AnUnknownVolumeGetsNoDeviceAndLeavesNoTrace) {
  ASSERT_TRUE(CreatePool("pool").ok());
  v1::AttachVolumeResponse response;
  for (const char* name : {"none", "../none", ""}) {
    EXPECT_FALSE(AttachWith(name, v1::FRONTEND_LOOP, &response).ok()) << name;
  }
  std::ifstream file(options_.state_directory + "/pools.json");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_EQ(text.find("none"), std::string::npos) << text;
}

TEST_P(NodeDevicesTest, WhatACrashLeftHalfDoneIsForgotten) {
  ASSERT_TRUE(CreatePool("pool").ok());
  ASSERT_TRUE(CreateVolume("vol", 16 * kMebi).ok());
  StopNode();
  {
    // It was killed after it had noted the frontend and before it attached the volume.
    NodeState state(options_.state_directory);
    ASSERT_TRUE(state.Load().ok());
    ASSERT_TRUE(state.SetLoop("vol", true).ok());
  }
  StartNode();
  v1::AttachVolumeResponse response;
  absl::Status status;
  for (int i = 0; i < 1000; ++i) {
    status = AttachWith("vol", v1::FRONTEND_NBD, &response);
    if (status.ok()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(Backends, NodeDevicesTest, ::testing::Values(io::Backend::kAuto),
                         [](const auto&) { return "Auto"; });

}  // namespace
}  // namespace keelson::service
