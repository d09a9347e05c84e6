#pragma once
// ReadLease: until when an engine may answer reads without another engine having changed what they
// return (R9; docs/protocol.md "Flush, reads"). A heartbeat that was sent at t and answered says
// that the member had promised no higher epoch at t; when a majority of the configuration in force
// says so, no engine of a higher epoch serves before t + grace, and the lease is shorter than the
// grace.
//
// Owned by the segment's engine; one thread; no I/O; nothing fails. Times are nanoseconds of the
// boot-time clock (Reactor::NowNanos).

#include <cstdint>
#include <utility>
#include <vector>

#include "blockstore/pool/ids.h"
#include "blockstore/replica/configuration.h"

namespace keelson::engine {

class ReadLease {
 public:
  explicit ReadLease(std::int64_t lease_ns) : lease_ns_(lease_ns) {}

  // The member answered a heartbeat, or any other message of this epoch's session, that was *sent*
  // at `sent_ns`. Answers may come in any order. It stays true when the session ends later.
  void OnAnswered(const pool::ReplicaId& replica, std::int64_t sent_ns);

  // The last moment for which the lease is known to hold; far in the past when there is none.
  std::int64_t ValidUntil(const replica::Configuration& in_force) const;

  // Whether a read whose bytes had arrived at `arrived_ns` may be answered now.
  bool ValidAt(const replica::Configuration& in_force, std::int64_t arrived_ns) const {
    return arrived_ns <= ValidUntil(in_force);
  }

 private:
  std::int64_t lease_ns_;
  std::vector<std::pair<pool::ReplicaId, std::int64_t>> last_sent_;  // of what was answered
};

}  // namespace keelson::engine
