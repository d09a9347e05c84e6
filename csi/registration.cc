#include "csi/registration.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <string>
#include <utility>

#include "csi/backend.h"

namespace keelson::csi {
namespace {

constexpr std::chrono::seconds kInterval(30);
constexpr std::chrono::seconds kRetryInterval(2);
constexpr std::chrono::seconds kPatience(5);

}  // namespace

Registration::Registration(control::Provisioner::StubInterface* provisioner,
                           control::RegisterNodeRequest request)
    : provisioner_(*provisioner), request_(std::move(request)), thread_([this] { Run(); }) {}

Registration::~Registration() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Registration::Run() {
  for (;;) {
    const bool done = Register();
    std::unique_lock<std::mutex> lock(mutex_);
    if (wake_.wait_for(lock, done ? kInterval : kRetryInterval, [this] { return stop_; })) return;
  }
}

bool Registration::Register() {
  control::RegisterNodeResponse response;
  const auto context = ContextFor(kPatience);
  const absl::Status status =
      BackendStatus(provisioner_.RegisterNode(context.get(), request_, &response), "provisioner");
  if (status.ok()) {
    if (!registered_) spdlog::info("event=registered node={}", request_.name());
    warned_ = false;
  } else if (registered_ || !warned_) {
    spdlog::warn("event=not-registered node={} error=\"{}\"", request_.name(),
                 std::string(status.message()));
    warned_ = true;
  }
  registered_ = status.ok();
  return registered_;
}

}  // namespace keelson::csi
