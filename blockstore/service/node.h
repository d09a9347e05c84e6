#pragma once
// Node: the daemon's pools and volumes as one thing: it knows in which pool a volume is, keeps
// names unique, remembers its pools, and carries administrative calls from any thread to the
// reactor that owns the pool. No I/O of volumes passes here.
//
// Lifecycle: Start (locks the directories, starts reactors, listens for NBD), OpenPools (until then
// every call is UNAVAILABLE), calls from any thread, Stop when no call runs any more.
// A call waits for the reactor as long as its disk takes; what it may have to wait for *another*
// call of the same pool is limited to kPatience. Errors are those of
// proto/keelson/v1/blockstore.proto.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockstore/io/reactor.h"
#include "blockstore/service/change_lock.h"
#include "blockstore/service/host_files.h"
#include "blockstore/service/loop_frontend.h"
#include "blockstore/service/node_state.h"
#include "blockstore/service/open_pool.h"
#include "blockstore/service/pool_host.h"
#include "blockstore/service/retry.h"
#include "blockstore/service/shard.h"
#include "proto/keelson/v1/blockstore.pb.h"

namespace keelson::service {

struct NodeOptions {
  std::string state_directory = "/var/lib/keelson";
  std::string run_directory = "/run/keelson";  // nbd.sock, or nbd-<i>.sock with several reactors
  std::vector<std::string> pools;              // directories to open beside the recorded ones
  io::Backend backend = io::Backend::kAuto;
  std::size_t reactor_count = 1;
  std::size_t buffer_bytes = std::size_t{32} << 20;    // of each reactor
  std::optional<io::Address> nbd_tcp;                  // only with one reactor
  std::optional<io::Address> data_listen;              // only with one reactor
  std::string data_address;                            // what others dial; empty: data_listen
  std::optional<io::Address> client_listen;            // only with one reactor
  std::string client_address;                          // what others dial; empty: client_listen
  frontend::RemoteVolumeOptions remote;                // of volumes that other nodes serve
  engine::SegmentOptions segment;                      // of volumes with copies on several nodes
  std::int64_t scrub_interval_ns = 0;                  // of each attached volume; 0: off
  std::uint64_t scrub_bytes_per_second = 0;            // of each reactor; 0: as fast as it goes
  std::int64_t lock_patience_ns = kLockPatienceNanos;  // for a killed one's pools, sockets
};

// What a scrape found. Missing shards did not answer in time.
struct NodeSnapshot {
  struct UnopenedPool {
    std::string directory;
  };
  std::vector<ShardSnapshot> shards;
  std::vector<UnopenedPool> unopened;
  std::size_t timeouts = 0;
};

class Node {
 public:
  static constexpr std::chrono::seconds kPatience{10};

  static absl::StatusOr<std::unique_ptr<Node>> Start(const NodeOptions& options);
  // REQUIRES: Stop has run.
  ~Node();

  // Opens the pools and resumes the attachments of an earlier run. A pool that does not open is
  // logged and listed with its error; the others are served.
  void OpenPools();
  // Pool checks under way end soon with CANCELLED, and none begins: the daemon is about to stop.
  void CancelChecks() { cancel_checks_ = true; }
  // Ends everything in order; the attachments are resumed by the next Start.
  void Stop();

  absl::Status CreatePool(const v1::CreatePoolRequest& request, v1::CreatePoolResponse* response);
  absl::Status ListPools(const v1::ListPoolsRequest& request, v1::ListPoolsResponse* response);
  absl::Status CheckPool(const v1::CheckPoolRequest& request, v1::CheckPoolResponse* response);
  absl::StatusOr<std::vector<std::string>> DumpPool(const v1::DumpPoolRequest& request);

  absl::Status CreateVolume(const v1::CreateVolumeRequest& request,
                            v1::CreateVolumeResponse* response);
  absl::Status ListVolumes(const v1::ListVolumesRequest& request,
                           v1::ListVolumesResponse* response);
  absl::Status DeleteVolume(const v1::DeleteVolumeRequest& request,
                            v1::DeleteVolumeResponse* response);
  absl::Status CreateSnapshot(const v1::CreateSnapshotRequest& request,
                              v1::CreateSnapshotResponse* response);
  absl::Status HoldWrites(const v1::HoldWritesRequest& request, v1::HoldWritesResponse* response);
  absl::Status ReleaseWrites(const v1::ReleaseWritesRequest& request,
                             v1::ReleaseWritesResponse* response);
  absl::Status DeleteSnapshot(const v1::DeleteSnapshotRequest& request,
                              v1::DeleteSnapshotResponse* response);
  absl::Status ListSnapshots(const v1::ListSnapshotsRequest& request,
                             v1::ListSnapshotsResponse* response);
  // Hand the list to `send`, part by part, until it returns false: then they are CANCELLED.
  using SendBlocks = absl::FunctionRef<bool(const v1::ListBlocksResponse&)>;
  absl::Status ListAllocated(const v1::ListAllocatedRequest& request, SendBlocks send);
  absl::Status ListChanged(const v1::ListChangedRequest& request, SendBlocks send);
  absl::Status CloneVolume(const v1::CloneVolumeRequest& request,
                           v1::CloneVolumeResponse* response);
  absl::Status GrowVolume(const v1::GrowVolumeRequest& request, v1::GrowVolumeResponse* response);
  absl::Status AttachVolume(const v1::AttachVolumeRequest& request,
                            v1::AttachVolumeResponse* response);
  absl::Status DetachVolume(const v1::DetachVolumeRequest& request,
                            v1::DetachVolumeResponse* response);
  absl::Status SetQos(const v1::SetQosRequest& request, v1::SetQosResponse* response);
  absl::Status SetClients(const v1::SetClientsRequest& request, v1::SetClientsResponse* response);
  absl::Status GetVolumeStatus(const v1::GetVolumeStatusRequest& request,
                               v1::GetVolumeStatusResponse* response);
  absl::Status ScrubVolume(const v1::ScrubVolumeRequest& request,
                           v1::ScrubVolumeResponse* response);

