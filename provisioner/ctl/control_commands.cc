#include "provisioner/ctl/control_commands.h"

#include <google/protobuf/util/json_util.h>

#include <CLI/CLI.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/rpc/size_text.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/ctl/control_client.h"
#include "provisioner/ctl/size_option.h"

namespace keelson::ctl {
namespace {

using Stub = ControlClient::Stub;
using Client = std::unique_ptr<ControlClient>;

absl::StatusOr<Client> Connect(const ControlArguments& arguments) {
  return ControlClient::Connect(arguments.address, std::chrono::seconds(arguments.timeout_seconds));
}

void PrintJson(const google::protobuf::Message& message, std::ostream* out) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  (void)google::protobuf::util::MessageToJsonString(message, &text, options);
  *out << text;
}

std::string NodesOf(const control::Volume& volume) {
  std::string nodes;
  for (const control::ReplicaPlace& place : volume.replicas()) {
    absl::StrAppend(&nodes, nodes.empty() ? "" : ",", place.node(), place.witness() ? "(w)" : "");
  }
  return nodes;
}

void PrintVolume(const ControlArguments& arguments, const control::Volume& volume,
                 std::ostream* out) {
  if (arguments.output == Output::kJson) return PrintJson(volume, out);
  *out << volume.id() << ": " << rpc::HumanSize(volume.capacity_bytes()) << ", copies on "
       << NodesOf(volume) << "\n";
}

absl::StatusOr<control::CreateVolumeRequest> RequestFor(const ControlArguments& arguments,
                                                        ControlClient* client) {
  control::CreateVolumeRequest request;
  request.set_name(arguments.name);
  request.set_required_bytes(arguments.size_bytes);
  control::Capability* const capability = request.add_capabilities();
  capability->set_block(arguments.block);
  capability->set_access_mode(static_cast<control::AccessMode>(arguments.access));
  for (const std::string& pair : arguments.parameters) {
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--parameter '", pair, "' must be KEY=VALUE, as in a StorageClass"));
    }
    (*request.mutable_parameters())[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  if (!arguments.source.empty()) {
    const absl::StatusOr<std::string> snapshot = client->FindSnapshot(arguments.source);
    if (snapshot.ok()) {
      request.set_source_snapshot_id(*snapshot);
    } else {
      ASSIGN_OR_RETURN(*request.mutable_source_volume_id(), client->FindVolume(arguments.source));
    }
  }
  return request;
}

absl::Status CreateVolume(const ControlArguments& arguments, std::ostream* out) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  ASSIGN_OR_RETURN(const control::CreateVolumeRequest request, RequestFor(arguments, client.get()));
  ASSIGN_OR_RETURN(const control::CreateVolumeResponse response,
                   client->Call(&Stub::CreateVolume, request));
  PrintVolume(arguments, response.volume(), out);
  return absl::OkStatus();
}

absl::Status ListVolumes(const ControlArguments& arguments, std::ostream* out) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  ASSIGN_OR_RETURN(const control::ListVolumesResponse all,
                   client->Call(&Stub::ListVolumes, control::ListVolumesRequest()));
  if (arguments.output == Output::kJson) {
    PrintJson(all, out);
    return absl::OkStatus();
  }
  *out << absl::StreamFormat("%-36s %-24s %10s  %-20s %-12s %s\n", "ID", "NAME", "SIZE",
                             "COPIES ON", "PUBLISHED", "PROBLEM");
  for (const control::Volume& volume : all.volumes()) {
    std::string published;
    for (const control::Publication& one : volume.publications()) {
      absl::StrAppend(&published, published.empty() ? "" : ",", one.node());
    }
    *out << absl::StreamFormat("%-36s %-24s %10s  %-20s %-12s %s\n", volume.id(), volume.name(),
                               rpc::HumanSize(volume.capacity_bytes()), NodesOf(volume),
                               published.empty() ? "-" : published, volume.problem());
  }
  return absl::OkStatus();
}

absl::Status DeleteVolume(const ControlArguments& arguments, std::ostream*) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::DeleteVolumeRequest request;
  ASSIGN_OR_RETURN(*request.mutable_volume_id(), client->FindVolume(arguments.what));
  return client->Call(&Stub::DeleteVolume, request).status();
}

absl::Status ExpandVolume(const ControlArguments& arguments, std::ostream*) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::ExpandVolumeRequest request;
  ASSIGN_OR_RETURN(*request.mutable_volume_id(), client->FindVolume(arguments.what));
  request.set_required_bytes(arguments.size_bytes);
  return client->Call(&Stub::ExpandVolume, request).status();
}

absl::Status ModifyVolume(const ControlArguments& arguments, std::ostream*) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::ModifyVolumeRequest request;
  ASSIGN_OR_RETURN(*request.mutable_volume_id(), client->FindVolume(arguments.what));
  ASSIGN_OR_RETURN(const control::CreateVolumeRequest parsed, RequestFor(arguments, client.get()));
  *request.mutable_mutable_parameters() = parsed.parameters();
  return client->Call(&Stub::ModifyVolume, request).status();
}

