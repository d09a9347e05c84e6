#pragma once
// VolumeHost: the volumes attached on a reactor by a target, that is with members that may be on
// any node, and their engines. What PoolHost is for volumes with one local copy.
//
// Owned by a Shard, used on its reactor's thread only. The Node sees to it that one call that
// changes something runs at a time for each volume; the others may come at any moment between two
// awaits of it. Close before destruction.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/engine/client_list.h"
#include "blockstore/engine/engine.h"
#include "blockstore/io/gate.h"
#include "blockstore/service/client_port.h"
#include "blockstore/service/nbd_frontend.h"
#include "blockstore/service/scrub_schedule.h"
#include "blockstore/service/volume_counters.h"
#include "proto/keelson/v1/blockstore.pb.h"

namespace keelson::service {

class VolumeHost {
 public:
  // The pointers outlive this. `segment` is for every attachment.
  VolumeHost(io::Reactor* reactor, NbdFrontend* frontend, ClientPort* client_port,
             engine::PortFactory* ports, const engine::SegmentOptions& segment)
      : reactor_(reactor),
        frontend_(frontend),
        client_port_(client_port),
        ports_(ports),
        segment_options_(segment) {}

  struct AttachMode {
    bool read_only = false;
    std::vector<engine::ListedClient> clients;  // of a new attachment
    bool show =
        true;  // false: a RemoteHost shows the volume here, as a client like others, or none
    engine::QosLimits qos;
    std::int64_t attach_limit_ns = 0;
  };
  // The URI. Without effect when it is attached in this mode under the same or a higher attachment,
  // and serves; an attachment that has ended in errors, or is lower, is ended first.
  // FAILED_PRECONDITION: attached in the other mode, or another volume of this name is. Else errors
  // of Engine::Attach, for which it asks `attach_limit_ns` at most.
  io::Task<absl::StatusOr<std::string>> Attach(engine::AttachTarget target, AttachMode mode);
  // Ends the clients and the engine. Requests that wait for members that do not answer fail.
  // OK when it is not attached.
  io::Task<absl::Status> Detach(std::string name);
  // Shows it as itself again, after a RemoteHost here has shown it. No effect when it is not
  // attached.
  void Show(const std::string& name);

  // Without effect when it is not attached here.
  void SetQos(const std::string& name, const engine::QosLimits& limits);

  // The rest are NOT_FOUND when the volume is not attached here.
  io::Task<absl::Status> AddMember(std::string name, std::uint32_t segment, replica::Member member,
                                   std::optional<replica::Member> witness);
  io::Task<absl::Status> RemoveMember(std::string name, std::uint32_t segment,
                                      pool::ReplicaId replica,
                                      std::optional<replica::Member> witness);
  io::Task<absl::Status> SetMinInSync(std::string name, std::uint32_t copies);
  // R16: the list holds at once. Completes when no request runs of a client that is not on it, or
  // with UNAVAILABLE. `attachment` is the present one, else FAILED_PRECONDITION.
  io::Task<absl::Status> SetClients(std::string name, std::uint64_t attachment,
                                    std::vector<engine::ListedClient> clients);
  // Fills the last segment up to its end first.
  io::Task<absl::Status> AddSegments(std::string name,
                                     google::protobuf::RepeatedPtrField<v1::SegmentHint> segments);
  io::Task<absl::StatusOr<v1::Volume>> Grow(std::string name, std::uint64_t size_bytes);
  // The next three: see Engine.
  io::Task<absl::StatusOr<v1::Snapshot>> CreateSnapshot(std::string name, std::string snapshot,
                                                        std::optional<pool::Uuid> hold);
  io::Task<absl::Status> HoldWrites(std::string name, pool::Uuid hold, std::int64_t duration_ns);
  absl::Status ReleaseWrites(const std::string& name, pool::Uuid hold);
  io::Task<absl::Status> DeleteSnapshot(std::string name, std::string snapshot);
  absl::StatusOr<std::vector<v1::Snapshot>> Snapshots(const std::string& name) const;
  absl::StatusOr<v1::GetVolumeStatusResponse> Status(const std::string& name) const;
  absl::Status StartScrub(const std::string& name, const engine::ScrubOptions& options);
  // Adds those that are attached, and serve.
  void AddScrubbable(std::vector<ScrubSchedule::Volume>* volumes) const;

  std::vector<v1::Volume> Volumes() const;
  std::vector<VolumeCounters> Counters() const;
  // Before the frontend's clients are waited for: see Engine.
  void LetGo();
  // Ends every attachment. The frontend's clients have been told to go.
  io::Task<void> Close();

 private:
  struct Attachment {
    std::unique_ptr<engine::Engine> engine;
    std::unique_ptr<engine::ClientList> clients;
    bool read_only = false;
    bool shown = false;  // by the frontend, as itself
  };

  absl::StatusOr<engine::Engine*> Find(const std::string& name) const;
  absl::StatusOr<engine::SegmentEngine*> FindSegment(const std::string& name,
                                                     std::uint32_t segment) const;
  v1::Volume Describe(const std::string& name, const Attachment& attachment) const;
  io::Task<void> DropClients(std::string name, bool shown, engine::ClientList* clients, bool* done);

  io::Reactor* reactor_;
  NbdFrontend* frontend_;
  ClientPort* client_port_;
  engine::PortFactory* ports_;
  const engine::SegmentOptions segment_options_;
  std::map<std::string, Attachment, std::less<>> attachments_;
  std::vector<std::string> ending_;  // volumes whose detach runs
  io::Gate gate_;
};

}  // namespace keelson::service
