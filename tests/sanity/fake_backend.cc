// fake_backend DIRECTORY: a provisioner and a block store in memory for csi-sanity, on the sockets
// provisioner.sock and blockstore.sock in DIRECTORY. Volumes are loop devices over sparse files
// there, so the node service makes and mounts real file systems. Ends on SIGTERM; needs root.

#include <signal.h>

#include <chrono>
#include <iostream>
#include <string>

#include "proto/rpc/server.h"
#include "tests/unit/csi/fake_cluster.h"
#include "tests/unit/csi/loop_disks.h"

namespace keelson::csi {
namespace {

int Run(const std::string& directory) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  LoopDisks disks(directory);
  FakeCluster cluster(&disks);
  auto provisioner = rpc::Server::Start(directory + "/provisioner.sock", &cluster);
  auto block_store = rpc::Server::Start(directory + "/blockstore.sock", &cluster.block_store);
  if (!provisioner.ok() || !block_store.ok()) {
    std::cerr << provisioner.status() << "\n" << block_store.status() << "\n";
    return 1;
  }
  std::cout << "ready" << std::endl;
  int number = 0;
  sigwait(&signals, &number);
  (*provisioner)->Shutdown(std::chrono::milliseconds(0));
  (*block_store)->Shutdown(std::chrono::milliseconds(0));
  return 0;
}

}  // namespace
}  // namespace keelson::csi

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: fake_backend DIRECTORY\n";
    return 2;
  }
  return keelson::csi::Run(argv[1]);
}
