// Node: other nodes (R16): the client lists of volumes that are attached here, and the volumes that
// this node shows as a client.

#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/service/client_messages.h"
#include "blockstore/service/node.h"

namespace keelson::service {
namespace {

constexpr std::int64_t kReachLimitNanos = 10'000'000'000;
// Short: the next attempt follows soon, and a daemon that is to stop waits for the one that runs.
constexpr std::int64_t kResumeLimitNanos = 3'000'000'000;

}  // namespace

absl::Status Node::SetClients(const v1::SetClientsRequest& request, v1::SetClientsResponse*) {
  RETURN_IF_ERROR(Ready());
  const std::string& name = request.volume();
  std::future<absl::Status> drained;
  {
    ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockVolume(name, "set clients"));
    std::optional<RememberedAttachment> attachment = state_.FindAttachment(name);
    if (!attachment) {
      return absl::NotFoundError(
          absl::StrCat("volume '", name, "' is not attached by a target on this node"));
    }
    if (attachment->target.attachment() != request.attachment()) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume '", name, "' is attached under attachment ",
                       attachment->target.attachment(), " and not ", request.attachment()));
    }
    ASSIGN_OR_RETURN(attachment->clients, FillTickets(request.clients(), attachment->clients));
    ASSIGN_OR_RETURN(std::vector<engine::ListedClient> clients, ParseClients(attachment->clients));
    RETURN_IF_ERROR(state_.Remember(name, *attachment));
    Shard* const shard = AttachedOn(name);
    if (shard == nullptr) return absl::OkStatus();  // nobody is served; a resumption has the list
    // Given to the reactor before the lock is left, so that lists come there in order; the drain
    // may last longer than others should wait.
    drained = shard->thread().Submit(
        [shard, name, number = request.attachment(), clients = std::move(clients)] {
          return shard->volumes().SetClients(name, number, clients);
        });
  }
  return drained.get();
}

absl::Status Node::AttachRemote(const v1::AttachVolumeRequest& request,
                                v1::AttachVolumeResponse* response) {
  const std::string& name = request.name();
  ASSIGN_OR_RETURN(const frontend::RemoteTarget target, ParseRemote(name, request.remote()));
  if (request.clients_size() > 0) {
    return absl::InvalidArgumentError("clients: a volume that another node serves has none here");
  }
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockVolume(name, "attach volume"));
  if (!state_.FindRemote(name) && ServingShard(name) != nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume '", name, "' is shown on this node as it is attached; detach it first"));
  }
  Shard* const shard = RemoteShard();
  const absl::StatusOr<std::string> uri = shard->thread().Run(
      [shard, &name, &target] { return shard->remotes().Attach(name, target, kReachLimitNanos); });
  // It may have been pointed there without having reached it yet.
  const std::uint64_t present =
      shard->thread().Run([shard, &name] { return shard->remotes().AttachmentOf(name); });
  if (present == target.attachment) {
    const absl::Status remembered = state_.RememberRemote(name, request.remote());
    if (!remembered.ok()) {
      if (uri.ok()) shard->thread().Run([shard, &name] { return shard->remotes().Detach(name); });
      return remembered;
    }
    std::lock_guard lock(tables_mutex_);
    resume_errors_.erase(name);
  }
  if (!uri.ok()) return uri.status();
  response->set_uri(*uri);
  return absl::OkStatus();
}

absl::Status Node::DetachRemote(const std::string& name) {
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockVolume(name, "detach volume"));
  RETURN_IF_ERROR(state_.ForgetRemote(name));
  Shard* const shard = RemoteShard();
  shard->thread().Run([shard, &name] { return shard->remotes().Detach(name); });
  const std::optional<RememberedAttachment> attachment = state_.FindAttachment(name);
  if (Shard* const engine = AttachedOn(name);
      engine != nullptr && attachment && attachment->shown) {
    engine->thread().Run([engine, &name] { engine->volumes().Show(name); });
  }
  return absl::OkStatus();
}

bool Node::ResumeRemote(const std::string& name) {
  const absl::StatusOr<ChangeLock::Guard> guard = LockVolume(name, "resume volume");
  if (!guard.ok()) return false;
  const std::optional<v1::RemoteEngine> remote = state_.FindRemote(name);
  Shard* const shard = RemoteShard();
  if (!remote || ShownRemotely(name)) return true;  // detached or attached meanwhile
  absl::StatusOr<frontend::RemoteTarget> target = ParseRemote(name, *remote);
  absl::Status status = target.status();
  if (status.ok()) {
    status = shard->thread()
                 .Run([shard, &name, &target] {
                   return shard->remotes().Attach(name, *target, kResumeLimitNanos);
                 })
                 .status();
  }
  std::lock_guard lock(tables_mutex_);
  if (status.ok()) {
    resume_errors_.erase(name);
    return true;
  }
  std::string& error = resume_errors_[name];
  if (error.empty()) {
    KEEL_LOG_WARN("event=resume_delayed volume={} attachment={} error=\"{}\"", name,
                  remote->attachment(), std::string(status.message()));
  }
  error = std::string(status.message());
  return false;
}

bool Node::ShownRemotely(const std::string& name) {
  Shard* const shard = RemoteShard();
  return shard->thread().Run([shard, &name] { return shard->remotes().Shows(name); });
}

bool Node::AddRemoteStatus(const std::string& name, v1::GetVolumeStatusResponse* response) {
  Shard* const shard = RemoteShard();
  const bool shown = shard->thread().Run(
      [shard, &name, response] { return shard->remotes().AddStatus(name, response); });
  if (shown) return true;
  const std::optional<v1::RemoteEngine> remote = state_.FindRemote(name);
  if (!remote) return false;
  std::lock_guard lock(tables_mutex_);
  const auto error = resume_errors_.find(name);
  const std::string why = error == resume_errors_.end() ? "it is being resumed" : error->second;
  response->mutable_remote()->set_address(remote->address());
  response->mutable_remote()->set_attachment(remote->attachment());
  response->mutable_remote()->set_problem(why);
  if (!response->name().empty()) return true;
  response->set_name(name);
  response->set_attachment(remote->attachment());
  response->set_error(why);
  return true;
}

}  // namespace keelson::service
