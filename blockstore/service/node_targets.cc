// Node: volumes attached by a target, and the replicas of such volumes.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/service/client_messages.h"
#include "blockstore/service/node.h"
#include "blockstore/service/replica_messages.h"

namespace keelson::service {
namespace {

constexpr std::int64_t kAttachLimitNanos = 10'000'000'000;
// Short: the next attempt follows soon, and a daemon that is to stop waits for the one that runs.
constexpr std::int64_t kResumeLimitNanos = 3'000'000'000;

std::string HostPort(const io::Address& address, std::uint16_t port) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return absl::StrCat(v6 ? "[" : "", address.host, v6 ? "]:" : ":", port);
}

}  // namespace

absl::StatusOr<ChangeLock::Guard> Node::LockVolume(const std::string& name,
                                                   std::string_view operation) {
  ChangeLock* lock = nullptr;
  {
    std::lock_guard tables(tables_mutex_);
    std::unique_ptr<ChangeLock>& slot = volume_locks_[name];
    if (slot == nullptr) slot = std::make_unique<ChangeLock>();
    lock = slot.get();
  }
  return lock->Take(operation, kPatience);
}

Shard* Node::AttachedOn(const std::string& name) {
  std::lock_guard lock(tables_mutex_);
  const auto found = attached_.find(name);
  return found == attached_.end() ? nullptr : found->second;
}

// The reactor of a member's pool, when one is here.
Shard* Node::ShardFor(const engine::AttachTarget& target) {
  std::lock_guard lock(tables_mutex_);
  for (const engine::SegmentHint& segment : target.segments) {
    for (const replica::Member& member : segment.members) {
      for (const std::unique_ptr<Slot>& slot : slots_) {
        if (slot->host != nullptr && slot->id == member.pool.ToString()) return slot->shard;
      }
    }
  }
  return shards_.front().get();
}

template <typename T>
absl::StatusOr<T> Node::ChangeAttached(
    const std::string& name, std::string_view operation,
    absl::FunctionRef<io::Task<absl::StatusOr<T>>(VolumeHost*)> make) {
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockVolume(name, operation));
  Shard* const shard = AttachedOn(name);
  if (shard == nullptr) {
    return absl::NotFoundError(absl::StrCat("volume '", name, "' is not attached on this node"));
  }
  return shard->thread().Run([shard, make] { return make(&shard->volumes()); });
}

template absl::StatusOr<v1::Volume> Node::ChangeAttached(
    const std::string&, std::string_view,
    absl::FunctionRef<io::Task<absl::StatusOr<v1::Volume>>(VolumeHost*)>);
template absl::StatusOr<v1::Snapshot> Node::ChangeAttached(
    const std::string&, std::string_view,
    absl::FunctionRef<io::Task<absl::StatusOr<v1::Snapshot>>(VolumeHost*)>);

absl::Status Node::ChangeAttached(const std::string& name, std::string_view operation,
                                  absl::FunctionRef<io::Task<absl::Status>(VolumeHost*)> make) {
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockVolume(name, operation));
  Shard* const shard = AttachedOn(name);
  if (shard == nullptr) {
    return absl::NotFoundError(absl::StrCat("volume '", name, "' is not attached on this node"));
  }
  return shard->thread().Run([shard, make] { return make(&shard->volumes()); });
}

// --- Attachments ---

absl::StatusOr<std::string> Node::AttachRemembered(const std::string& name,
                                                   const RememberedAttachment& attachment,
                                                   std::int64_t attach_limit_ns) {
  ASSIGN_OR_RETURN(const engine::AttachTarget target,
                   ParseTarget(name, attachment.target, attachment.restart));
  VolumeHost::AttachMode mode;
  mode.read_only = attachment.read_only;
  mode.show = attachment.shown && !state_.FindRemote(name).has_value();
  mode.attach_limit_ns = attach_limit_ns;
  mode.qos = state_.FindQos(name);
  ASSIGN_OR_RETURN(mode.clients, ParseClients(attachment.clients));
  Shard* shard = AttachedOn(name);
  if (shard == nullptr) shard = ShardFor(target);
  absl::StatusOr<std::string> uri = shard->thread().Run(
      [shard, &target, &mode] { return shard->volumes().Attach(target, mode); });
  const bool there =
      shard->thread().Run([shard, &name] { return shard->volumes().Status(name).ok(); });
  std::lock_guard lock(tables_mutex_);
  if (there) {
    attached_[name] = shard;
  } else {
    attached_.erase(name);
  }
  if (uri.ok()) resume_errors_.erase(name);
  return uri;
}

