// What no caller should send, to every RPC of the whole driver: none is carried out, each is told
// which field is wrong, nothing of it can break a line of the log, and nothing is left.

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/unit/conformance/call.h"
#include "tests/unit/conformance/world.h"

namespace keelson::csi {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using grpc::StatusCode;

constexpr std::int64_t kGib = std::int64_t{1} << 30;

bool EndsWith(const std::string& text, const std::string& end) { return absl::EndsWith(text, end); }

class BadInputTest : public ::testing::Test {
 protected:
  BadInputTest() {
    Call call;
    call.op = Op::kCreateVolume;
    call.name = "v";
    call.required = kGib;
    id_ = AskDriver(world_, call).id;
    call = On(Op::kPublish);
    context_ = AskDriver(world_, call).context;
    EXPECT_EQ(AskDriver(world_, On(Op::kStage)).code, StatusCode::OK);
  }
  ~BadInputTest() override {
    EXPECT_EQ(world_.machine("a").mounts().size(), 1u) << "something was mounted";
    EXPECT_EQ(world_.machine("a").target_count(), 0u) << "a path was made";
    EXPECT_EQ(world_.store().List(provisioner::Kind::kVolume)->records.size(), 1u);
    EXPECT_EQ(world_.store().List(provisioner::Kind::kSnapshot)->records.size(), 0u);
    EXPECT_EQ(world_.nodes().SizeOf(id_), static_cast<std::uint64_t>(kGib));
  }

  Call On(Op op) {
    Call call;
    call.op = op;
    call.volume = id_;
    call.node = "a";
    call.staging = "/pods/staging/mount";
    call.target = "/pods/x/mount";
    call.context = context_;
    return call;
  }

  // One field of a good request is made bad, and then another.
  template <class Stub, class Request, class Response>
  void TryFields(Stub& stub,
                 grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                 const Request& good) {
    const auto& descriptor = *Request::descriptor();
    for (int i = 0; i < descriptor.field_count(); ++i) {
      const FieldDescriptor* const field = descriptor.field(i);
      if (field->is_repeated() || field->cpp_type() != FieldDescriptor::CPPTYPE_STRING) continue;
      const std::string& name = field->name();
      std::vector<std::string> bad = {std::string(10 << 10, 'a'), std::string("a\0b", 3),
                                      "../../etc/passwd", "a\nb"};
      const bool path = EndsWith(name, "path");
      // Where a volume is staged is of no interest to those who ask about another path.
      if (name == "staging_target_path" && descriptor.FindFieldByName("volume_path") != nullptr) {
        continue;
      }
      if (path) {
        bad = {"/pods/../etc/x",
               "/etc/x",
               "relative",
               "/pods/a\nb",
               "/pods//x",
               "/pods/./x",
               std::string("/pods/a\0b", 9),
               "/pods/" + std::string(10 << 10, 'a'),
               "/pods",
               "/podsx/mount"};
      }
      for (const std::string& value : bad) {
        Request request = good;
        request.GetReflection()->SetString(&request, field, value);
        Response response;
        const grpc::Status status = world_.Ask(stub, method, request, &response);
        SCOPED_TRACE(absl::StrCat(descriptor.name(), ".", name, " of ", value.size(), " bytes"));
        Judge(status, name, value);
      }
    }
  }

  // A name may be any text but for control characters; ids are ours or nobody's.
  static void Judge(const grpc::Status& status, const std::string& field,
                    const std::string& value) {
    const StatusCode code = status.error_code();
    EXPECT_EQ(status.error_message().find('\n'), std::string::npos) << status.error_message();
    EXPECT_EQ(status.error_message().find('\0'), std::string::npos);
    EXPECT_LT(status.error_message().size(), 1024u);
    const bool name_of_text = field == "name" && value == "../../etc/passwd";
    if (name_of_text) return;
    if (EndsWith(field, "path") && field != "volume_path") {
      EXPECT_EQ(code, StatusCode::INVALID_ARGUMENT) << status.error_message();
    } else if (value.size() > 4096) {
      EXPECT_EQ(code, StatusCode::INVALID_ARGUMENT) << status.error_message();
    } else if (field == "name") {
      EXPECT_EQ(code, StatusCode::INVALID_ARGUMENT) << status.error_message();
    } else if (field == "starting_token") {
      EXPECT_EQ(code, StatusCode::ABORTED) << status.error_message();
    } else {
      // What is not there is gone already, for those who want it gone; for others it is missing.
      EXPECT_TRUE(code == StatusCode::NOT_FOUND || code == StatusCode::OK)
          << code << " " << status.error_message();
    }
    const bool names_it = code != StatusCode::INVALID_ARGUMENT ||
                          status.error_message().find(field) != std::string::npos;
    EXPECT_TRUE(names_it) << status.error_message();
  }

