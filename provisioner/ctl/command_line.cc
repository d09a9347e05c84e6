#include "provisioner/ctl/command_line.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "provisioner/ctl/cluster_commands.h"
#include "provisioner/ctl/commands.h"
#include "provisioner/ctl/control_commands.h"
#include "provisioner/ctl/csi_commands.h"
#include "provisioner/ctl/offline.h"
#include "provisioner/ctl/size_option.h"

namespace keelson::ctl {
namespace {

constexpr int kFailed = 1;
constexpr int kUsageError = 2;

// Everything one run of keelctl needs. The command that was given leaves its status in `status`.
struct Run {
  Settings settings;
  PoolArguments pool;
  VolumeArguments volume;
  ClusterArguments cluster;
  ControlArguments control;
  CsiArguments csi;
  std::vector<std::string> nodes;  // NAME=SOCKET
  bool socket_given = false;
  std::ostream* out = nullptr;
  absl::Status status;
};

const std::map<std::string, v1::Frontend> kFrontends = {
    {"nbd", v1::FRONTEND_NBD}, {"loop", v1::FRONTEND_LOOP}, {"auto", v1::FRONTEND_AUTO}};

// Nodes are meant unless one daemon's socket was named: --node, --socket and KEELSON_SOCKET win
// over KEELSON_NODES.
bool UsesNodes(const Run& run) { return !run.nodes.empty(); }

absl::StatusOr<Cluster> MakeCluster(const Run& run) {
  absl::StatusOr<std::map<std::string, std::string>> nodes = ParseNodes(run.nodes);
  if (!nodes.ok()) return nodes.status();
  if (nodes->empty()) {
    return absl::InvalidArgumentError(
        "this needs the nodes: --node NAME=SOCKET for each, or KEELSON_NODES=NAME=SOCKET,...");
  }
  return Cluster(*std::move(nodes), std::chrono::seconds(run.settings.timeout_seconds));
}

// Calls `command` with the cluster.
template <typename Command>
void OnCluster(Run* run, Command command) {
  const absl::StatusOr<Cluster> cluster = MakeCluster(*run);
  run->cluster.name = run->volume.name;
  run->cluster.source = run->volume.source;
  run->cluster.size_bytes = run->volume.size_bytes;
  run->cluster.read_only = run->volume.read_only;
  run->cluster.frontend = run->volume.frontend;
  run->cluster.min_in_sync = run->volume.min_in_sync;
  run->status = cluster.ok() ? command(*cluster) : cluster.status();
}

// Calls `command`, which talks to one daemon, with that of --socket or the one that serves the
// volume.
template <typename Command>
void OnServingNode(Run* run, Command command) {
  if (UsesNodes(*run)) {
    const absl::StatusOr<Cluster> cluster = MakeCluster(*run);
    const absl::StatusOr<std::string> socket =
        cluster.ok() ? ServingSocket(*cluster, run->volume.name) : cluster.status();
    if (!socket.ok()) {
      run->status = socket.status();
      return;
    }
    run->settings.socket = *socket;
  }
  run->status = command();
}

// After parsing, before the command: whether nodes or one daemon are meant.
void ChooseNodes(Run* run) {
  const char* environment = std::getenv("KEELSON_NODES");
  if (!run->nodes.empty() || run->socket_given || environment == nullptr) return;
  run->nodes = absl::StrSplit(environment, ',', absl::SkipEmpty());
}

void AddSettings(CLI::App* app, Run* run) {
  Settings* settings = &run->settings;
  static const std::map<std::string, Output> kOutputs = {{"table", Output::kTable},
                                                         {"json", Output::kJson}};
  app->add_option("--socket", settings->socket, "The daemon's socket")
      ->envname("KEELSON_SOCKET")
      ->each([run](const std::string&) { run->socket_given = true; })
      ->capture_default_str();
  app->add_option("--node", run->nodes,
                  "NAME=SOCKET of a node's daemon; repeated. KEELSON_NODES=a=SOCKET,b=SOCKET "
                  "does the same")
      ->allow_extra_args(false);
  app->add_option("--output,-o", settings->output, "table or json")
      ->transform(CLI::CheckedTransformer(kOutputs))
      ->default_str("table");
  app->add_option("--timeout", settings->timeout_seconds, "Seconds to wait for an answer")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
}

void AddPoolCommands(CLI::App* app, Run* run) {
  CLI::App* pool = app->add_subcommand("pool", "The disks' worth of storage of this node");
  pool->require_subcommand(1);
  PoolArguments& arguments = run->pool;

  CLI::App* create = pool->add_subcommand("create", "Make a pool, and serve it from now on");
  create->add_option("DIR", arguments.pool, "Its directory")->required();
  CLI::Option* size =
      create->add_option("--size", arguments.size_bytes, "Size of its data file")->transform(kSize);
  CLI::Option* device =
      create->add_option("--device", arguments.device, "Use this block device instead, all of it");
  size->excludes(device);
  create->add_flag("--force", arguments.force, "Overwrite what the device holds");
  create->callback([run] { run->status = CreatePool(run->settings, run->pool, run->out); });

  pool->add_subcommand("list", "List the pools")->callback([run] {
    run->status = ListPools(run->settings, run->out);
  });

  CLI::App* check = pool->add_subcommand("check", "Prove that a pool's metadata agree");
  check->add_option("POOL", arguments.pool, "Its id or directory")->required();
  check->add_flag("--verify-data", arguments.verify_data,
                  "Also read every block and compare its checksum");
  check->add_flag("--repair", arguments.repair, "Mend what is provably safe to mend");
  check->add_flag("--offline", arguments.offline, "A directory that no daemon has open");
  check->callback([run] { run->status = CheckPool(run->settings, run->pool, run->out); });

  CLI::App* dump = pool->add_subcommand("dump", "Print a pool's metadata");
  dump->add_option("POOL", arguments.pool, "Its id or directory")->required();
  dump->add_flag("--offline", arguments.offline, "A directory that no daemon has open");
  dump->callback([run] { run->status = DumpPool(run->settings, run->pool, run->out); });
}

CLI::App* AddNamed(CLI::App* parent, const char* command, const char* help, Run* run) {
  CLI::App* app = parent->add_subcommand(command, help);
  app->add_option("NAME", run->volume.name, "The volume")->required();
  return app;
}

void AddSnapshotCommands(CLI::App* volume, Run* run) {
  VolumeArguments& arguments = run->volume;
  CLI::App* snapshot = AddNamed(volume, "snapshot", "Take a snapshot", run);
  snapshot->add_option("SNAPSHOT", arguments.snapshot, "Its name")->required();
  snapshot->add_option("--hold", arguments.hold, "Of the moment that this hold (see `hold`) is of");
  snapshot->callback([run] {
    OnServingNode(run, [run] { return CreateSnapshot(run->settings, run->volume, run->out); });
  });

  CLI::App* hold = AddNamed(volume, "hold", "Let writes wait, to snapshot several volumes", run);
  hold->add_option("ID", arguments.hold, "32 hexadecimal digits, never used before")->required();
  hold->add_option("--limit-ms", arguments.hold_limit_ms, "They go on after so many milliseconds")
      ->check(CLI::Range(1, 10'000))
      ->required();
  hold->callback(
      [run] { OnServingNode(run, [run] { return HoldWrites(run->settings, run->volume); }); });
  CLI::App* release = AddNamed(volume, "release", "Let writes that are held go on", run);
  release->add_option("ID", arguments.hold, "Of the hold")->required();
  release->callback(
      [run] { OnServingNode(run, [run] { return ReleaseWrites(run->settings, run->volume); }); });

  AddNamed(volume, "snapshots", "List a volume's snapshots", run)->callback([run] {
    OnServingNode(run, [run] { return ListSnapshots(run->settings, run->volume, run->out); });
  });

  CLI::App* blocks = AddNamed(volume, "snapshot-blocks",
                              "List where a snapshot has data: lines of OFFSET BYTES", run);
  blocks->add_option("SNAPSHOT", arguments.snapshot, "Its name")->required();
  blocks->add_option("--since", arguments.since, "Only what changed since this older snapshot");
  blocks->callback([run] {
    OnServingNode(run, [run] { return ListBlocks(run->settings, run->volume, run->out); });
  });

  CLI::App* remove = AddNamed(volume, "snapshot-delete", "Delete a snapshot", run);
  remove->add_option("SNAPSHOT", arguments.snapshot, "Its name")->required();
  remove->callback(
      [run] { OnServingNode(run, [run] { return DeleteSnapshot(run->settings, run->volume); }); });

  CLI::App* clone = volume->add_subcommand("clone", "Make a volume that begins as a snapshot");
  clone->add_option("SOURCE", arguments.source, "VOLUME@SNAPSHOT")->required();
  clone->add_option("NAME", arguments.name, "The new volume")->required();
  clone->add_option("--size", arguments.size_bytes, "Its size, if it is to be larger")
      ->transform(kSize);
  clone->callback([run] {
    if (!UsesNodes(*run)) {
      run->status = CloneVolume(run->settings, run->volume, run->out);
      return;
    }
    OnCluster(run, [run](const Cluster& cluster) {
      return CloneOnNodes(cluster, run->cluster, run->settings.output, run->out);
    });
  });
}

void AddClientCommands(CLI::App* volume, Run* run) {
  CLI::App* client =
      volume->add_subcommand("client", "Nodes that show a volume which is attached elsewhere");
  client->require_subcommand(1);
  CLI::App* add = AddNamed(client, "add", "Show it on a further node; prints the NBD URI", run);
  add->add_option("--on", run->cluster.on, "The node that is to show it")->required();
  add->add_flag("--read-only", run->volume.read_only, "Refuse its writes");
  add->callback([run] {
    OnCluster(run, [run](const Cluster& cluster) {
      return AddClientNode(cluster, run->cluster, run->settings.output, run->out);
    });
  });
  CLI::App* remove =
      AddNamed(client, "remove", "Stop serving a node; returns when its last request ended", run);
  remove->add_option("--on", run->cluster.on, "The node; may be gone")->required();
  remove->callback([run] {
    OnCluster(run,
              [run](const Cluster& cluster) { return RemoveClientNode(cluster, run->cluster); });
  });
  AddNamed(client, "list", "The nodes on a volume's client list", run)->callback([run] {
    OnCluster(run, [run](const Cluster& cluster) {
      return ListClientNodes(cluster, run->cluster, run->settings.output, run->out);
    });
  });
}

void AddVolumeCommands(CLI::App* app, Run* run) {
  CLI::App* volume = app->add_subcommand("volume", "The volumes of this node, or of the nodes");
  volume->require_subcommand(1);
  VolumeArguments& arguments = run->volume;

  CLI::App* create = AddNamed(volume, "create", "Make an empty, thin volume", run);
  create->add_option("--size", arguments.size_bytes, "Its size")->transform(kSize)->required();
  create->add_option("--pool", arguments.pool,
                     "Id or directory; without it, the pool with the most free space");
  create
      ->add_option("--replicas", run->cluster.replicas,
                   "Copies, each on another node (with --node)")
      ->check(CLI::Range(std::size_t{1}, kCopiesMax));
  create
      ->add_option("--min-in-sync", arguments.min_in_sync,
                   "Writes wait while fewer copies have everything (2 with three copies or more, "
                   "else 1)")
      ->check(CLI::Range(std::size_t{1}, kCopiesMax));
  create
      ->add_option("--segment-size", run->cluster.segment_bytes,
                   "In segments of this size, each with copies of its own; without it, only a "
                   "volume larger than the pools has several")
      ->transform(kSize);
  create->callback([run, create] {
    const bool plain = create->count("--replicas") == 0 && create->count("--min-in-sync") == 0 &&
                       create->count("--segment-size") == 0;
    if (!UsesNodes(*run) && plain) {
      run->status = CreateVolume(run->settings, run->volume, run->out);
    } else if (!run->volume.pool.empty()) {
      run->status = absl::InvalidArgumentError("--pool goes with --socket, not with nodes");
    } else {
      OnCluster(run, [run](const Cluster& cluster) {
        return CreateOnNodes(cluster, run->cluster, run->settings.output, run->out);
      });
    }
  });

  volume->add_subcommand("list", "List the volumes")->callback([run] {
    if (!UsesNodes(*run)) {
      run->status = ListVolumes(run->settings, run->out);
      return;
    }
    OnCluster(run, [run](const Cluster& cluster) {
      return ListOnNodes(cluster, run->settings.output, run->out);
    });
  });
  AddNamed(volume, "delete", "Delete a detached volume and its snapshots", run)->callback([run] {
    if (!UsesNodes(*run)) {
      run->status = DeleteVolume(run->settings, run->volume);
      return;
    }
    OnCluster(run,
              [run](const Cluster& cluster) { return DeleteFromNodes(cluster, run->cluster); });
  });
  AddSnapshotCommands(volume, run);
  AddClientCommands(volume, run);

  CLI::App* grow = AddNamed(volume, "grow", "Make a volume larger", run);
  grow->add_option("--size", arguments.size_bytes, "Its new size")->transform(kSize)->required();
  grow->callback([run] {
    if (!UsesNodes(*run)) {
      run->status = GrowVolume(run->settings, run->volume, run->out);
      return;
    }
    OnCluster(run, [run](const Cluster& cluster) {
      return GrowOnNodes(cluster, run->cluster, run->settings.output, run->out);
    });
  });

  CLI::App* set = AddNamed(volume, "set", "Change how an attached volume behaves", run);
  set->add_option("--min-in-sync", arguments.min_in_sync,
                  "Writes wait while fewer copies have everything")
      ->check(CLI::Range(std::size_t{1}, kCopiesMax));
  set->add_option("--iops", arguments.iops, "Requests per second that clients may send; 0: any");
  set->add_option("--bandwidth", arguments.bandwidth_bytes_per_second,
                  "Bytes per second that they may read and write, from 64k on; 0: any")
      ->transform(kSize);
  set->require_option(2, 4);  // the volume is one of them
  set->callback(
      [run] { OnServingNode(run, [run] { return SetVolume(run->settings, run->volume); }); });

  CLI::App* attach =
      AddNamed(volume, "attach", "Serve a volume; prints its NBD URI, or its block device", run);
  attach->add_flag("--read-only", arguments.read_only, "Refuse writes");
  attach
      ->add_option(
          "--frontend", arguments.frontend,
          "nbd: for programs; loop: a block device; auto: loop where it works, or else nbd")
      ->transform(CLI::CheckedTransformer(kFrontends))
      ->default_str("nbd");
  CLI::Option* on =
      attach->add_option("--on", run->cluster.on, "The node that is to serve it (with --node)");
  attach->add_flag("--force", run->cluster.force, "Take it over from the node that serves it")
      ->needs(on);
  CLI::Option* from = attach->add_option(
      "--force-from", run->cluster.force_from,
      "Without a majority: go on from this REPLICA (see `volume status`) alone. What it lacks is "
      "lost, and the other copies are left behind. Repeated, one for each segment");
  from->needs(on);
  attach
      ->add_flag("--yes-lose-newer-writes", run->cluster.lose_newer_writes,
                 "With --force-from: yes, what that copy lacks may be lost")
      ->needs(from);
  attach->callback([run] {
    if (!UsesNodes(*run) && run->cluster.on.empty()) {
      run->status = AttachVolume(run->settings, run->volume, run->out);
    } else if (run->cluster.on.empty()) {
      run->status = absl::InvalidArgumentError("--on says which of the nodes is to serve it");
    } else {
      OnCluster(run, [run](const Cluster& cluster) {
        return AttachOnNode(cluster, run->cluster, run->settings.output, run->out);
      });
    }
  });
  AddNamed(volume, "detach", "Stop serving a volume", run)->callback([run] {
    if (!UsesNodes(*run)) {
      run->status = DetachVolume(run->settings, run->volume);
      return;
    }
    OnCluster(run,
              [run](const Cluster& cluster) { return DetachFromNodes(cluster, run->cluster); });
  });
  CLI::App* scrub =
      AddNamed(volume, "scrub", "Read and compare all copies of an attached volume, repair", run);
  scrub
      ->add_option("--rate", arguments.bytes_per_second,
                   "Bytes a second to read, of all copies together; without it as fast as it goes")
      ->transform(kSize);
  scrub->add_flag("--no-wait", arguments.no_wait, "Begin it only; `volume status` shows it");
  scrub->callback([run] {
    OnServingNode(run, [run] { return ScrubVolume(run->settings, run->volume, run->out); });
  });
  AddNamed(volume, "status", "How the members of a volume are (with --node)", run)->callback([run] {
    OnCluster(run, [run](const Cluster& cluster) {
      return ShowStatus(cluster, run->cluster, run->settings.output, run->out);
    });
  });
}

void AddSegmentOption(CLI::App* app, Run* run) {
  app->add_option("--segment", run->cluster.segment,
                  "Of this segment only; without it, of all that it concerns");
}

void AddReplicaCommands(CLI::App* app, Run* run) {
  AddNamed(app, "why", "What a volume waits for, in a sentence (with --node)", run)
      ->callback([run] {
        OnCluster(run, [run](const Cluster& cluster) {
          return ShowWhy(cluster, run->cluster, run->settings.output, run->out);
        });
      });
  CLI::App* replica = app->add_subcommand("replica", "The copies of an attached volume");
  replica->require_subcommand(1);
  CLI::App* add = AddNamed(replica, "add", "Make a further copy; copying goes on behind", run);
  add->add_option("--on", run->cluster.on, "The node that is to have it")->required();
  AddSegmentOption(add, run);
  add->callback([run] {
    OnCluster(run,
              [run](const Cluster& cluster) { return AddReplicaOnNode(cluster, run->cluster); });
  });
  CLI::App* remove = AddNamed(replica, "remove", "Give up a copy, and delete it", run);
  remove->add_option("--on", run->cluster.on, "The node that has it")->required();
  AddSegmentOption(remove, run);
  remove->callback([run] {
    OnCluster(run, [run](const Cluster& cluster) {
      return RemoveReplicaFromNode(cluster, run->cluster);
    });
  });
  CLI::App* replace =
      AddNamed(replica, "replace", "Move a copy: add, wait until it has everything, remove", run);
  replace->add_option("--from", run->cluster.from, "The node that has it; may be dead")->required();
  replace->add_option("--to", run->cluster.to, "The node that is to have it")->required();
  AddSegmentOption(replace, run);
  replace->callback([run] {
    OnCluster(run, [run](const Cluster& cluster) {
      return ReplaceReplica(cluster, run->cluster, run->settings.output, run->out);
    });
  });
}

// All words behind `bench` belong to the tool, its --help too.
void AddBench(CLI::App* app, Run* run) {
  CLI::App* bench = app->add_subcommand(
      "bench", "Measure the engine in a pool that no daemon has open; see `keelctl bench --help`");
  bench->set_help_flag();
  bench->fallthrough(false);
  bench->prefix_command();
  bench->callback([bench, run] {
    std::vector<std::string> words = {"bench"};
    const std::vector<std::string> rest = bench->remaining();
    words.insert(words.end(), rest.begin(), rest.end());
    if (run->settings.output == Output::kJson) words.push_back("--json");
    run->status = BecomeTool(words);
  });
}

}  // namespace

int RunCommandLine(int argc, const char* const* argv, std::ostream* out, std::ostream* err) {
  Run run;
  run.out = out;
  CLI::App app("Operates a Keelson block store.", "keelctl");
  app.set_version_flag("--version", KEELSON_VERSION);
  app.failure_message([](const CLI::App* failed, const CLI::Error& error) {
    return absl::StrCat("keelctl: ", error.what(), "; see `", failed->get_name(), " --help`\n");
  });
  app.require_subcommand(1);
  app.fallthrough();  // --output and --socket may stand behind the command, too
  AddSettings(&app, &run);
  app.parse_complete_callback([&run] {
    ChooseNodes(&run);
    run.control.output = run.settings.output;
    run.control.timeout_seconds = run.settings.timeout_seconds;
  });
  AddPoolCommands(&app, &run);
  AddVolumeCommands(&app, &run);
  AddReplicaCommands(&app, &run);
  AddControlCommands(&app, &run.control, &run.out, &run.status);
  AddCsiCommands(&app, &run.csi, &run.out, &run.status);
  AddBench(&app, &run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, *out, *err) == 0 ? 0 : kUsageError;
  }
  if (run.status.ok()) return 0;
  *err << "keelctl: " << std::string(run.status.message()) << "\n";
  return kFailed;
}

}  // namespace keelson::ctl