absl::Status Node::AttachTo(const v1::AttachVolumeRequest& request,
                            v1::AttachVolumeResponse* response) {
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockVolume(request.name(), "attach volume"));
  RememberedAttachment attachment;
  attachment.target = request.target();
  attachment.read_only = request.read_only();
  attachment.shown = request.frontend() != v1::FRONTEND_NONE;
  ASSIGN_OR_RETURN(attachment.clients, FillTickets(request.clients(), {}));
  // What serves, or is to be resumed, may be an attachment of before, which is remembered.
  const std::optional<RememberedAttachment> before = state_.FindAttachment(request.name());
  const bool is_new = !before || before->target.attachment() < request.target().attachment();
  if (!is_new) {
    if (before->shown != attachment.shown) {
      return absl::FailedPreconditionError(absl::StrCat(
          "volume '", request.name(), "' is attached with", before->shown ? "" : "out",
          " a frontend on this node, not with", before->shown ? "out" : "", "; detach it first"));
    }
    attachment.clients = before->clients;
  }
  ASSIGN_OR_RETURN(std::string uri,
                   AttachRemembered(request.name(), attachment, kAttachLimitNanos));
  // An operator's word is good once: a resumption goes on from what came of it.
  for (v1::SegmentHint& hint : *attachment.target.mutable_segments()) {
    hint.clear_force_from_replica_id();
  }
  if (is_new) {
    if (absl::Status status = state_.Remember(request.name(), attachment); !status.ok()) {
      (void)DetachLocked(request.name());
      return status;
    }
  }
  if (attachment.shown || state_.FindRemote(request.name())) response->set_uri(std::move(uri));
  return absl::OkStatus();
}

absl::Status Node::DetachFrom(const std::string& name) {
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockVolume(name, "detach volume"));
  return DetachLocked(name);
}

absl::Status Node::DetachLocked(const std::string& name) {
  RETURN_IF_ERROR(RememberQos(name, {}));
  RETURN_IF_ERROR(state_.Forget(name));
  Shard* const shard = AttachedOn(name);
  absl::Status status;
  if (shard != nullptr) {
    status = shard->thread().Run([shard, &name] { return shard->volumes().Detach(name); });
  }
  std::lock_guard lock(tables_mutex_);
  attached_.erase(name);
  resume_errors_.erase(name);
  // Fenced: there was nothing left to make durable.
  return absl::IsAborted(status) ? absl::OkStatus() : status;
}

absl::Status Node::ChangeMembers(const std::string& name, std::string_view operation,
                                 absl::FunctionRef<io::Task<absl::Status>(VolumeHost*)> make) {
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockVolume(name, operation));
  Shard* const shard = AttachedOn(name);
  if (shard == nullptr) {
    return absl::NotFoundError(absl::StrCat("volume '", name, "' is not attached on this node; ",
                                            "attach it with `keelctl volume attach --on`"));
  }
  const absl::Status changed =
      shard->thread().Run([shard, make] { return make(&shard->volumes()); });
  // Also after an error: the change may be under way, and its members are needed at a resumption.
  ASSIGN_OR_RETURN(const v1::GetVolumeStatusResponse status,
                   shard->thread().Run([shard, &name] { return shard->volumes().Status(name); }));
  std::optional<RememberedAttachment> attachment = state_.FindAttachment(name);
  if (!attachment) return changed;
  attachment->target = PresentTarget(attachment->target, status);
  const absl::Status remembered = state_.Remember(name, *attachment);
  return changed.ok() ? remembered : changed;
}

bool Node::ResumeAttachments() {
  bool all = true;
  for (const auto& [name, attachment] : state_.attachments()) {
    if (AttachedOn(name) == nullptr && !ResumeAttachment(name)) all = false;
  }
  for (const auto& [name, remote] : state_.remotes()) {
    if (!ShownRemotely(name) && !ResumeRemote(name)) all = false;
  }
  return all;
}

