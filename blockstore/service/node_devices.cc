// Node: volumes shown as block devices. A volume with the frontend loop is attached like any other,
// and its device comes on top; what is remembered of it is its name (NodeState::loop_volumes).

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"
#include "blockstore/replica/names.h"
#include "blockstore/service/node.h"

namespace keelson::service {

absl::StatusOr<ChangeLock::Guard> Node::LockDevice(const std::string& name,
                                                   std::string_view operation) {
  ChangeLock* lock = nullptr;
  {
    std::lock_guard tables(tables_mutex_);
    std::unique_ptr<ChangeLock>& slot = device_locks_[name];
    if (slot == nullptr) slot = std::make_unique<ChangeLock>();
    lock = slot.get();
  }
  return lock->Take(operation, kPatience);
}

Shard* Node::ServingShard(const std::string& name) {
  if (state_.FindRemote(name)) return ShownRemotely(name) ? RemoteShard() : nullptr;
  Shard* shard = AttachedOn(name);
  if (shard == nullptr) {
    const absl::StatusOr<Slot*> slot = FindVolume(name);
    if (!slot.ok()) return nullptr;
    shard = (*slot)->shard;
  }
  const bool attached =
      shard->thread().Run([shard, &name] { return shard->frontend().Attached(name) != nullptr; });
  return attached ? shard : nullptr;
}

namespace {

// A volume without the device that it is to have is not served yet.
void DescribeMissing(const std::string& why, v1::Volume* volume) {
  volume->set_device_warning(why);
}

void DescribeMissing(const std::string& why, v1::GetVolumeStatusResponse* status) {
  status->set_device_warning(why);
  // The engine of which this node is a client serves, with or without the device.
  if (status->has_remote() && status->attached()) return;
  status->set_attached(false);
  if (status->error().empty()) status->set_error(why);
}

}  // namespace

template <typename Message>
void Node::DescribeDevice(const std::string& name, Message* message) {
  if (!state_.HasLoop(name)) return;
  message->clear_uri();
  if (const std::optional<LoopFrontend::Device> device = devices_->Find(name)) {
    message->set_device(device->path);
    message->set_device_warning(device->warning);
    return;
  }
  std::lock_guard lock(tables_mutex_);
  const auto error = device_errors_.find(name);
  const bool failed = error != device_errors_.end() && !error->second.empty();
  DescribeMissing(failed ? error->second : "its block device is being resumed", message);
}

template void Node::DescribeDevice(const std::string&, v1::Volume*);
template void Node::DescribeDevice(const std::string&, v1::GetVolumeStatusResponse*);

absl::Status Node::AttachWithFrontend(const v1::AttachVolumeRequest& request,
                                      v1::AttachVolumeResponse* response) {
  const std::string& name = request.name();
  const bool has_device = state_.HasLoop(name) || devices_->Has(name);
  const bool remote = state_.FindRemote(name).has_value();
  // An engine beneath what a client shows, or another engine for that client: the device stays.
  if (has_device && remote) return AttachBeneath(request, response);
  switch (request.frontend()) {
    case v1::FRONTEND_NONE:
      if (!request.has_target()) {
        return absl::InvalidArgumentError(
            "frontend NONE is for a volume that is attached by a target");
      }
      [[fallthrough]];
    case v1::FRONTEND_UNSPECIFIED:
    case v1::FRONTEND_NBD:
      if (!has_device) return AttachServed(request, response);
      return absl::FailedPreconditionError(
          absl::StrCat("volume '", name, "' is attached with the frontend loop; detach it first"));
    case v1::FRONTEND_LOOP:
    case v1::FRONTEND_AUTO:
      return has_device ? AttachAgain(request, response) : AttachWithDevice(request, response);
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("frontend ", static_cast<int>(request.frontend()),
                       " is not known; it is NBD, LOOP, AUTO or NONE"));
  }
}

