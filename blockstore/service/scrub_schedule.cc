#include "blockstore/service/scrub_schedule.h"

#include <algorithm>

namespace keelson::service {
namespace {

constexpr std::int64_t kFirstPart = 7;  // the first scrub comes after this part of the interval
constexpr std::int64_t kAsksInAnInterval = 20;
constexpr std::int64_t kAskAfterNanosMax = 60'000'000'000;

}  // namespace

std::optional<std::string> ScrubSchedule::Next(const std::vector<Volume>& attached,
                                               std::int64_t now_ns) {
  // Those that have not been attached for long are forgotten.
  std::erase_if(due_ns_, [&](const auto& entry) { return entry.second + interval_ns_ < now_ns; });
  bool busy = false;
  const std::string* next = nullptr;
  std::int64_t next_due_ns = now_ns;
  for (const Volume& volume : attached) {
    std::int64_t& due_ns =
        due_ns_.try_emplace(volume.name, now_ns + interval_ns_ / kFirstPart).first->second;
    if (volume.scrubbed) due_ns = now_ns + interval_ns_;
    busy = busy || volume.scrubbed;
    if (due_ns > next_due_ns) continue;
    next = &volume.name;
    next_due_ns = due_ns;
  }
  if (busy || next == nullptr) return std::nullopt;
  due_ns_[*next] = now_ns + interval_ns_;
  return *next;
}

std::int64_t ScrubSchedule::AskAgainAfter() const {
  return std::clamp<std::int64_t>(interval_ns_ / kAsksInAnInterval, 1, kAskAfterNanosMax);
}

}  // namespace keelson::service