  StatusCode Create(const std::function<void(Call*)>& edit, std::string* message = nullptr) {
    Call call;
    call.op = Op::kCreateVolume;
    call.name = "other";
    call.required = kGib;
    edit(&call);
    const Answer answer = AskDriver(world_, call);
    if (message != nullptr) *message = answer.message;
    return answer.code;
  }

  World world_;
  std::string id_;
  std::map<std::string, std::string> context_;
};

TEST_F(BadInputTest, IdsNamesTokensAndPathsOfEveryRpc) {
  using C = pb::Controller::Stub;
  using N = pb::Node::Stub;
  const pb::VolumeCapability capability = Call().Capability();
  {
    pb::DeleteVolumeRequest request;
    TryFields(world_.controller(), &C::DeleteVolume, request);
  }
  {
    pb::ControllerPublishVolumeRequest request;
    request.set_volume_id(id_);
    request.set_node_id("a");
    *request.mutable_volume_capability() = capability;
    TryFields(world_.controller(), &C::ControllerPublishVolume, request);
  }
  {
    pb::ControllerUnpublishVolumeRequest request;
    request.set_volume_id("ks-00000000000000000000-0-00000000");
    TryFields(world_.controller(), &C::ControllerUnpublishVolume, request);
  }
  {
    pb::ValidateVolumeCapabilitiesRequest request;
    request.set_volume_id(id_);
    *request.add_volume_capabilities() = capability;
    TryFields(world_.controller(), &C::ValidateVolumeCapabilities, request);
  }
  {
    TryFields(world_.controller(), &C::ListVolumes, pb::ListVolumesRequest());
    TryFields(world_.controller(), &C::ListSnapshots, pb::ListSnapshotsRequest());
    TryFields(world_.controller(), &C::DeleteSnapshot, pb::DeleteSnapshotRequest());
  }
  {
    pb::CreateSnapshotRequest request;
    request.set_source_volume_id("ks-00000000000000000000-0-00000000");
    request.set_name("s");
    TryFields(world_.controller(), &C::CreateSnapshot, request);
  }
  {
    pb::ControllerExpandVolumeRequest request;
    request.set_volume_id(id_);
    request.mutable_capacity_range()->set_required_bytes(2 * kGib);
    TryFields(world_.controller(), &C::ControllerExpandVolume, request);
  }
  {
    pb::ControllerModifyVolumeRequest request;
    request.set_volume_id(id_);
    TryFields(world_.controller(), &C::ControllerModifyVolume, request);
  }
  {
    pb::NodeStageVolumeRequest request;
    request.set_volume_id(id_);
    request.set_staging_target_path("/pods/staging/mount");
    *request.mutable_volume_capability() = capability;
    for (const auto& [key, value] : context_) (*request.mutable_publish_context())[key] = value;
    TryFields(world_.node("a"), &N::NodeStageVolume, request);
    pb::NodePublishVolumeRequest publish;
    publish.set_volume_id(id_);
    publish.set_staging_target_path("/pods/staging/mount");
    publish.set_target_path("/pods/x/mount");
    *publish.mutable_volume_capability() = capability;
    TryFields(world_.node("a"), &N::NodePublishVolume, publish);
  }
  {
    pb::NodeUnstageVolumeRequest unstage;
    unstage.set_volume_id(id_);
    unstage.set_staging_target_path("/pods/elsewhere");
    TryFields(world_.node("a"), &N::NodeUnstageVolume, unstage);
    pb::NodeUnpublishVolumeRequest unpublish;
    unpublish.set_volume_id(id_);
    unpublish.set_target_path("/pods/elsewhere");
    TryFields(world_.node("a"), &N::NodeUnpublishVolume, unpublish);
  }
  {
    pb::NodeGetVolumeStatsRequest stats;
    stats.set_volume_id(id_);
    stats.set_volume_path("/pods/staging/mount");
    TryFields(world_.node("a"), &N::NodeGetVolumeStats, stats);
    pb::NodeExpandVolumeRequest expand;
    expand.set_volume_id(id_);
    expand.set_volume_path("/pods/staging/mount");
    TryFields(world_.node("a"), &N::NodeExpandVolume, expand);
  }
}

TEST_F(BadInputTest, ACreationNamesWhatIsWrongWithIt) {
  std::string message;
  EXPECT_EQ(Create([](Call* call) { call->parameters["replicsa"] = "3"; }, &message),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(message.find("replicsa"), std::string::npos) << message;
  EXPECT_NE(message.find("replicas"), std::string::npos) << message;
  EXPECT_EQ(Create([](Call* call) { call->parameters["replicas"] = "5"; }, &message),
            StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Create([](Call* call) { call->parameters["replicas"] = "6"; }, &message),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(message.find("1 to 5"), std::string::npos) << message;
  EXPECT_EQ(Create([](Call* call) { call->required = -1; }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Create([](Call* call) { call->limit = 1; }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Create([](Call* call) { call->required = std::int64_t{1} << 60; }),
            StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Create([](Call* call) { call->required = call->limit = kGib + 1; }),
            StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Create([](Call* call) { call->required = 2000 * kGib; }),
            StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Create([](Call* call) { call->fs = "btrfs"; }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Create([](Call* call) { call->mode = Mode::MULTI_NODE_MULTI_WRITER; }),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Create([](Call* call) { call->snapshot = "../../s"; }), StatusCode::NOT_FOUND);
  EXPECT_EQ(Create([this](Call* call) {
              call->source = id_;
              call->required = kGib / 2;
            }),
            StatusCode::OUT_OF_RANGE);
}

TEST_F(BadInputTest, ASnapshotHasNoParametersAndTheirNamesForgeNoLine) {
  pb::CreateSnapshotRequest request;
  request.set_name("s");
  request.set_source_volume_id(id_);
  (*request.mutable_parameters())["a\nevent=forged"] = "1";
  pb::CreateSnapshotResponse response;
  const grpc::Status status =
      world_.Ask(world_.controller(), &pb::Controller::Stub::CreateSnapshot, request, &response);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message().find('\n'), std::string::npos) << status.error_message();
}

TEST_F(BadInputTest, ABusyTargetStaysAndIsPutAwayLater) {
  ASSERT_EQ(AskDriver(world_, On(Op::kNodePublish)).code, StatusCode::OK);
  world_.machine("a").SetBusy("/pods/x/mount", true);
  const Answer busy = AskDriver(world_, On(Op::kNodeUnpublish));
  EXPECT_EQ(busy.code, StatusCode::FAILED_PRECONDITION);
  EXPECT_NE(busy.message.find("in use"), std::string::npos) << busy.message;
  EXPECT_EQ(world_.machine("a").mounts().size(), 2u);
  EXPECT_EQ(AskDriver(world_, On(Op::kUnstage)).code, StatusCode::FAILED_PRECONDITION);
  world_.machine("a").SetBusy("/pods/x/mount", false);
  EXPECT_EQ(AskDriver(world_, On(Op::kNodeUnpublish)).code, StatusCode::OK);
}

TEST_F(BadInputTest, SecretsOfOtherFormsAreRefusedWithoutBeingRepeated) {
  pb::CreateVolumeRequest request;
  request.set_name("other");
  *request.add_volume_capabilities() = Call().Capability();
  (*request.mutable_secrets())["not plain"] = kSecretCanary;
  pb::CreateVolumeResponse response;
  grpc::Status status =
      world_.Ask(world_.controller(), &pb::Controller::Stub::CreateVolume, request, &response);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  request.clear_secrets();
  (*request.mutable_secrets())["plain"] = std::string(5000, 's');
  status = world_.Ask(world_.controller(), &pb::Controller::Stub::CreateVolume, request, &response);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace keelson::csi