absl::Status Node::AttachBeneath(const v1::AttachVolumeRequest& request,
                                 v1::AttachVolumeResponse* response) {
  const std::string& name = request.name();
  RETURN_IF_ERROR(AttachServed(request, response));
  if (request.has_target()) return absl::OkStatus();
  const std::optional<LoopFrontend::Device> device = devices_->Find(name);
  if (!device) {
    return absl::UnavailableError(
        absl::StrCat("the block device of volume '", name, "' is being resumed; try again"));
  }
  RETURN_IF_ERROR(devices_->Grow(name));
  response->clear_uri();
  response->set_device(device->path);
  response->set_warning(device->warning);
  return absl::OkStatus();
}

absl::Status Node::AttachAgain(const v1::AttachVolumeRequest& request,
                               v1::AttachVolumeResponse* response) {
  const std::string& name = request.name();
  v1::GetVolumeStatusRequest question;
  question.set_name(name);
  v1::GetVolumeStatusResponse status;
  const absl::Status asked = GetVolumeStatus(question, &status);
  const bool same = asked.ok() && status.attachment() >= request.target().attachment();
  if (same && !status.attached()) {
    return absl::UnavailableError(
        absl::StrCat("volume '", name, "' is not served yet: ", status.error(), "; try again"));
  }
  if (!same || !status.error().empty()) {
    // What uses the device has seen another past than what an attachment of now would show.
    return absl::FailedPreconditionError(absl::StrCat(
        "volume '", name, "' has a device of an attachment that does not serve (",
        asked.ok() ? status.error() : std::string(asked.message()), "); detach it first"));
  }
  if (status.read_only() != request.read_only()) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume '", name, "' is attached in the other mode; detach it first"));
  }
  response->set_device(status.device());
  response->set_warning(status.device_warning());
  return absl::OkStatus();
}

absl::Status Node::AttachWithDevice(const v1::AttachVolumeRequest& request,
                                    v1::AttachVolumeResponse* response) {
  const std::string& name = request.name();
  RETURN_IF_ERROR(replica::CheckName("volume", name));
  const bool any = request.frontend() == v1::FRONTEND_AUTO;
  if (ServingShard(name) != nullptr) {
    if (any) return AttachServed(request, response);
    return absl::FailedPreconditionError(absl::StrCat(
        "volume '", name, "' is attached with the frontend nbd, not loop; detach it first"));
  }
  if (absl::Status works = devices_->CheckWorks(); !works.ok()) {
    if (any) return AttachServed(request, response);
    return works;
  }
  // Durable first, so that whatever a crash leaves is resumed, or given up, as a whole.
  RETURN_IF_ERROR(state_.SetLoop(name, true));
  if (absl::Status attached = AttachServed(request, response); !attached.ok()) {
    RETURN_IF_ERROR(state_.SetLoop(name, false));
    return attached;
  }
  const absl::StatusOr<LoopFrontend::Device> device = MakeDevice(name, request.read_only());
  if (device.ok()) {
    response->clear_uri();
    response->set_device(device->path);
    response->set_warning(device->warning);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(state_.SetLoop(name, false));
  if (any) {
    if (Shard* const shard = ServingShard(name); shard != nullptr) {
      shard->thread().Run([shard, &name] { shard->frontend().Unhide(name); });
    }
    KEEL_LOG_WARN("event=frontend_fallback volume={} from=loop to=nbd error=\"{}\"", name,
                  std::string(device.status().message()));
    return absl::OkStatus();
  }
  const absl::Status detached = DetachServed(name, request.has_remote());
  KEEL_LOG_WARN("event=device_failed volume={} error=\"{}\" detached=\"{}\"", name,
                std::string(device.status().message()), detached.ToString());
  return device.status();
}

absl::StatusOr<LoopFrontend::Device> Node::MakeDevice(const std::string& name, bool read_only) {
  Shard* const shard = ServingShard(name);
  if (shard == nullptr) {
    return absl::UnavailableError(absl::StrCat("volume '", name, "' is not attached any more"));
  }
  shard->thread().Run([shard, &name] { return shard->frontend().Hide(name); });
  return devices_->Attach(name, shard, read_only);
}

absl::Status Node::DetachVolume(const v1::DetachVolumeRequest& request, v1::DetachVolumeResponse*) {
  RETURN_IF_ERROR(Ready());
  const std::string& name = request.name();
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockDevice(name, "detach volume"));
  if (request.engine_only() && state_.FindRemote(name)) {
    const bool here = AttachedOn(name) != nullptr || state_.FindAttachment(name);
    return here ? DetachFrom(name) : absl::OkStatus();
  }
  const bool client_only = request.client_only();
  if (client_only && !state_.FindRemote(name) && !IsForgotten(name)) return absl::OkStatus();
  if (!state_.HasLoop(name) && !devices_->Has(name)) return DetachServed(name, client_only);
  // Its device would wait for ever for what this call is to end.
  if (ServingShard(name) == nullptr) RETURN_IF_ERROR(devices_->Fail(name, shards_.front().get()));
  RETURN_IF_ERROR(devices_->Detach(name));
  RETURN_IF_ERROR(state_.SetLoop(name, false));
  {
    std::lock_guard lock(tables_mutex_);
    device_errors_.erase(name);
  }
  const absl::Status detached = DetachServed(name, client_only);
  // There was only the device left of it.
  return absl::IsNotFound(detached) ? absl::OkStatus() : detached;
}

