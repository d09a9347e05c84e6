#pragma once
// NbdFrontend: the attached volumes of one reactor, by name, and the NBD server that shows them.
// Owned by a Shard; every call on its reactor's thread. Close before destruction.

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "blockstore/frontend/nbd_server.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/task.h"

namespace keelson::service {

class NbdFrontend final : public frontend::ExportDirectory {
 public:
  // `reactor` outlives this. `socket_path` is what uri() tells clients to connect to.
  NbdFrontend(io::Reactor* reactor, std::string socket_path);

  // Accepts clients on `listener` until Close.
  void Serve(std::unique_ptr<io::Listener> listener);

  // `device` stays valid until Remove(name) has completed.
  void Add(const std::string& name, engine::BlockDevice* device);
  // Ends the clients of `name`; completes when none of their requests runs any more.
  io::Task<void> Remove(std::string name);
  // Ends all clients and stops listening. Called once.
  io::Task<void> Close();

  // nbd+unix:///NAME?socket=PATH
  std::string Uri(std::string_view name) const;
  const frontend::NbdCounters& counters() const { return server_.counters(); }

  std::vector<std::string> Names() override;
  engine::BlockDevice* Find(std::string_view name) override;

 private:
  io::Task<void> RunServer(std::unique_ptr<io::Listener> listener);

  const std::string socket_path_;
  std::map<std::string, engine::BlockDevice*, std::less<>> devices_;
  frontend::NbdServer server_;
  io::Gate gate_;
};

}  // namespace keelson::service
