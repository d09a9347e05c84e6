#pragma once
// Explorer: takes a Recording to every crash state it offers and recovers each. Runs in child
// processes (RocksDB's threads do not survive a fork, so the parent never opens one), one per core,
// each with recordings of its own.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/crash/recording.h"

namespace keelson::crash {

// One state: where the trace is cut, how, and with what chance.
struct StateSpec {
  std::uint64_t cut = 0;
  CutKind kind = CutKind::kLost;
  std::uint64_t seed = 0;
};

struct ExploreResult {
  std::uint64_t states = 0;
  std::uint64_t events = 0;
  std::string failure;  // empty: every state recovered
};

struct ExploreOptions {
  int random_states = 1;       // of each position, besides lost, kept and killed
  bool keep_recording = true;  // in a file, when a state does not recover
};

// Every state of `recording`. Ends at the first that does not recover.
ExploreResult Explore(CrashReactor* reactor, const Recording& recording, ExploreOptions options);

// One state, again.
absl::Status Replay(CrashReactor* reactor, const Recording& recording, const StateSpec& spec);

// The recordings of `seeds`, recorded and explored by `worker_count` processes. What a process says
// when it fails or dies comes back in `failure`, with the command that replays it; a recording with
// a failing state is kept in a file.
ExploreResult ExploreSeeds(const std::vector<RecordOptions>& runs, ExploreOptions options,
                           unsigned worker_count);

// "lost:1234:5" and back; used with KEELSON_CRASH_REPLAY=FILE:KIND:CUT:SEED.
absl::Status ReplayFromText(const std::string& text);

}  // namespace keelson::crash