bool Node::ResumeAttachment(const std::string& name) {
  const absl::StatusOr<ChangeLock::Guard> guard = LockVolume(name, "resume volume");
  if (!guard.ok()) return false;
  std::optional<RememberedAttachment> attachment = state_.FindAttachment(name);
  if (!attachment || AttachedOn(name) != nullptr) return true;  // detached or attached meanwhile
  // Durable first: no two engines are of the same restart.
  ++attachment->restart;
  absl::Status status = state_.Remember(name, *attachment);
  if (status.ok()) status = AttachRemembered(name, *attachment, kResumeLimitNanos).status();
  if (status.ok()) {
    KEEL_LOG_INFO("event=volume_resumed volume={} attachment={} restart={}", name,
                  attachment->target.attachment(), attachment->restart);
    return true;
  }
  if (absl::IsAborted(status)) {
    KEEL_LOG_WARN("event=attachment_forgotten volume={} attachment={} reason=\"{}\"", name,
                  attachment->target.attachment(), std::string(status.message()));
    // When it cannot be forgotten now it is at the next start. Its device gives errors then.
    return state_.Forget(name).ok() && state_.SetLoop(name, false).ok() &&
           RememberQos(name, {}).ok();
  }
  bool first = false;
  {
    std::lock_guard lock(tables_mutex_);
    std::string& error = resume_errors_[name];
    first = error.empty();
    error = std::string(status.message());
  }
  if (first) {
    KEEL_LOG_WARN("event=resume_delayed volume={} attachment={} error=\"{}\"", name,
                  attachment->target.attachment(), std::string(status.message()));
  }
  return false;
}

absl::Status Node::GetVolumeStatus(const v1::GetVolumeStatusRequest& request,
                                   v1::GetVolumeStatusResponse* response) {
  RETURN_IF_ERROR(Ready());
  const std::string& name = request.name();
  if (Shard* const shard = AttachedOn(name); shard != nullptr) {
    ASSIGN_OR_RETURN(*response,
                     shard->thread().Run([shard, &name] { return shard->volumes().Status(name); }));
    AddRemoteStatus(name, response);
    DescribeDevice(name, response);
    return absl::OkStatus();
  }
  if (const std::optional<RememberedAttachment> attachment = state_.FindAttachment(name)) {
    response->set_name(name);
    response->set_volume_id(attachment->target.volume_id());
    response->set_read_only(attachment->read_only);
    response->set_attachment(attachment->target.attachment());
    response->set_restart(attachment->restart);
    SetQosMessage(state_.FindQos(name), response);
    std::lock_guard lock(tables_mutex_);
    const auto error = resume_errors_.find(name);
    response->set_error(error == resume_errors_.end() ? "it is being resumed" : error->second);
    return absl::OkStatus();
  }
  if (AddRemoteStatus(name, response)) {
    DescribeDevice(name, response);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(Slot* const slot, FindVolume(name));
  ASSIGN_OR_RETURN(*response,
                   slot->shard->thread().Run([slot, &name] { return slot->host->Status(name); }));
  DescribeDevice(name, response);
  return absl::OkStatus();
}

absl::Status Node::ScrubVolume(const v1::ScrubVolumeRequest& request, v1::ScrubVolumeResponse*) {
  RETURN_IF_ERROR(Ready());
  const std::string& name = request.name();
  engine::ScrubOptions options;
  options.bytes_per_second = request.bytes_per_second();
  if (Shard* const shard = AttachedOn(name); shard != nullptr) {
    return shard->thread().Run(
        [shard, &name, &options] { return shard->volumes().StartScrub(name, options); });
  }
  ASSIGN_OR_RETURN(Slot* const slot, FindVolume(name));
  return slot->shard->thread().Run(
      [slot, &name, &options] { return slot->host->StartScrub(name, options); });
}

// --- Replicas ---

absl::Status Node::GetNode(const v1::GetNodeRequest&, v1::GetNodeResponse* response) {
  v1::ListPoolsResponse pools;
  RETURN_IF_ERROR(ListPools({}, &pools));
  *response->mutable_pools() = pools.pools();
  if (options_.data_listen) {
    response->set_data_address(options_.data_address.empty()
                                   ? HostPort(*options_.data_listen, shards_.front()->data_port())
                                   : options_.data_address);
  }
  if (options_.client_listen) {
    response->set_client_address(
        options_.client_address.empty()
            ? HostPort(*options_.client_listen, shards_.front()->client_port())
            : options_.client_address);
  }
  return absl::OkStatus();
}

absl::Status Node::CreateReplica(const v1::CreateReplicaRequest& request,
                                 v1::CreateReplicaResponse* response) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(Slot* const slot, FindPool(request.pool()));
  ASSIGN_OR_RETURN(const replica::NewMember member, ParseNewMember(request));
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, slot->changes.Take("create replica", kPatience));
  ASSIGN_OR_RETURN(*response->mutable_replica(), slot->shard->thread().Run([slot, &member] {
    return slot->host->CreateReplica(member);
  }));
  // Alone it is a volume with one copy, which goes by its name; a name that is taken stays so.
  const replica::Configuration& configuration = member.configuration;
  if (configuration.members.size() == 1 && configuration.segment_count == 1) {
    (void)ReserveName(request.volume(), slot);
  }
  return absl::OkStatus();
}

