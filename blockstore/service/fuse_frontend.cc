#include "blockstore/service/fuse_frontend.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "blockstore/io/status.h"

namespace keelson::service {
namespace {

absl::Status Ended() { return absl::UnavailableError("the volume's attachment has ended"); }

}  // namespace

io::Task<absl::Status> EndedDevice::Read(std::uint64_t, std::span<std::byte>) { co_return Ended(); }

io::Task<absl::Status> EndedDevice::Write(std::uint64_t, std::span<const std::byte>, bool) {
  co_return Ended();
}

io::Task<absl::Status> EndedDevice::Flush() { co_return Ended(); }

io::Task<absl::Status> EndedDevice::Trim(std::uint64_t, std::uint64_t, bool) { co_return Ended(); }

io::Task<absl::StatusOr<std::vector<engine::BlockRun>>> EndedDevice::Status(std::uint64_t,
                                                                            std::uint64_t,
                                                                            std::size_t) {
  co_return Ended();
}

absl::Status FuseFrontend::Open(const std::string& name, int fd, engine::BlockDevice* device,
                                std::optional<bool> adopted) {
  if (entries_.count(name) > 0) {
    close(fd);
    return absl::AlreadyExistsError(absl::StrCat("volume '", name, "' has a FUSE file already"));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<frontend::FuseChannel> channel,
                   frontend::KernelFuseChannel::Make(reactor_, fd));
  auto entry = std::make_unique<Entry>();
  if (device != nullptr) entry->ended.Remember(*device);
  entry->session = std::make_unique<frontend::FuseSession>(
      reactor_, name, std::move(channel), frontend::FuseOptions(),
      device != nullptr ? device : &entry->ended, &counters_);
  if (adopted) entry->session->Adopt(*adopted);
  Entry* const served = entry.get();
  entries_[name] = std::move(entry);
  gate_.Spawn(Serve(served));
  return absl::OkStatus();
}

io::Task<void> FuseFrontend::Serve(Entry* entry) {
  co_await entry->session->Run();
  entry->running = false;
  entry->stopped.WakeAll();
}

io::Task<void> FuseFrontend::DeviceGoes(std::string name) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) co_return;
  co_await found->second->session->Replace(&found->second->ended);
}

io::Task<void> FuseFrontend::End(std::string name) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) co_return;
  const std::unique_ptr<Entry> entry = std::move(found->second);
  entries_.erase(found);
  entry->session->End();
  while (entry->running) co_await entry->stopped.Wait();
  // What Serve still does once it has woken us ends before the entry dies.
  co_await reactor_->Yield();
}

std::optional<FuseFrontend::State> FuseFrontend::Find(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return std::nullopt;
  return State{found->second->session->kernel_resends(), found->second->session->lost()};
}

void FuseFrontend::Leave() {
  for (const auto& [name, entry] : entries_) entry->session->Leave();
}

io::Task<void> FuseFrontend::Close() {
  co_await gate_.Close();
  entries_.clear();
}

}  // namespace keelson::service
