#include "csi/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "csi/checks.h"
#include "csi/status.h"
#include "proto/rpc/channel.h"

namespace keelson::csi {
namespace {

constexpr char kTopologyPrefix[] = "topology.keelson.io/";
constexpr std::size_t kDriverNameBytesMax = 63;
constexpr std::uint32_t kVolumesMaxMax = 100'000;

struct Raw {
  std::string endpoint;
  std::string mode = "all";
  std::vector<std::string> topology;
};

// As csi-sanity has it: the specification also allows digits at both ends.
bool IsDriverName(const std::string& name) {
  const auto letter = [](char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)); };
  return name.size() >= 2 && name.size() <= kDriverNameBytesMax && letter(name.front()) &&
         letter(name.back()) && std::all_of(name.begin(), name.end(), [&](char c) {
           return letter(c) || absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '-' ||
                  c == '.';
         });
}

absl::Status ParseEndpoint(const std::string& text, Options* options) {
  if (text.empty()) {
    return absl::InvalidArgumentError(
        "--endpoint, or the environment variable CSI_ENDPOINT, is missing: "
        "unix:///PATH/NAME.sock");
  }
  ASSIGN_OR_RETURN(options->endpoint, rpc::UnixPathOf(text));
  if (absl::EndsWith(options->endpoint, ".sock")) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--endpoint ", text, " must end in .sock (the specification asks for it)"));
}

absl::Status ParseTopology(const std::vector<std::string>& pairs, Options* options) {
  for (const std::string& pair : pairs) {
    const std::size_t equals = pair.find('=');
    std::string key = pair.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : pair.substr(equals + 1);
    if (absl::StartsWith(key, kTopologyPrefix)) key.erase(0, sizeof(kTopologyPrefix) - 1);
    // Keys and values become labels of the node, whose grammar is the same as that of names here.
    if (!CanBeNode(key) || !CanBeNode(value) || key == "node") {
      return absl::InvalidArgumentError(
          absl::StrCat("--topology ", pair,
                       " must be KEY=VALUE, each 1 to 63 of [A-Za-z0-9._-] with letters or "
                       "digits at both ends; 'node' is set by --node"));
    }
    if (!options->topology.emplace(absl::StrCat(kTopologyPrefix, key), value).second) {
      return absl::InvalidArgumentError(absl::StrCat("--topology names ", key, " twice"));
    }
  }
  options->topology[kNodeTopologyKey] = options->node;
  return absl::OkStatus();
}

absl::Status CheckNodeOptions(const Options& options) {
  if (!CanBeNode(options.node)) {
    return absl::InvalidArgumentError(
        "--node must be 1 to 63 of [A-Za-z0-9._-] with letters or digits at both ends: it is also "
        "the value of a topology label");
  }
  RETURN_IF_ERROR(rpc::UnixPathOf(options.block_store).status());
  const std::string& root = options.mount_root;
  if (root.empty() || root.front() != '/' || (root.size() > 1 && root.back() == '/')) {
    return absl::InvalidArgumentError(
        "--mount-root must be an absolute path without a slash at its end");
  }
  return absl::OkStatus();
}

absl::Status Finish(const Raw& raw, Options* options) {
  RETURN_IF_ERROR(ParseEndpoint(raw.endpoint, options));
  options->mode = raw.mode == "controller" ? Mode::kController
                  : raw.mode == "node"     ? Mode::kNode
                                           : Mode::kAll;
  if (!IsDriverName(options->driver_name)) {
    return absl::InvalidArgumentError(
        "--driver-name must be 2 to 63 of [A-Za-z0-9.-] with letters at both ends");
  }
  RETURN_IF_ERROR(rpc::UnixPathOf(options->provisioner).status());
  if (!options->HasNode()) return absl::OkStatus();
  RETURN_IF_ERROR(CheckNodeOptions(*options));
  if (options->advertise.empty()) options->advertise = options->block_store;
  return ParseTopology(raw.topology, options);
}

void Describe(Raw* raw, Options* options, CLI::App* app) {
  app->set_version_flag("--version", KEELSON_VERSION);
  app->add_option("--endpoint", raw->endpoint, "where to listen: unix:///PATH/NAME.sock")
      ->envname("CSI_ENDPOINT");
  app->add_option("--mode", raw->mode, "which services: controller, node or all")
      ->check(CLI::IsMember({"controller", "node", "all"}));
  app->add_option("--provisioner", options->provisioner, "the provisioner: unix:/PATH")->required();
  app->add_option("--blockstore", options->block_store,
                  "the block store of this node: unix:/PATH (modes node and all)");
  app->add_option(
      "--advertise", options->advertise,
      "the same block store as the provisioner reaches it; as --blockstore unless said");
  app->add_option("--node", options->node, "name of this node (modes node and all)");
  app->add_option("--topology", raw->topology, "where this node is: zone=a; may be repeated");
  app->add_option("--volumes-max", options->volumes_max,
                  "volumes that may be published on this node; 0 is no limit")
      ->check(CLI::Range(std::uint32_t{0}, kVolumesMaxMax));
  app->add_option("--mount-root", options->mount_root,
                  "staging and target paths must be below it: the kubelet's directory");
  app->add_option("--driver-name", options->driver_name, "name of the driver");
  app->add_flag("--enable-alpha", options->enable_alpha,
                "also what the specification calls alpha: GET_VOLUME, GET_SNAPSHOT, "
                "health, SNAPSHOT_METADATA_SERVICE");
  app->add_flag("--debug", options->debug, "log every request, without its secrets");
}

}  // namespace

absl::StatusOr<std::optional<Options>> ParseOptions(int argc, const char* const* argv) {
  Raw raw;
  Options options;
  CLI::App app("The Container Storage Interface driver of Keelson.", "keelson-csi");
  Describe(&raw, &options, &app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      app.exit(error, std::cout, std::cerr);
      return std::optional<Options>();
    }
    return absl::InvalidArgumentError(error.what());
  }
  RETURN_IF_ERROR(Finish(raw, &options));
  return std::optional<Options>(std::move(options));
}

}  // namespace keelson::csi
