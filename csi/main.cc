// keelson-csi: the Container Storage Interface driver.

#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include "csi/driver.h"
#include "csi/options.h"

namespace {

constexpr int kExitUsage = 2;
constexpr std::chrono::seconds kStopPatience(10);

// Blocked before any thread is made, so that only WaitForStop takes them.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

void WaitForStop(const sigset_t& signals) {
  int number = 0;
  sigwait(&signals, &number);
  spdlog::info("event=stopping signal={}", number);
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = keelson::csi::ParseOptions(argc, argv);
  if (!options.ok()) {
    std::cerr << "keelson-csi: " << options.status().message() << "\nkeelson-csi --help explains\n";
    return kExitUsage;
  }
  if (!options->has_value()) return EXIT_SUCCESS;
  umask(S_IRWXG | S_IRWXO);
  const sigset_t signals = BlockStopSignals();
  spdlog::set_default_logger(spdlog::stderr_logger_mt("keelson-csi"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%f %L %v");
  if ((*options)->debug) spdlog::set_level(spdlog::level::debug);
  auto driver = keelson::csi::Driver::Start(**options);
  if (!driver.ok()) {
    std::cerr << "keelson-csi: " << driver.status().message() << "\n";
    return EXIT_FAILURE;
  }
  WaitForStop(signals);
  if ((*driver)->Stop(kStopPatience)) return EXIT_SUCCESS;
  // Threads that hang in the kernel use the driver, so it is not destroyed.
  spdlog::warn("event=stopped-early reason=\"operations on devices that do not answer\"");
  spdlog::shutdown();
  std::_Exit(EXIT_SUCCESS);
}