absl::Status PublishVolume(const ControlArguments& arguments, std::ostream* out) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::PublishVolumeRequest request;
  ASSIGN_OR_RETURN(*request.mutable_volume_id(), client->FindVolume(arguments.what));
  request.set_node(arguments.node);
  request.set_read_only(arguments.read_only);
  request.mutable_capability()->set_block(arguments.block);
  request.mutable_capability()->set_access_mode(static_cast<control::AccessMode>(arguments.access));
  ASSIGN_OR_RETURN(const control::PublishVolumeResponse response,
                   client->Call(&Stub::PublishVolume, request));
  if (arguments.output == Output::kJson) PrintJson(response, out);
  return absl::OkStatus();
}

absl::Status UnpublishVolume(const ControlArguments& arguments, std::ostream*) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::UnpublishVolumeRequest request;
  ASSIGN_OR_RETURN(*request.mutable_volume_id(), client->FindVolume(arguments.what));
  request.set_node(arguments.node);
  return client->Call(&Stub::UnpublishVolume, request).status();
}

absl::Status CreateSnapshot(const ControlArguments& arguments, std::ostream* out) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::CreateSnapshotRequest request;
  ASSIGN_OR_RETURN(*request.mutable_source_volume_id(), client->FindVolume(arguments.what));
  request.set_name(arguments.name);
  ASSIGN_OR_RETURN(const control::CreateSnapshotResponse response,
                   client->Call(&Stub::CreateSnapshot, request));
  if (arguments.output == Output::kJson) {
    PrintJson(response.snapshot(), out);
  } else {
    *out << response.snapshot().id() << "\n";
  }
  return absl::OkStatus();
}

absl::Status DeleteSnapshot(const ControlArguments& arguments, std::ostream*) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::DeleteSnapshotRequest request;
  ASSIGN_OR_RETURN(*request.mutable_snapshot_id(), client->FindSnapshot(arguments.what));
  return client->Call(&Stub::DeleteSnapshot, request).status();
}

absl::Status ListSnapshots(const ControlArguments& arguments, std::ostream* out) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  ASSIGN_OR_RETURN(const control::ListSnapshotsResponse all,
                   client->Call(&Stub::ListSnapshots, control::ListSnapshotsRequest()));
  if (arguments.output == Output::kJson) {
    PrintJson(all, out);
    return absl::OkStatus();
  }
  *out << absl::StreamFormat("%-38s %-24s %10s  %s\n", "ID", "NAME", "SIZE", "OF");
  for (const control::Snapshot& snapshot : all.snapshots()) {
    *out << absl::StreamFormat("%-38s %-24s %10s  %s\n", snapshot.id(), snapshot.name(),
                               rpc::HumanSize(snapshot.size_bytes()), snapshot.source_volume_id());
  }
  return absl::OkStatus();
}

absl::Status ListNodes(const ControlArguments& arguments, std::ostream* out) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  ASSIGN_OR_RETURN(const control::ListNodesResponse all,
                   client->Call(&Stub::ListNodes, control::ListNodesRequest()));
  if (arguments.output == Output::kJson) {
    PrintJson(all, out);
    return absl::OkStatus();
  }
  *out << absl::StreamFormat("%-20s %-8s %-9s %10s %10s %8s %8s  %s\n", "NODE", "STATE", "INTENT",
                             "CAPACITY", "FREE", "REPLICAS", "ENGINES", "PROBLEM");
  for (const control::Node& node : all.nodes()) {
    *out << absl::StreamFormat("%-20s %-8s %-9s %10s %10s %8d %8d  %s\n", node.name(), node.state(),
                               node.intent(), rpc::HumanSize(node.capacity_bytes()),
                               rpc::HumanSize(node.free_bytes()), node.replica_count(),
                               node.attached_count(), node.problem());
  }
  return absl::OkStatus();
}

absl::Status RegisterNode(const ControlArguments& arguments, std::ostream*) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::RegisterNodeRequest request;
  request.set_name(arguments.what);
  request.set_address(arguments.node);
  for (const std::string& pair : arguments.parameters) {
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(absl::StrCat("--topology '", pair, "' must be KEY=VALUE"));
    }
    (*request.mutable_topology())[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return client->Call(&Stub::RegisterNode, request).status();
}

absl::Status SetIntent(const ControlArguments& arguments, std::ostream*) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::SetNodeIntentRequest request;
  request.set_node(arguments.what);
  request.set_intent(arguments.intent);
  return client->Call(&Stub::SetNodeIntent, request).status();
}

absl::Status RemoveNode(const ControlArguments& arguments, std::ostream*) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::RemoveNodeRequest request;
  request.set_node(arguments.what);
  return client->Call(&Stub::RemoveNode, request).status();
}

absl::Status Why(const ControlArguments& arguments, std::ostream* out) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::WhyRequest request;
  request.set_what(arguments.what);
  ASSIGN_OR_RETURN(const control::WhyResponse response, client->Call(&Stub::Why, request));
  if (arguments.output == Output::kJson) {
    PrintJson(response, out);
    return absl::OkStatus();
  }
  for (const std::string& sentence : response.sentences()) *out << sentence << "\n";
  return absl::OkStatus();
}

