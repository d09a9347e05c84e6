#include "blockstore/service/volume_counters.h"

namespace keelson::service {

VolumeCounters VolumeCounters::Of(const std::string& volume, engine::Engine* engine) {
  VolumeCounters result;
  result.volume = volume;
  result.counters = engine->counters();
  result.qos = engine->limiter().limits();
  result.delayed = engine->limiter().counters();
  for (std::size_t i = 0; i < engine->segment_count(); ++i) {
    const engine::SegmentEngine& segment = engine->segment(i);
    const replica::Configuration configuration = segment.Status().configuration;
    result.in_sync_members += configuration.in_sync_count();
    result.degraded_members += configuration.data_member_count() - configuration.in_sync_count();
    result.resync_copied_bytes += segment.counters().resync_copied_bytes;
    result.scrub_read_bytes += segment.counters().scrub_read_bytes;
    result.scrub_bad_blocks += segment.counters().scrub_bad_blocks;
    result.scrub_repaired_blocks += segment.counters().scrub_repaired_blocks;
    result.scrub_different_blocks += segment.counters().scrub_different_blocks;
    result.slow_demotions += segment.counters().slow_demotions;
    result.fenced += segment.counters().fenced;
  }
  return result;
}

}  // namespace keelson::service
