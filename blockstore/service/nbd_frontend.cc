#include "blockstore/service/nbd_frontend.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "blockstore/io/check.h"
#include "blockstore/io/log.h"

namespace keelson::service {
namespace {

// For the query part of a URI (RFC 3986): everything but the unreserved characters and '/'.
std::string PercentEncode(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
        std::string_view("/-._~").find(c) != std::string_view::npos) {
      out.push_back(c);
    } else {
      constexpr std::string_view kDigits = "0123456789ABCDEF";
      const auto byte = static_cast<unsigned char>(c);
      out.push_back('%');
      out.push_back(kDigits[byte >> 4]);
      out.push_back(kDigits[byte & 15]);
    }
  }
  return out;
}

}  // namespace

NbdFrontend::NbdFrontend(io::Reactor* reactor, FuseFrontend* files, std::string socket_path)
    : files_(files),
      socket_path_(std::move(socket_path)),
      server_(reactor, this, frontend::NbdOptions{}) {}

void NbdFrontend::Serve(std::unique_ptr<io::Listener> listener) {
  gate_.Spawn(RunServer(std::move(listener)));
}

io::Task<void> NbdFrontend::RunServer(std::unique_ptr<io::Listener> listener) {
  const absl::Status status = co_await server_.Serve(std::move(listener));
  if (!status.ok()) {
    KEEL_LOG_ERROR("event=nbd_server_ended error=\"{}\" remedy=\"restart the daemon\"",
                   std::string(status.message()));
  }
}

void NbdFrontend::Add(const std::string& name, engine::BlockDevice* device) {
  KEEL_CHECK(devices_.emplace(name, device).second, "an export is added once");
}

io::Task<void> NbdFrontend::Remove(std::string name) {
  devices_.erase(name);  // first, so that no client opens it again
  hidden_.erase(name);
  co_await server_.DropExport(name);
  co_await files_->DeviceGoes(name);
}

engine::BlockDevice* NbdFrontend::Attached(std::string_view name) const {
  const auto found = devices_.find(name);
  return found == devices_.end() ? nullptr : found->second;
}

io::Task<void> NbdFrontend::Hide(std::string name) {
  hidden_.insert(name);
  co_await server_.DropExport(name);
}

io::Task<void> NbdFrontend::Close() {
  co_await server_.Close();
  co_await gate_.Close();
  devices_.clear();
}

std::string NbdFrontend::Uri(std::string_view name) const {
  return absl::StrCat("nbd+unix:///", std::string(name), "?socket=", PercentEncode(socket_path_));
}

std::vector<std::string> NbdFrontend::Names() {
  std::vector<std::string> names;
  names.reserve(devices_.size());
  for (const auto& [name, device] : devices_) {
    if (hidden_.count(name) == 0) names.push_back(name);
  }
  return names;
}

engine::BlockDevice* NbdFrontend::Find(std::string_view name) {
  return hidden_.count(name) == 0 ? Attached(name) : nullptr;
}

}  // namespace keelson::service