  absl::Status GetNode(const v1::GetNodeRequest& request, v1::GetNodeResponse* response);
  absl::Status CreateReplica(const v1::CreateReplicaRequest& request,
                             v1::CreateReplicaResponse* response);
  absl::Status DeleteReplica(const v1::DeleteReplicaRequest& request,
                             v1::DeleteReplicaResponse* response);
  absl::Status ListReplicas(const v1::ListReplicasRequest& request,
                            v1::ListReplicasResponse* response);
  absl::Status AddReplica(const v1::AddReplicaRequest& request, v1::AddReplicaResponse* response);
  absl::Status RemoveReplica(const v1::RemoveReplicaRequest& request,
                             v1::RemoveReplicaResponse* response);
  absl::Status SetMinInSync(const v1::SetMinInSyncRequest& request,
                            v1::SetMinInSyncResponse* response);

  // The counters of all reactors; waits at most `patience` for those that are stuck.
  NodeSnapshot Snapshot(std::chrono::milliseconds patience);

 private:
  // A pool this daemon knows, by directory. Never removed while the Node lives.
  struct Slot {
    std::string directory;
    Shard* shard = nullptr;
    ChangeLock changes;
    // Under tables_mutex_:
    PoolHost* host = nullptr;  // the shard's; null while not open
    std::string id;            // once opened
    std::string error;         // why it is not open
    bool copied = false;       // another one has its identity
  };

  explicit Node(NodeOptions options);
  absl::Status Ready() const;
  absl::Status StartShards();

  // --- node.cc: pools ---
  Slot* SlotFor(const std::string& directory);
  void RefuseCopies();
  void Opened(Slot* slot, const absl::StatusOr<PoolHost*>& host);
  void IndexVolumes(Slot* slot);
  absl::StatusOr<Slot*> FindPool(std::string_view pool);
  std::vector<Slot*> OpenSlots();
  absl::Status MakePool(const v1::CreatePoolRequest& request, const std::string& directory);

  // --- node_volumes.cc: volumes ---
  absl::StatusOr<Slot*> FindVolume(std::string_view name);
  absl::StatusOr<Slot*> PoolWithMostSpace();
  absl::Status ReserveName(const std::string& name, Slot* slot);
  void ReleaseName(const std::string& name);
  // Runs `make(host)`, a coroutine that returns T, on the pool's reactor, as its only change.
  template <typename T>
  absl::StatusOr<T> Change(Slot* slot, std::string_view operation,
                           absl::FunctionRef<io::Task<absl::StatusOr<T>>(PoolHost*)> make);
  absl::Status Change(Slot* slot, std::string_view operation,
                      absl::FunctionRef<io::Task<absl::Status>(PoolHost*)> make);

  // --- node_blocks.cc: lists of a snapshot's blocks ---
  struct BlockListing {
    std::string volume;
    PoolHost::SnapshotRef snapshot, base;  // base: empty for all blocks that are no holes
    std::optional<std::uint32_t> segment;  // absent: all
    std::uint64_t from_offset = 0;
    std::uint64_t count_max = 0;
  };
  absl::Status ListBlocks(const BlockListing& listing, SendBlocks send);
  // Of one segment, from a copy in any pool of this daemon.
  absl::StatusOr<PoolHost::SegmentBlocks> ListSegment(const BlockListing& listing,
                                                      std::uint32_t segment,
                                                      std::uint64_t from_offset,
                                                      std::size_t ranges_max);

  // --- node_qos.cc: limits of what clients may ask for ---
  // Remembers them for the attachment; what serves has them when ApplyQos has run.
  absl::Status RememberQos(const std::string& name, const engine::QosLimits& limits);
  void ApplyQos(const std::string& name, const engine::QosLimits& limits);

