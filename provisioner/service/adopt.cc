// Controller: records made from what the pools hold, when the records were lost.
//
// A block store knows a volume by our id, whose key is the hash of its name, and its snapshots by
// theirs: so a repeated CreateVolume or CreateSnapshot finds what was adopted although the names
// themselves are gone. What is lost for good: names, limits of requests, locality, which snapshots
// were one group.

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_macros.h"
#include "provisioner/reconcile/attachments.h"
#include "provisioner/reconcile/ids.h"
#include "provisioner/service/controller.h"

namespace keelson::provisioner {
namespace {

struct Found {
  std::string uuid;
  std::uint64_t promised = 0;
  std::map<std::uint32_t, v1::Configuration> segments;  // the highest that any replica has
  std::string serving_node;
  std::uint64_t serving_attachment = 0;
  bool read_only = false;
  bool shared = false;                  // its engine has no frontend
  std::map<std::string, bool> clients;  // of the engine: nodes, and whether they only read
};

// Of two configurations of one segment the newer one is the greater (docs/protocol.md, "Force").
auto VersionOf(const v1::Configuration& configuration) {
  return std::make_tuple(configuration.forced_attachment(), configuration.attachment(),
                         configuration.restart(), configuration.engine_id(),
                         configuration.counter());
}

// What the nodes hold, by the volumes' ids.
std::map<std::string, Found> Gather(const Environment& environment,
                                    std::map<std::string, std::string>* node_of_pool,
                                    api::AdoptResponse* response) {
  std::map<std::string, Found> found;
  for (const auto& row : environment.records->nodes().All()) {
    const absl::StatusOr<BlockStore> store = environment.StoreOf(row.key);
    absl::StatusOr<v1::GetNodeResponse> node =
        store.ok() ? store->GetNode() : absl::StatusOr<v1::GetNodeResponse>(store.status());
    absl::StatusOr<v1::ListReplicasResponse> replicas =
        node.ok() ? store->ListReplicas({})
                  : absl::StatusOr<v1::ListReplicasResponse>(node.status());
    if (!replicas.ok()) {
      response->add_problems(absl::StrCat("node ", row.key,
                                          " does not answer, so what only it has is not found: ",
                                          std::string(replicas.status().message())));
      continue;
    }
    for (const v1::Pool& pool : node->pools()) (*node_of_pool)[pool.id()] = row.key;
    for (const v1::Replica& replica : replicas->replicas()) {
      if (KeyOfId(kVolumePrefix, replica.volume()).empty()) continue;  // made by hand
      Found& volume = found[replica.volume()];
      volume.uuid = replica.volume_id();
      volume.promised = std::max(volume.promised, replica.promised_attachment());
      if (!replica.has_configuration()) continue;
      v1::Configuration& highest = volume.segments[replica.segment()];
      if (highest.members().empty() || VersionOf(highest) < VersionOf(replica.configuration())) {
        highest = replica.configuration();
      }
    }
    for (auto& [id, volume] : found) {
      const absl::StatusOr<v1::GetVolumeStatusResponse> status = store->GetVolumeStatus(id);
      if (!status.ok() || !status->attached()) continue;
      if (status->attachment() < volume.serving_attachment) continue;
      volume.serving_node = row.key;
      volume.serving_attachment = status->attachment();
      volume.read_only = status->read_only();
      // What such a node shows, if anything, it shows as a client.
      volume.shared = status->has_remote() || (status->uri().empty() && status->device().empty());
      volume.clients.clear();
      for (const v1::ClientStatus& client : status->clients()) {
        if (!client.leaving()) volume.clients[client.node()] = client.read_only();
      }
    }
  }
  return found;
}

absl::StatusOr<rec::VolumeRecord> RecordOf(const std::string& id, const Found& volume,
                                           const std::map<std::string, std::string>& node_of_pool,
                                           const Clock& clock) {
  const auto first = volume.segments.find(0);
  if (first == volume.segments.end()) {
    return absl::NotFoundError("no replica of its first segment has a readable configuration");
  }
  const std::uint32_t count = std::max(1U, first->second.segment_count());
  rec::VolumeRecord record;
  record.set_id(id);
  record.set_uuid(volume.uuid);
  record.set_created_unix_ns(clock.UnixNanos());
  record.set_state(rec::VolumeRecord::READY);
  record.set_segment_bytes(first->second.segment_bytes());
  record.set_attachments(volume.promised);
  std::uint32_t copies = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto found = volume.segments.find(i);
    if (found == volume.segments.end()) {
      return absl::NotFoundError(absl::StrCat("no replica of its segment ", i, " was found"));
    }
    rec::SegmentRecord* const segment = record.add_segments();
    segment->set_size_bytes(found->second.size_bytes());
    std::uint32_t here = 0;
    for (const v1::Member& member : found->second.members()) {
      rec::ReplicaRecord* const replica = segment->add_replicas();
      replica->set_replica_id(member.replica_id());
      replica->set_pool_id(member.pool_id());
      replica->set_witness(member.witness());
      replica->set_life(rec::ReplicaRecord::MEMBER);
      replica->set_data_address(member.address());
      const auto node = node_of_pool.find(member.pool_id());
      if (node == node_of_pool.end()) {
        return absl::UnavailableError(absl::StrCat("its member in pool ", member.pool_id(),
                                                   " is on no node that answers; bring it back"));
      }
      replica->set_node(node->second);
      here += member.witness() ? 0 : 1;
    }
    copies = std::max(copies, here);
    record.set_made_bytes(record.made_bytes() + segment->size_bytes());
  }
  record.set_size_bytes(record.made_bytes());
  record.mutable_settings()->set_replicas(copies);
  record.mutable_settings()->set_min_in_sync(std::clamp(first->second.min_in_sync(), 1U, copies));
  record.mutable_settings()->set_data_locality("disabled");
  record.mutable_settings()->set_frontend("auto");
  if (!volume.serving_node.empty()) {
    rec::AttachmentRecord* const attachment = record.mutable_attachment();
    attachment->set_node(volume.serving_node);
    attachment->set_number(volume.serving_attachment);
    attachment->set_read_only(volume.read_only);
    attachment->set_served(true);
    attachment->set_shared(volume.shared);
    // For whom is not known; the next PublishVolume there says it.
    if (!volume.shared) record.add_publications()->set_node(volume.serving_node);
    for (const auto& [node, only_reads] : volume.clients) {
      rec::PublicationRecord* const publication = record.add_publications();
      publication->set_node(node);
      publication->set_read_only(only_reads);
      publication->set_ticket(RandomHex(kTicketDigits));  // theirs are lost, too
    }
    record.set_attachments(std::max(record.attachments(), volume.serving_attachment));
  }
  return record;
}

}  // namespace

