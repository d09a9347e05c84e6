#pragma once
// What FakeNodes keep of one node. For the sources of FakeNodes alone.

#include <map>
#include <memory>
#include <set>
#include <string>

#include "tests/unit/provisioner/service/fake_nodes.h"

namespace keelson::provisioner {

struct FakeNodes::State {
  std::string name;
  std::uint64_t capacity_bytes = 0;
  bool down = false;
  bool lacking = false;
  std::string pool_error;
  std::map<std::string, Replica> replicas;  // by id
  std::map<std::string, Engine> engines;    // by volume name
  std::map<std::string, Shown> shown;       // by volume name
  std::set<std::string> in_use;             // volumes
  std::unique_ptr<v1::BlockStore::Service> service;
  std::unique_ptr<grpc::Server> server;
};

}  // namespace keelson::provisioner
