#pragma once
// Recovery: opens the pool a crash left behind, the way production does, and holds what it finds
// against the History. One reactor.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "tests/crash/crash_image.h"
#include "tests/crash/crash_reactor.h"
#include "tests/crash/history.h"

namespace keelson::crash {

// OK, or the first thing that is wrong with `state`, which a crash of `kind` at `cut` left behind:
//  * every volume and snapshot that was acknowledged is there, none that was never asked for is;
//  * every sector of a volume is of its flushed content or of one asked for later (of a process's
//    death: of its acknowledged content or one asked for later);
//  * every block of a snapshot is exactly what it was when the snapshot was made;
//  * the pool check, with every block read, finds nothing;
//  * the pool takes a write and a flush, and reads it back.
absl::Status CheckRecovery(CrashReactor* reactor, const History& history, const CrashState& state,
                           std::uint64_t cut, CutKind kind);

}  // namespace keelson::crash
