#pragma once
// BlockStores: the block stores of the nodes, as the provisioner calls them, and what each was last
// heard to have. Calls block, have deadlines, and end in the block store's own errors; UNAVAILABLE
// and DEADLINE_EXCEEDED also mean that it does not answer. Any thread.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/keelson/v1/blockstore.pb.h"
#include "provisioner/reconcile/clock.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace keelson::provisioner {

// The calls to one block store. One for each use; cheap.
class BlockStore {
 public:
  BlockStore(std::string node, std::shared_ptr<grpc::Channel> channel)
      : node_(std::move(node)), channel_(std::move(channel)) {}

  const std::string& node() const { return node_; }

  absl::StatusOr<v1::GetNodeResponse> GetNode() const;
  absl::StatusOr<v1::ListReplicasResponse> ListReplicas(
      const v1::ListReplicasRequest& request) const;
  absl::StatusOr<v1::CreateReplicaResponse> CreateReplica(
      const v1::CreateReplicaRequest& request) const;
  absl::Status DeleteReplica(const v1::DeleteReplicaRequest& request) const;
  absl::StatusOr<v1::AttachVolumeResponse> AttachVolume(
      const v1::AttachVolumeRequest& request) const;
  enum class Part {
    kAll,
    kClient,  // what shows it as a client of an engine
    kEngine,  // the engine beneath such a client
  };
  absl::Status DetachVolume(const std::string& volume, Part part) const;
  absl::Status SetClients(const v1::SetClientsRequest& request) const;
  absl::StatusOr<v1::GetVolumeStatusResponse> GetVolumeStatus(const std::string& volume) const;
  absl::Status GrowVolume(const v1::GrowVolumeRequest& request) const;
  // `hold_id`: cut under that hold; empty: under none.
  absl::StatusOr<v1::Snapshot> CreateSnapshot(const std::string& volume, const std::string& name,
                                              const std::string& hold_id) const;
  absl::Status HoldWrites(const std::string& volume, const std::string& hold_id,
                          std::uint32_t limit_ms) const;
  absl::Status ReleaseWrites(const std::string& volume, const std::string& hold_id) const;
  absl::StatusOr<std::vector<v1::Snapshot>> ListSnapshots(const std::string& volume) const;
  absl::Status DeleteSnapshot(const std::string& volume, const std::string& name) const;
  // All parts as one answer; count_max bounds it, also when the block store does not.
  absl::StatusOr<v1::ListBlocksResponse> ListAllocated(
      const v1::ListAllocatedRequest& request) const;
  absl::StatusOr<v1::ListBlocksResponse> ListChanged(const v1::ListChangedRequest& request) const;
  absl::Status AddReplica(const v1::AddReplicaRequest& request) const;
  absl::Status RemoveReplica(const v1::RemoveReplicaRequest& request) const;
  absl::Status SetMinInSync(const std::string& volume, std::uint32_t copies) const;
  absl::Status SetQos(const std::string& volume, const v1::Qos& qos) const;

 private:
  std::string node_;
  std::shared_ptr<grpc::Channel> channel_;
};

// A channel to the block store at an address of a node's record. UNAVAILABLE: nobody listens.
using Dialer =
    std::function<absl::StatusOr<std::shared_ptr<grpc::Channel>>(const std::string& address)>;
// "unix:/path".
absl::StatusOr<std::shared_ptr<grpc::Channel>> DialUnix(const std::string& address);

// What is known of a node.
struct NodeView {
  bool heard = false;               // since this program began
  bool answers = false;             // to the last question
  std::int64_t last_answer_ns = 0;  // clock.SteadyNanos
  std::int64_t last_answer_unix_ns = 0;
  std::int64_t silent_since_ns = 0;  // clock.SteadyNanos; 0: it answers
  std::string error;                 // why it does not answer
  v1::GetNodeResponse node;          // as it last answered
};

class BlockStores {
 public:
  BlockStores(Clock* clock, Dialer dialer) : clock_(clock), dialer_(std::move(dialer)) {}

  // Connects, or uses the connection that there is. UNAVAILABLE.
  absl::StatusOr<BlockStore> To(const std::string& node, const std::string& address);
  // Asks the node and remembers the answer. True: it answers now and did not before, the other
  // way round, or its pools are others or in another state.
  bool Ask(const std::string& node, const std::string& address);
  NodeView View(const std::string& node) const;
  std::map<std::string, NodeView> Views() const;
  void Forget(const std::string& node);

 private:
  struct Connection {
    std::string address;
    std::shared_ptr<grpc::Channel> channel;
  };

  Clock* clock_;
  const Dialer dialer_;
  mutable std::mutex mutex_;
  std::map<std::string, Connection> connections_;
  std::map<std::string, NodeView> views_;
};

}  // namespace keelson::provisioner
