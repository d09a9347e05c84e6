#include "tests/unit/conformance/call.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/unit/conformance/world.h"

namespace keelson::csi {
namespace {

using C = pb::Controller::Stub;
using N = pb::Node::Stub;

constexpr const char* kNames[] = {
    "CreateVolume",       "DeleteVolume",     "ControllerPublish", "ControllerUnpublish",
    "NodeStage",          "NodeUnstage",      "NodePublish",       "NodeUnpublish",
    "NodeGetVolumeStats", "ControllerExpand", "NodeExpand",        "ControllerModify",
    "Validate",           "ListVolumes",      "CreateSnapshot",    "DeleteSnapshot",
    "ListSnapshots"};

template <class Request>
void SetRange(const Call& call, Request* request) {
  if (call.required == 0 && call.limit == 0) return;
  request->mutable_capacity_range()->set_required_bytes(call.required);
  request->mutable_capacity_range()->set_limit_bytes(call.limit);
}

template <class Map>
void SetMap(const std::map<std::string, std::string>& from, Map* to) {
  for (const auto& [key, value] : from) (*to)[key] = value;
}

Answer Ended(const grpc::Status& status) {
  Answer answer;
  answer.code = status.error_code();
  answer.message = status.error_message();
  return answer;
}

// A call whose answer is only its code.
template <class Response, class Stub, class Request>
Answer Plain(World& world, Stub& stub,
             grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
             const Request& request) {
  Response response;
  return Ended(world.Ask(stub, method, request, &response));
}

Answer CreateVolume(World& world, const Call& call) {
  pb::CreateVolumeRequest request;
  request.set_name(call.name);
  SetRange(call, &request);
  *request.add_volume_capabilities() = call.Capability();
  SetMap(call.parameters, request.mutable_parameters());
  if (!call.snapshot.empty()) {
    request.mutable_volume_content_source()->mutable_snapshot()->set_snapshot_id(call.snapshot);
  } else if (!call.source.empty()) {
    request.mutable_volume_content_source()->mutable_volume()->set_volume_id(call.source);
  }
  pb::CreateVolumeResponse response;
  Answer answer = Ended(world.Ask(world.controller(), &C::CreateVolume, request, &response));
  const pb::Volume& volume = response.volume();
  answer.id = volume.volume_id();
  answer.capacity = volume.capacity_bytes();
  if (volume.content_source().has_snapshot()) {
    answer.source = absl::StrCat("snapshot ", volume.content_source().snapshot().snapshot_id());
  } else if (volume.content_source().has_volume()) {
    answer.source = absl::StrCat("volume ", volume.content_source().volume().volume_id());
  }
  return answer;
}

Answer DeleteVolume(World& world, const Call& call) {
  pb::DeleteVolumeRequest request;
  request.set_volume_id(call.volume);
  return Plain(world, world.controller(), &C::DeleteVolume, request);
}

Answer Publish(World& world, const Call& call) {
  pb::ControllerPublishVolumeRequest request;
  request.set_volume_id(call.volume);
  request.set_node_id(call.node);
  request.set_readonly(call.readonly);
  *request.mutable_volume_capability() = call.Capability();
  pb::ControllerPublishVolumeResponse response;
  Answer answer =
      Ended(world.Ask(world.controller(), &C::ControllerPublishVolume, request, &response));
  answer.context = {response.publish_context().begin(), response.publish_context().end()};
  return answer;
}

Answer Unpublish(World& world, const Call& call) {
  pb::ControllerUnpublishVolumeRequest request;
  request.set_volume_id(call.volume);
  request.set_node_id(call.node);
  return Plain(world, world.controller(), &C::ControllerUnpublishVolume, request);
}

Answer Stage(World& world, const Call& call) {
  pb::NodeStageVolumeRequest request;
  request.set_volume_id(call.volume);
  request.set_staging_target_path(call.staging);
  *request.mutable_volume_capability() = call.Capability();
  SetMap(call.context, request.mutable_publish_context());
  return Plain(world, world.node(call.node), &N::NodeStageVolume, request);
}

Answer Unstage(World& world, const Call& call) {
  pb::NodeUnstageVolumeRequest request;
  request.set_volume_id(call.volume);
  request.set_staging_target_path(call.staging);
  return Plain(world, world.node(call.node), &N::NodeUnstageVolume, request);
}

Answer NodePublish(World& world, const Call& call) {
  pb::NodePublishVolumeRequest request;
  request.set_volume_id(call.volume);
  request.set_staging_target_path(call.staging);
  request.set_target_path(call.target);
  request.set_readonly(call.readonly);
  *request.mutable_volume_capability() = call.Capability();
  SetMap(call.context, request.mutable_publish_context());
  return Plain(world, world.node(call.node), &N::NodePublishVolume, request);
}

Answer NodeUnpublish(World& world, const Call& call) {
  pb::NodeUnpublishVolumeRequest request;
  request.set_volume_id(call.volume);
  request.set_target_path(call.target);
  return Plain(world, world.node(call.node), &N::NodeUnpublishVolume, request);
}

Answer Stats(World& world, const Call& call) {
  pb::NodeGetVolumeStatsRequest request;
  request.set_volume_id(call.volume);
  request.set_volume_path(call.target);
  return Plain(world, world.node(call.node), &N::NodeGetVolumeStats, request);
}

Answer Expand(World& world, const Call& call) {
  pb::ControllerExpandVolumeRequest request;
  request.set_volume_id(call.volume);
  SetRange(call, &request);
  *request.mutable_volume_capability() = call.Capability();
  pb::ControllerExpandVolumeResponse response;
  Answer answer =
      Ended(world.Ask(world.controller(), &C::ControllerExpandVolume, request, &response));
  answer.capacity = response.capacity_bytes();
  answer.flag = response.node_expansion_required();
  return answer;
}

Answer NodeExpand(World& world, const Call& call) {
  pb::NodeExpandVolumeRequest request;
  request.set_volume_id(call.volume);
  request.set_volume_path(call.target);
  SetRange(call, &request);
  pb::NodeExpandVolumeResponse response;
  Answer answer = Ended(world.Ask(world.node(call.node), &N::NodeExpandVolume, request, &response));
  answer.capacity = response.capacity_bytes();
  return answer;
}

Answer Modify(World& world, const Call& call) {
  pb::ControllerModifyVolumeRequest request;
  request.set_volume_id(call.volume);
  SetMap(call.parameters, request.mutable_mutable_parameters());
  return Plain(world, world.controller(), &C::ControllerModifyVolume, request);
}

Answer Validate(World& world, const Call& call) {
  pb::ValidateVolumeCapabilitiesRequest request;
  request.set_volume_id(call.volume);
  *request.add_volume_capabilities() = call.Capability();
  pb::ValidateVolumeCapabilitiesResponse response;
  Answer answer =
      Ended(world.Ask(world.controller(), &C::ValidateVolumeCapabilities, request, &response));
  answer.flag = response.has_confirmed();
  return answer;
}

// All pages of a list.
template <class Request, class Response, class Add>
Answer List(World& world,
            grpc::Status (C::*method)(grpc::ClientContext*, const Request&, Response*),
            Request request, Add add) {
  Answer answer;
  do {
    Response response;
    answer = [&] {
      Answer page = Ended(world.Ask(world.controller(), method, request, &response));
      page.lines = std::move(answer.lines);
      return page;
    }();
    if (answer.code != grpc::StatusCode::OK) return answer;
    for (const auto& entry : response.entries()) answer.lines.push_back(add(entry));
    request.set_starting_token(response.next_token());
  } while (!request.starting_token().empty());
  std::sort(answer.lines.begin(), answer.lines.end());
  return answer;
}

Answer ListVolumes(World& world, const Call& call) {
  pb::ListVolumesRequest request;
  request.set_max_entries(call.page);
  return List(world, &C::ListVolumes, request, [](const pb::ListVolumesResponse::Entry& entry) {
    const auto& nodes = entry.status().published_node_ids();
    return VolumeLine(entry.volume().volume_id(), entry.volume().capacity_bytes(),
                      {nodes.begin(), nodes.end()});
  });
}

Answer CreateSnapshot(World& world, const Call& call) {
  pb::CreateSnapshotRequest request;
  request.set_name(call.name);
  request.set_source_volume_id(call.volume);
  pb::CreateSnapshotResponse response;
  Answer answer = Ended(world.Ask(world.controller(), &C::CreateSnapshot, request, &response));
  answer.id = response.snapshot().snapshot_id();
  answer.capacity = response.snapshot().size_bytes();
  answer.source = response.snapshot().source_volume_id();
  answer.flag = response.snapshot().ready_to_use();
  return answer;
}

Answer DeleteSnapshot(World& world, const Call& call) {
  pb::DeleteSnapshotRequest request;
  request.set_snapshot_id(call.snapshot);
  return Plain(world, world.controller(), &C::DeleteSnapshot, request);
}

Answer ListSnapshots(World& world, const Call& call) {
  pb::ListSnapshotsRequest request;
  request.set_max_entries(call.page);
  request.set_source_volume_id(call.volume);
  request.set_snapshot_id(call.snapshot);
  return List(world, &C::ListSnapshots, request, [](const pb::ListSnapshotsResponse::Entry& entry) {
    const pb::Snapshot& snapshot = entry.snapshot();
    return SnapshotLine(snapshot.snapshot_id(), snapshot.source_volume_id(), snapshot.size_bytes());
  });
}

constexpr Answer (*kRun[])(World&, const Call&) = {
    CreateVolume, DeleteVolume,  Publish,        Unpublish,      Stage,        Unstage,
    NodePublish,  NodeUnpublish, Stats,          Expand,         NodeExpand,   Modify,
    Validate,     ListVolumes,   CreateSnapshot, DeleteSnapshot, ListSnapshots};

}  // namespace

pb::VolumeCapability Call::Capability() const {
  pb::VolumeCapability capability;
  capability.mutable_access_mode()->set_mode(mode);
  if (block) {
    capability.mutable_block();
  } else {
    capability.mutable_mount()->set_fs_type(fs);
    if (noexec) capability.mutable_mount()->add_mount_flags("noexec");
  }
  return capability;
}

std::string Call::Text() const {
  std::string text = kNames[static_cast<int>(op)];
  const auto add = [&](std::string_view field, const std::string& value) {
    if (!value.empty()) absl::StrAppend(&text, " ", std::string(field), "=", value);
  };
  add("name", name);
  add("volume", volume);
  add("snapshot", snapshot);
  add("source", source);
  if (required != 0) absl::StrAppend(&text, " required=", required);
  if (limit != 0) absl::StrAppend(&text, " limit=", limit);
  absl::StrAppend(&text, " ", Mode::Mode_Name(mode), block ? " block" : " mount");
  add("fs", fs);
  if (noexec) text += " noexec";
  if (readonly) text += " readonly";
  for (const auto& [key, value] : parameters) add(key, value);
  add("node", node);
  add("staging", staging);
  add("target", target);
  return text;
}

std::string Answer::Text() const {
  return absl::StrCat("code ", static_cast<int>(code), " '", message, "' id=", id,
                      " capacity=", capacity, " source=", source, " flag=", flag, " [",
                      absl::StrJoin(lines, " | "), "]");
}

std::string VolumeLine(const std::string& id, std::int64_t capacity,
                       const std::vector<std::string>& nodes) {
  return absl::StrCat(id, " ", capacity, " on ", absl::StrJoin(nodes, ","));
}

std::string SnapshotLine(const std::string& id, const std::string& volume, std::int64_t size) {
  return absl::StrCat(id, " of ", volume, " ", size);
}

bool IsTryAgain(grpc::StatusCode code) {
  return code == grpc::StatusCode::ABORTED || code == grpc::StatusCode::UNAVAILABLE;
}

Answer AskDriver(World& world, const Call& call) {
  return kRun[static_cast<int>(call.op)](world, call);
}

}  // namespace keelson::csi
