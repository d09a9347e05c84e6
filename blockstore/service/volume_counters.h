#pragma once
// VolumeCounters: what the metrics show of an attached volume, copied on its reactor.

#include <cstdint>
#include <string>

#include "blockstore/engine/engine.h"

namespace keelson::service {

struct VolumeCounters {
  std::string volume;
  engine::EngineCounters counters;
  engine::QosLimits qos;
  engine::RateLimiterCounters delayed;
  // Over all segments; witnesses are not counted.
  std::uint64_t in_sync_members = 0;
  std::uint64_t degraded_members = 0;  // have missed something
  std::uint64_t resync_copied_bytes = 0;
  std::uint64_t scrub_read_bytes = 0, scrub_bad_blocks = 0, scrub_repaired_blocks = 0;
  std::uint64_t scrub_different_blocks = 0;
  std::uint64_t slow_demotions = 0;  // members left out for being slow
  std::uint64_t fenced = 0;          // segments that another engine has taken over

  static VolumeCounters Of(const std::string& volume, engine::Engine* engine);
};

}  // namespace keelson::service
