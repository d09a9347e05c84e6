#pragma once
// The commands of keelctl on volumes that live on several nodes. Until there is a provisioner these
// decide who the members are, and mint attachments. They print to `out` and return an error, or OK.

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "provisioner/ctl/cluster.h"
#include "provisioner/ctl/commands.h"
#include "provisioner/ctl/placement.h"

namespace keelson::ctl {

struct ClusterArguments {
  std::string name;
  std::string source;  // VOLUME@SNAPSHOT, of a clone
  std::uint64_t size_bytes = 0;
  std::uint64_t segment_bytes = 0;  // 0: one segment, or as it fits into the pools
  std::size_t replicas = 1;
  std::uint32_t min_in_sync = 0;         // 0: by the number of copies
  std::optional<std::uint32_t> segment;  // of `replica`: this one; else all
  std::string on;                        // a node
  std::string from;                      // and these, of `replica replace`
  std::string to;
  bool force = false;
  std::vector<std::string> force_from;  // replicas to go on from alone, one of a segment (R14)
  bool lose_newer_writes = false;       // and that what they may lack is lost
  bool read_only = false;
  v1::Frontend frontend = v1::FRONTEND_NBD;
};

absl::Status AttachOnNode(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                          std::ostream* out);
// From every node where it is attached, or to be resumed.
absl::Status DetachFromNodes(const Cluster& cluster, const ClusterArguments& arguments);
absl::Status DeleteFromNodes(const Cluster& cluster, const ClusterArguments& arguments);
absl::Status ListOnNodes(const Cluster& cluster, Output output, std::ostream* out);
absl::Status ShowStatus(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                        std::ostream* out);
absl::Status ShowWhy(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                     std::ostream* out);

// The socket of the node that serves the volume, for the commands of one daemon.
absl::StatusOr<std::string> ServingSocket(const Cluster& cluster, const std::string& volume);

// --- create_commands.cc ---
absl::Status CreateOnNodes(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                           std::ostream* out);
// In the pools of the copies that have everything, with which it shares its space.
absl::Status CloneOnNodes(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                          std::ostream* out);
// Makes the segments that an attached volume of this size needs beyond those it has.
absl::Status GrowOnNodes(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                         std::ostream* out);

// --- replica_commands.cc ---
absl::Status AddReplicaOnNode(const Cluster& cluster, const ClusterArguments& arguments);
absl::Status RemoveReplicaFromNode(const Cluster& cluster, const ClusterArguments& arguments);
// Adds, waits until the copy has everything, removes. Goes on where an earlier call was ended.
absl::Status ReplaceReplica(const Cluster& cluster, const ClusterArguments& arguments,
                            Output output, std::ostream* out);

// --- client_commands.cc ---
// Shows a volume that is attached elsewhere on a further node; prints the URI there.
absl::Status AddClientNode(const Cluster& cluster, const ClusterArguments& arguments, Output output,
                           std::ostream* out);
// Returns when no request of the node runs any more.
absl::Status RemoveClientNode(const Cluster& cluster, const ClusterArguments& arguments);
absl::Status ListClientNodes(const Cluster& cluster, const ClusterArguments& arguments,
                             Output output, std::ostream* out);
// The nodes that show the volume as clients, with new tickets, for an attachment on node `to`; and
// when that serves, pointing them there.
std::vector<v1::VolumeClient> ClientsToTakeAlong(const std::vector<NodeAnswer>& nodes,
                                                 const std::string& to);
absl::Status PointClients(const Cluster& cluster, const std::vector<NodeAnswer>& nodes,
                          const std::string& to, const v1::AttachVolumeRequest& attached);

// What these files need.
std::string RandomId();
v1::Member MemberAt(const Place& place, const std::string& replica_id, bool witness);

}  // namespace keelson::ctl
