#pragma once
// World: the whole driver over gRPC, in one process: a CSI controller service, a node service on
// each of two nodes, the provisioner behind them with its records in memory, the block stores of
// four nodes (FakeNodes) and the kernels of the two (Machine). It can be ended at any event and
// started again. Owned by a test; Ask may be called by several threads, the rest by one.

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "csi/controller.h"
#include "csi/group_controller.h"
#include "csi/node.h"
#include "provisioner/reconcile/reconciler.h"
#include "provisioner/service/controller.h"
#include "provisioner/store/memory_store.h"
#include "tests/unit/conformance/fuse.h"
#include "tests/unit/conformance/machine.h"
#include "tests/unit/conformance/shared_clock.h"
#include "tests/unit/provisioner/service/fake_nodes.h"

namespace keelson::csi {

// The two nodes with a node service, and how many volumes the second one takes.
inline const std::vector<std::string> kDriverNodes = {"a", "b"};
inline constexpr std::uint32_t kVolumesMaxOfB = 2;
inline constexpr char kMountRoot[] = "/pods";
// In every secret of every call: must be in no log and in no answer.
inline constexpr char kSecretCanary[] = "canary-41c9e0";

class World {
 public:
  World();
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  pb::Controller::Stub& controller() { return *controller_stub_; }
  pb::GroupController::Stub& groups() { return *group_stub_; }
  pb::Node::Stub& node(const std::string& name) { return *drivers_.at(name)->stub; }
  Machine& machine(const std::string& name) { return *machines_.at(name); }
  provisioner::FakeNodes& nodes() { return nodes_; }
  provisioner::MemoryStore& store() { return store_; }
  Fuse& fuse() { return fuse_; }

  // One call; time passes while it waits for that. Every map named secrets gets the canary.
  template <class Stub, class Request, class Response>
  grpc::Status Ask(Stub& stub,
                   grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                   Request request, Response* response) {
    AddSecret(&request);
    const SharedClock::Caller caller(&clock_);
    grpc::ClientContext context;
    const grpc::Status status = (stub.*method)(&context, request, response);
    CheckAnswer(status);
    return status;
  }

  // All programs end, and are started again: only the store, the block stores and the kernels stay.
  void Restart();
  // What is due within this time is done.
  void Settle(std::int64_t seconds = 0);
  // What is left of all volumes anywhere; empty: nothing.
  std::string Leftovers();

 private:
  class FusedStore;
  struct NodeDriver {
    VolumeWork work;
    std::unique_ptr<store::BlockStore::Stub> block_store;
    std::unique_ptr<Node> service;
    std::unique_ptr<grpc::Server> server;
    std::unique_ptr<pb::Node::Stub> stub;
  };

  void Start();
  void Stop();
  static void AddSecret(google::protobuf::Message* request);
  static void CheckAnswer(const grpc::Status& status);

  Fuse fuse_;
  SharedClock clock_;
  provisioner::MemoryStore store_;
  std::unique_ptr<FusedStore> fused_store_;
  provisioner::FakeNodes nodes_;
  std::map<std::string, std::unique_ptr<Machine>> machines_;

  std::unique_ptr<provisioner::Reconciler> reconciler_;
  std::unique_ptr<provisioner::Controller> provisioner_;
  std::unique_ptr<grpc::Service> provisioner_service_;
  std::unique_ptr<grpc::Server> provisioner_server_;
  std::unique_ptr<control::Provisioner::Stub> provisioner_stub_;
  std::unique_ptr<Controller> controller_;
  std::unique_ptr<GroupController> group_controller_;
  std::unique_ptr<grpc::Server> controller_server_;
  std::unique_ptr<pb::Controller::Stub> controller_stub_;
  std::unique_ptr<pb::GroupController::Stub> group_stub_;
  std::map<std::string, std::unique_ptr<NodeDriver>> drivers_;
};

}  // namespace keelson::csi
