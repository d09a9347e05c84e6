// A canary in everything that may be secret, in every RPC: none of it may be in the log or an
// error.

#include <google/protobuf/descriptor.h>
#include <google/protobuf/dynamic_message.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <sstream>

#include "proto/rpc/server.h"
#include "tests/unit/csi/csi_fixture.h"

namespace keelson::csi {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr char kCanary[] = "canary-7f3a";

// Fills every field: maps and mount flags with the canary, ids and names with something harmless.
void Fill(Message* message) {
  const auto& r = *message->GetReflection();
  for (int i = 0; i < message->GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->field(i);
    if (field->is_map()) {
      Message* entry = r.AddMessage(message, field);
      entry->GetReflection()->SetString(entry, field->message_type()->map_key(), "key");
      entry->GetReflection()->SetString(entry, field->message_type()->map_value(), kCanary);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Fill(field->is_repeated() ? r.AddMessage(message, field) : r.MutableMessage(message, field));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      const bool flags = field->name() == "mount_flags" || field->name() == "volume_mount_group";
      const std::string value = flags ? std::string(kCanary) + "=" + kCanary : "harmless";
      field->is_repeated() ? r.AddString(message, field, value)
                           : r.SetString(message, field, value);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      r.SetEnumValue(message, field, 1);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
      r.SetInt64(message, field, 1);
    }
  }
}

class SecretsTest : public CsiTest {
 protected:
  SecretsTest() : CsiTest(true), before_(spdlog::default_logger()) {
    auto logger = std::make_shared<spdlog::logger>(
        "capture", std::make_shared<spdlog::sinks::ostream_sink_mt>(log_));
    logger->set_level(spdlog::level::trace);
    spdlog::set_default_logger(logger);
  }
  ~SecretsTest() override { spdlog::set_default_logger(before_); }

  template <class Stub, class Request, class Response>
  void Try(Stub& stub,
           grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*)) {
    Request request;
    Fill(&request);
    Response response;
    const grpc::Status status = Ask(stub, method, request, &response);
    EXPECT_EQ(status.error_message().find(kCanary), std::string::npos)
        << Request::descriptor()->name();
    EXPECT_NE(log_.str().find("event=request"), std::string::npos);
    EXPECT_EQ(log_.str().find(kCanary), std::string::npos) << Request::descriptor()->name();
  }

  std::ostringstream log_;
  std::shared_ptr<spdlog::logger> before_;
};

TEST_F(SecretsTest, NothingSecretIsInALogOrAnError) {
  using C = pb::Controller::Stub;
  using G = pb::GroupController::Stub;
  using N = pb::Node::Stub;
  Try(*controller_stub_, &C::CreateVolume);
  Try(*controller_stub_, &C::DeleteVolume);
  Try(*controller_stub_, &C::ControllerPublishVolume);
  Try(*controller_stub_, &C::ControllerUnpublishVolume);
  Try(*controller_stub_, &C::ValidateVolumeCapabilities);
  Try(*controller_stub_, &C::ListVolumes);
  Try(*controller_stub_, &C::GetCapacity);
  Try(*controller_stub_, &C::CreateSnapshot);
  Try(*controller_stub_, &C::DeleteSnapshot);
  Try(*controller_stub_, &C::ListSnapshots);
  Try(*controller_stub_, &C::GetSnapshot);
  Try(*controller_stub_, &C::ControllerExpandVolume);
  Try(*controller_stub_, &C::ControllerModifyVolume);
  Try(*controller_stub_, &C::ControllerGetVolumeHealth);
  Try(*controller_stub_, &C::ControllerListVolumeHealth);
  Try(*group_stub_, &G::CreateVolumeGroupSnapshot);
  Try(*group_stub_, &G::DeleteVolumeGroupSnapshot);
  Try(*group_stub_, &G::GetVolumeGroupSnapshot);
  Try(*node_stub_, &N::NodeStageVolume);
  Try(*node_stub_, &N::NodePublishVolume);
  Try(*node_stub_, &N::NodeExpandVolume);
  Try(*node_stub_, &N::NodeGetStorageHealth);
}

TEST_F(SecretsTest, SecretsGoNoFurtherThanTheDriver) {
  auto request = CreateRequest("a");
  (*request.mutable_secrets())["key"] = kCanary;
  ASSERT_TRUE(Create(request).ok());
  EXPECT_EQ(cluster_.Last("CreateVolume").find(kCanary), std::string::npos);
  auto stage =
      StageRequest(Attach("b", Mount(Mode::SINGLE_NODE_WRITER)), Mount(Mode::SINGLE_NODE_WRITER));
  (*stage.mutable_secrets())["key"] = kCanary;
  ASSERT_TRUE(Stage(stage).ok());
  EXPECT_EQ(cluster_.Last("GetVolumeStatus").find(kCanary), std::string::npos);
  EXPECT_EQ(log_.str().find(kCanary), std::string::npos);
}

TEST_F(SecretsTest, WhatAnErrorRepeatsForgesNoLineOfTheLog) {
  log_.str("");
  const grpc::ServerContext context;
  const grpc::Status status = rpc::HandleCall(context, "Call", [] {
    return absl::InvalidArgumentError("no volume 'a\n[info] event=forged'");
  });
  const std::string log = log_.str();
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  EXPECT_NE(log.find("'a\\x0a[info]"), std::string::npos) << log;
  EXPECT_NE(status.error_message().find("a\n[info]"), std::string::npos) << "the caller gets it";
}

}  // namespace
}  // namespace keelson::csi
