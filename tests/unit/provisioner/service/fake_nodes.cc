#include "tests/unit/provisioner/service/fake_nodes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status_map.h"
#include "tests/unit/provisioner/service/fake_node_state.h"

namespace keelson::provisioner {

using grpc::ServerContext;

class FakeNodes::Node final : public v1::BlockStore::Service {
 public:
  Node(FakeNodes* all, State* self) : all_(all), self_(self) {}

  grpc::Status GetNode(ServerContext*, const v1::GetNodeRequest*,
                       v1::GetNodeResponse* response) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("GetNode", self_->name); !entered.ok()) return entered;
    response->set_data_address(absl::StrCat(self_->name, ":1"));
    response->set_client_address(absl::StrCat(self_->name, ":2"));
    v1::Pool* const pool = response->add_pools();
    pool->set_id(PoolOf(self_->name));
    pool->set_directory(absl::StrCat("/pools/", self_->name));
    pool->set_error(self_->pool_error);
    pool->set_capacity_bytes(self_->capacity_bytes);
    pool->set_free_bytes(self_->capacity_bytes);
    pool->set_incarnation("1");
    return grpc::Status::OK;
  }

  grpc::Status CreateReplica(ServerContext*, const v1::CreateReplicaRequest* request,
                             v1::CreateReplicaResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("CreateReplica", self_->name); !entered.ok()) {
      return entered;
    }
    if (request->pool() != PoolOf(self_->name)) return Error(absl::NotFoundError("no such pool"));
    const auto source = self_->replicas.find(request->clone_of_replica_id());
    if (!request->clone_of_replica_id().empty()) {
      if (source == self_->replicas.end()) return Error(absl::NotFoundError("no such source"));
      const bool has = std::any_of(
          source->second.snapshots.begin(), source->second.snapshots.end(),
          [&](const auto& one) { return one.second.id() == request->clone_snapshot_id(); });
      if (!has) return Error(absl::FailedPreconditionError("the source has no such snapshot"));
    }
    // Made with its segment, or to be added to it.
    const bool named = std::any_of(
        request->members().begin(), request->members().end(),
        [&](const v1::Member& one) { return one.replica_id() == request->replica_id(); });
    if (named) {
      all_->configurations_[request->volume_id()][static_cast<int>(request->segment())] = {
          request->members().begin(), request->members().end()};
    }
    const auto [added, is_new] = self_->replicas.try_emplace(request->replica_id());
    Replica& replica = added->second;
    if (is_new && source != self_->replicas.end()) {
      replica.content = source->second.snapshot_contents[request->clone_snapshot_id()];
    }
    replica.made = *request;
    replica.size_bytes = request->size_bytes();
    if (source != self_->replicas.end()) replica.promised = source->second.promised + 1;
    return grpc::Status::OK;
  }

  grpc::Status DeleteReplica(ServerContext*, const v1::DeleteReplicaRequest* request,
                             v1::DeleteReplicaResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("DeleteReplica", self_->name); !entered.ok()) {
      return entered;
    }
    for (const auto& [name, node] : all_->nodes_) {
      for (const auto& [volume, engine] : node->engines) {
        for (const auto& [segment, members] : all_->configurations_[engine.target.volume_id()]) {
          for (const v1::Member& member : members) {
            if (member.replica_id() != request->replica_id()) continue;
            return Error(absl::FailedPreconditionError("an engine uses it"));
          }
        }
      }
    }
    self_->replicas.erase(request->replica_id());
    for (auto& [volume, segments] : all_->configurations_) {
      for (auto& [segment, members] : segments) {
        const bool any = std::any_of(members.begin(), members.end(), [&](const auto& member) {
          return all_->FindReplica(member.replica_id(), /*reachable=*/false) != nullptr;
        });
        if (!any) members.clear();
      }
    }
    return grpc::Status::OK;
  }

  grpc::Status ListReplicas(ServerContext*, const v1::ListReplicasRequest*,
                            v1::ListReplicasResponse* response) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("ListReplicas", self_->name); !entered.ok()) {
      return entered;
    }
    for (const auto& [id, replica] : self_->replicas) {
      v1::Replica* const one = response->add_replicas();
      one->set_replica_id(id);
      one->set_pool_id(PoolOf(self_->name));
      one->set_volume_id(replica.made.volume_id());
      one->set_volume(replica.made.volume());
      one->set_promised_attachment(replica.promised);
      one->set_segment(replica.made.segment());
      v1::Configuration* const configuration = one->mutable_configuration();
      configuration->set_size_bytes(replica.size_bytes);
      configuration->set_min_in_sync(replica.made.min_in_sync());
      configuration->set_segment_count(replica.made.segment_count());
      configuration->set_segment_bytes(replica.made.segment_bytes());
      const int segment = static_cast<int>(replica.made.segment());
      for (const v1::Member& member : all_->configurations_[replica.made.volume_id()][segment]) {
        *configuration->add_members() = member;
      }
    }
    return grpc::Status::OK;
  }

  grpc::Status AttachVolume(ServerContext*, const v1::AttachVolumeRequest* request,
                            v1::AttachVolumeResponse* response) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("AttachVolume", self_->name); !entered.ok()) {
      return entered;
    }
    if (request->has_remote()) return Show(*request);
    const v1::AttachTarget& target = request->target();
    Engine engine;
    engine.has_frontend = request->frontend() != v1::FRONTEND_NONE;
    engine.clients = {request->clients().begin(), request->clients().end()};
    engine.target = target;
    engine.read_only = request->read_only();
    engine.qos = request->qos();
    if (engine.has_frontend && request->frontend() != v1::FRONTEND_NBD) {
      engine.device = absl::StrCat("/dev/", request->name());
    }
    response->set_device(engine.device);
    std::vector<Replica*> promising;
    for (int i = 0; i < target.segments_size(); ++i) {
      int votes = 0;
      for (const v1::Member& member : target.segments(i).members()) {
        Replica* const replica = all_->FindReplica(member.replica_id(), /*reachable=*/true);
        if (replica == nullptr) continue;
        if (replica->promised > target.attachment()) {
          return Error(absl::AbortedError("a higher attachment was promised"));
        }
        promising.push_back(replica);
        ++votes;
        engine.min_in_sync = std::max(engine.min_in_sync, replica->made.min_in_sync());
      }
      if (2 * votes <= target.segments(i).members_size()) {
        return Error(absl::UnavailableError("no majority of the members answers"));
      }
    }
    for (Replica* const replica : promising) replica->promised = target.attachment();
    // Every lower engine is fenced.
    for (auto& [name, node] : all_->nodes_) {
      const auto found = node->engines.find(request->name());
      if (found != node->engines.end() && found->second.target.attachment() < target.attachment()) {
        node->engines.erase(found);
      }
    }
    self_->engines[request->name()] = std::move(engine);
    return grpc::Status::OK;
  }

  grpc::Status DetachVolume(ServerContext*, const v1::DetachVolumeRequest* request,
                            v1::DetachVolumeResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("DetachVolume", self_->name); !entered.ok()) {
      return entered;
    }
    const bool engine_only = request->engine_only() && self_->shown.count(request->name()) > 0;
    if (!engine_only && self_->in_use.count(request->name()) > 0) {
      return Error(absl::FailedPreconditionError("its block device is in use"));
    }
    if (!engine_only) self_->shown.erase(request->name());
    if (!request->client_only()) self_->engines.erase(request->name());
    return grpc::Status::OK;
  }

  grpc::Status SetClients(ServerContext*, const v1::SetClientsRequest* request,
                          v1::SetClientsResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("SetClients", self_->name); !entered.ok()) {
      return entered;
    }
    const auto found = self_->engines.find(request->volume());
    if (found == self_->engines.end()) return Error(absl::NotFoundError("it is not attached here"));
    if (found->second.target.attachment() != request->attachment()) {
      return Error(absl::FailedPreconditionError("it is attached under another number"));
    }
    found->second.clients = {request->clients().begin(), request->clients().end()};
    return grpc::Status::OK;
  }

  grpc::Status GetVolumeStatus(ServerContext*, const v1::GetVolumeStatusRequest* request,
                               v1::GetVolumeStatusResponse* response) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("GetVolumeStatus", self_->name); !entered.ok()) {
      return entered;
    }
    const auto found = self_->engines.find(request->name());
    const auto shown = self_->shown.find(request->name());
    if (found == self_->engines.end() && shown == self_->shown.end()) {
      return Error(absl::NotFoundError("it is not attached here"));
    }
    response->set_name(request->name());
    if (shown != self_->shown.end()) {
      response->set_device(absl::StrCat("/dev/", request->name()));
      response->set_attachment(shown->second.engine.attachment());
      response->mutable_remote()->set_address(shown->second.engine.address());
      response->mutable_remote()->set_attachment(shown->second.engine.attachment());
      response->mutable_remote()->set_size_bytes(shown->second.size_bytes);
    }
    if (found == self_->engines.end()) return grpc::Status::OK;
    for (const v1::VolumeClient& client : found->second.clients) {
      v1::ClientStatus* const status = response->add_clients();
      status->set_node(client.node());
      status->set_read_only(client.read_only());
    }
    if (found->second.has_frontend) response->set_uri("nbd+unix:///");
    response->set_attached(true);
    response->set_attachment(found->second.target.attachment());
    response->set_read_only(found->second.read_only);
    if (response->device().empty()) response->set_device(found->second.device);
    response->set_size_bytes(all_->SizeOfLocked(request->name()));
    *response->mutable_qos() = found->second.qos;
    for (const auto& [index, members] : all_->configurations_[found->second.target.volume_id()]) {
      v1::SegmentStatus* const segment = response->add_segments();
      segment->set_segment(static_cast<std::uint32_t>(index));
      segment->mutable_configuration()->set_min_in_sync(found->second.min_in_sync);
      for (const v1::Member& member : members) {
        v1::MemberStatus* const status = segment->add_members();
        *status->mutable_member() = member;
        Replica* const replica = all_->FindReplica(member.replica_id(), /*reachable=*/true);
        status->set_connected(replica != nullptr);
        const bool filled =
            member.state() != v1::MEMBER_STATE_SYNCING || (all_->fills_ && replica != nullptr);
        status->mutable_member()->set_state(member.witness() || replica == nullptr
                                                ? v1::MEMBER_STATE_OUT
                                            : filled ? v1::MEMBER_STATE_IN_SYNC
                                                     : v1::MEMBER_STATE_SYNCING);
        *segment->mutable_configuration()->add_members() = status->member();
      }
    }
    return grpc::Status::OK;
  }

  grpc::Status GrowVolume(ServerContext*, const v1::GrowVolumeRequest* request,
                          v1::GrowVolumeResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("GrowVolume", self_->name); !entered.ok()) {
      return entered;
    }
    const auto found = self_->engines.find(request->name());
    if (found == self_->engines.end()) return Error(absl::NotFoundError("it is not attached here"));
    for (const v1::SegmentHint& hint : request->new_segments()) {
      for (const v1::Member& member : hint.members()) {
        if (all_->FindReplica(member.replica_id(), false) == nullptr) {
          return Error(absl::NotFoundError("a replica of the new segment was not made"));
        }
      }
    }
    for (const auto& [index, members] : all_->configurations_[found->second.target.volume_id()]) {
      if (index != 0) continue;
      for (const v1::Member& member : members) {
        Replica* const replica = all_->FindReplica(member.replica_id(), false);
        if (replica != nullptr) replica->size_bytes = request->size_bytes();
      }
    }
    return grpc::Status::OK;
  }

  grpc::Status CreateSnapshot(ServerContext*, const v1::CreateSnapshotRequest* request,
                              v1::CreateSnapshotResponse* response) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("CreateSnapshot", self_->name); !entered.ok()) {
      return entered;
    }
    const auto found = self_->engines.find(request->volume());
    if (found == self_->engines.end()) return Error(absl::NotFoundError("it is not attached here"));
    if (request->hold_id() != found->second.hold) {
      return Error(absl::AbortedError("the hold is over, or never was"));
    }
    v1::Snapshot snapshot;
    snapshot.set_name(request->name());
    snapshot.set_id(absl::StrCat("id-", request->name()));
    snapshot.set_created_unix_ns(77);
    snapshot.set_complete(true);
    std::vector<Replica*> cut;
    for (const auto& [index, members] : all_->configurations_[found->second.target.volume_id()]) {
      std::uint64_t size_bytes = 0;
      for (const v1::Member& member : members) {
        Replica* const replica = all_->FindReplica(member.replica_id(), true);
        if (replica == nullptr) continue;
        if (replica->snapshots.count(request->name()) > 0) {
          return Error(absl::AlreadyExistsError("there is one of that name"));
        }
        size_bytes = replica->size_bytes;
        cut.push_back(replica);
      }
      snapshot.set_size_bytes(snapshot.size_bytes() + size_bytes);
    }
    for (Replica* const replica : cut) {
      replica->snapshots[request->name()] = snapshot;
      replica->snapshot_contents[snapshot.id()] = replica->content;
    }
    all_->blocks_.NoteCut(request->name());
    *response->mutable_snapshot() = snapshot;
    return grpc::Status::OK;
  }

  grpc::Status ListSnapshots(ServerContext*, const v1::ListSnapshotsRequest* request,
                             v1::ListSnapshotsResponse* response) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("ListSnapshots", self_->name); !entered.ok()) {
      return entered;
    }
    // Of an engine here, wherever its copies are.
    if (self_->engines.count(request->volume()) == 0) return grpc::Status::OK;
    for (const Replica* const replica : all_->FirstSegmentOf(request->volume())) {
      for (const auto& [name, snapshot] : replica->snapshots) *response->add_snapshots() = snapshot;
      if (!replica->snapshots.empty()) break;
    }
    return grpc::Status::OK;
  }

  grpc::Status ListAllocated(ServerContext*, const v1::ListAllocatedRequest* request,
                             FakeBlocks::Writer* writer) override {
    return ListBlocks("ListAllocated", *request, "", request->snapshot_id(), writer);
  }
  grpc::Status ListChanged(ServerContext*, const v1::ListChangedRequest* request,
                           FakeBlocks::Writer* writer) override {
    return ListBlocks("ListChanged", *request, request->base_snapshot_id(),
                      request->target_snapshot_id(), writer);
  }

  grpc::Status DeleteSnapshot(ServerContext*, const v1::DeleteSnapshotRequest* request,
                              v1::DeleteSnapshotResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("DeleteSnapshot", self_->name); !entered.ok()) {
      return entered;
    }
    if (self_->engines.count(request->volume()) == 0) {
      return Error(absl::NotFoundError("it is not attached here"));
    }
    for (auto& [name, node] : all_->nodes_) {
      for (auto& [id, replica] : node->replicas) {
        if (replica.made.volume() == request->volume()) replica.snapshots.erase(request->name());
      }
    }
    return grpc::Status::OK;
  }

  grpc::Status AddReplica(ServerContext*, const v1::AddReplicaRequest* request,
                          v1::AddReplicaResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("AddReplica", self_->name); !entered.ok()) {
      return entered;
    }
    const auto found = self_->engines.find(request->volume());
    if (found == self_->engines.end()) return Error(absl::NotFoundError("it is not attached here"));
    std::vector<v1::Member>& members = all_->configurations_[found->second.target.volume_id()]
                                                            [static_cast<int>(request->segment())];
    Replica* const added = all_->FindReplica(request->member().replica_id(), true);
    if (added == nullptr) {
      return Error(absl::UnavailableError("the new member does not answer"));
    }
    for (const v1::Member& member : members) {
      const Replica* const other = all_->FindReplica(member.replica_id(), true);
      if (other == nullptr || member.witness()) continue;
      added->snapshots = other->snapshots;
      added->snapshot_contents = other->snapshot_contents;
      added->content = other->content;
      added->size_bytes = other->size_bytes;
      break;
    }
    members.push_back(request->member());
    members.back().set_state(v1::MEMBER_STATE_SYNCING);
    if (request->has_witness()) {
      const auto old = std::find_if(members.begin(), members.end(), [&](const v1::Member& one) {
        return one.replica_id() == request->witness().replica_id();
      });
      if (old != members.end()) {
        members.erase(old);
      } else {
        members.push_back(request->witness());
      }
    }
    return grpc::Status::OK;
  }

  grpc::Status RemoveReplica(ServerContext*, const v1::RemoveReplicaRequest* request,
                             v1::RemoveReplicaResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("RemoveReplica", self_->name); !entered.ok()) {
      return entered;
    }
    const auto found = self_->engines.find(request->volume());
    if (found == self_->engines.end()) return Error(absl::NotFoundError("it is not attached here"));
    std::vector<v1::Member>& members = all_->configurations_[found->second.target.volume_id()]
                                                            [static_cast<int>(request->segment())];
    std::erase_if(members, [&](const v1::Member& member) {
      return member.replica_id() == request->replica_id() ||
             member.replica_id() == request->witness_replica_id();
    });
    if (members.empty()) return Error(absl::FailedPreconditionError("the last copy stays"));
    return grpc::Status::OK;
  }

  grpc::Status HoldWrites(ServerContext*, const v1::HoldWritesRequest* request,
                          v1::HoldWritesResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("HoldWrites", self_->name); !entered.ok()) {
      return entered;
    }
    const auto found = self_->engines.find(request->volume());
    if (found == self_->engines.end()) return Error(absl::NotFoundError("it is not attached here"));
    if (!found->second.hold.empty()) return Error(absl::FailedPreconditionError("another hold"));
    found->second.hold = request->hold_id();
    return grpc::Status::OK;
  }

  grpc::Status ReleaseWrites(ServerContext*, const v1::ReleaseWritesRequest* request,
                             v1::ReleaseWritesResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("ReleaseWrites", self_->name); !entered.ok()) {
      return entered;
    }
    const auto found = self_->engines.find(request->volume());
    if (found != self_->engines.end() && found->second.hold == request->hold_id()) {
      found->second.hold.clear();
    }
    return grpc::Status::OK;
  }

  grpc::Status SetQos(ServerContext*, const v1::SetQosRequest* request,
                      v1::SetQosResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("SetQos", self_->name); !entered.ok()) return entered;
    const auto found = self_->engines.find(request->volume());
    if (found == self_->engines.end()) return Error(absl::NotFoundError("it is not attached here"));
    found->second.qos = request->qos();
    return grpc::Status::OK;
  }

  grpc::Status SetMinInSync(ServerContext*, const v1::SetMinInSyncRequest* request,
                            v1::SetMinInSyncResponse*) override {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter("SetMinInSync", self_->name); !entered.ok()) {
      return entered;
    }
    const auto found = self_->engines.find(request->volume());
    if (found == self_->engines.end()) return Error(absl::NotFoundError("it is not attached here"));
    found->second.min_in_sync = request->min_in_sync();
    return grpc::Status::OK;
  }

 private:
  static grpc::Status Error(const absl::Status& status) { return rpc::ToGrpcStatus(status); }

  // REQUIRES: the mutex is held.
  grpc::Status Show(const v1::AttachVolumeRequest& request) {
    const auto engine = self_->engines.find(request.name());
    if (engine != self_->engines.end() && engine->second.has_frontend) {
      return Error(absl::FailedPreconditionError("it is shown here as it is attached"));
    }
    Shown shown;
    shown.engine = request.remote();
    const auto there = self_->shown.find(request.name());
    if (there != self_->shown.end() &&
        there->second.engine.attachment() > shown.engine.attachment()) {
      return Error(absl::FailedPreconditionError("it is shown under a higher attachment"));
    }
    if (all_->EngineFor(request.name(), shown) == nullptr) {
      return Error(absl::UnavailableError("no engine there serves it to this node"));
    }
    for (const auto& [name, node] : all_->nodes_) {
      for (const auto& [id, replica] : node->replicas) {
        if (replica.made.volume() != request.name() || replica.made.segment() != 0) continue;
        shown.size_bytes = replica.size_bytes;
      }
    }
    shown.read_only = request.read_only();
    self_->shown[request.name()] = shown;
    return grpc::Status::OK;
  }

  template <typename Request>
  grpc::Status ListBlocks(const std::string& method, const Request& request,
                          const std::string& base_id, const std::string& id,
                          FakeBlocks::Writer* writer) {
    std::lock_guard lock(all_->mutex_);
    if (grpc::Status entered = all_->Enter(method, self_->name); !entered.ok()) return entered;
    for (const auto& [replica_id, replica] : self_->replicas) {
      const v1::CreateReplicaRequest& made = replica.made;
      if (made.volume() != request.volume() || made.witness() || self_->lacking ||
          !request.has_segment() || made.segment() != request.segment()) {
        continue;
      }
      return all_->blocks_.List(
          {made.segment(), base_id, id, request.from_offset(), request.count_max()},
          replica.snapshots, writer);
    }
    return Error(absl::FailedPreconditionError("no copy that has everything"));
  }

  FakeNodes* all_;
  State* self_;
};