  absl::Status AttachServed(const v1::AttachVolumeRequest& request,
                            v1::AttachVolumeResponse* response);
  absl::Status DetachServed(const std::string& name, bool client_only);

  // --- node_devices.cc: volumes shown as block devices (the frontend loop) ---
  // One change of a volume's device at a time.
  absl::StatusOr<ChangeLock::Guard> LockDevice(const std::string& name, std::string_view operation);
  // The reactor that serves the volume, or nullptr.
  Shard* ServingShard(const std::string& name);
  absl::Status AttachWithFrontend(const v1::AttachVolumeRequest& request,
                                  v1::AttachVolumeResponse* response);
  absl::Status AttachWithDevice(const v1::AttachVolumeRequest& request,
                                v1::AttachVolumeResponse* response);
  // An engine beneath the device of a client, or another engine for that client.
  absl::Status AttachBeneath(const v1::AttachVolumeRequest& request,
                             v1::AttachVolumeResponse* response);
  // Of a volume that has a device: the device, when it is what the request asks for.
  absl::Status AttachAgain(const v1::AttachVolumeRequest& request,
                           v1::AttachVolumeResponse* response);
  absl::StatusOr<LoopFrontend::Device> MakeDevice(const std::string& name, bool read_only);
  absl::Status GrowDevice(const std::string& name);
  // Goes on with the devices of an earlier daemon. False: something is left to be tried.
  bool ResumeDevices();
  bool ResumeDevice(const std::string& name);
  // Whether nothing will ever serve the volume again, although it is remembered with a device.
  bool IsForgotten(const std::string& name);
  template <typename Message>
  void DescribeDevice(const std::string& name, Message* message);

  // --- node_targets.cc: volumes attached by a target ---
  absl::StatusOr<ChangeLock::Guard> LockVolume(const std::string& name, std::string_view operation);
  // Where it is attached, or nullptr.
  Shard* AttachedOn(const std::string& name);
  Shard* ShardFor(const engine::AttachTarget& target);
  // REQUIRES: the volume's lock is held.
  absl::StatusOr<std::string> AttachRemembered(const std::string& name,
                                               const RememberedAttachment& attachment,
                                               std::int64_t attach_limit_ns);
  absl::Status AttachTo(const v1::AttachVolumeRequest& request, v1::AttachVolumeResponse* response);
  absl::Status DetachFrom(const std::string& name);
  absl::Status DetachLocked(const std::string& name);  // REQUIRES: the volume's lock is held
  // Changes the members of an attached volume, and remembers those that it has then. NOT_FOUND.
  absl::Status ChangeMembers(const std::string& name, std::string_view operation,
                             absl::FunctionRef<io::Task<absl::Status>(VolumeHost*)> make);
  // Runs `make(volumes)` where the volume is attached, as its only change. NOT_FOUND.
  template <typename T>
  absl::StatusOr<T> ChangeAttached(
      const std::string& name, std::string_view operation,
      absl::FunctionRef<io::Task<absl::StatusOr<T>>(VolumeHost*)> make);
  absl::Status ChangeAttached(const std::string& name, std::string_view operation,
                              absl::FunctionRef<io::Task<absl::Status>(VolumeHost*)> make);
  // --- node_clients.cc: other nodes ---
  absl::Status AttachRemote(const v1::AttachVolumeRequest& request,
                            v1::AttachVolumeResponse* response);
  absl::Status DetachRemote(const std::string& name);
  bool ResumeRemote(const std::string& name);
  bool ShownRemotely(const std::string& name);
  // False: it is neither shown as a client's, nor to be.
  bool AddRemoteStatus(const std::string& name, v1::GetVolumeStatusResponse* response);
  Shard* RemoteShard() { return shards_.front().get(); }

  // Tries to resume what is remembered and not attached. False: something is left to be tried.
  bool ResumeAttachments();
  bool ResumeAttachment(const std::string& name);

  const NodeOptions options_;
  NodeState state_;
  FileLock state_lock_;
  FileLock run_lock_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::unique_ptr<LoopFrontend> devices_;
  std::atomic<bool> ready_{false};
  std::atomic<bool> cancel_checks_{false};
  ChangeLock pool_creation_;
  std::unique_ptr<Retry> resuming_;

  std::mutex tables_mutex_;  // never held while waiting for a reactor
  std::vector<std::unique_ptr<Slot>> slots_;
  std::map<std::string, Slot*, std::less<>> volumes_;    // names, also of those being made
  std::map<std::string, Shard*, std::less<>> attached_;  // by a target
  std::map<std::string, std::string> resume_errors_;     // why a volume is not resumed yet
  // Of volumes attached by a target; made when first needed, kept as long as the Node.
  std::map<std::string, std::unique_ptr<ChangeLock>> volume_locks_;
  std::map<std::string, std::unique_ptr<ChangeLock>> device_locks_;  // as volume_locks_
  std::map<std::string, std::string> device_errors_;  // why a device is not resumed yet
};

}  // namespace keelson::service
