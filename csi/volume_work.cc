#include "csi/volume_work.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace keelson::csi {
namespace {

constexpr std::chrono::minutes kPatience(2);
constexpr std::chrono::milliseconds kCancellationPoll(100);
constexpr std::size_t kWorksMax = 64;

absl::Status RunGuarded(const std::function<absl::Status()>& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("unexpected exception: ", error.what()));
  }
}

}  // namespace

struct VolumeWork::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::set<std::string> busy;
};

VolumeWork::VolumeWork() : state_(std::make_shared<State>()) {}

absl::Status VolumeWork::Run(const grpc::ServerContext& caller, const std::string& key,
                             std::function<absl::Status()> work) {
  const std::shared_ptr<State> state = state_;
  const auto result = std::make_shared<std::optional<absl::Status>>();
  std::unique_lock<std::mutex> lock(state->mutex);
  if (state->busy.size() >= kWorksMax) {
    return absl::AbortedError(
        absl::StrCat(kWorksMax, " operations are under way on this node; try again"));
  }
  if (!state->busy.insert(key).second) {
    return absl::AbortedError(
        absl::StrCat("another operation is under way for ", key, "; try again"));
  }
  std::thread([state, key, result, work = std::move(work)] {
    absl::Status status = RunGuarded(work);
    const std::lock_guard<std::mutex> done(state->mutex);
    *result = std::move(status);
    state->busy.erase(key);
    state->changed.notify_all();
  }).detach();

  const auto end = std::min(caller.deadline(), std::chrono::system_clock::now() + kPatience);
  while (!result->has_value()) {
    if (caller.IsCancelled()) {
      return absl::CancelledError(
          absl::StrCat("the caller went away; the operation for ", key, " goes on"));
    }
    if (std::chrono::system_clock::now() >= end) {
      spdlog::warn("event=operation-late key={}", key);
      return absl::DeadlineExceededError(
          absl::StrCat("the operation for ", key, " has not ended in time and goes on; try again"));
    }
    state->changed.wait_for(lock, kCancellationPoll);
  }
  return **result;
}

bool VolumeWork::WaitIdle(std::chrono::milliseconds patience) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  return state_->changed.wait_for(lock, patience, [this] { return state_->busy.empty(); });
}

}  // namespace keelson::csi
