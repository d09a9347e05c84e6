#pragma once
// ClientPort: where other nodes reach the volumes that are attached here (R16): an NBD server on
// TCP whose clients ask for VOLUME/ATTACHMENT/TICKET, and get a session of that attachment's client
// list. Whatever is wrong with the three, and an attachment that is fenced, is no such export.
//
// Owned by a Shard; every call on its reactor's thread. Close before destruction.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "blockstore/engine/client_list.h"
#include "blockstore/engine/engine.h"
#include "blockstore/frontend/client_name.h"
#include "blockstore/frontend/nbd_server.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"

namespace keelson::service {

class ClientPort final : public frontend::ExportDirectory {
 public:
  explicit ClientPort(io::Reactor* reactor);

  void Serve(std::unique_ptr<io::Listener> listener);

  // An attached volume and its list, which stay until Remove; after that nothing new is opened, and
  // the list's Close waits for what is open.
  void Add(const std::string& volume, engine::Engine* engine, engine::ClientList* clients);
  void Remove(const std::string& volume);
  // Ends all connections and stops listening. Called once.
  io::Task<void> Close();

  const frontend::NbdCounters& counters() const { return server_.counters(); }

  // --- ExportDirectory ---
  std::vector<std::string> Names() override { return {}; }  // nobody is told
  engine::BlockDevice* Find(std::string_view) override { return nullptr; }
  frontend::Export Describe(std::string_view asked) override;
  io::Task<std::unique_ptr<engine::BlockDevice>> Open(std::string asked,
                                                      absl::AnyInvocable<void()> end) override;
  bool SharesDevices() const override { return false; }

 private:
  struct Volume {
    engine::Engine* engine = nullptr;
    engine::ClientList* clients = nullptr;
  };

  // nullptr: it is not served under that attachment.
  const Volume* Serves(const frontend::ClientName& name) const;
  io::Task<void> RunServer(std::unique_ptr<io::Listener> listener);

  std::map<std::string, Volume, std::less<>> volumes_;
  // Programs here may use a volume whose engine is there, and those there one whose engine is here:
  // what comes from there must not wait for buffers that are held for what goes there.
  io::BufferPool buffers_;
  frontend::NbdServer server_;
  io::Gate gate_;
};

}  // namespace keelson::service
