#include "blockstore/service/remote_host.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/log.h"
#include "blockstore/io/status.h"

namespace keelson::service {
namespace {

// How long clients may finish what they have asked for before it fails.
constexpr std::int64_t kClientPatienceNanos = 2'000'000'000;
constexpr std::int64_t kPollNanos = 10'000'000;

std::string HostPort(const io::Address& address) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return absl::StrCat(v6 ? "[" : "", address.host, v6 ? "]:" : ":", address.port);
}

bool SameEngine(const frontend::RemoteTarget& a, const frontend::RemoteTarget& b) {
  return a.attachment == b.attachment && a.address.host == b.address.host &&
         a.address.port == b.address.port && a.ticket.Matches(b.ticket);
}

}  // namespace

io::Task<absl::StatusOr<std::string>> RemoteHost::Attach(std::string name,
                                                         frontend::RemoteTarget target,
                                                         std::int64_t limit_ns) {
  if (const auto found = volumes_.find(name); found != volumes_.end()) {
    frontend::RemoteVolume* const volume = found->second.get();
    if (target.attachment < volume->target().attachment) {
      co_return absl::FailedPreconditionError(
          absl::StrCat("volume '", name, "' is shown here under attachment ",
                       volume->target().attachment, ", which is higher than ", target.attachment));
    }
    const bool same = SameEngine(target, volume->target());
    if (!same) {
      KEEL_LOG_INFO("event=remote_repointed volume={} engine={} attachment={}", name,
                    HostPort(target.address), target.attachment);
      volume->Repoint(std::move(target));
    }
    CO_RETURN_IF_ERROR(co_await WaitForEngine(volume, name, limit_ns));
    if (same) CO_RETURN_IF_ERROR(co_await volume->RefreshSize());
    co_return frontend_->Uri(name);
  }
  const absl::Status taken = absl::FailedPreconditionError(absl::StrCat(
      "a volume of the name '", name, "' is attached on this node already; detach that one first"));
  if (frontend_->Attached(name) != nullptr) co_return taken;
  auto volume =
      std::make_unique<frontend::RemoteVolume>(reactor_, name, std::move(target), options_);
  volume->Start();
  absl::Status status = co_await WaitForEngine(volume.get(), name, limit_ns);
  if (status.ok() && frontend_->Attached(name) != nullptr) status = taken;
  if (!status.ok()) {
    co_await volume->Close();
    co_return status;
  }
  KEEL_LOG_INFO("event=remote_attached volume={} engine={} attachment={} size_bytes={}", name,
                HostPort(volume->target().address), volume->target().attachment,
                volume->size_bytes());
  frontend_->Add(name, volume.get());
  volumes_[name] = std::move(volume);
  co_return frontend_->Uri(name);
}

io::Task<absl::Status> RemoteHost::WaitForEngine(frontend::RemoteVolume* volume, std::string name,
                                                 std::int64_t limit_ns) {
  const std::int64_t until_ns = reactor_->NowNanos() + limit_ns;
  while (!volume->connected()) {
    if (volume->ended()) co_return absl::FailedPreconditionError(volume->health().message());
    if (reactor_->NowNanos() >= until_ns) {
      co_return absl::UnavailableError(
          absl::StrCat("volume '", name, "' is not reached: ", volume->problem()));
    }
    co_await reactor_->SleepFor(kPollNanos);
  }
  co_return absl::OkStatus();
}

io::Task<void> RemoteHost::DropClients(std::string name, bool* done) {
  co_await frontend_->Remove(std::move(name));
  *done = true;
}

io::Task<void> RemoteHost::Detach(std::string name) {
  const auto found = volumes_.find(name);
  if (found == volumes_.end()) co_return;
  const std::unique_ptr<frontend::RemoteVolume> volume = std::move(found->second);
  volumes_.erase(found);
  bool dropped = false;
  gate_.Spawn(DropClients(name, &dropped));
  const std::int64_t limit_ns = reactor_->NowNanos() + kClientPatienceNanos;
  while (!dropped && reactor_->NowNanos() < limit_ns) co_await reactor_->SleepFor(kPollNanos);
  volume->End(absl::UnavailableError(absl::StrCat("volume ", name, " is being detached")));
  while (!dropped) co_await reactor_->SleepFor(kPollNanos);
  co_await volume->Close();
  KEEL_LOG_INFO("event=remote_detached volume={}", name);
}

std::uint64_t RemoteHost::AttachmentOf(std::string_view name) const {
  const auto found = volumes_.find(name);
  return found == volumes_.end() ? 0 : found->second->target().attachment;
}

bool RemoteHost::AddStatus(const std::string& name, v1::GetVolumeStatusResponse* status) const {
  const auto found = volumes_.find(name);
  if (found == volumes_.end()) return false;
  const frontend::RemoteVolume& volume = *found->second;
  v1::RemoteStatus* const remote = status->mutable_remote();
  remote->set_address(HostPort(volume.target().address));
  remote->set_attachment(volume.target().attachment);
  remote->set_connected(volume.connected());
  remote->set_problem(volume.problem());
  remote->set_requests_in_flight(volume.requests_in_flight());
  remote->set_reconnects(volume.reconnects());
  remote->set_size_bytes(volume.size_bytes());
  status->set_uri(frontend_->Uri(name));
  if (!status->name().empty()) return true;
  status->set_name(name);
  status->set_read_only(volume.read_only());
  status->set_size_bytes(volume.size_bytes());
  status->set_attachment(volume.target().attachment);
  status->set_error(std::string(volume.health().message()));
  return true;
}

std::vector<v1::Volume> RemoteHost::Volumes() const {
  std::vector<v1::Volume> volumes;
  for (const auto& [name, remote] : volumes_) {
    v1::Volume& volume = volumes.emplace_back();
    volume.set_name(name);
    volume.set_size_bytes(remote->size_bytes());
    volume.set_read_only(remote->read_only());
    volume.set_uri(frontend_->Uri(name));
    volume.set_error(std::string(remote->health().message()));
    volume.set_remote(true);
  }
  return volumes;
}

void RemoteHost::EndAll() {
  for (const auto& [name, volume] : volumes_) {
    volume->End(absl::UnavailableError(absl::StrCat("volume ", name, ": its daemon is stopping")));
  }
}

io::Task<void> RemoteHost::Close() {
  for (const auto& [name, volume] : volumes_) co_await volume->Close();
  volumes_.clear();
  co_await gate_.Close();
}

}  // namespace keelson::service
