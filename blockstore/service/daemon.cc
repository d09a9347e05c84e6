#include "blockstore/service/daemon.h"

#include <arpa/inet.h>
#include <grpcpp/impl/service_type.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/service/blockstore_service.h"
#include "blockstore/service/memory_lock.h"
#include "blockstore/service/metrics.h"
#include "proto/rpc/server.h"

namespace keelson::service {
namespace {

constexpr std::chrono::milliseconds kCallPatience{2000};
constexpr unsigned kStopSecondsMax = 10;

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// Threads started from here on never take the signals; main waits for them.
void BlockStopSignals() {
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void WaitForStopSignal() {
  const sigset_t signals = StopSignals();
  int number = 0;
  sigwait(&signals, &number);
  KEEL_LOG_INFO("event=stopping signal={}", number);
  // From now on a second one has its default effect on this thread: the end of the process.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

// Ends the process when the orderly end takes too long.
void StartStopWatchdog() {
  std::signal(SIGALRM, [](int) {
    constexpr std::string_view kMessage =
        "keelson-blockstore: event=stop_timeout remedy=\"look for a disk that does not answer\"\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kMessage.data(), kMessage.size());
    _exit(1);
  });
  alarm(kStopSecondsMax);
}

// RocksDB and NBD clients need descriptors; the usual soft limit of 1024 is for select(2) users.
void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) KEEL_LOG_WARN("event=descriptor_limit_not_raised");
}

// What serves beside the Node, in the order of its start.
struct Frontends {
  std::unique_ptr<grpc::Service> service;
  std::unique_ptr<Metrics> metrics;
  std::unique_ptr<rpc::Server> server;
};

absl::StatusOr<Frontends> StartFrontends(const DaemonOptions& options, Node* node) {
  Frontends frontends;
  frontends.service = MakeBlockStoreService(node);
  if (!options.metrics_address.empty()) {
    ASSIGN_OR_RETURN(frontends.metrics, Metrics::Start(options.metrics_address, node));
  }
  ASSIGN_OR_RETURN(
      frontends.server,
      rpc::Server::Start(options.node.run_directory + "/blockstore.sock", frontends.service.get()));
  return frontends;
}

}  // namespace

int RunDaemon(const DaemonOptions& options) {
  BlockStopSignals();
  RaiseDescriptorLimit();
  PrepareForWriteback();
  absl::StatusOr<std::unique_ptr<Node>> node = Node::Start(options.node);
  if (!node.ok()) {
    KEEL_LOG_ERROR("event=start_failed error=\"{}\"", std::string(node.status().message()));
    return 1;
  }
  absl::StatusOr<Frontends> frontends = StartFrontends(options, node->get());
  if (!frontends.ok()) {
    KEEL_LOG_ERROR("event=start_failed error=\"{}\"", std::string(frontends.status().message()));
    (*node)->Stop();
    return 1;
  }
  (*node)->OpenPools();
  frontends->server->SetServing(true);
  KEEL_LOG_INFO("event=serving socket={}/blockstore.sock metrics={}", options.node.run_directory,
                options.metrics_address.empty() ? "off" : options.metrics_address);

  WaitForStopSignal();
  StartStopWatchdog();
  (*node)->CancelChecks();
  frontends->server->Shutdown(kCallPatience);
  Metrics::Abandon(std::move(frontends->metrics));
  (*node)->Stop();
  KEEL_LOG_INFO("event=stopped");
  return 0;
}

absl::StatusOr<io::Address> ParseNumericAddress(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  std::uint32_t port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(text.substr(colon + 1), &port) ||
      port > UINT16_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is not HOST:PORT, for example 127.0.0.1:10809"));
  }
  io::Address address;
  address.host = text.substr(0, colon);
  address.port = static_cast<std::uint16_t>(port);
  if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  in_addr v4 = {};
  in6_addr v6 = {};
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1 ||
      inet_pton(AF_INET6, address.host.c_str(), &v6) == 1) {
    return address;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", address.host, "' is not a numeric address; names are not looked up"));
}

absl::StatusOr<io::Address> ParseLoopbackAddress(const std::string& text) {
  ASSIGN_OR_RETURN(io::Address address, ParseNumericAddress(text));
  in_addr v4 = {};
  in6_addr v6 = {};
  const bool loopback =
      (inet_pton(AF_INET, address.host.c_str(), &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127) ||
      (inet_pton(AF_INET6, address.host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6));
  if (loopback) return address;
  return absl::InvalidArgumentError(absl::StrCat(
      "'", address.host, "' is not a loopback address: NBD has no authentication, so TCP is ",
      "offered on 127.0.0.1 or [::1] only"));
}

}  // namespace keelson::service
