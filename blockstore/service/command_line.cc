#include "blockstore/service/command_line.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "blockstore/service/daemon.h"
#include "blockstore/service/offline_tools.h"
#include "proto/rpc/size_text.h"

namespace keelson::service {
namespace {

constexpr int kUsageError = 2;
constexpr std::uint64_t kMebi = std::uint64_t{1} << 20;

// Everything that options are parsed into. The defaults are those of --help.
struct Arguments {
  Arguments() { daemon.node.scrub_bytes_per_second = 20 * kMebi; }
  DaemonOptions daemon;
  io::Backend backend = io::Backend::kAuto;
  std::uint64_t buffer_mib = 32;
  std::string nbd_tcp;
  std::string data_listen;
  std::string client_listen;
  double client_outage_seconds = 60;
  double backlog_limit_seconds = 60;
  std::uint64_t resync_rate_bytes = 0;
  std::int64_t scrub_interval_seconds = std::int64_t{7} * 24 * 3600;
  std::string log_level;  // empty: info for the daemon, warn for tools
  std::string directory;
  bool json = false;
  pool::CreatePoolOptions create;
  replica::CheckOptions check;
  BenchOptions bench;
  double runtime_seconds = 10;
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

// Lets an option of an integer number of seconds take "90s", "30m", "12h" and "7d".
const CLI::Validator kDuration(
    [](std::string& text) {
      static const std::map<char, std::int64_t> kUnits = {
          {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
      const auto unit = text.empty() ? kUnits.end() : kUnits.find(text.back());
      std::uint32_t number = 0;
      const std::string digits = unit == kUnits.end() ? text : text.substr(0, text.size() - 1);
      if (!absl::SimpleAtoi(digits, &number)) {
        return absl::StrCat("'", text, "' is no duration, for example 90s, 12h or 7d");
      }
      text = absl::StrCat(number * (unit == kUnits.end() ? 1 : unit->second));
      return std::string();
    },
    "DURATION");

const CLI::Validator kLoopback(
    [](std::string& text) {
      return std::string(text.empty() ? "" : ParseLoopbackAddress(text).status().message());
    },
    "HOST:PORT");

const CLI::Validator kNumericAddress(
    [](std::string& text) { return std::string(ParseNumericAddress(text).status().message()); },
    "HOST:PORT");

// The address that the others dial names a host and a port.
const CLI::Validator kDialAddress(
    [](std::string& text) {
      const absl::StatusOr<io::Address> address = ParseNumericAddress(text);
      if (!address.ok()) return std::string(address.status().message());
      const bool any = address->host == "0.0.0.0" || address->host == "::";
      return std::string(any || address->port == 0 ? "it names no host and port to dial" : "");
    },
    "HOST:PORT");

void AddDaemonOptions(CLI::App* app, Arguments* arguments) {
  NodeOptions& node = arguments->daemon.node;
  app->add_option("--state-dir", node.state_directory, "Where the daemon remembers its pools")
      ->capture_default_str();
  app->add_option("--run-dir", node.run_directory, "Where blockstore.sock and nbd.sock are made")
      ->capture_default_str();
  app->add_option("--pool", node.pools, "Open this pool too; may be repeated")
      ->allow_extra_args(false);
  app->add_option("--reactors", node.reactor_count,
                  "Threads that do I/O; pools are spread over them")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app->add_option("--metrics", arguments->daemon.metrics_address,
                  "ADDR:PORT of the Prometheus page; '' for none")
      ->capture_default_str();
  app->add_option("--nbd-tcp", arguments->nbd_tcp, "Offer NBD on this loopback address, for tests")
      ->check(kLoopback);
  CLI::Option* listen =
      app->add_option("--data-listen", arguments->data_listen,
                      "Let engines on other nodes use the replicas here, at this numeric address. "
                      "There is no authentication: only on a network you trust");
  listen->check(kNumericAddress);
  app->add_option("--scrub-interval", arguments->scrub_interval_seconds,
                  "Scrub each attached volume once in this time; 0: never")
      ->transform(kDuration)
      ->default_str("7d");
  app->add_option("--scrub-rate", node.scrub_bytes_per_second,
                  "Bytes a second that such a scrub reads, of all copies together; 0: no limit")
      ->transform(kSize)
      ->default_str("20m");
  app->add_option("--data-address", node.data_address,
                  "What the other nodes dial; without it, the address of --data-listen")
      ->check(kDialAddress)
      ->needs(listen);
  CLI::Option* clients =
      app->add_option("--client-listen", arguments->client_listen,
                      "Serve volumes that are attached here to the nodes on their client lists, at "
                      "this numeric address. Nothing but a ticket proves who they are, and nothing "
                      "is encrypted: only on a network you trust");
  clients->check(kNumericAddress);
  app->add_option("--client-address", node.client_address,
                  "What those nodes dial; without it, the address of --client-listen")
      ->check(kDialAddress)
      ->needs(clients);
  app->add_option("--client-outage-limit", arguments->client_outage_seconds,
                  "Seconds that I/O of a volume which another node serves waits for its engine "
                  "before it fails; 0: for ever")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app->add_option("--backlog-limit", arguments->backlog_limit_seconds,
                  "Seconds that I/O of a volume waits for a majority of its members, or for its "
                  "last copy, before the attachment ends in errors; 0: for ever")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app->add_option("--resync-rate", arguments->resync_rate_bytes,
                  "Bytes a second (as 50m) copied to a member that comes back; 0: as fast as goes")
      ->transform(kSize)
      ->default_str("0");
}

void AddCommonOptions(CLI::App* app, Arguments* arguments) {
  static const std::map<std::string, io::Backend> kBackends = {
      {"auto", io::Backend::kAuto}, {"uring", io::Backend::kUring}, {"aio", io::Backend::kAio}};
  app->add_option("--io", arguments->backend, "How the kernel is asked for I/O: auto, uring or aio")
      ->transform(CLI::CheckedTransformer(kBackends));
  app->add_option("--buffer-mib", arguments->buffer_mib, "MiB of I/O buffers of each reactor")
      ->check(CLI::Range(4, 65536))
      ->capture_default_str();
  app->add_option("--log-level", arguments->log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->default_str("info, for tools warn");
}

void AddPoolTools(CLI::App* tool, Arguments* arguments) {
  CLI::App* create = tool->add_subcommand("create", "Make a pool");
  create->add_option("DIR", arguments->create.directory, "Its directory")->required();
  create->add_option("--size", arguments->create.size_bytes, "Size of the data file")
      ->transform(kSize);
  create->add_option("--device", arguments->create.device, "Use this block device, all of it");
  create->add_flag("--force", arguments->create.force, "Overwrite what the device holds");

  CLI::App* check = tool->add_subcommand("check", "Prove that a pool's metadata agree");
  check->add_option("DIR", arguments->directory, "The pool's directory")->required();
  check->add_flag("--verify-data", arguments->check.verify_data,
                  "Also read every block and compare its checksum");
  check->add_flag("--repair", arguments->check.repair, "Mend what is provably safe to mend");
  check->add_flag("--json", arguments->json, "Print JSON");

  CLI::App* dump = tool->add_subcommand("dump", "Print a pool's metadata");
  dump->add_option("DIR", arguments->directory, "The pool's directory")->required();
}

void AddBench(CLI::App* tool, Arguments* arguments) {
  static const std::map<std::string, BenchPattern> kPatterns = {
      {"read", BenchPattern::kRead},
      {"write", BenchPattern::kWrite},
      {"randread", BenchPattern::kRandomRead},
      {"randwrite", BenchPattern::kRandomWrite},
      {"randrw", BenchPattern::kRandomMixed}};
  static const std::map<std::string, BenchLayout> kLayouts = {{"fresh", BenchLayout::kFresh},
                                                              {"filled", BenchLayout::kFilled},
                                                              {"snapshot", BenchLayout::kSnapshot}};
  BenchOptions& bench = arguments->bench;
  CLI::App* app = tool->add_subcommand("bench", "Measure the engine in a temporary volume");
  app->add_option("DIR", arguments->directory, "The pool's directory")->required();
  app->add_option("--volume-size", bench.volume_bytes, "Size of the volume")
      ->transform(kSize)
      ->default_str("1g");
  app->add_option("--rw", bench.pattern, "read, write, randread, randwrite or randrw")
      ->transform(CLI::CheckedTransformer(kPatterns))
      ->default_str("randread");
  app->add_option("--rwmix", bench.read_percent, "Percentage of reads of randrw")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  app->add_option("--layout", bench.layout,
                  "fresh: unallocated; filled: written once; snapshot: written, then a snapshot")
      ->transform(CLI::CheckedTransformer(kLayouts))
      ->default_str("filled");
  app->add_option("--bs", bench.block_bytes, "Size of a request")
      ->transform(kSize)
      ->default_str("4k");
  app->add_option("--iodepth", bench.depth, "Requests in flight")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app->add_option("--runtime", arguments->runtime_seconds, "Seconds, at most")
      ->check(CLI::Range(0.01, 1e6))
      ->capture_default_str();
  app->add_option("--size", bench.size_bytes, "End after so many bytes; 0: by time only")
      ->transform(kSize);
  app->add_option("--fsync", bench.flush_every, "Flush after so many writes; 0: never")
      ->capture_default_str();
  app->add_flag("--json", arguments->json, "Print JSON");
}

// What CLI11's own checks cannot say; empty: fine.
std::string WrongBench(const BenchOptions& bench) {
  if (bench.block_bytes == 0 || bench.block_bytes % 4096 != 0 || bench.block_bytes > kMebi) {
    return "--bs must be a multiple of 4k, at most 1m";
  }
  if (bench.volume_bytes == 0 || bench.volume_bytes % kMebi != 0) {
    return "--volume-size must be a multiple of 1m";
  }
  return "";
}

int RunTool(const CLI::App& tool, Arguments* arguments) {
  io::ReactorOptions reactor;
  reactor.backend = arguments->backend;
  reactor.buffer_arena_bytes = arguments->buffer_mib * kMebi;
  if (tool.got_subcommand("create")) return ToolCreate(reactor, arguments->create);
  if (tool.got_subcommand("check")) {
    return ToolCheck(reactor, arguments->directory, arguments->check, arguments->json);
  }
  if (tool.got_subcommand("dump")) return ToolDump(reactor, arguments->directory);
  if (const std::string wrong = WrongBench(arguments->bench); !wrong.empty()) {
    absl::FPrintF(stderr, "keelson-blockstore: %s\n", wrong);
    return kUsageError;
  }
  arguments->bench.runtime_ns = static_cast<std::int64_t>(arguments->runtime_seconds * 1e9);
  return ToolBench(reactor, arguments->directory, arguments->bench, arguments->json);
}

// Parses the address of --NAME-listen, if it is given. False, with a message: it listens on every
// address, and none was named that others could dial.
bool ParseListen(const std::string& name, const std::string& text, const std::string& dialled,
                 std::optional<io::Address>* listen) {
  if (text.empty()) return true;
  *listen = *ParseNumericAddress(text);  // checked by the option
  if (!dialled.empty() || ((*listen)->host != "0.0.0.0" && (*listen)->host != "::")) return true;
  absl::FPrintF(stderr,
                "keelson-blockstore: --%s-listen %s listens on every address; say with "
                "--%s-address which one the other nodes dial\n",
                name, text, name);
  return false;
}

int RunAsDaemon(Arguments* arguments) {
  NodeOptions& node = arguments->daemon.node;
  node.backend = arguments->backend;
  node.buffer_bytes = arguments->buffer_mib * kMebi;
  node.segment.backlog_limit_ns = static_cast<std::int64_t>(arguments->backlog_limit_seconds * 1e9);
  node.remote.outage_limit_ns = static_cast<std::int64_t>(arguments->client_outage_seconds * 1e9);
  node.segment.resync_bytes_per_second = arguments->resync_rate_bytes;
  node.scrub_interval_ns = arguments->scrub_interval_seconds * 1'000'000'000;
  // Paths go into URIs and into pools.json: they must not depend on where the daemon was started.
  for (std::string* path : {&node.state_directory, &node.run_directory}) {
    *path = std::filesystem::absolute(*path).lexically_normal();
  }
  for (std::string& pool : node.pools) pool = std::filesystem::absolute(pool).lexically_normal();
  if (!arguments->nbd_tcp.empty()) {
    node.nbd_tcp = *ParseLoopbackAddress(arguments->nbd_tcp);  // checked by the option
  }
  if (!ParseListen("data", arguments->data_listen, node.data_address, &node.data_listen) ||
      !ParseListen("client", arguments->client_listen, node.client_address, &node.client_listen)) {
    return kUsageError;
  }
  return RunDaemon(arguments->daemon);
}

}  // namespace

int RunCommandLine(int argc, char** argv) {
  umask(S_IRWXG | S_IRWXO);  // pools, sockets and state are for this user only
  Arguments arguments;
  CLI::App app("Keelson's block store: serves the volumes of this node's pools.",
               "keelson-blockstore");
  app.set_version_flag("--version", KEELSON_VERSION);
  AddDaemonOptions(&app, &arguments);
  AddCommonOptions(&app, &arguments);
  app.failure_message([](const CLI::App* failed, const CLI::Error& error) {
    return absl::StrCat("keelson-blockstore: ", error.what(), "; see `", failed->get_name(),
                        " --help`\n");
  });
  app.require_subcommand(0, 1);
  CLI::App* tool = app.add_subcommand("tool", "Work on a pool that no daemon has open");
  tool->require_subcommand(1);
  tool->fallthrough();
  AddPoolTools(tool, &arguments);
  AddBench(tool, &arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageError;
  }
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "keelson", std::make_shared<spdlog::sinks::stderr_sink_mt>()));
  const bool is_tool = app.got_subcommand(tool);
  if (arguments.log_level.empty()) arguments.log_level = is_tool ? "warn" : "info";
  spdlog::set_level(spdlog::level::from_str(arguments.log_level));
  return is_tool ? RunTool(*tool, &arguments) : RunAsDaemon(&arguments);
}

}  // namespace keelson::service