FakeNodes::FakeNodes() = default;

FakeNodes::~FakeNodes() {
  for (auto& [name, node] : nodes_) node->server->Shutdown();
}

void FakeNodes::Add(const std::string& name, std::uint64_t capacity_bytes) {
  auto state = std::make_unique<State>();
  state->name = name;
  state->capacity_bytes = capacity_bytes;
  state->service = std::make_unique<Node>(this, state.get());
  grpc::ServerBuilder builder;
  builder.RegisterService(state->service.get());
  state->server = builder.BuildAndStart();
  nodes_[name] = std::move(state);
}

std::string FakeNodes::PoolOf(const std::string& name) { return absl::StrCat("pool-", name); }

Dialer FakeNodes::MakeDialer() {
  return [this](const std::string& address) -> absl::StatusOr<std::shared_ptr<grpc::Channel>> {
    for (const auto& [name, node] : nodes_) {
      if (AddressOf(name) == address) return node->server->InProcessChannel({});
    }
    return absl::UnavailableError(absl::StrCat("nobody listens on ", address));
  };
}

grpc::Status FakeNodes::Enter(const std::string& method, const std::string& node) {
  if (nodes_.at(node)->down) {
    return rpc::ToGrpcStatus(absl::UnavailableError("the node is down"));
  }
  if (before) {
    const absl::Status status = before(method, node);
    if (!status.ok()) return rpc::ToGrpcStatus(status);
  }
  calls_.push_back(absl::StrCat(method, " ", node));
  const auto found = failures_.find(method);
  if (found == failures_.end() || found->second.second == 0) return grpc::Status::OK;
  --found->second.second;
  return rpc::ToGrpcStatus(found->second.first);
}

FakeNodes::Replica* FakeNodes::FindReplica(const std::string& id, bool reachable) {
  for (auto& [name, node] : nodes_) {
    if (reachable && node->down) continue;
    const auto found = node->replicas.find(id);
    if (found != node->replicas.end()) return &found->second;
  }
  return nullptr;
}

}  // namespace keelson::provisioner
