#include "provisioner/ctl/command_line.h"

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/rpc/size_text.h"
#include "provisioner/ctl/commands.h"
#include "provisioner/ctl/offline.h"

namespace keelson::ctl {
namespace {

constexpr int kFailed = 1;
constexpr int kUsageError = 2;

// Everything one run of keelctl needs. The command that was given leaves its status in `status`.
struct Run {
  Settings settings;
  PoolArguments pool;
  VolumeArguments volume;
  std::ostream* out = nullptr;
  absl::Status status;
};

// Lets an option of an integer take "4k" and "1.5g".
const CLI::Validator kSize(
    [](std::string& text) {
      const absl::StatusOr<std::uint64_t> size_bytes = rpc::ParseSize(text);
      if (!size_bytes.ok()) return std::string(size_bytes.status().message());
      text = absl::StrCat(*size_bytes);
      return std::string();
    },
    "SIZE");

void AddSettings(CLI::App* app, Settings* settings) {
  static const std::map<std::string, Output> kOutputs = {{"table", Output::kTable},
                                                         {"json", Output::kJson}};
  app->add_option("--socket", settings->socket, "The daemon's socket")
      ->envname("KEELSON_SOCKET")
      ->capture_default_str();
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
  snapshot->callback([run] { run->status = CreateSnapshot(run->settings, run->volume, run->out); });

  AddNamed(volume, "snapshots", "List a volume's snapshots", run)->callback([run] {
    run->status = ListSnapshots(run->settings, run->volume, run->out);
  });

  CLI::App* remove = AddNamed(volume, "snapshot-delete", "Delete a snapshot", run);
  remove->add_option("SNAPSHOT", arguments.snapshot, "Its name")->required();
  remove->callback([run] { run->status = DeleteSnapshot(run->settings, run->volume); });

  CLI::App* clone = volume->add_subcommand("clone", "Make a volume that begins as a snapshot");
  clone->add_option("SOURCE", arguments.source, "VOLUME@SNAPSHOT")->required();
  clone->add_option("NAME", arguments.name, "The new volume")->required();
  clone->add_option("--size", arguments.size_bytes, "Its size, if it is to be larger")
      ->transform(kSize);
  clone->callback([run] { run->status = CloneVolume(run->settings, run->volume, run->out); });
}

void AddVolumeCommands(CLI::App* app, Run* run) {
  CLI::App* volume = app->add_subcommand("volume", "The volumes in the pools of this node");
  volume->require_subcommand(1);
  VolumeArguments& arguments = run->volume;

  CLI::App* create = AddNamed(volume, "create", "Make an empty, thin volume", run);
  create->add_option("--size", arguments.size_bytes, "Its size")->transform(kSize)->required();
  create->add_option("--pool", arguments.pool,
                     "Id or directory; without it, the pool with the most free space");
  create->callback([run] { run->status = CreateVolume(run->settings, run->volume, run->out); });

  volume->add_subcommand("list", "List the volumes")->callback([run] {
    run->status = ListVolumes(run->settings, run->out);
  });
  AddNamed(volume, "delete", "Delete a detached volume and its snapshots", run)->callback([run] {
    run->status = DeleteVolume(run->settings, run->volume);
  });
  AddSnapshotCommands(volume, run);

  CLI::App* grow = AddNamed(volume, "grow", "Make a volume larger", run);
  grow->add_option("--size", arguments.size_bytes, "Its new size")->transform(kSize)->required();
  grow->callback([run] { run->status = GrowVolume(run->settings, run->volume, run->out); });

  CLI::App* attach = AddNamed(volume, "attach", "Serve a volume; prints its NBD URI", run);
  attach->add_flag("--read-only", arguments.read_only, "Refuse writes");
  attach->callback([run] { run->status = AttachVolume(run->settings, run->volume, run->out); });
  AddNamed(volume, "detach", "Stop serving a volume", run)->callback([run] {
    run->status = DetachVolume(run->settings, run->volume);
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
  AddSettings(&app, &run.settings);
  AddPoolCommands(&app, &run);
  AddVolumeCommands(&app, &run);
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
