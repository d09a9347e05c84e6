#include "provisioner/service/program.h"

#include <grpcpp/impl/codegen/service_type.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/server.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/reconciler.h"
#include "provisioner/service/controller.h"
#include "provisioner/service/provisioner_service.h"
#include "provisioner/store/rocks_store.h"

namespace keelson::provisioner {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::chrono::seconds kCallPatience{5};

struct Options {
  std::string listen = "unix:/run/keelson/provisioner.sock";
  std::string state_directory = "/var/lib/keelson-provisioner";
  std::size_t workers = 16;
  std::int64_t lost_after_s = 10;
  std::int64_t heal_after_s = 600;
  std::size_t rebuilds = ReconcileOptions().rebuilds_max;
  std::uint32_t overprovision_percent = 200;
  std::uint32_t reserve_percent = 10;
};

void AddOptions(Options* options, CLI::App* app) {
  app->add_option("--listen", options->listen, "where callers reach it: unix:/ABSOLUTE/PATH")
      ->capture_default_str();
  app->add_option("--state-dir", options->state_directory, "where its records are kept")
      ->capture_default_str();
  app->add_option("--workers", options->workers, "records it works on at the same time")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app->add_option("--lost-after", options->lost_after_s,
                  "seconds of silence after which a node is lost: its volumes may be attached "
                  "elsewhere")
      ->check(CLI::Range(3, 3600))
      ->capture_default_str();
  app->add_option("--heal-after", options->heal_after_s,
                  "seconds after which a copy that is away is replaced by a new one")
      ->check(CLI::Range(10, 604800))
      ->capture_default_str();
  app->add_option("--rebuilds", options->rebuilds,
                  "new copies that are filled at once in the cluster, of volumes with the fewest "
                  "copies first")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  app->add_option("--overprovision", options->overprovision_percent,
                  "percent of a pool's capacity that volumes are promised at most")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  app->add_option("--reserve", options->reserve_percent,
                  "percent of a pool that must be free for new volumes to go there")
      ->check(CLI::Range(0, 90))
      ->capture_default_str();
}

ReconcileOptions ReconcileOptionsOf(const Options& options) {
  ReconcileOptions reconcile;
  reconcile.lost_after_ns = options.lost_after_s * kSecond;
  reconcile.heal_after_ns = options.heal_after_s * kSecond;
  reconcile.rebuilds_max = options.rebuilds;
  reconcile.limits.overprovision_percent = options.overprovision_percent;
  reconcile.limits.reserve_percent = options.reserve_percent;
  return reconcile;
}

// Threads that are started later inherit it, so that only WaitForStopSignal hears of them.
void BlockStopSignals(sigset_t* signals) {
  sigemptyset(signals);
  sigaddset(signals, SIGTERM);
  sigaddset(signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

// Returns at a signal; or with an error when the store answers no more, which only another start
// can mend.
absl::Status AwaitStop(const sigset_t& signals, ClusterStore* store) {
  constexpr timespec kLookInterval = {1, 0};
  while (true) {
    const int received = sigtimedwait(&signals, nullptr, &kLookInterval);
    if (received > 0) {
      spdlog::info("event=stopping signal={}", received);
      return absl::OkStatus();
    }
    const absl::Status asked = store->Get(Kind::kNode, "none").status();
    if (absl::IsUnavailable(asked)) return asked;
  }
}

absl::Status Serve(const Options& options) {
  sigset_t signals;
  BlockStopSignals(&signals);
  ASSIGN_OR_RETURN(const std::string path, rpc::UnixPathOf(options.listen));
  ASSIGN_OR_RETURN(const std::unique_ptr<RocksStore> store,
                   RocksStore::Open({options.state_directory, nullptr}));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<Reconciler> reconciler,
      Reconciler::Open(store.get(), &Clock::System(), DialUnix, ReconcileOptionsOf(options)));
  Controller controller(reconciler.get(), {});
  const std::unique_ptr<grpc::Service> service = MakeProvisionerService(&controller);
  ASSIGN_OR_RETURN(const std::unique_ptr<rpc::Server> server,
                   rpc::Server::Start(path, service.get()));
  reconciler->Start(options.workers);
  server->SetServing(true);
  spdlog::info("event=serving socket={} volumes={} nodes={}", path,
               reconciler->records().volumes().count(), reconciler->records().nodes().count());
  const absl::Status ended = AwaitStop(signals, store.get());
  server->Shutdown(kCallPatience);
  reconciler->Stop();
  return ended;
}

}  // namespace

int RunProgram(int argc, char** argv) {
  Options options;
  CLI::App app("keelson-provisioner: which volumes there are, and where their copies live");
  app.set_version_flag("--version", std::string(KEELSON_VERSION));
  AddOptions(&options, &app);
  CLI11_PARSE(app, argc, argv);
  umask(077);
  spdlog::set_default_logger(spdlog::stderr_logger_mt("keelson-provisioner"));
  spdlog::flush_on(spdlog::level::info);
  const absl::Status served = Serve(options);
  if (served.ok()) return 0;
  spdlog::error("event=failed error=\"{}\"", std::string(served.message()));
  return 1;
}

}  // namespace keelson::provisioner