absl::Status Node::DeleteReplica(const v1::DeleteReplicaRequest& request,
                                 v1::DeleteReplicaResponse*) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(Slot* const slot, FindPool(request.pool()));
  ASSIGN_OR_RETURN(const pool::ReplicaId id, ParseReplicaId("replica_id", request.replica_id()));
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, slot->changes.Take("delete replica", kPatience));
  std::string volume;
  for (const v1::Replica& replica :
       slot->shard->thread().Run([slot] { return slot->host->Replicas(); })) {
    if (replica.replica_id() == request.replica_id()) volume = replica.volume();
  }
  RETURN_IF_ERROR(slot->shard->thread().Run([slot, id] { return slot->host->DeleteReplica(id); }));
  const absl::StatusOr<Slot*> named = FindVolume(volume);
  if (named.ok() && *named == slot) ReleaseName(volume);
  return absl::OkStatus();
}

absl::Status Node::ListReplicas(const v1::ListReplicasRequest& request,
                                v1::ListReplicasResponse* response) {
  RETURN_IF_ERROR(Ready());
  for (Slot* slot : OpenSlots()) {
    const PoolHost* host = slot->host;
    for (v1::Replica& replica : slot->shard->thread().Run(
             [host, &request] { return host->Replicas(request.snapshots_of()); })) {
      *response->add_replicas() = std::move(replica);
    }
  }
  std::sort(response->mutable_replicas()->begin(), response->mutable_replicas()->end(),
            [](const v1::Replica& a, const v1::Replica& b) {
              return std::pair(a.volume(), a.segment()) < std::pair(b.volume(), b.segment());
            });
  return absl::OkStatus();
}

absl::Status Node::AddReplica(const v1::AddReplicaRequest& request, v1::AddReplicaResponse*) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(const replica::Member member, ParseMember(request.member()));
  std::optional<replica::Member> witness;
  if (request.has_witness()) {
    ASSIGN_OR_RETURN(witness, ParseMember(request.witness()));
  }
  return ChangeMembers(request.volume(), "add replica", [&](VolumeHost* volumes) {
    return volumes->AddMember(request.volume(), request.segment(), member, witness);
  });
}

absl::Status Node::RemoveReplica(const v1::RemoveReplicaRequest& request,
                                 v1::RemoveReplicaResponse*) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(const pool::ReplicaId id, ParseReplicaId("replica_id", request.replica_id()));
  std::optional<replica::Member> witness;
  if (request.has_witness()) {
    ASSIGN_OR_RETURN(witness, ParseMember(request.witness()));
  } else if (!request.witness_replica_id().empty()) {
    witness.emplace().witness = true;
    ASSIGN_OR_RETURN(witness->replica,
                     ParseReplicaId("witness_replica_id", request.witness_replica_id()));
  }
  return ChangeMembers(request.volume(), "remove replica", [&](VolumeHost* volumes) {
    return volumes->RemoveMember(request.volume(), request.segment(), id, witness);
  });
}

absl::Status Node::SetMinInSync(const v1::SetMinInSyncRequest& request, v1::SetMinInSyncResponse*) {
  RETURN_IF_ERROR(Ready());
  return ChangeAttached(request.volume(), "set min in sync", [&request](VolumeHost* volumes) {
    return volumes->SetMinInSync(request.volume(), request.min_in_sync());
  });
}

}  // namespace keelson::service
