#pragma once
// NbdServer: shows the volumes of an ExportDirectory to NBD clients (qemu, libnbd, fio, nbd-client)
// on any number of listeners. Each connection is an NbdSession. One reactor; every call on its
// thread. Close must have completed before the server is destroyed.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "blockstore/frontend/nbd_export.h"
#include "blockstore/frontend/nbd_session.h"
#include "blockstore/io/gate.h"
#include "blockstore/io/reactor.h"
#include "blockstore/io/stream.h"
#include "blockstore/io/sync.h"
#include "blockstore/io/task.h"

namespace keelson::frontend {

class NbdServer {
 public:
  // Both outlive the server.
  NbdServer(io::Reactor* reactor, ExportDirectory* directory, const NbdOptions& options);

  // Accepts connections until Close; OK then. A failed accept is logged and tried again: the usual
  // cause, a lack of file descriptors, passes.
  io::Task<absl::Status> Serve(std::unique_ptr<io::Listener> listener);

  // Serves one connected stream. False, with the stream closed, when there are connections_max
  // already or the server is closing.
  bool Adopt(std::unique_ptr<io::Stream> stream);

  // Ends the connections that use `name` and refuses new ones meanwhile; completes when their
  // requests have finished, after which the export's device may be destroyed.
  io::Task<void> DropExport(std::string name);

  // Stops listening, ends every connection and completes when all requests have finished and every
  // Serve is about to return. Called once.
  io::Task<void> Close();

  const NbdCounters& counters() const { return counters_; }

 private:
  io::Task<void> Accept(io::Listener* listener);
  io::Task<void> RunSession(std::unique_ptr<io::Stream> stream);
  bool UsesExport(const std::string& name) const;

  io::Reactor* reactor_;
  NbdExports exports_;
  const NbdOptions options_;
  NbdCounters counters_;
  std::vector<NbdSession*> sessions_;     // owned by their RunSession
  std::vector<io::Listener*> listeners_;  // owned by their Serve
  io::WaitList session_ended_;
  io::WaitList serve_ended_;
  io::Gate gate_;  // the sessions
  bool closing_ = false;
};

}  // namespace keelson::frontend
