#include "provisioner/ctl/csi_commands.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "proto/csi/v1/csi.grpc.pb.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/status_macros.h"
#include "proto/rpc/status_map.h"
#include "provisioner/ctl/size_option.h"

namespace keelson::ctl {
namespace {

constexpr std::chrono::seconds kPatience{120};

absl::StatusOr<std::shared_ptr<grpc::Channel>> Dial(const std::string& endpoint) {
  ASSIGN_OR_RETURN(const std::string path, rpc::UnixPathOf(endpoint));
  return rpc::ConnectUnix(path);
}

const std::string& NodeEndpoint(const CsiArguments& arguments) {
  return arguments.node_endpoint.empty() ? arguments.controller : arguments.node_endpoint;
}

template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Call(Stub* stub,
                              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                           Response*),
                              const Request& request) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  Response response;
  const absl::Status status = rpc::FromGrpcStatus((stub->*method)(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

// What a StorageClass says to its driver. Keys of Kubernetes' own stay with Kubernetes.
struct StorageClass {
  std::map<std::string, std::string> parameters;
  std::string fs_type;
  std::vector<std::string> mount_flags;
};

absl::StatusOr<StorageClass> ReadStorageClass(const std::string& path) {
  constexpr char kReserved[] = "csi.storage.k8s.io/";
  StorageClass read;
  if (path.empty()) return read;
  try {
    for (const YAML::Node& document : YAML::LoadAllFromFile(path)) {
      if (!document["kind"] || document["kind"].as<std::string>() != "StorageClass") continue;
      for (const auto& pair : document["parameters"]) {
        const auto key = pair.first.as<std::string>();
        const auto value = pair.second.as<std::string>();
        if (key == absl::StrCat(kReserved, "fstype")) read.fs_type = value;
        if (key.rfind(kReserved, 0) != 0) read.parameters[key] = value;
      }
      for (const auto& flag : document["mountOptions"]) {
        read.mount_flags.push_back(flag.as<std::string>());
      }
      return read;
    }
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
  }
  return absl::InvalidArgumentError(absl::StrCat(path, " has no StorageClass in it"));
}

void FillCapability(const CsiArguments& arguments, const StorageClass& storage_class,
                    csi::v1::VolumeCapability* capability) {
  capability->mutable_access_mode()->set_mode(
      static_cast<csi::v1::VolumeCapability::AccessMode::Mode>(arguments.access));
  if (arguments.block) {
    capability->mutable_block();
    return;
  }
  capability->mutable_mount()->set_fs_type(storage_class.fs_type);
  for (const std::string& flag : storage_class.mount_flags) {
    capability->mutable_mount()->add_mount_flags(flag);
  }
}

absl::Status Create(const CsiArguments& arguments, std::ostream* out) {
  ASSIGN_OR_RETURN(const StorageClass storage_class, ReadStorageClass(arguments.storage_class));
  ASSIGN_OR_RETURN(const auto channel, Dial(arguments.controller));
  const auto stub = csi::v1::Controller::NewStub(channel);
  csi::v1::CreateVolumeRequest request;
  request.set_name(arguments.name);
  request.mutable_capacity_range()->set_required_bytes(
      static_cast<std::int64_t>(arguments.size_bytes));
  FillCapability(arguments, storage_class, request.add_volume_capabilities());
  for (const auto& [key, value] : storage_class.parameters) {
    (*request.mutable_parameters())[key] = value;
  }
  ASSIGN_OR_RETURN(const csi::v1::CreateVolumeResponse response,
                   Call(stub.get(), &csi::v1::Controller::Stub::CreateVolume, request));
  *out << response.volume().volume_id() << "\n";
  return absl::OkStatus();
}

// ControllerPublishVolume, NodeStageVolume, NodePublishVolume.
absl::Status Publish(const CsiArguments& arguments, std::ostream*) {
  ASSIGN_OR_RETURN(const StorageClass storage_class, ReadStorageClass(arguments.storage_class));
  ASSIGN_OR_RETURN(const auto channel, Dial(arguments.controller));
  const auto controller = csi::v1::Controller::NewStub(channel);
  csi::v1::ControllerPublishVolumeRequest attach;
  attach.set_volume_id(arguments.volume);
  attach.set_node_id(arguments.node);
  attach.set_readonly(arguments.read_only);
  FillCapability(arguments, storage_class, attach.mutable_volume_capability());
  ASSIGN_OR_RETURN(
      const csi::v1::ControllerPublishVolumeResponse attached,
      Call(controller.get(), &csi::v1::Controller::Stub::ControllerPublishVolume, attach));
  ASSIGN_OR_RETURN(const auto node_channel, Dial(NodeEndpoint(arguments)));
  const auto node = csi::v1::Node::NewStub(node_channel);
  csi::v1::NodeStageVolumeRequest stage;
  stage.set_volume_id(arguments.volume);
  stage.set_staging_target_path(arguments.staging);
  *stage.mutable_publish_context() = attached.publish_context();
  *stage.mutable_volume_capability() = attach.volume_capability();
  RETURN_IF_ERROR(Call(node.get(), &csi::v1::Node::Stub::NodeStageVolume, stage).status());
  csi::v1::NodePublishVolumeRequest mount;
  mount.set_volume_id(arguments.volume);
  mount.set_staging_target_path(arguments.staging);
  mount.set_target_path(arguments.target);
  mount.set_readonly(arguments.read_only);
  *mount.mutable_publish_context() = attached.publish_context();
  *mount.mutable_volume_capability() = attach.volume_capability();
  return Call(node.get(), &csi::v1::Node::Stub::NodePublishVolume, mount).status();
}

// The same backwards.
absl::Status Unpublish(const CsiArguments& arguments, std::ostream*) {
  ASSIGN_OR_RETURN(const auto node_channel, Dial(NodeEndpoint(arguments)));
  const auto node = csi::v1::Node::NewStub(node_channel);
  csi::v1::NodeUnpublishVolumeRequest unmount;
  unmount.set_volume_id(arguments.volume);
  unmount.set_target_path(arguments.target);
  RETURN_IF_ERROR(Call(node.get(), &csi::v1::Node::Stub::NodeUnpublishVolume, unmount).status());
  csi::v1::NodeUnstageVolumeRequest unstage;
  unstage.set_volume_id(arguments.volume);
  unstage.set_staging_target_path(arguments.staging);
  RETURN_IF_ERROR(Call(node.get(), &csi::v1::Node::Stub::NodeUnstageVolume, unstage).status());
  ASSIGN_OR_RETURN(const auto channel, Dial(arguments.controller));
  const auto controller = csi::v1::Controller::NewStub(channel);
  csi::v1::ControllerUnpublishVolumeRequest detach;
  detach.set_volume_id(arguments.volume);
  detach.set_node_id(arguments.node);
  return Call(controller.get(), &csi::v1::Controller::Stub::ControllerUnpublishVolume, detach)
      .status();
}

absl::Status Delete(const CsiArguments& arguments, std::ostream*) {
  ASSIGN_OR_RETURN(const auto channel, Dial(arguments.controller));
  const auto stub = csi::v1::Controller::NewStub(channel);
  csi::v1::DeleteVolumeRequest request;
  request.set_volume_id(arguments.volume);
  return Call(stub.get(), &csi::v1::Controller::Stub::DeleteVolume, request).status();
}

// A line "OFFSET BYTES" for each range.
template <typename Response>
absl::Status PrintRanges(grpc::ClientReaderInterface<Response>* reader, std::ostream* out) {
  Response message;
  while (reader->Read(&message)) {
    for (const csi::v1::BlockMetadata& range : message.block_metadata()) {
      *out << range.byte_offset() << " " << range.size_bytes() << "\n";
    }
  }
  return rpc::FromGrpcStatus(reader->Finish());
}

absl::Status ListBlocks(const CsiArguments& arguments, std::ostream* out) {
  ASSIGN_OR_RETURN(const auto channel, Dial(arguments.controller));
  const auto stub = csi::v1::SnapshotMetadata::NewStub(channel);
  grpc::ClientContext context;  // without a deadline: there may be many
  if (arguments.since.empty()) {
    csi::v1::GetMetadataAllocatedRequest request;
    request.set_snapshot_id(arguments.snapshot);
    request.set_starting_offset(arguments.starting_offset);
    request.set_max_results(arguments.max_results);
    return PrintRanges(stub->GetMetadataAllocated(&context, request).get(), out);
  }
  csi::v1::GetMetadataDeltaRequest request;
  request.set_base_snapshot_id(arguments.since);
  request.set_target_snapshot_id(arguments.snapshot);
  request.set_starting_offset(arguments.starting_offset);
  request.set_max_results(arguments.max_results);
  return PrintRanges(stub->GetMetadataDelta(&context, request).get(), out);
}

}  // namespace

void AddCsiCommands(CLI::App* app, CsiArguments* arguments, std::ostream* const* out,
                    absl::Status* status) {
  CLI::App* const csi =
      app->add_subcommand("csi", "A volume through a CSI driver's sockets, to try the driver out");
  csi->require_subcommand(1);
  csi->fallthrough();
  csi->add_option("--endpoint", arguments->controller, "The driver's socket, unix:///PATH")
      ->envname("CSI_ENDPOINT")
      ->capture_default_str();
  csi->add_option("--node-endpoint", arguments->node_endpoint,
                  "That of the node service, where it is another one");
  using Command = absl::Status (*)(const CsiArguments&, std::ostream*);
  const auto add = [=](const char* name, const char* help, Command command) {
    CLI::App* const one = csi->add_subcommand(name, help);
    one->callback([=] { *status = command(*arguments, *out); });
    return one;
  };
  const auto with_class = [=](CLI::App* one) {
    one->add_option("--storage-class", arguments->storage_class, "A file with a StorageClass");
    one->add_flag("--block", arguments->block, "A raw device, without a file system");
    AddAccessOption(one, &arguments->access);
  };
  const auto with_paths = [=](CLI::App* one) {
    one->add_option("VOLUME", arguments->volume, "Its id")->required();
    one->add_option("--on", arguments->node, "The node")->required();
    one->add_option("--staging", arguments->staging, "Where the driver mounts it for the node")
        ->required();
    one->add_option("--target", arguments->target, "Where a pod would have it")->required();
  };
  CLI::App* const create = add("create", "Make a volume; prints its id", Create);
  create->add_option("NAME", arguments->name, "What to call it")->required();
  create->add_option("--size", arguments->size_bytes, "Its size")->transform(kSize);
  with_class(create);
  CLI::App* const publish = add("publish", "Attach it to a node, stage it and mount it", Publish);
  with_paths(publish);
  with_class(publish);
  publish->add_flag("--read-only", arguments->read_only, "Refuse writes");
  with_paths(add("unpublish", "Unmount it, and detach it from the node", Unpublish));
  add("delete", "Delete it", Delete)->add_option("VOLUME", arguments->volume, "Its id")->required();
  CLI::App* const blocks =
      add("snapshot-blocks", "Where a snapshot has data, or what changed since an older one",
          ListBlocks);
  blocks->add_option("SNAPSHOT", arguments->snapshot, "Its id")->required();
  blocks->add_option("--since", arguments->since, "The id of an older one of the same volume");
  blocks->add_option("--starting-offset", arguments->starting_offset, "Leave out what is before");
  blocks->add_option("--max-results", arguments->max_results, "Ranges in a message");
}

}  // namespace keelson::ctl
