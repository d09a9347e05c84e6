#pragma once
// NbdFrontend: the attached volumes of one reactor, by name, and the NBD server that shows those
// that have no other frontend (then they are hidden here). Owned by a Shard; every call on its
// reactor's thread. Close before destruction.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "blockstore/frontend/nbd_server.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/task.h"
#include "blockstore/service/fuse_frontend.h"

namespace keelson::service {

class NbdFrontend final : public frontend::ExportDirectory {
 public:
  // `reactor` and `files` outlive this. `socket_path` is what uri() tells clients to connect to.
  NbdFrontend(io::Reactor* reactor, FuseFrontend* files, std::string socket_path);

  // Accepts clients on `listener` until Close.
  void Serve(std::unique_ptr<io::Listener> listener);

  // `device` stays valid until Remove(name) has completed.
  void Add(const std::string& name, engine::BlockDevice* device);
  // Ends the clients of `name`, and lets its FUSE file give errors; completes when none of their
  // requests runs any more.
  io::Task<void> Remove(std::string name);
  // The device, hidden or not; nullptr: none of that name is attached.
  engine::BlockDevice* Attached(std::string_view name) const;
  // From now on it is not offered to NBD clients; those that have it lose it.
  io::Task<void> Hide(std::string name);
  void Unhide(const std::string& name) { hidden_.erase(name); }
  // Ends all clients and stops listening. Called once.
  io::Task<void> Close();

  // nbd+unix:///NAME?socket=PATH
  std::string Uri(std::string_view name) const;
  const frontend::NbdCounters& counters() const { return server_.counters(); }

  std::vector<std::string> Names() override;
  engine::BlockDevice* Find(std::string_view name) override;

 private:
  io::Task<void> RunServer(std::unique_ptr<io::Listener> listener);

  FuseFrontend* files_;
  const std::string socket_path_;
  std::map<std::string, engine::BlockDevice*, std::less<>> devices_;
  std::set<std::string, std::less<>> hidden_;
  frontend::NbdServer server_;
  io::Gate gate_;
};

}  // namespace keelson::service