absl::Status Adopt(const ControlArguments& arguments, std::ostream* out) {
  ASSIGN_OR_RETURN(const Client client, Connect(arguments));
  control::AdoptRequest request;
  request.set_dry_run(arguments.dry_run);
  ASSIGN_OR_RETURN(const control::AdoptResponse response, client->Call(&Stub::Adopt, request));
  if (arguments.output == Output::kJson) {
    PrintJson(response, out);
    return absl::OkStatus();
  }
  for (const std::string& id : response.adopted()) {
    *out << (arguments.dry_run ? "would adopt " : "adopted ") << id << "\n";
  }
  for (const std::string& problem : response.problems()) *out << problem << "\n";
  return absl::OkStatus();
}

}  // namespace

void AddControlCommands(CLI::App* app, ControlArguments* arguments, std::ostream* const* out,
                        absl::Status* status) {
  CLI::App* const cluster =
      app->add_subcommand("cluster", "What keelson-provisioner keeps: volumes, snapshots, nodes");
  cluster->require_subcommand(1);
  cluster->fallthrough();
  cluster->add_option("--provisioner", arguments->address, "Its socket, unix:/PATH")
      ->envname("KEELSON_PROVISIONER")
      ->capture_default_str();
  using Command = absl::Status (*)(const ControlArguments&, std::ostream*);
  const auto add = [=](const char* name, const char* help, Command command) {
    CLI::App* const one = cluster->add_subcommand(name, help);
    one->callback([=] { *status = command(*arguments, *out); });
    return one;
  };
  const auto of_volume = [=](CLI::App* one) {
    one->add_option("VOLUME", arguments->what, "Its id or name")->required();
    return one;
  };
  const auto of_node = [=](CLI::App* one) {
    one->add_option("NODE", arguments->what, "Its name")->required();
    return one;
  };
  add("volumes", "List the volumes", ListVolumes);
  CLI::App* const create = add("create", "Make a volume", CreateVolume);
  create->add_option("NAME", arguments->name, "What to call it")->required();
  create->add_option("--size", arguments->size_bytes, "Its size (10 GiB)")->transform(kSize);
  create->add_option("--parameter,-p", arguments->parameters, "KEY=VALUE, as in a StorageClass")
      ->allow_extra_args(false);
  create->add_option("--from", arguments->source, "The snapshot or volume that it begins as");
  create->add_flag("--block", arguments->block, "A raw device, without a file system");
  AddAccessOption(create, &arguments->access);
  of_volume(add("delete", "Delete a volume; its snapshots live on", DeleteVolume));
  of_volume(add("expand", "Make a volume larger", ExpandVolume))
      ->add_option("--size", arguments->size_bytes, "Its new size")
      ->transform(kSize)
      ->required();
  of_volume(add("modify", "Change what can be changed of a volume", ModifyVolume))
      ->add_option("--parameter,-p", arguments->parameters,
                   "KEY=VALUE, as in a VolumeAttributesClass")
      ->allow_extra_args(false)
      ->required();
  CLI::App* const publish =
      of_volume(add("publish", "Have a volume served on a node", PublishVolume));
  publish->add_option("--on", arguments->node, "The node")->required();
  publish->add_flag("--read-only", arguments->read_only, "Refuse writes");
  publish->add_flag("--block", arguments->block, "It was made with --block");
  AddAccessOption(publish, &arguments->access);
  of_volume(add("unpublish", "Have a volume not served on a node any more", UnpublishVolume))
      ->add_option("--on", arguments->node, "The node; without it, all");
  add("snapshots", "List the snapshots", ListSnapshots);
  of_volume(add("snapshot", "Take a snapshot of a volume", CreateSnapshot))
      ->add_option("NAME", arguments->name, "What to call it")
      ->required();
  add("snapshot-delete", "Delete a snapshot", DeleteSnapshot)
      ->add_option("SNAPSHOT", arguments->what, "Its id or name")
      ->required();
  add("nodes", "List the nodes", ListNodes);
  CLI::App* const node = of_node(add("node-add", "Make a node known, or change it", RegisterNode));
  node->add_option("ADDRESS", arguments->node, "Its block store's socket, unix:/PATH")->required();
  node->add_option("--topology", arguments->parameters, "KEY=VALUE; repeated")
      ->allow_extra_args(false);
  const auto intend = [=](const char* name, const char* help, const char* intent) {
    CLI::App* const one = of_node(add(name, help, SetIntent));
    one->callback([=] {
      arguments->intent = intent;
      *status = SetIntent(*arguments, *out);
    });
  };
  intend("cordon", "No new copies go to the node", "cordoned");
  intend("drain", "The node's copies move to others", "draining");
  intend("uncordon", "The node takes copies again", "active");
  of_node(add("node-remove", "Forget a node that is empty", RemoveNode));
  add("adopt", "Make records of what the nodes' pools hold and that has none", Adopt)
      ->add_flag("--dry-run", arguments->dry_run, "Only say what would be adopted");
  add("why", "What a volume, snapshot or node waits for, in words", Why)
      ->add_option("WHAT", arguments->what, "Its id or name")
      ->required();
}

}  // namespace keelson::ctl