void Controller::AdoptSnapshots(const rec::VolumeRecord& volume, bool dry_run,
                                api::AdoptResponse* response) {
  std::map<std::string, v1::Snapshot> snapshots;
  std::map<std::string, std::map<std::uint32_t, std::uint64_t>> sizes;  // of each, by segment
  bool all_answer = true;
  for (const rec::SegmentRecord& segment : volume.segments()) {
    for (const rec::ReplicaRecord& replica : segment.replicas()) {
      const absl::StatusOr<BlockStore> store = reconciler_->environment().StoreOf(replica.node());
      v1::ListReplicasRequest request;
      request.set_snapshots_of(volume.id());
      const absl::StatusOr<v1::ListReplicasResponse> replicas =
          store.ok() ? store->ListReplicas(request)
                     : absl::StatusOr<v1::ListReplicasResponse>(store.status());
      all_answer = all_answer && replicas.ok();
      if (!replicas.ok()) continue;
      for (const v1::Replica& one : replicas->replicas()) {
        if (one.volume() != volume.id()) continue;
        for (const v1::Snapshot& snapshot : one.configuration().snapshots()) {
          if (snapshot.complete()) snapshots[snapshot.name()] = snapshot;
          sizes[snapshot.name()][one.segment()] = snapshot.size_bytes();
        }
      }
    }
  }
  for (const auto& [id, snapshot] : snapshots) {
    const std::string key = KeyOfId(kSnapshotPrefix, id);
    if (key.empty() || reconciler_->records().snapshots().Find(key).ok()) continue;
    rec::SnapshotRecord record;
    record.set_id(id);
    record.set_volume_id(volume.id());
    record.set_state(rec::SnapshotRecord::READY);
    record.set_block_store_id(snapshot.id());
    // Those of segments that were added later do not have it. Rather too large than too small for
    // what is restored from it.
    for (const auto& [segment, size_bytes] : sizes[id]) {
      record.set_size_bytes(record.size_bytes() + size_bytes);
    }
    if (!all_answer) record.set_size_bytes(volume.size_bytes());
    record.set_created_unix_ns(snapshot.created_unix_ns());
    const absl::Status created =
        dry_run ? absl::OkStatus() : reconciler_->records().snapshots().Create(key, record);
    if (created.ok()) {
      response->add_adopted(id);
    } else {
      response->add_problems(absl::StrCat("snapshot ", id, ": ", std::string(created.message())));
    }
  }
}

absl::StatusOr<api::AdoptResponse> Controller::Adopt(const api::AdoptRequest& request) {
  std::lock_guard lock(making_);
  const Environment& environment = reconciler_->environment();
  api::AdoptResponse response;
  std::map<std::string, std::string> node_of_pool;
  for (const auto& [id, volume] : Gather(environment, &node_of_pool, &response)) {
    const std::string key = KeyOfId(kVolumePrefix, id);
    if (reconciler_->records().volumes().Find(key).ok()) continue;
    const absl::StatusOr<rec::VolumeRecord> record =
        RecordOf(id, volume, node_of_pool, *environment.clock);
    absl::Status created = record.status();
    if (created.ok() && !request.dry_run()) {
      created = reconciler_->records().volumes().Create(key, *record);
    }
    if (!created.ok()) {
      response.add_problems(absl::StrCat("volume ", id, ": ", std::string(created.message())));
      continue;
    }
    response.add_adopted(id);
    AdoptSnapshots(*record, request.dry_run(), &response);
  }
  return response;
}

}  // namespace keelson::provisioner
