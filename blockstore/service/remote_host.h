#pragma once
// RemoteHost: the volumes that this node shows and an engine serves that is reached over the
// network (R16). What VolumeHost is for volumes whose engine is here.
//
// Owned by a Shard, used on its reactor's thread only. The Node sees to it that one call that
// changes something runs at a time for each volume. Close before destruction.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/frontend/remote_volume.h"
#include "blockstore/io/gate.h"
#include "blockstore/service/nbd_frontend.h"
#include "proto/keelson/v1/blockstore.pb.h"

namespace keelson::service {

class RemoteHost {
 public:
  // The pointers outlive this. `options` are for every volume.
  RemoteHost(io::Reactor* reactor, NbdFrontend* frontend,
             const frontend::RemoteVolumeOptions& options)
      : reactor_(reactor), frontend_(frontend), options_(options) {}

  // The URI, when the engine has been reached, for which it waits `limit_ns` at most. One that is
  // shown already is pointed to the target, in place, also when that is not reached in time; with
  // nothing new it learns its size. FAILED_PRECONDITION: the attachment is lower than the present
  // one, the volume has ended in errors, or another one of this name is attached here. UNAVAILABLE:
  // why the engine is not reached.
  io::Task<absl::StatusOr<std::string>> Attach(std::string name, frontend::RemoteTarget target,
                                               std::int64_t limit_ns);
  // Ends the clients. Requests that wait for the engine fail. OK when it is not shown.
  io::Task<void> Detach(std::string name);

  bool Shows(std::string_view name) const { return volumes_.find(name) != volumes_.end(); }
  // Of the engine that it is pointed to; 0: it is not shown.
  std::uint64_t AttachmentOf(std::string_view name) const;
  // Fills `remote`, and what the volume looks like here if nothing is said about it yet. False: it
  // is not shown.
  bool AddStatus(const std::string& name, v1::GetVolumeStatusResponse* status) const;
  std::vector<v1::Volume> Volumes() const;

  // Fails every call, so that the frontend's clients come to their end.
  void EndAll();
  // Ends every volume. The frontend has none of them any more.
  io::Task<void> Close();

 private:
  io::Task<absl::Status> WaitForEngine(frontend::RemoteVolume* volume, std::string name,
                                       std::int64_t limit_ns);
  io::Task<void> DropClients(std::string name, bool* done);

  io::Reactor* reactor_;
  NbdFrontend* frontend_;
  const frontend::RemoteVolumeOptions options_;
  std::map<std::string, std::unique_ptr<frontend::RemoteVolume>, std::less<>> volumes_;
  io::Gate gate_;
};

}  // namespace keelson::service