absl::Status Node::GrowDevice(const std::string& name) {
  // One that is still to be resumed gets its size then.
  if (!devices_->Find(name)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const ChangeLock::Guard guard, LockDevice(name, "grow volume"));
  return devices_->Grow(name);
}

bool Node::IsForgotten(const std::string& name) {
  if (state_.FindRemote(name)) return false;
  const std::optional<RememberedAttachment> attachment = state_.FindAttachment(name);
  if (attachment && attachment->shown) return false;
  bool all_open = true;
  {
    std::lock_guard lock(tables_mutex_);
    for (const std::unique_ptr<Slot>& slot : slots_) all_open = all_open && slot->host != nullptr;
  }
  const absl::StatusOr<Slot*> slot = FindVolume(name);
  if (!slot.ok()) return all_open;
  const std::vector<v1::Volume> volumes =
      (*slot)->shard->thread().Run([host = (*slot)->host] { return host->Volumes(); });
  // One with an error was to be attached, and may be once that is mended.
  return std::none_of(volumes.begin(), volumes.end(), [&name](const v1::Volume& volume) {
    return volume.name() == name && (volume.attached() || !volume.error().empty());
  });
}

bool Node::ResumeDevice(const std::string& name) {
  const absl::StatusOr<ChangeLock::Guard> guard = LockDevice(name, "resume device");
  if (!guard.ok()) return false;
  if (!state_.HasLoop(name) || devices_->Find(name)) return true;
  Shard* const shard = ServingShard(name);
  if (shard == nullptr) {
    return IsForgotten(name) && state_.SetLoop(name, false).ok() && !devices_->Has(name);
  }
  const bool read_only =
      shard->thread().Run([shard, &name] { return shard->frontend().Attached(name)->read_only(); });
  const absl::Status status = MakeDevice(name, read_only).status();
  std::lock_guard lock(tables_mutex_);
  std::string& error = device_errors_[name];
  if (!status.ok() && error.empty()) {
    KEEL_LOG_WARN("event=device_resume_delayed volume={} error=\"{}\"", name,
                  std::string(status.message()));
  }
  error = std::string(status.message());
  return status.ok();
}

bool Node::ResumeDevices() {
  bool all = true;
  for (const std::string& name : state_.loop_volumes()) all = ResumeDevice(name) && all;
  // What is left belongs to no attachment: it gives errors, until nobody uses it.
  for (const std::string& name : devices_->Names()) {
    const absl::StatusOr<ChangeLock::Guard> guard = LockDevice(name, "remove device");
    if (!guard.ok() || state_.HasLoop(name)) continue;
    absl::Status status = devices_->Fail(name, shards_.front().get());
    if (status.ok()) status = devices_->Detach(name);
    if (!status.ok()) all = false;
  }
  for (const std::string& name : devices_->DeadNames()) {
    const absl::StatusOr<ChangeLock::Guard> guard = LockDevice(name, "remove device");
    if (!guard.ok() || state_.HasLoop(name)) continue;
    const absl::Status removed = devices_->RemoveDead(name);
    if (removed.ok()) KEEL_LOG_WARN("event=dead_device_removed volume={}", name);
    if (!removed.ok()) all = false;
  }
  return all;
}

}  // namespace keelson::service
